"""Importing resources and accounts from a table: looked at first, then added in the background, each line by itself.

The table is sealed from the moment it is handed over: as a whole in the draft, which ends with the session that made it
and after an hour anyway, and line by line while it is worked on. Once a line has its result, its password is forgotten
here; what the line was called stays sealed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp import spreadsheet
from webapp.actor import Actor, Role
from webapp.db import Base, Session, sealed_as
from webapp.errors import Invalid
from webapp.i18n import gettext as _
from webapp.identity.users import User
from webapp.importing import Importing, Outcome, Preview, Stage, TableImport, TableLine, Verdict, begun, not_there
from webapp.keyring import SealBroken, Secret
from webapp.search import key
from webapp.spreadsheet import Sheet
from webapp.vault import accounts, inventory, resources, rights
from webapp.vault.accounts import Account
from webapp.vault.inventory import Columns, Entry
from webapp.vault.resources import KEY_SEPARATOR, Resource, ResourceDetails
from webapp.vault.rights import Right, Standing

_ASKED_AT_ONCE: Final = 500


class ResourceImport(TableImport, Base):
    """One import of resources and accounts. sealed: the table, until the import is started.

    sign_in_id: the session that a draft belongs to. columns_json: which column is what. replace: whether an account
    that is there already gets the table's password. replaced: how many did. owner_id: whose the new resources are, and
    those with new accounts, when the command line says so.
    """

    __tablename__ = "resource_imports"

    sign_in_id: Mapped[int | None] = mapped_column(sa.ForeignKey("sign_ins.id", ondelete="CASCADE"), index=True)
    sealed: Mapped[bytes | None] = mapped_column(info=sealed_as("{id}", field="table"))
    has_heading: Mapped[bool]
    columns_json: Mapped[str] = mapped_column(sa.Text)
    replace: Mapped[bool]
    replaced: Mapped[int]
    owner_id: Mapped[int | None]

    @property
    def columns(self) -> Columns:
        return Columns(**json.loads(self.columns_json))

    @property
    def done(self) -> int:
        return super().done + self.replaced

    def count(self, outcome: Outcome) -> None:
        super().count(outcome)
        self.replaced += outcome is Outcome.REPLACED

    def figures(self) -> dict[str, Any]:
        return super().figures() | {"passwords_set": self.replaced}


class ResourceImportLine(TableLine, Base):
    """What became of one line. named: what it is called; content: the rest of it, until it has its result."""

    __tablename__ = "resource_import_lines"

    import_id: Mapped[int] = mapped_column(sa.ForeignKey("resource_imports.id", ondelete="CASCADE"), primary_key=True)
    named: Mapped[bytes] = mapped_column(info=sealed_as("{import_id}/{line}", field="named"))
    content: Mapped[bytes | None] = mapped_column(info=sealed_as("{import_id}/{line}", field="content"))
    resource_id: Mapped[int | None]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one line, with its names."""

    line: int
    resource: str
    username: str
    outcome: Outcome
    words: str
    resource_id: int | None


def draft(
    session: Session, actor: Actor, content: bytes, *, title: str, sign_in_id: int | None = None,
    owner_id: int | None = None,
) -> ResourceImport:  # fmt: skip
    """Keep a table to be looked at, in place of the session's earlier one; nothing is added yet. Raises Invalid."""
    text, encoding = spreadsheet.decode(content)
    sheet = inventory.understand(text)
    if sign_in_id is not None:
        session.execute(sa.delete(ResourceImport).where(ResourceImport.sign_in_id == sign_in_id))
    made = ResourceImport(
        sign_in_id=sign_in_id,
        has_heading=sheet.has_heading,
        columns_json=json.dumps(inventory.guess(sheet)._asdict()),
        replace=False,
        replaced=0,
        owner_id=owner_id,
        **begun(title, encoding, len(sheet.lines), session.now()),
    )
    made.belongs_to(actor)
    session.add(made)
    session.flush()
    made.sealed = session.keyring.seal(Secret(text), **_place(made, "table"))
    return made


def get_import(
    session: Session, actor: Actor, import_id: int, *, sign_in_id: int | None = None, lock: bool = False
) -> ResourceImport:
    """An import of the actor's own; a draft only within the session that made it. Raises NotFound."""
    found = RESOURCES.get(session, import_id, lock=lock)
    if found.actor_id != actor.id or (found.stage == Stage.DRAFT and found.sign_in_id != sign_in_id):
        raise not_there()
    return found


def sheet_of(session: Session, found: ResourceImport) -> Sheet:
    """The table of a draft. Raises Conflict once it was started."""
    RESOURCES.get_draft(session, found.id)
    return inventory.understand(_text(session, found), has_heading=found.has_heading)


def choose(
    session: Session, found: ResourceImport, columns: Columns, *, has_heading: bool, replace: bool
) -> ResourceImport:
    """Say which column of a draft holds what, and what becomes of accounts that are there. Raises Invalid, Conflict."""
    RESOURCES.get_draft(session, found.id)
    sheet = inventory.understand(_text(session, found), has_heading=has_heading)
    found.has_heading, found.total, found.replace = has_heading, len(sheet.lines), replace
    found.columns_json = json.dumps(columns._asdict())
    inventory.check(sheet, columns)
    return found


def preview(
    session: Session, actor: Actor, found: ResourceImport, *, page: int = 1, only_wrong: bool = False
) -> Preview[Entry]:
    """What a draft would do, judged anew; without a column of resources there is nothing to judge."""
    sheet = sheet_of(session, found)
    return Preview.of(sheet, _verdicts(session, actor, found, sheet), page=page, only_wrong=only_wrong)


def verdicts(session: Session, actor: Actor, found: ResourceImport) -> list[Verdict[Entry]]:
    """What would become of every line of a draft."""
    return _verdicts(session, actor, found, sheet_of(session, found))


def discard(session: Session, found: ResourceImport) -> None:
    """Forget a draft. Raises Conflict once it was started."""
    session.delete(RESOURCES.get_draft(session, found.id))


def start(session: Session, actor: Actor, found: ResourceImport) -> ResourceImport:
    """Have the lines of an import, held since it was read, taken from now on; a second start changes nothing.

    Raises Invalid.
    """
    if found.stage != Stage.DRAFT:
        return found
    sheet = sheet_of(session, found)
    inventory.check(sheet, found.columns)
    lines = [_line(session, found, entry) for entry in inventory.entries(sheet, found.columns)]
    found.sealed, found.sign_in_id, found.total = None, None, len(lines)
    RESOURCES.start(session, actor, found, lines)
    return found


def named(session: Session, lines: Iterable[ResourceImportLine]) -> list[Result]:
    """Results with the names of their lines."""
    return [_named(session, line) for line in lines]


def results_as_text(session: Session, found: ResourceImport) -> str:
    """The result of every line as a table for spreadsheets; never a password."""
    lines = named(session, RESOURCES.all_results(session, found.id))
    rows = ((each.line, each.resource, each.username, each.outcome.label, each.words) for each in lines)
    return spreadsheet.write((_("Line"), _("Resource"), _("User name"), _("Result"), _("Why")), rows)


def _named(session: Session, line: ResourceImportLine) -> Result:
    resource, username = _unseal(session, line, "named")
    return Result(line.line, resource, username, line.result, line.words, line.resource_id)


def _verdicts(session: Session, actor: Actor, found: ResourceImport, sheet: Sheet) -> list[Verdict[Entry]]:
    if found.columns.resource is None:
        return []
    return list(_judged(session, actor, found, list(inventory.entries(sheet, found.columns))))


@dataclass(frozen=True, slots=True)
class _There:
    """A resource that is there already. right: the actor's on it; None when they may not see it."""

    id: int
    name: str
    right: Right | None
    owner_id: int
    owner_name: str


def _judged(
    session: Session, actor: Actor, found: ResourceImport, entries: Sequence[Entry]
) -> Iterator[Verdict[Entry]]:
    there = _resources(session, actor, {entry.resource_key for entry in entries if not entry.problem})
    held = _accounts(session, actor, {_label_key(entry) for entry in entries if entry.has_account})
    begun: set[str] = set()
    for entry in entries:
        outcome, words = _verdict(actor, found, entry, there.get(entry.resource_key), held)
        if outcome is Outcome.NEW and entry.resource_key not in there and entry.resource_key not in begun:
            begun.add(entry.resource_key)
            words = _("with its resource") if entry.has_account else _("a resource alone")
        elif outcome is Outcome.NEW and not entry.has_account:
            outcome = Outcome.THERE
        yield Verdict(entry, outcome, words)


def _verdict(
    actor: Actor, found: ResourceImport, entry: Entry, there: _There | None, held: Mapping[tuple[int, str], Right]
) -> tuple[Outcome, str]:
    """What would become of a line: the same that _take() does, without doing it."""
    if entry.problem:
        return Outcome.WRONG, entry.problem
    if there is None:
        return (Outcome.NEW, "") if actor.adds_resources else (Outcome.WRONG, _(resources.ADDED_BY))
    if there.right is None:
        return Outcome.WRONG, str(resources.taken(entry.details.name)) if actor.adds_resources else _(
            resources.ADDED_BY
        )
    if found.owner_id not in (None, there.owner_id):
        return Outcome.WRONG, _of_somebody_else(there.name)
    if not entry.has_account:
        return Outcome.THERE, ""
    right = held.get((there.id, entry.username))
    if right is None:
        return _if_modified(there.right, f"“{there.name}”", there, Outcome.NEW)
    if not found.replace:
        return Outcome.THERE, ""
    return _if_modified(right, f"“{accounts.label(there.name, entry.username)}”", there, Outcome.REPLACES)


def _if_modified(right: Right, what: str, there: _There, outcome: Outcome) -> tuple[Outcome, str]:
    if right >= Right.MODIFY:
        return outcome, ""
    return Outcome.WRONG, str(rights.refusal(what, Standing(right, there.owner_name), Right.MODIFY))


def _resources(session: Session, actor: Actor, keys: set[str]) -> dict[str, _There]:
    held = rights.highest(lambda right: rights.on_resource(actor, right, id=Resource.id))
    asked = sa.select(Resource.name_key, Resource.id, Resource.name, held, Resource.owner_id, User.name).join(
        User, User.id == Resource.owner_id
    )
    return {
        name_key: _There(id, name, None if right is None else Right(right), owner_id, owner_name)
        for part in _parts(keys)
        for name_key, id, name, right, owner_id, owner_name in session.execute(asked.where(Resource.name_key.in_(part)))
    }


def _accounts(session: Session, actor: Actor, keys: set[str]) -> dict[tuple[int, str], Right]:
    """The accounts that the actor may see, by resource and user name, and what they may do with each."""
    held = rights.highest(lambda right: rights.on_account(actor, right, id=Account.id, resource_id=Account.resource_id))
    asked = sa.select(Account.resource_id, Account.username, held)
    return {
        (resource_id, username): Right(right)
        for part in _parts(keys)
        for resource_id, username, right in session.execute(asked.where(Account.label_key.in_(part)))
        if right is not None
    }


def _parts(keys: set[str]) -> Iterator[list[str]]:
    """So few at once as both engines take."""
    ordered = sorted(keys)
    return (ordered[begin : begin + _ASKED_AT_ONCE] for begin in range(0, len(ordered), _ASKED_AT_ONCE))


def _label_key(entry: Entry) -> str:
    return entry.resource_key + KEY_SEPARATOR + key(entry.username)


def _of_somebody_else(name: str) -> str:
    return _("“%(name)s” belongs to somebody else than the owner named.", name=name)


def _line(session: Session, found: ResourceImport, entry: Entry) -> dict[str, Any]:
    row, details = f"{found.id}/{entry.line}", entry.details
    content = [details.address, details.kind, details.notes, entry.password.reveal(), entry.notes]
    return {
        "import_id": found.id,
        "line": entry.line,
        "outcome": (Outcome.WRONG if entry.problem else Outcome.WAITING).value,
        "words": entry.problem,
        "named": _seal(session, [details.name, entry.username], row, "named"),
        "content": None if entry.problem else _seal(session, content, row, "content"),
        "resource_id": None,
    }


def _entry(session: Session, line: ResourceImportLine) -> Entry:
    try:
        name, username = _unseal(session, line, "named")
        address, kind, resource_notes, password, notes = _unseal(session, line, "content")
    except SealBroken:
        raise Invalid(_("What was kept of this line was altered in the database. Import it again.")) from None
    return Entry(line.line, ResourceDetails(name, address, kind, resource_notes), username, Secret(password), notes)


def _seal(session: Session, texts: list[str], row: str, field: str) -> bytes:
    return session.keyring.seal(Secret(json.dumps(texts)), table="resource_import_lines", row=row, field=field)


def _unseal(session: Session, line: ResourceImportLine, field: str) -> list[str]:
    row = f"{line.import_id}/{line.line}"
    sealed: bytes = getattr(line, field)
    texts: list[str] = json.loads(
        session.keyring.unseal(sealed, table="resource_import_lines", row=row, field=field).reveal()
    )
    return texts


def _actor(session: Session, found: ResourceImport) -> Actor | None:
    """Who started it, with the rights that they have now."""
    if found.actor_id is None:
        return Actor(None, found.actor_name, found.source, Role.ADMINISTRATOR, everything=True)
    user = session.get(User, found.actor_id, populate_existing=True)
    return user.actor(found.source) if user is not None and user.active else None


def _take(session: Session, actor: Actor, found: ResourceImport, line: ResourceImportLine) -> Outcome:
    entry = _entry(session, line)
    resource, is_new = _resource(session, actor, found, entry)
    line.resource_id = resource.id
    if not entry.has_account:
        return Outcome.ADDED if is_new else Outcome.THERE
    there = accounts.find_account(session, actor, resource.id, entry.username)
    if there is None:
        accounts.add_account(session, actor, resource.id, entry.username, entry.password, notes=entry.notes)
        return Outcome.ADDED
    if not found.replace:
        return Outcome.THERE
    locked = accounts.lock_account(session, actor, there.id, Right.MODIFY)
    if accounts.current_password(session, locked) == entry.password:
        return Outcome.THERE
    accounts.set_password(session, actor, there.id, entry.password)
    return Outcome.REPLACED


def _resource(session: Session, actor: Actor, found: ResourceImport, entry: Entry) -> tuple[Resource, bool]:
    """The resource of a line, added unless it is there, and whether it was."""
    there = resources.find_resource(session, actor, entry.details.name, Right.RECOGNISE)
    if there is None:
        return resources.add_resource(session, actor, entry.details, owner_id=found.owner_id), True
    if found.owner_id not in (None, there.owner_id):
        raise Invalid(_of_somebody_else(there.name))
    return there, False


def _text(session: Session, found: ResourceImport) -> str:
    if found.sealed is None:
        return ""
    return session.keyring.unseal(found.sealed, **_place(found, "table")).reveal()


def _place(found: ResourceImport, field: str) -> dict[str, Any]:
    return {"table": "resource_imports", "row": found.id, "field": field}


RESOURCES: Final = Importing(
    ResourceImport,
    ResourceImportLine,
    "resource-import",
    _actor,
    _take,
    at_once=1,
    drafts_kept=timedelta(hours=1),
    forgotten={"content": None},
)
