"""The filter of the audit trail: a form that is sent with GET and changes nothing."""

from __future__ import annotations

from wtforms import DateField, SelectField, StringField
from wtforms.fields.choices import SelectChoice  # type: ignore[attr-defined]  # newer than its types
from wtforms.validators import Length, Optional

from webapp.audit.search import OUTCOMES, Wanted
from webapp.audit.words import choices, outcome
from webapp.forms import Form, stripped
from webapp.i18n import gettext as _
from webapp.i18n import later, lazy

_LENGTH = Length(max=200, message=lazy("That is too long: at most 200 characters."))


def _actions() -> list[SelectChoice]:
    found = (SelectChoice(code, said, optgroup=noun) for code, said, noun in choices())
    return [SelectChoice("", _("Anything")), *found]


_OUTCOMES = [SelectChoice("", lazy("Any")), *(SelectChoice(each, later(outcome, each)) for each in OUTCOMES)]


class AuditFilterForm(Form):
    person = StringField(lazy("Who"), [_LENGTH], filters=[stripped])
    action = SelectField(lazy("Did what"), default="", choices=_actions, validate_choice=False)
    subject = StringField(lazy("To what"), [_LENGTH], filters=[stripped])
    outcome = SelectField(lazy("Outcome"), default="", choices=_OUTCOMES)
    since = DateField(lazy("From"), [Optional()])
    until = DateField(lazy("Until"), [Optional()])

    class Meta:
        csrf = False

    def wanted(self) -> Wanted:
        """What was asked for."""
        return Wanted(
            person=self.person.data or "",
            action=(self.action.data or "")[:60],
            subject=self.subject.data or "",
            outcome=self.outcome.data or "",
            since=self.since.data,
            until=self.until.data,
        )
