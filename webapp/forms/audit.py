"""The filter of the audit trail, a form that is sent with GET and changes nothing; and its lines' details in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from wtforms import DateField, SelectField, StringField
from wtforms.fields.choices import SelectChoice  # type: ignore[attr-defined]  # newer than its types
from wtforms.validators import Length, Optional

from webapp.actor import Role
from webapp.audit.search import OUTCOMES, Wanted
from webapp.audit.trail import AuditLine
from webapp.audit.words import choices, detail, outcome
from webapp.forms import Form, stripped
from webapp.i18n import gettext as _
from webapp.i18n import later, lazy
from webapp.outbox.codes import name_of
from webapp.outbox.messages import Kind, State
from webapp.trust.seen import origin
from webapp.vault.resources import Whose
from webapp.vault.rights import Right

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


_CODED: Final = frozenset(
    {
        "active", "asked", "before", "by", "credential source", "kept", "kind", "language", "note",
        "requires authentication", "right", "role", "second factor roles", "security", "single keys", "state",
        "switched off", "whose",
    }
)  # fmt: skip
"""Details that are the program's own words, never somebody's."""
_WORDS: Final[Mapping[str, str]] = {
    **{str(each.value): later(getattr, each, "label") for enumeration in (Role, Kind, State) for each in enumeration},
    **{right.word: later(getattr, right, "said") for right in Right},
    Whose.ALL.value: lazy("all"),
    Whose.MINE.value: lazy("mine"),
    Whose.SHARED.value: lazy("shared with me"),
    "True": lazy("yes"),
    "False": lazy("no"),
    "never": lazy("Never"),
    "ssl": "SSL",
    "tls": "TLS",
    "manual": lazy("typed by hand"),
    "account": lazy("from an account"),
    "en": "English",
    "de": "Deutsch",
    "password": lazy("password"),
    "passkey": lazy("passkey"),
    "recovery code": lazy("recovery code"),
    "authenticator app": lazy("authenticator app"),
    "signing in by a passkey": lazy("signing in by a passkey"),
    "confirming by a passkey": lazy("confirming by a passkey"),
    "more of these are left out for up to an hour": lazy("more of these are left out for up to an hour"),
}


def details_in_words(line: AuditLine) -> list[tuple[str, str]]:
    """The details of a line in the reader's language: what the program wrote is worded, what people typed stays."""
    return [(detail(name), _value(name, text)) for name, text in line.facts()]


def _value(name: str, text: str) -> str:
    if name == "origin":
        return origin(text)
    if name == "changed":
        return ", ".join(detail(each) for each in text.split(", "))
    if name == "second factor roles":
        return ", ".join(str(_WORDS.get(each, each)) for each in text.split())
    if name == "code":
        return name_of(text)
    if name not in _CODED:
        return text
    first, _rest, own = text.partition(" ")
    if name == "kind" and first == "passkey" and own:
        return f"{_WORDS[first]} {own}"
    return ", ".join(str(_WORDS.get(each, each)) for each in text.split(", "))
