"""What every import of a table has in common: looked at first, then taken in the background, some lines at a time.

An import is a row. It begins as a draft that changes nothing. Starting it writes down its lines; whoever works on it
takes the next of them under the row's lock and notes their results in the same transaction. So it goes on after a
restart where it was, and two who work on it, or start it twice, take no line twice.
"""

from __future__ import annotations

import enum
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Mapped, mapped_column

from webapp.actor import Actor, Role
from webapp.audit import trail
from webapp.db import Database, Session, Told, UtcDateTime
from webapp.errors import Conflict, Invalid, NotFound, Refused, Unavailable
from webapp.i18n import N_
from webapp.i18n import gettext as _
from webapp.search import Page, span
from webapp.spreadsheet import Sheet

_log = logging.getLogger("keypost.importing")

PER_PAGE: Final = 50
IDLE: Final = timedelta(seconds=15)
"""A running import that has not gone on for so long: nobody works on it."""
_KEPT: Final = timedelta(days=30)
_OF_THE_LINE: Final = (DataError, IntegrityError)
"""What the database says of a value. All else that it says, it says of itself, and all lines wait."""


class Stage(enum.StrEnum):
    """How far an import has come; the value is stored."""

    DRAFT = "draft"
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"


class Outcome(enum.StrEnum):
    """What becomes, or became, of a line; the value is stored."""

    NEW = "new"
    REPLACES = "replaces"
    WAITING = "waiting"
    ADDED = "added"
    REPLACED = "replaced"
    THERE = "there"
    WRONG = "wrong"
    STOPPED = "stopped"

    @property
    def label(self) -> str:
        """The outcome as pages and commands write it."""
        return _(_LABELS[self])

    @property
    def tone(self) -> str:
        """How a page colours it."""
        return _TONES.get(self, "")


_LABELS: Final = {
    Outcome.NEW: N_("new"),
    Outcome.REPLACES: N_("gets the new password"),
    Outcome.WAITING: N_("waiting"),
    Outcome.ADDED: N_("added"),
    Outcome.REPLACED: N_("new password set"),
    Outcome.THERE: N_("already there"),
    Outcome.WRONG: N_("left out"),
    Outcome.STOPPED: N_("not added, stopped before"),
}
_TONES: Final = {
    Outcome.NEW: "good",
    Outcome.ADDED: "good",
    Outcome.REPLACES: "warn",
    Outcome.REPLACED: "good",
    Outcome.WRONG: "bad",
}


class TableImport:
    """One import. title: the file's name; encoding: how it was read.

    total: lines of the table; added, there, wrong: those with a result. moved_at: when it last went on.
    """

    id: Mapped[int] = mapped_column(primary_key=True)
    stage: Mapped[str] = mapped_column(sa.String(10), index=True)
    title: Mapped[str] = mapped_column(sa.String(200))
    encoding: Mapped[str] = mapped_column(sa.String(20))
    total: Mapped[int]
    added: Mapped[int]
    there: Mapped[int]
    wrong: Mapped[int]
    actor_id: Mapped[int | None]
    actor_name: Mapped[str] = mapped_column(sa.String(320))
    source: Mapped[str] = mapped_column(sa.String(100))
    made_at: Mapped[datetime] = mapped_column(UtcDateTime)
    moved_at: Mapped[datetime] = mapped_column(UtcDateTime)

    @property
    def done(self) -> int:
        """How many lines have a result."""
        return self.added + self.there + self.wrong

    @property
    def is_over(self) -> bool:
        return self.stage in (Stage.DONE, Stage.STOPPED)

    def count(self, outcome: Outcome) -> None:
        """Note that one more line ended so."""
        self.added += outcome is Outcome.ADDED
        self.there += outcome is Outcome.THERE
        self.wrong += outcome is Outcome.WRONG

    def figures(self) -> dict[str, Any]:
        """What became of how many lines, for the audit trail."""
        return {"added": self.added, "already_there": self.there, "left_out": self.wrong}

    def belongs_to(self, actor: Actor) -> None:
        """Note who does it, and from where."""
        self.actor_id, self.actor_name, self.source = actor.id, actor.name[:320], actor.source[:100]


class TableLine:
    """What became of one line. words: why."""

    import_id: Mapped[int]
    line: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    outcome: Mapped[str] = mapped_column(sa.String(10))
    words: Mapped[str] = mapped_column(Told)

    @property
    def result(self) -> Outcome:
        return Outcome(self.outcome)


Entry = TypeVar("Entry")


@dataclass(frozen=True, slots=True)
class Verdict(Generic[Entry]):
    """One line of a draft: what it says, and what would become of it. words: what is wrong with it, or what is new."""

    entry: Entry
    outcome: Outcome
    words: str = ""


@dataclass(frozen=True, slots=True)
class Preview(Generic[Entry]):
    """What an import would do. page: the lines looked at, all or those that are wrong alone."""

    sheet: Sheet
    page: Page[Verdict[Entry]]
    counts: Counter[Outcome]
    only_wrong: bool

    @classmethod
    def of(
        cls, sheet: Sheet, judged: Sequence[Verdict[Entry]], *, page: int = 1, only_wrong: bool = False
    ) -> Preview[Entry]:
        shown = [each for each in judged if each.outcome is Outcome.WRONG] if only_wrong else judged
        page, pages, per_page = span(len(shown), page, PER_PAGE)
        part = shown[(page - 1) * per_page : page * per_page]
        counts = Counter(each.outcome for each in judged)
        return cls(sheet, Page(part, len(shown), page, pages, ""), counts, only_wrong)

    @property
    def new(self) -> int:
        return self.counts[Outcome.NEW]

    @property
    def replaces(self) -> int:
        return self.counts[Outcome.REPLACES]

    @property
    def there(self) -> int:
        return self.counts[Outcome.THERE]

    @property
    def wrong(self) -> int:
        return self.counts[Outcome.WRONG]


Import = TypeVar("Import", bound=TableImport)
Line = TypeVar("Line", bound=TableLine)


def begun(title: str, encoding: str, total: int, now: datetime) -> dict[str, Any]:
    """The values of a fresh draft that every kind of import has."""
    counts = dict.fromkeys(("added", "there", "wrong"), 0)
    return counts | {
        "stage": Stage.DRAFT.value,
        "title": title[:200],
        "encoding": encoding,
        "total": total,
        "made_at": now,
        "moved_at": now,
    }


def not_there() -> NotFound:
    """What is said of an import that is gone, never was, or is somebody else's."""
    return NotFound(_("There is no such import, or not any more: what was not started in time is forgotten."))


@dataclass(frozen=True)
class Importing(Generic[Import, Line]):
    """One kind of import, and how it goes on.

    noun: of its lines in the audit trail. actor: who started one, if they still may. take: do what a line says; raises
    Invalid, NotFound, Refused or Conflict, and then nothing of the line stays. at_once: lines in one transaction.
    drafts_kept: how long a draft waits to be started. forgotten: what a line that is not taken any more loses.
    """

    imports: type[Import]
    lines: type[Line]
    noun: str
    actor: Callable[[Session, Import], Actor | None]
    take: Callable[[Session, Actor, Import, Line], Outcome]
    at_once: int
    drafts_kept: timedelta
    forgotten: dict[str, Any] = field(default_factory=dict)

    def get(self, session: Session, import_id: int, *, lock: bool = False) -> Import:
        """Raises NotFound. lock: hold it until the end of the transaction."""
        found = session.get(self.imports, import_id, populate_existing=True, with_for_update=lock or None)
        if found is None or (found.stage == Stage.DRAFT and found.made_at < session.now() - self.drafts_kept):
            raise not_there()
        return found

    def get_draft(self, session: Session, import_id: int) -> Import:
        """Raises NotFound, and Conflict once it was started."""
        found = self.get(session, import_id)
        if found.stage != Stage.DRAFT:
            raise Conflict(_("This import was started already, so its columns stay as they are."))
        return found

    def start(self, session: Session, actor: Actor, found: Import, lines: Sequence[dict[str, Any]]) -> None:
        """Have these lines taken from now on."""
        found.stage, found.moved_at = Stage.RUNNING.value, session.now()
        found.belongs_to(actor)
        session.execute(sa.insert(self.lines), list(lines))
        found.wrong = sum(line["outcome"] == Outcome.WRONG for line in lines)
        trail.record(
            session, actor, f"{self.noun}:start", subject=f"{self.noun}:{found.id}", title=found.title,
            lines=found.total,
        )  # fmt: skip

    def stop(self, session: Session, actor: Actor, import_id: int) -> None:
        """End a running import after the lines that are done. Raises NotFound."""
        found = self.get(session, import_id, lock=True)
        if found.stage == Stage.RUNNING:
            self._end(session, actor, found, Stage.STOPPED)

    def stop_all(self, session: Session, actor: Actor) -> None:
        """End every running import after the lines that are done."""
        running = sa.select(self.imports).where(self.imports.stage == Stage.RUNNING.value)
        for found in session.scalars(running.with_for_update()).all():
            self._end(session, actor, found, Stage.STOPPED)

    def work(
        self,
        database: Database,
        *,
        seconds: float = 1.0,
        only: int | None = None,
        ended: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Go on with what was started, or one import of it, for so long; tells whether there is more to do."""
        until = time.monotonic() + seconds
        while (import_id := self._running(database, only)) is not None:
            while self.go_on(database, import_id):
                if ended() or time.monotonic() > until:
                    return True
        return False

    def go_on(self, database: Database, import_id: int) -> bool:
        """Take the next lines of a running import in one transaction; tells whether there are more."""
        with database.transaction() as session:
            found = session.get(self.imports, import_id, with_for_update=True, populate_existing=True)
            if found is None or found.stage != Stage.RUNNING:
                return False
            actor = self.actor(session, found)
            if actor is None:
                gone = Actor(found.actor_id, found.actor_name, found.source, Role.PASSWORD_USER)
                self._end(session, gone, found, Stage.STOPPED)
                return False
            waiting = self._waiting(session, found)
            for line in waiting:
                self._take(session, actor, found, line)
            if len(waiting) < self.at_once:
                self._end(session, actor, found, Stage.DONE)
            found.moved_at = session.now()
            return found.stage == Stage.RUNNING

    def results(self, session: Session, import_id: int, *, page: int = 1, only_wrong: bool = False) -> Page[Line]:
        """What became of the lines so far, in the file's order."""
        lines = self._lines(import_id)
        if only_wrong:
            lines = lines.where(self.lines.outcome == Outcome.WRONG.value)
        total = session.scalar(lines.with_only_columns(sa.func.count())) or 0
        page, pages, per_page = span(total, page, PER_PAGE)
        shown = lines.order_by(self.lines.line).limit(per_page).offset((page - 1) * per_page)
        return Page(session.scalars(shown).all(), total, page, pages, "")

    def all_results(self, session: Session, import_id: int) -> Sequence[Line]:
        """What became of every line, in the file's order. Raises NotFound."""
        self.get(session, import_id)
        return session.scalars(self._lines(import_id).order_by(self.lines.line)).all()

    def latest(self, session: Session, *of: sa.ColumnElement[bool], limit: int = 5) -> Sequence[Import]:
        """The newest imports that were started."""
        started = sa.select(self.imports).where(self.imports.stage != Stage.DRAFT.value, *of)
        return session.scalars(started.order_by(self.imports.id.desc()).limit(limit)).all()

    def is_idle(self, session: Session, found: Import) -> bool:
        """Whether it should go on and nobody works on it."""
        return found.stage == Stage.RUNNING and session.now() - found.moved_at > IDLE

    def forget_old(self, session: Session) -> None:
        """Delete drafts that nobody started, and results after a month."""
        now, table = session.now(), self.imports
        old_draft = sa.and_(table.stage == Stage.DRAFT.value, table.made_at < now - self.drafts_kept)
        over = table.stage.in_([Stage.DONE.value, Stage.STOPPED.value])
        session.execute(sa.delete(table).where(old_draft | (over & (table.moved_at < now - _KEPT))))

    def _lines(self, import_id: int) -> sa.Select[Line]:
        return sa.select(self.lines).where(self.lines.import_id == import_id)

    def _waiting(self, session: Session, found: Import) -> Sequence[Line]:
        waiting = self._lines(found.id).where(self.lines.outcome == Outcome.WAITING.value)
        return session.scalars(waiting.order_by(self.lines.line).limit(self.at_once)).all()

    def _running(self, database: Database, only: int | None) -> int | None:
        running = sa.select(self.imports.id).where(self.imports.stage == Stage.RUNNING.value)
        if only is not None:
            running = running.where(self.imports.id == only)
        with database.reading() as session:
            return session.scalar(running.order_by(self.imports.id).limit(1))

    def _take(self, session: Session, actor: Actor, found: Import, line: Line) -> None:
        try:
            with session.begin_nested():
                outcome = self.take(session, actor, found, line)
        except (Invalid, NotFound, Refused, Conflict) as error:
            outcome, line.words = Outcome.WRONG, error.sentence
        except Unavailable:
            raise
        except Exception as error:  # One line that nobody thought of must not hold up all others for ever.
            if isinstance(error, SQLAlchemyError) and not isinstance(error, _OF_THE_LINE):
                raise
            _log.error("a line of an import could not be taken: %s", type(error).__name__)
            outcome, line.words = Outcome.WRONG, _("It could not be taken in, and nothing of it was. Add it by hand.")
        line.outcome = outcome.value
        for name, value in self.forgotten.items():
            setattr(line, name, value)
        found.count(outcome)

    def _end(self, session: Session, actor: Actor, found: Import, stage: Stage) -> None:
        found.stage, found.moved_at = stage.value, session.now()
        session.execute(
            sa.update(self.lines)
            .where(self.lines.import_id == found.id, self.lines.outcome == Outcome.WAITING.value)
            .values(outcome=Outcome.STOPPED.value, **self.forgotten)
        )
        verb = "end" if stage is Stage.DONE else "stop"
        trail.record(session, actor, f"{self.noun}:{verb}", subject=f"{self.noun}:{found.id}", **found.figures())
