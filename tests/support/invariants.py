"""What must be true of an outbox and the server it delivered to, whatever was killed meanwhile.

It reads the rows and the server's log, and knows nothing of how delivery works.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from tests.support.sink import Accepted, Heard
from webapp.db import Database
from webapp.outbox.lease import MOST_CRASHES
from webapp.outbox.messages import FailedAttempt, Message, State


@dataclass(frozen=True, slots=True)
class Tally:
    """duplicates: how often a message arrived beyond the first time; set_aside: those that three workers died with."""

    accepted: int
    duplicates: int
    set_aside: int


def recorded(database: Database) -> set[str]:
    """Recipients whose row says that the server took their message."""
    with database.reading() as session:
        return set(session.scalars(sa.select(Message.recipient).where(Message.state == State.ACCEPTED.value)))


def in_doubt(heard: Heard, written_down: set[str]) -> Counter[str]:
    """Recipients whose message the server took and whose row does not say so: they may get it a second time."""
    return Counter({each.recipient for each in heard.accepted} - written_down)


def check(database: Database, heard: Heard, *, doubtful: Mapping[str, int] | None = None) -> Tally:
    """Fail unless every message has ended as it may; each has a recipient of its own.

    doubtful: at how many kills a recipient was in doubt: so often may their message have come once more.
    """
    with database.reading() as session:
        rows = list(session.scalars(sa.select(Message)))
        broken = Counter(session.scalars(sa.select(FailedAttempt.message_id)))
        if database.is_sqlite:
            assert session.scalar(sa.text("PRAGMA integrity_check")) == "ok"
    arrived: dict[str, list[Accepted]] = {}
    for each in heard.accepted:
        arrived.setdefault(each.recipient, []).append(each)
    assert len({row.recipient for row in rows}) == len(rows), "the check needs a recipient for each message"
    assert heard.violations == []
    assert arrived.keys() <= {row.recipient for row in rows}, "something arrived that nobody queued"
    for row in rows:
        _check_row(row, arrived.get(row.recipient, []), broken[row.id], doubtful)
    return Tally(
        accepted=sum(row.state == State.ACCEPTED.value for row in rows),
        duplicates=sum(len(copies) - 1 for copies in arrived.values()),
        set_aside=sum(row.state == State.GIVEN_UP.value for row in rows),
    )


def _check_row(row: Message, copies: list[Accepted], failures: int, doubtful: Mapping[str, int] | None) -> None:
    assert row.state in (State.ACCEPTED.value, State.GIVEN_UP.value), f"{row.recipient} is {row.state}"
    if row.state == State.GIVEN_UP.value:
        assert (row.code, row.crashes) == ("worker-died", MOST_CRASHES), f"{row.recipient}: {row.code}"
        assert row.sealed, f"{row.recipient}: set aside, and cannot be tried again"
    else:
        assert copies, f"{row.recipient} is accepted, and never arrived"
        assert row.sealed is None, f"{row.recipient}: its data is still there"
    assert {each.message_id for each in copies} <= {row.message_id}, f"{row.recipient}: another Message-ID"
    assert len({each.size for each in copies}) <= 1, f"{row.recipient}: another text"
    excused = row.crashes + failures if doubtful is None else doubtful.get(row.recipient, 0)
    assert len(copies) <= 1 + excused, f"{row.recipient}: sent {len(copies)} times, outside the window"
