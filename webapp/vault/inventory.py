"""A table of accounts, before anything is done with it: which column is what, and what is wrong with each line.

Tables come from Keypost's own export, and from those of KeePass, KeePassXC, Bitwarden, 1Password, Password Manager Pro
and browsers, each with headings of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from webapp.errors import Invalid
from webapp.i18n import gettext as _
from webapp.keyring import Secret
from webapp.search import key
from webapp.spreadsheet import Line, Reading, Sheet, heading, plain, read
from webapp.vault import fields
from webapp.vault.resources import KINDS, ResourceDetails, kind_label

COLUMNS: Final = ("Resource", "Address", "Type", "Resource notes", "User name", "Password", "Account notes")
"""The headings of Keypost's own export, in the order of Columns."""
# Of several that fit, the first in its row is taken: “Account” is a user name beside “Resource”, and what KeePass 1
# calls a title.
_HEADINGS: Final = {
    "password": ("password", "login_password", "passwort", "kennwort"),
    "resource": ("resource", "resource name", "title", "name", "ressource", "titel", "account"),
    "username": (
        "user name", "username", "login_username", "login name", "user account", "account name", "account", "user",
        "login", "benutzername", "benutzer",
    ),
    "address": (
        "address", "dns name", "url", "login_uri", "resource url", "web site", "website", "uri", "host", "hostname",
        "ip address", "adresse",
    ),
    "kind": ("resource type", "type", "typ"),
    "resource_notes": ("resource notes", "resource description"),
    "notes": ("account notes", "notes", "note", "comments", "extra", "account description", "notizen"),
}  # fmt: skip
_READING: Final = Reading(
    frozenset(heading for headings in _HEADINGS.values() for heading in headings), least=2, exact=True
)
# KeePass 1 sets a backslash before quotation marks and backslashes, where everybody else doubles the former.
_KEEPASS_1: Final = '"account","login name","password","web site","comments"'
_WITH_BACKSLASHES: Final = Reading(_READING.known, least=2, exact=True, escape="\\")
_KINDS: Final = {key(kind): kind for kind in KINDS} | {
    "windows": "Server", "linux": "Server", "unix": "Server", "mac": "Server", "login": "Application",
    "mysql server": "Database", "ms sql server": "Database", "oracle db server": "Database", "postgresql": "Database",
    "cisco ios": "Network device", "": KINDS[0],
}  # fmt: skip


class Columns(NamedTuple):
    """Which column, counted from 0, holds what; None for what the table does not have."""

    resource: int | None
    address: int | None
    kind: int | None
    resource_notes: int | None
    username: int | None
    password: int | None
    notes: int | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the table as an account on a resource, or what is wrong with it.

    Without a user name and a password it is a resource alone.
    """

    line: int
    details: ResourceDetails
    username: str
    password: Secret
    notes: str
    problem: str = ""

    @property
    def has_account(self) -> bool:
        return bool(self.username or self.password)

    @property
    def resource_key(self) -> str:
        """What two spellings of the resource's name have in common."""
        return key(self.details.name)


def understand(text: str, *, has_heading: bool | None = None) -> Sheet:
    """The table. has_heading: whether its first line is one; guessed unless somebody knows. Raises Invalid."""
    from_keepass_1 = text.lstrip("\ufeff")[: len(_KEEPASS_1)].casefold() == _KEEPASS_1
    return read(text, _WITH_BACKSLASHES if from_keepass_1 else _READING, has_heading=has_heading)


def guess(sheet: Sheet) -> Columns:
    """The columns by their headings, each for one thing; nothing is guessed from what lines hold."""
    names = [heading(column) for column in sheet.columns] if sheet.has_heading else []
    found: dict[str, int] = {}
    for field, headings in _HEADINGS.items():
        fitting = (names.index(each) for each in headings if each in names and names.index(each) not in found.values())
        first = next(fitting, None)
        if first is not None:
            found[field] = first
    return Columns(**{field: found.get(field) for field in Columns._fields})


def left_over(sheet: Sheet, columns: Columns) -> list[str]:
    """The headings of what is not taken."""
    return [name for number, name in enumerate(sheet.columns) if number not in columns] if sheet.has_heading else []


def check(sheet: Sheet, columns: Columns) -> None:
    """Raises Invalid, with the field at fault, for columns that cannot be meant."""
    for field, column in columns._asdict().items():
        if column is not None and not 0 <= column < len(sheet.columns):
            raise Invalid(_("Choose one of the table’s columns."), field)
    if columns.resource is None:
        raise Invalid(_("Choose the column with the names of what the accounts are on."), "resource")
    if columns.password is not None and columns.count(columns.password) > 1:
        raise Invalid(
            _("The passwords’ column cannot be another thing too: everybody would see them there."), "password"
        )


def entries(sheet: Sheet, columns: Columns) -> Iterator[Entry]:
    """Every line judged by itself and against the lines above it; what exists already is not looked up here."""
    seen: dict[tuple[str, str], int] = {}
    ours = sheet.has_heading and {heading(each) for each in COLUMNS} <= {heading(each) for each in sheet.columns}
    for line in sheet.lines:
        entry = _entry(line, columns, ours=ours)
        if entry.has_account and not entry.problem:
            first = seen.setdefault((entry.resource_key, entry.username), entry.line)
            if first != entry.line:
                entry = _wrong(
                    entry, _("Line %(number)s names the same account, and only that one is taken.", number=first)
                )
        yield entry


def rows(held: Iterable[Entry]) -> Iterator[tuple[str, ...]]:
    """COLUMNS, and a row for each entry: the table from which entries() makes the same again."""
    yield COLUMNS
    for each in held:
        details = each.details
        yield (
            details.name, details.address, details.kind, details.notes, each.username, each.password.reveal(),
            each.notes,
        )  # fmt: skip


def _entry(line: Line, columns: Columns, *, ours: bool) -> Entry:
    cells = {field: _cell(line, column, ours=ours) for field, column in columns._asdict().items()}
    kind = _kind(key(cells["kind"].strip()))
    details = ResourceDetails(cells["resource"], cells["address"], kind, cells["resource_notes"])
    entry = Entry(line.number, details, cells["username"], Secret(cells["password"]), cells["notes"])
    try:
        return _checked(entry, columns)
    except Invalid as error:
        return _wrong(entry, error.sentence)


def _kind(written: str) -> str:
    """The type that a table names, in English or the reader's language."""
    return _KINDS.get(written) or next((kind for kind in KINDS if key(kind_label(kind)) == written), "Other")


def _checked(entry: Entry, columns: Columns) -> Entry:
    lacking = _lacking(entry, columns)
    if lacking:
        raise Invalid(lacking)
    details, username, notes = entry.details.checked(), entry.username, fields.notes(entry.notes)
    if entry.username.strip() or entry.password:
        username = fields.line(username, "username", called=_("user name"))
        fields.password(entry.password)
    return Entry(entry.line, details, username.strip(), entry.password, notes)


def _lacking(entry: Entry, columns: Columns) -> str:
    """What is not there, and what to do: whoever reads it looks at a table, and at no field to fill in."""
    if not entry.details.name.strip():
        return _("This line has no name of a resource. Write one into the table, and import it again.")
    if entry.password and not entry.username.strip():
        if columns.username is None:
            return _("No column of user names is chosen, and an account needs one. Choose the column.")
        return _("This line has a password and no user name. Write one into the table, and import it again.")
    if entry.username.strip() and not entry.password:
        if columns.password is None:
            return _("No column of passwords is chosen, and an account needs one. Choose the column.")
        return _(
            "This line has a user name and no password. Write it into the table and import it again; without the user "
            "name the resource is added alone."
        )
    return ""


def _wrong(entry: Entry, problem: str) -> Entry:
    """The same with what is wrong, and without what nobody needs of it any more."""
    details = ResourceDetails(entry.details.name[: fields.LONGEST_NAME], kind=entry.details.kind)
    return Entry(entry.line, details, entry.username[: fields.LONGEST_NAME], Secret(""), "", problem)


def _cell(line: Line, column: int | None, *, ours: bool) -> str:
    cell = line.cells[column] if column is not None and column < len(line.cells) else ""
    return plain(cell) if ours else cell
