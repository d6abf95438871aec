"""Leases: which worker holds which messages, and until when.

A claim is one statement on both engines; PostgreSQL's SKIP LOCKED lets workers pass each other, SQLite has one writer
at a time. Each claim has a token of its own, and a result counts only while that claim still holds the message.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, cast

import sqlalchemy as sa

from webapp.db import Session, UtcDateTime
from webapp.outbox.messages import Message, State, picked

LEASE: Final = timedelta(minutes=5)
"""Longer than a session with a mail server may last (120 s), so that no two workers hold one message."""
MOST_CRASHES: Final = 3
"""A message at whose sending so many workers died is set aside: it may be what kills them."""

_MARK: Final = 16
_table = cast(sa.Table, Message.__table__)


class Leased(NamedTuple):
    """A message as its worker holds it; lease is the claim's token. See Message for the rest."""

    id: int
    token: str
    kind: str
    user_id: int | None
    recipient: str
    recipient_name: str
    about: str
    cause: str
    sealed: bytes | None
    attempts: int
    queued_at: datetime
    expires_at: datetime
    message_id: str
    lease: str


_COLUMNS: Final = tuple(_table.c[name] for name in Leased._fields)


def claim(
    session: Session, most: int, *, domain: str, worker: str = "", kinds: Sequence[str] | None = None
) -> list[Leased]:
    """Take up to ``most`` messages that are due, the oldest first, in the caller's transaction.

    domain: of the sender, for the Message-IDs of those that have none yet. worker: who takes them. kinds: only these.
    What a worker died with is left to claim_alone().
    """
    return _claim(session, most, alone=False, domain=domain, worker=worker, kinds=kinds)


def claim_alone(session: Session, *, domain: str, worker: str = "") -> list[Leased]:
    """Take one message that a worker died with, if one is due.

    Its claimer should hold no other: so whichever kills them is found without harm to the rest.
    """
    return _claim(session, 1, alone=True, domain=domain, worker=worker)


def _claim(
    session: Session,
    most: int,
    *,
    alone: bool,
    domain: str,
    worker: str,
    kinds: Sequence[str] | None = None,
) -> list[Leased]:
    now, lease = session.now(), _mark(worker) + secrets.token_hex(_MARK // 2)
    given = {"now": now, "most": most, "claim": lease, "until": now + LEASE, "domain": f"@{domain}>"}
    rows = session.connection().execute(_taking(alone, tuple(kinds) if kinds is not None else None), given).all()
    return sorted(map(Leased._make, rows), key=lambda each: (each.queued_at, each.id))


@functools.cache
def _taking(alone: bool, kinds: tuple[str, ...] | None) -> sa.Executable:
    """The statement of a claim; built once, since building it takes longer than running it."""
    now = sa.bindparam("now", type_=UtcDateTime)
    due = (
        sa.select(_table.c.id)
        .where(
            _table.c.state == sa.literal_column("'queued'"),
            _table.c.due_at <= now,
            _table.c.expires_at > now,
            _table.c.crashes > 0 if alone else _table.c.crashes == 0,
        )
        .order_by(_table.c.due_at, _table.c.id)
        .limit(sa.bindparam("most", type_=sa.Integer))
        .with_for_update(skip_locked=True)
    )
    if kinds is not None:
        due = due.where(_table.c.kind.in_(kinds))
    made = sa.literal("<").concat(_table.c.token).concat(sa.bindparam("domain", type_=sa.String))
    return (
        sa.update(_table)
        .where(_table.c.id.in_(picked(due)))
        .values(
            state=State.SENDING.value,
            lease=sa.bindparam("claim"),
            lease_until=sa.bindparam("until", type_=UtcDateTime),
            message_id=sa.func.coalesce(_table.c.message_id, made),
        )
        .returning(*_COLUMNS)
    )


def release(session: Session, held: Sequence[Leased]) -> None:
    """Give messages back that were not tried: nothing of them has changed."""
    if held:
        session.connection().execute(
            sa.update(_table)
            .where(_table.c.id == sa.bindparam("held_id"), _table.c.lease == sa.bindparam("held_lease"))
            .values(state=State.QUEUED.value, lease=None, lease_until=None),
            [{"held_id": each.id, "held_lease": each.lease} for each in held],
        )


def take_back(session: Session, dead: Sequence[str] = ()) -> int:
    """Queue again what workers held that did not come back; gives how many. Set aside what killed three.

    dead: workers that are known to have ended, whose leases need not be waited for. A lease that ends in the far future
    was made by a clock that has since been put right.
    """
    now = session.now()
    theirs = [_table.c.lease.startswith(_mark(worker), autoescape=True) for worker in dead if worker]
    lost = sa.and_(
        _table.c.state == sa.literal_column("'sending'"),
        sa.or_(_table.c.lease_until < now, _table.c.lease_until > now + 2 * LEASE, *theirs),
    )
    ended: dict[str, Any] = {"lease": None, "lease_until": None, "crashes": _table.c.crashes + 1}
    connection = session.connection()
    connection.execute(
        sa.update(_table)
        .where(lost, _table.c.crashes + 1 >= MOST_CRASHES)
        .values(state=State.GIVEN_UP.value, ended_at=now, code="worker-died", stage="", reply="", **ended)
    )
    return connection.execute(sa.update(_table).where(lost).values(state=State.QUEUED.value, **ended)).rowcount


def _mark(worker: str) -> str:
    """What all leases of a worker begin with."""
    return worker[:_MARK]
