"""The form of language and time zone."""

from __future__ import annotations

from wtforms import SelectField
from wtforms.fields.choices import SelectChoice  # type: ignore[attr-defined]  # newer than its types

from webapp.forms import Form
from webapp.i18n import LANGUAGES, lazy, zones
from webapp.i18n import gettext as _


def _languages() -> list[SelectChoice]:
    return [SelectChoice("", _("As the browser says")), *(SelectChoice(code, name) for code, name in LANGUAGES.items())]


def _zones() -> list[SelectChoice]:
    named = (SelectChoice(name, name.replace("_", " ")) for name in sorted(zones()))
    return [SelectChoice("", _("As the browser says")), *named]


class LanguageForm(Form):
    language = SelectField(lazy("Language"), choices=_languages, validate_choice=False)
    time_zone = SelectField(lazy("Time zone"), choices=_zones, validate_choice=False)
