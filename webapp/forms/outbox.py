"""Forms of the outbox."""

from __future__ import annotations

from wtforms import IntegerField
from wtforms.validators import InputRequired

from webapp.forms import Form
from webapp.i18n import lazy


class OutboxSettingsForm(Form):
    kept_days = IntegerField(lazy("Keep ended messages for … days"), [InputRequired(lazy("Give a number of days."))])
