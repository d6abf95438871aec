"""The form of the keyboard."""

from __future__ import annotations

from wtforms import BooleanField

from webapp.forms import Form
from webapp.i18n import lazy


class KeyboardForm(Form):
    single_keys = BooleanField(lazy("Single-key shortcuts"))
