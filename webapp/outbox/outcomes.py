"""What became of attempts, recorded together and only where the claim still holds; delays, expiry and retention."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple, cast

import sqlalchemy as sa

from webapp.db import Session, Written, spell
from webapp.i18n import Sentence
from webapp.outbox.lease import Leased
from webapp.outbox.messages import LIFE, WAITING, FailedAttempt, Kind, Message, State, changed, picked

FIRST_DELAY: Final = timedelta(minutes=1)
LONGEST_DELAY: Final = timedelta(minutes=66)
JITTER: Final = 0.2
KEPT_DAYS: Final = 30
"""How many days an ended message is kept, unless the setting says otherwise."""
AT_ONCE: Final = 1000
"""So many rows at most are given up, emptied or deleted in one step."""
_SHOWN: Final = 1000

Verdict = Literal["accepted", "refused", "deferred", "unreadable"]
"""accepted: the server took it. refused: it will never take it. deferred: try again later; also when the connection
broke after the last line and nobody knows. unreadable: our own row cannot be made into a message."""

_table = cast(sa.Table, Message.__table__)
_attempts = cast(sa.Table, FailedAttempt.__table__)


class Outcome(NamedTuple):
    """How one attempt ended. code, stage: of the diagnosis, empty when accepted; reply: the server's words, masked, or
    without any what happened, a sentence."""

    message: Leased
    verdict: Verdict
    code: str = ""
    stage: str = ""
    reply: str = ""
    server: str = ""
    not_before: timedelta | None = None


def _shown(reply: str) -> str:
    """So much of it as is kept; a sentence of ours is kept whole, to be told in any language."""
    return reply if isinstance(reply, Sentence) else reply[:_SHOWN]


def _held() -> sa.ColumnElement[bool]:
    return sa.and_(_table.c.id == sa.bindparam("held_id"), _table.c.lease == sa.bindparam("held_lease"))


_ACCEPT: Final = Written(
    "UPDATE outbox_messages SET state = 'accepted', sealed = NULL, lease = NULL, lease_until = NULL, "
    "attempts = attempts + 1, attempted_at = ?, ended_at = ?, code = '', stage = '', reply = ?, server = ? "
    "WHERE id = ? AND lease = ?"
)
_EXPIRES: Final = sa.select(_table.c.expires_at).where(_held()).with_for_update()
_FAIL: Final = (
    sa.update(_table)
    .where(_held())
    .values(
        state=sa.bindparam("now_is"),
        lease=None,
        lease_until=None,
        attempts=_table.c.attempts + 1,
        attempted_at=sa.bindparam("at"),
        ended_at=sa.bindparam("over"),
        due_at=sa.bindparam("due"),
        code=sa.bindparam("why"),
        stage=sa.bindparam("where"),
        reply=sa.bindparam("words"),
        server=sa.bindparam("host"),
    )
)


def record(session: Session, outcomes: Sequence[Outcome]) -> None:
    """Write down how attempts ended, in the caller's transaction.

    An outcome whose claim no longer holds the message is passed over: another worker has it, or somebody cancelled.
    """
    now = session.now()
    connection = session.connection()
    at = spell(connection, now)
    accepted = [
        (at, at, each.reply[:_SHOWN], each.server, each.message.id, each.message.lease)
        for each in outcomes
        if each.verdict == "accepted"
    ]
    if accepted:
        _ACCEPT.run(connection, *accepted)
    for outcome in outcomes:
        # What the message was worth may have ended since it was claimed: its link was replaced.
        expires_at = None if outcome.verdict == "accepted" else connection.scalar(_EXPIRES, _claimed(outcome))
        if expires_at is not None:
            connection.execute(_FAIL, _claimed(outcome) | _failed(outcome, now, expires_at))
            connection.execute(sa.insert(_attempts), _attempt(outcome, now))


def delay(attempts: int) -> timedelta:
    """How long to wait after so many failed attempts: doubling from one minute to 66, give or take a fifth."""
    grown = FIRST_DELAY * (1 << min(max(attempts - 1, 0), 10))
    return min(grown, LONGEST_DELAY) * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load, no secret


def set_clock_right(session: Session) -> None:
    """What is due later than any delay reaches was put there by a wrong clock: it is due now."""
    now = session.now()
    session.connection().execute(
        sa.update(_table)
        .where(_table.c.state == sa.literal_column("'queued'"), _table.c.due_at > now + 2 * LONGEST_DELAY)
        .values(due_at=now)
    )


def give_up_expired(session: Session) -> int:
    """End what has waited longer than it is worth; gives how many, a thousand at most."""
    now = session.now()
    expired = (
        sa.select(_table.c.id)
        .where(_table.c.state == sa.literal_column("'queued'"), _table.c.expires_at <= now)
        .limit(AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    gone = sa.update(_table).where(_table.c.id.in_(picked(expired)), _table.c.state == State.QUEUED.value)
    code = sa.case((_table.c.code == "", "expired"), else_=_table.c.code)
    values: dict[str, Any] = {"state": State.GIVEN_UP.value, "ended_at": now, "sealed": None, "code": code}
    return changed(session, gone.values(values))


def hold_restored(session: Session) -> int:
    """Set aside all that waits in a database that was restored: it may have been sent since. Gives how many.

    Links ended with the restore, so what holds one expires: it can be sent again with a new link, not tried again.
    """
    now = session.now()
    with_link = _table.c.kind.in_([kind.value for kind in Kind if kind.is_essential])
    held: dict[str, Any] = {"state": State.GIVEN_UP.value, "ended_at": now, "code": "restored"}
    held["expires_at"] = sa.case((with_link, now), else_=_table.c.expires_at)
    none: dict[str, Any] = {"lease": None, "lease_until": None, "stage": "", "reply": ""}
    waiting = sa.update(_table).where(_table.c.state.in_(WAITING))
    return changed(session, waiting.values(held | none))


def empty_ended(session: Session) -> int:
    """Drop the data of what ended five days ago and was not accepted: nobody has tried it again, and links have died.

    Gives how many, a thousand at most.
    """
    old = (
        sa.select(_table.c.id)
        .where(_table.c.ended_at < session.now() - LIFE, _table.c.sealed.is_not(None))
        .limit(AT_ONCE)
    )
    return changed(session, sa.update(_table).where(_table.c.id.in_(picked(old))).values(sealed=None))


def forget_old(session: Session, kept: timedelta = timedelta(days=KEPT_DAYS)) -> int:
    """Delete what ended longer ago than ``kept``; gives how many, a thousand at most."""
    old = sa.select(_table.c.id).where(_table.c.ended_at < session.now() - kept).limit(AT_ONCE)
    return changed(session, sa.delete(_table).where(_table.c.id.in_(picked(old))))


def _claimed(outcome: Outcome) -> dict[str, Any]:
    return {"held_id": outcome.message.id, "held_lease": outcome.message.lease}


def _failed(outcome: Outcome, now: datetime, expires_at: datetime) -> dict[str, Any]:
    message = outcome.message
    state, due = State.QUEUED, now + max(delay(message.attempts + 1), outcome.not_before or timedelta())
    if outcome.verdict == "refused":
        state = State.REFUSED
    elif outcome.verdict == "unreadable" or due >= expires_at:
        state = State.GIVEN_UP
    return {
        "at": now,
        "words": _shown(outcome.reply),
        "host": outcome.server,
        "now_is": state.value,
        "over": None if state is State.QUEUED else now,
        "due": due,
        "why": outcome.code,
        "where": outcome.stage,
    }


def _attempt(outcome: Outcome, now: datetime) -> dict[str, Any]:
    return {
        "message_id": outcome.message.id,
        "at": now,
        "code": outcome.code,
        "stage": outcome.stage,
        "reply": _shown(outcome.reply),
        "server": outcome.server,
    }
