"""How delivery stands: what waits, who delivers, and whether it is paused; one statement, for every page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from webapp.db import Session
from webapp.outbox.messages import Message, State
from webapp.outbox.pause import Pause
from webapp.outbox.workers import ALIVE_FOR, Worker


@dataclass(frozen=True, slots=True)
class Standing:
    """queued, sending: how many messages. alive: how many workers; seen_at: when the last of them was heard of, None
    when that is more than a day ago or never was. pause: why delivery waits, None while it does not. now: when that
    was."""

    queued: int
    sending: int
    alive: int
    seen_at: datetime | None
    pause: Pause | None
    now: datetime

    @property
    def waiting(self) -> int:
        return self.queued + self.sending

    @property
    def is_deserted(self) -> bool:
        """Whether something waits and nobody delivers it."""
        return self.alive == 0 and self.waiting > 0


def standing(session: Session) -> Standing:
    """How delivery stands now."""
    now = session.now()
    alive = sa.select(sa.func.count()).where(Worker.seen_at > now - ALIVE_FOR, Worker.seen_at < now + ALIVE_FOR)
    once = sa.select(
        _number_in(State.QUEUED).label("queued"),
        _number_in(State.SENDING).label("sending"),
        alive.select_from(Worker).scalar_subquery().label("alive"),
        sa.select(sa.func.max(Worker.seen_at)).scalar_subquery().label("seen_at"),
    ).subquery()
    row = session.execute(sa.select(*once.c, Pause).select_from(once).join(Pause, sa.true(), isouter=True)).one()
    return Standing(row.queued, row.sending, row.alive, row.seen_at, row.Pause, now)


def _number_in(state: State) -> sa.ScalarSelect[int]:
    return sa.select(sa.func.count()).select_from(Message).where(_is(state)).scalar_subquery()


def _is(state: State) -> sa.ColumnElement[bool]:
    # As literal text, which alone lets SQLite use the index of one state.
    return Message.state == sa.literal_column(f"'{state.value}'")


def oldest_wait(session: Session) -> timedelta:
    """How long the message that has waited longest has waited; nothing when none waits."""
    waits = [
        sa.select(sa.func.min(Message.queued_at).label("since")).where(_is(state))
        for state in State
        if state.is_waiting
    ]
    since = session.scalars(sa.union_all(*waits)).all()
    return max((session.now() - each for each in since if each), default=timedelta())
