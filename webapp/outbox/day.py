"""The last 24 hours of the outbox, hour by hour, counted from the messages themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from webapp.db import Session
from webapp.outbox.messages import Message, State

HOURS: Final = 24
_HOUR: Final = timedelta(hours=1)
_ALWAYS: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Hour:
    """One hour of the clock, in UTC.

    accepted, failed: what ended in it, failed being refused or given up; waiting: what had not ended at its end, or has
    not ended now.
    """

    start: datetime
    accepted: int
    failed: int
    waiting: int


def last_day(session: Session) -> list[Hour]:
    """The present hour and the 23 before it, the oldest first.

    A message that was tried again counts as waiting since it was first queued.
    """
    now = session.now()
    first = now.replace(minute=0, second=0, microsecond=0) - (HOURS - 1) * _HOUR
    ended, waiting = _ended(session, first), _waiting(session)
    spans = [(queued, over, number) for (_, over, queued), number in ended.items()]
    spans += [(queued, _ALWAYS, number) for queued, number in waiting.items()]
    return [_hour(first + number * _HOUR, ended, spans) for number in range(HOURS)]


def _hour(
    start: datetime,
    ended: Counter[tuple[str, datetime, datetime]],
    spans: Sequence[tuple[datetime, datetime, int]],
) -> Hour:
    def number(*states: State) -> int:
        return sum(many for (state, over, _), many in ended.items() if over == start and state in states)

    return Hour(
        start,
        accepted=number(State.ACCEPTED),
        failed=number(State.REFUSED, State.GIVEN_UP),
        waiting=sum(many for queued, over, many in spans if queued <= start < over),
    )


def _ended(session: Session, first: datetime) -> Counter[tuple[str, datetime, datetime]]:
    """How many ended since ``first``, by state, the hour they ended in, and the hour they were queued in."""
    ended, queued = _hour_of(Message.ended_at), _hour_of(Message.queued_at)
    found = (
        sa.select(Message.state, ended, queued, sa.func.count())
        .where(Message.ended_at >= first)
        .group_by(Message.state, ended, queued)
    )
    return Counter({(state, _read(over), _read(since)): many for state, over, since, many in session.execute(found)})


def _waiting(session: Session) -> Counter[datetime]:
    """How many wait, by the hour they were queued in."""
    queued = _hour_of(Message.queued_at)
    total: Counter[datetime] = Counter()
    for state in (State.QUEUED, State.SENDING):
        found = (
            sa.select(queued, sa.func.count())
            .where(Message.state == sa.literal_column(f"'{state.value}'"))
            .group_by(queued)
        )
        for since, many in session.execute(found):
            total[_read(since)] += many
    return total


def _hour_of(column: Any) -> sa.ColumnElement[str]:
    """``YYYY-MM-DD HH``: both databases write an instant like this, and cut off what follows alike."""
    return sa.func.substr(sa.cast(column, sa.String), 1, 13)


def _read(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}:00:00").replace(tzinfo=UTC)
