"""A table of people, before anything is done with it: which column is what, and what is wrong with each line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from webapp.actor import Role
from webapp.errors import Invalid
from webapp.i18n import gettext as _
from webapp.identity.users import check_email, check_name, email_key
from webapp.spreadsheet import Line, Reading, Sheet

_HEADINGS: Final = {
    "email": (
        "email",
        "e-mail",
        "mail",
        "email address",
        "e-mail address",
        "mail address",
        "address",
        "login",
        "e-mail-adresse",
        "mailadresse",
        "adresse",
    ),
    "name": ("name", "full name", "display name", "person", "user", "benutzer"),
    "role": ("role", "user role", "type", "rolle"),
}
READING: Final = Reading(frozenset(heading for headings in _HEADINGS.values() for heading in headings))


class Columns(NamedTuple):
    """Which column, counted from 0, holds what; None for what the table does not have."""

    email: int | None
    name: int | None
    role: int | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the table as a person, or what is wrong with it. role_text: as it was written."""

    line: int
    email: str
    name: str
    role_text: str
    role: Role = Role.PASSWORD_USER
    problem: str = ""


def guess(sheet: Sheet) -> Columns:
    """The columns by their headings, or by what the first line holds when there are none."""
    if sheet.has_heading:
        return Columns(*(_headed(sheet.columns, _HEADINGS[field]) for field in Columns._fields))
    cells = sheet.lines[0].cells
    email = next((number for number, cell in enumerate(cells) if "@" in cell), None)
    role = next((number for number, cell in enumerate(cells) if _role(cell) is not None and cell), None)
    name = next((number for number, cell in enumerate(cells) if cell and number not in (email, role)), None)
    return Columns(email, name, role)


def entries(sheet: Sheet, columns: Columns) -> Iterator[Entry]:
    """Every line judged by itself and against the lines above it; who exists already is not looked up here."""
    seen: dict[str, int] = {}
    for line in sheet.lines:
        entry = _entry(line, columns)
        if not entry.problem:
            first = seen.setdefault(email_key(entry.email), entry.line)
            if first != entry.line:
                entry = Entry(*_texts(line, columns), problem=_("Line %(first)s has the same address.", first=first))
        yield entry


def _entry(line: Line, columns: Columns) -> Entry:
    number, email, name, role_text = _texts(line, columns)
    lacking = _lacking(email, name, columns)
    if lacking:
        return Entry(number, email, name, role_text, problem=lacking)
    role = _role(role_text)
    if role is None:
        names = ", ".join(each.label for each in Role)
        return Entry(
            number,
            email,
            name,
            role_text,
            problem=_("“%(role_text)s” is no role. There are: %(names)s.", role_text=role_text, names=names),
        )
    try:
        return Entry(number, check_email(email), check_name(name), role_text, role)
    except Invalid as error:
        return Entry(number, email, name, role_text, role, error.sentence)


def _lacking(email: str, name: str, columns: Columns) -> str:
    """What is not there, and what to do: whoever reads it looks at a table, and at no field to fill in."""
    if not email.strip():
        if columns.email is None:
            return _("No column of e-mail addresses is chosen, and people sign in with theirs. Choose the column.")
        return _("This line has no e-mail address. Write one into the table, and import it again.")
    if not name.strip():
        if columns.name is None:
            return _("No column of names is chosen, and everybody needs one. Choose the column.")
        return _("This line has no name. Write one into the table, and import it again.")
    return ""


def _texts(line: Line, columns: Columns) -> tuple[int, str, str, str]:
    return line.number, _cell(line, columns.email), _cell(line, columns.name), _cell(line, columns.role)


def _cell(line: Line, column: int | None) -> str:
    return line.cells[column][:320] if column is not None and column < len(line.cells) else ""


def _role(text: str) -> Role | None:
    """The role of that name, in English or the reader's language; whoever gives none means a Password User."""
    try:
        return Role.from_text(text) if text else Role.PASSWORD_USER
    except ValueError:
        return next((role for role in Role if role.label.casefold() == text.strip().casefold()), None)


def _headed(columns: Sequence[str], headings: Sequence[str]) -> int | None:
    found = [number for number, column in enumerate(columns) if column.casefold() in headings]
    return found[0] if found else None
