"""Whether mail gets out, for machines that ask: sentences without names, addresses and secrets."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from webapp.db import Session
from webapp.moments import lasting
from webapp.outbox.messages import Message
from webapp.outbox.standing import Standing, standing
from webapp.outbox.workers import ALIVE_FOR

OVERDUE: Final = timedelta(minutes=15)
"""A message that is due waits for seconds; one that has been due for so long is stuck."""


def troubles(session: Session, *, started_at: datetime) -> list[str]:
    """What keeps mail from getting out; nothing when all is well.

    started_at: when this process began; for a minute after that a worker may still be on its way.
    """
    now, found = session.now(), standing(session)
    reasons = [_pause(found), _workers(found, now - started_at), _overdue(session, now)]
    return [reason for reason in reasons if reason]


def _pause(found: Standing) -> str:
    return f"mail is paused since {found.pause.since:%Y-%m-%dT%H:%M:%SZ} ({found.pause.code})" if found.pause else ""


def _workers(found: Standing, running_for: timedelta) -> str:
    if found.alive or timedelta() <= running_for < ALIVE_FOR:
        return ""
    return f"nobody delivers mail: no worker was heard of for {ALIVE_FOR.seconds} seconds"


def _overdue(session: Session, now: datetime) -> str:
    due_at = session.scalar(
        sa.select(sa.func.min(Message.due_at)).where(Message.state == sa.literal_column("'queued'"))
    )
    late = now - due_at if due_at else timedelta()
    return f"the oldest message that is due has waited for {lasting(late)}" if late > OVERDUE else ""
