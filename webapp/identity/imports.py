"""Importing people from a table: looked at first, then added in the background, a few in a transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp import spreadsheet
from webapp.actor import Actor, Role
from webapp.db import Base, Session
from webapp.errors import Invalid
from webapp.i18n import gettext as _
from webapp.identity import roster
from webapp.identity.invitations import invite
from webapp.identity.roster import Columns, Entry
from webapp.identity.users import User, add_user, email_key, find_user
from webapp.importing import Importing, Outcome, Preview, Stage, TableImport, TableLine, Verdict, begun
from webapp.spreadsheet import Sheet

_ASKED_AT_ONCE: Final = 500


class UserImport(TableImport, Base):
    """One import of people. text: the table, until the import is started.

    email_column, name_column, role_column: counted from 0. by_mail: whether each gets the mail with their link.
    """

    __tablename__ = "user_imports"

    text: Mapped[str] = mapped_column(sa.Text)
    email_column: Mapped[int | None]
    name_column: Mapped[int | None]
    role_column: Mapped[int | None]
    by_mail: Mapped[bool]

    @property
    def columns(self) -> Columns:
        return Columns(self.email_column, self.name_column, self.role_column)


class ImportedLine(TableLine, Base):
    """What became of one line."""

    __tablename__ = "user_import_lines"

    import_id: Mapped[int] = mapped_column(sa.ForeignKey("user_imports.id", ondelete="CASCADE"), primary_key=True)
    email: Mapped[str] = mapped_column(sa.String(320))
    name: Mapped[str] = mapped_column(sa.String(320))
    role: Mapped[str] = mapped_column(sa.String(320))
    user_id: Mapped[int | None]


def draft(session: Session, actor: Actor, content: bytes, *, title: str) -> UserImport:
    """Keep a table to be looked at; nobody is added yet. Raises Invalid for what is no table."""
    text, encoding = spreadsheet.decode(content)
    sheet = spreadsheet.read(text, roster.READING)
    columns = roster.guess(sheet)
    made = UserImport(
        text=text,
        email_column=columns.email,
        name_column=columns.name,
        role_column=columns.role,
        by_mail=True,
        **begun(title, encoding, len(sheet.lines), session.now()),
    )
    made.belongs_to(actor)
    session.add(made)
    session.flush()
    return made


def get_import(session: Session, import_id: int) -> UserImport:
    """Raises NotFound."""
    return PEOPLE.get(session, import_id)


def choose_columns(session: Session, import_id: int, columns: Columns) -> None:
    """Say which column holds what. Raises NotFound, Conflict once it was started, and Invalid."""
    found = PEOPLE.get_draft(session, import_id)
    width = len(spreadsheet.read(found.text, roster.READING).columns)
    for field, column in columns._asdict().items():
        if column is not None and not 0 <= column < width:
            raise Invalid(_("Choose one of the table’s columns."), field)
    if columns.email is None:
        raise Invalid(_("Choose the column with the e-mail addresses: people sign in with them."), "email")
    found.email_column, found.name_column, found.role_column = columns


def preview(session: Session, import_id: int, *, page: int = 1, only_wrong: bool = False) -> Preview[Entry]:
    """What a draft would do, judged anew. Raises NotFound."""
    sheet = spreadsheet.read(get_import(session, import_id).text, roster.READING)
    return Preview.of(sheet, _verdicts(session, import_id, sheet), page=page, only_wrong=only_wrong)


def verdicts(session: Session, import_id: int) -> list[Verdict[Entry]]:
    """What would become of every line of a draft. Raises NotFound."""
    return _verdicts(session, import_id, spreadsheet.read(get_import(session, import_id).text, roster.READING))


def _verdicts(session: Session, import_id: int, sheet: Sheet) -> list[Verdict[Entry]]:
    return list(_judged(session, list(roster.entries(sheet, get_import(session, import_id).columns))))


def discard(session: Session, import_id: int) -> None:
    """Forget a draft. Raises NotFound, and Conflict once it was started."""
    session.delete(PEOPLE.get_draft(session, import_id))


def makes_administrators(session: Session, import_id: int) -> bool:
    """Whether a draft holds an administrator who is not there yet. Raises NotFound."""
    if get_import(session, import_id).stage != Stage.DRAFT.value:
        return False
    return any(
        each.outcome is Outcome.NEW and each.entry.role is Role.ADMINISTRATOR for each in verdicts(session, import_id)
    )


def start(
    session: Session, actor: Actor, import_id: int, *, by_mail: bool, administrators_too: bool = False
) -> UserImport:
    """Have the lines added from now on; starting what was started already changes nothing.

    administrators_too: whether the actor has proved enough to make somebody an administrator. Raises NotFound, Invalid.
    """
    found = PEOPLE.get(session, import_id, lock=True)
    if found.stage != Stage.DRAFT.value:
        return found
    if found.email_column is None:
        raise Invalid(_("Choose the column with the e-mail addresses first."), "email")
    if not administrators_too and makes_administrators(session, import_id):
        raise Invalid(_("This would make somebody an administrator. Look at the lines, and start it again."))
    entries = roster.entries(spreadsheet.read(found.text, roster.READING), found.columns)
    PEOPLE.start(session, actor, found, [_line(found.id, entry) for entry in entries])
    found.by_mail, found.text = by_mail, ""  # The table itself is needed no more.
    return found


def results_as_text(session: Session, import_id: int) -> str:
    """The same, as a table for spreadsheets. Raises NotFound."""
    lines = PEOPLE.all_results(session, import_id)
    rows = ((each.line, each.email, each.name, each.role, each.result.label, each.words) for each in lines)
    return spreadsheet.write((_("Line"), _("E-mail address"), _("Name"), _("Role"), _("Result"), _("Why")), rows)


def _judged(session: Session, entries: Sequence[Entry]) -> Iterator[Verdict[Entry]]:
    keys = [email_key(entry.email) for entry in entries if not entry.problem]
    there: set[str] = set()
    for begin in range(0, len(keys), _ASKED_AT_ONCE):
        part = keys[begin : begin + _ASKED_AT_ONCE]
        there.update(session.scalars(sa.select(User.email_key).where(User.email_key.in_(part))))
    for entry in entries:
        if entry.problem:
            yield Verdict(entry, Outcome.WRONG, entry.problem)
        else:
            yield Verdict(entry, Outcome.THERE if email_key(entry.email) in there else Outcome.NEW)


def _line(import_id: int, entry: Entry) -> dict[str, Any]:
    return {
        "import_id": import_id,
        "line": entry.line,
        "email": entry.email,
        "name": entry.name,
        "role": entry.role_text if entry.problem else entry.role.written,
        "outcome": Outcome.WRONG.value if entry.problem else Outcome.WAITING.value,
        "words": entry.problem,
        "user_id": None,
    }


def _actor(session: Session, found: UserImport) -> Actor | None:
    """Who started it, if they may still add people."""
    if found.actor_id is None:
        return Actor(None, found.actor_name, found.source, Role.ADMINISTRATOR)
    user = session.get(User, found.actor_id, populate_existing=True)
    if user is None or not user.active or user.role != Role.ADMINISTRATOR.value:
        return None
    return user.actor(found.source)


def _take(session: Session, actor: Actor, found: UserImport, line: ImportedLine) -> Outcome:
    user = find_user(session, line.email)
    outcome = Outcome.THERE if user is not None else Outcome.ADDED
    line.user_id = (user or _added(session, actor, found, line)).id
    return outcome


def _added(session: Session, actor: Actor, found: UserImport, line: ImportedLine) -> User:
    role = Role.from_text(line.role)
    if found.by_mail:
        return invite(session, actor, email=line.email, name=line.name, role=role).user
    return add_user(session, actor, email=line.email, name=line.name, role=role)


PEOPLE: Final = Importing(
    UserImport, ImportedLine, "user-import", _actor, _take, at_once=25, drafts_kept=timedelta(days=1)
)
