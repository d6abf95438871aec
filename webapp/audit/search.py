"""Finding lines of the trail: by who, what, to what, how it ended, and when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

import sqlalchemy as sa

from webapp.audit import words
from webapp.audit.trail import AuditLine
from webapp.db import Session

OUTCOMES: Final = ("done", "accepted", "failed", "refused")
COLUMNS: Final = ("Line", "When (UTC)", "Who", "From", "Did what", "Action", "To what", "Outcome", "Details", "Hash")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines: every given part must fit. person: a part of the name; since, until: days in UTC, both included."""

    person: str = ""
    action: str = ""
    subject: str = ""
    outcome: str = ""
    since: date | None = None
    until: date | None = None

    @property
    def given(self) -> dict[str, str]:
        """The parts that were given, as texts."""
        return {name: str(value) for name, value in asdict(self).items() if value}


def page(session: Session, wanted: Wanted, *, before: int | None = None, limit: int = 50) -> Sequence[AuditLine]:
    """The newest lines that fit first, or those before line ``before``."""
    found = _matching(wanted).order_by(AuditLine.id.desc()).limit(limit)
    return session.scalars(found if before is None else found.where(AuditLine.id < before)).all()


def rows(session: Session, wanted: Wanted) -> Iterator[tuple[str, ...]]:
    """COLUMNS, and then every line that fits, the oldest first, read as they are taken."""
    yield COLUMNS
    found = _matching(wanted).order_by(AuditLine.id).execution_options(yield_per=1000)
    for line in session.scalars(found):
        yield (
            str(line.id),
            f"{line.at:%Y-%m-%d %H:%M:%S}",
            line.actor_name,
            line.source,
            words.action(line.action),
            line.action,
            words.subject(line.subject),
            line.outcome,
            line.details,
            line.hash,
        )


def _matching(wanted: Wanted) -> sa.Select[AuditLine]:
    found = sa.select(AuditLine)
    if wanted.person:
        found = found.where(AuditLine.actor_name.icontains(wanted.person, autoescape=True))
    if wanted.action:
        found = found.where(AuditLine.action == wanted.action)
    if wanted.subject:
        noun, _, number = wanted.subject.strip().lower().rpartition(" ")
        found = found.where(AuditLine.subject == (f"{noun.replace(' ', '-')}:{number}" if noun else number))
    if wanted.outcome:
        found = found.where(AuditLine.outcome == wanted.outcome)
    if wanted.since is not None:
        found = found.where(AuditLine.at >= _midnight(wanted.since))
    if wanted.until is not None and wanted.until < date.max:
        found = found.where(AuditLine.at < _midnight(wanted.until + timedelta(days=1)))
    return found


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
