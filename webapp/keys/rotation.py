"""Sealing everything anew with a fresh data key, while the program runs.

A new term is in force at once for every process: whoever seals asks the database which term that is, and holds it until
the transaction ends. Then one bounded batch after another is opened and sealed again, each in a transaction of its own.
A rotation that was killed goes on where it stopped. The earlier terms are destroyed in a transaction that waits for
everybody who still holds one, and that finds nothing sealed with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from webapp.actor import Actor
from webapp.audit import trail
from webapp.db import Base, Database, KeyTerm, Seal, Session, is_full, sealed_columns
from webapp.keyring import SealBroken, header_of

BATCH: Final = 500
"""How many secrets one transaction seals anew: some ten milliseconds, in which other writers wait."""

_TRIES: Final = 12
"""So often others may hold the database for longer than a transaction waits, before a rotation gives up."""

Progress = Callable[[int], object]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Term:
    """A data key: number 0 is the original one, which the master key gives by itself. secrets: how many it seals."""

    number: int
    key_id: str
    made_at: datetime | None
    in_force: bool
    secrets: int


@dataclass(frozen=True, slots=True)
class Rotation:
    """What finish() did. destroyed: how many terms; broken: the places whose secrets open with no key."""

    key_id: str
    sealed: int
    destroyed: int
    broken: tuple[str, ...]


@dataclass(slots=True)
class _Walk:
    """How far a round over one column has come."""

    column: sa.Column[Any]
    seal: Seal
    after: tuple[Any, ...] = ()


def terms(session: Session) -> list[Term]:
    """Every data key that seals something or may be asked to, the one in force first."""
    now, used = in_force(session), _usage(session)
    kept = session.scalars(sa.select(KeyTerm).order_by(KeyTerm.id.desc())).all()
    found = [Term(each.id, each.key_id, each.made_at, each.key_id == now, used.get(each.key_id, 0)) for each in kept]
    original = session.keyring.key_id.hex()
    if original in used or not kept:
        found.append(Term(0, original, None, original == now, used.get(original, 0)))
    return found


def in_force(session: Session) -> str:
    """The id of the data key that everything is sealed with from now on; for a session that only reads."""
    latest = session.scalar(sa.select(KeyTerm.key_id).order_by(KeyTerm.id.desc()).limit(1))
    return latest or session.keyring.key_id.hex()


def remaining(session: Session) -> int:
    """How many secrets are sealed with another data key than the one in force."""
    header = header_of(bytes.fromhex(in_force(session)))
    return sum(session.scalar(_count_old(column, header)) or 0 for column, _seal in sealed_columns(Base.metadata))


def begin(database: Database, actor: Actor) -> bool:
    """Put a new data key in force, unless an earlier rotation is still to be ended; gives whether it is."""
    return _patiently(database, lambda session: _begin(session, actor))


def _begin(session: Session, actor: Actor) -> bool:
    session.keyring.term()
    if remaining(session) or len(session.scalars(sa.select(KeyTerm.id)).all()) > 1:
        return True
    key_id, wrapped = session.keyring.new_term()
    session.add(KeyTerm(key_id=key_id.hex(), wrapped=wrapped, made_at=session.now()))
    trail.record(session, actor, "keys:begin-term", subject=f"key:{key_id.hex()}")
    return False


def finish(
    database: Database,
    actor: Actor,
    *,
    batch: int = BATCH,
    progress: Progress = lambda _sealed: None,
    pause: Callable[[], object] = lambda: None,
) -> Rotation:
    """Seal everything anew with the data key in force, and destroy the earlier ones.

    progress: told the number of secrets of each batch; pause: called between batches, so that others may write.
    """
    sealed, broken, destroyed = 0, tuple[str, ...](), None
    while destroyed is None:
        sealed += sum(_reseal_all(database, batch, progress, pause))
        broken, destroyed = _patiently(database, lambda session: _end(session, actor))
    database.empty_log()
    with database.reading() as session:
        return Rotation(in_force(session), sealed, destroyed, broken)


def _patiently(database: Database, act: Callable[[Session], Result]) -> Result:
    """Do something in a transaction, again while others hold the database for longer than it waits."""
    for left in reversed(range(_TRIES)):
        try:
            with database.transaction() as session:
                return act(session)
        except OperationalError as error:
            if not left or is_full(error):
                raise
    raise AssertionError("the last try gives a result or raises")


def _end(session: Session, actor: Actor) -> tuple[tuple[str, ...], int | None]:
    """What opens with no key, and how many terms were destroyed; none as long as there is such."""
    broken = _broken(session)
    return broken, 0 if broken else _destroy(session, actor)


def _reseal_all(database: Database, batch: int, progress: Progress, pause: Callable[[], object]) -> Iterator[int]:
    for column, seal in sealed_columns(Base.metadata):
        walk = _Walk(column, seal)
        while True:
            sealed = _patiently(database, partial(_reseal_some, walk=walk, batch=batch))
            if sealed is None:
                break
            progress(sealed)
            yield sealed
            pause()


def _reseal_some(session: Session, walk: _Walk, batch: int) -> int | None:
    """Seal the next rows anew and move on; gives how many, None at the end. What does not open is left as it is."""
    header = header_of(session.keyring.term())
    table, key = walk.column.table, tuple(walk.column.table.primary_key)
    old = sa.select(table).where(walk.column.is_not(None), _begin_of(walk.column) != header)
    if walk.after:
        old = old.where(
            sa.tuple_(*key)
            > sa.tuple_(*(sa.literal(value, column.type) for value, column in zip(walk.after, key, strict=True)))
        )
    rows = session.execute(old.order_by(*key).limit(batch).with_for_update(skip_locked=True)).mappings().all()
    if not rows:
        return None
    walk.after = tuple(rows[-1][column.name] for column in key)
    fresh = [values for row in rows if (values := _sealed_anew(session, walk, row)) is not None]
    if fresh:
        this_row = sa.and_(*(column == sa.bindparam(f"key_{column.name}") for column in key))
        session.connection().execute(
            sa.update(table).where(this_row).values({walk.column: sa.bindparam("fresh")}), fresh
        )
    return len(fresh)


def _sealed_anew(session: Session, walk: _Walk, row: Any) -> dict[str, Any] | None:
    place = walk.seal.place(walk.column.table, row)
    try:
        secret = session.keyring.unseal(row[walk.column.name], **place)
    except SealBroken:
        return None
    key = {f"key_{column.name}": row[column.name] for column in walk.column.table.primary_key}
    return {**key, "fresh": session.keyring.seal(secret, **place)}


def _destroy(session: Session, actor: Actor) -> int | None:
    """Delete the earlier terms once nothing is sealed with them; None when somebody has just sealed something."""
    now = session.keyring.term().hex()
    # Waits for every transaction that holds one of them; what they sealed is then there to be counted.
    earlier = session.scalars(sa.select(KeyTerm).where(KeyTerm.key_id != now).with_for_update()).all()
    if remaining(session):
        return None
    for term in earlier:
        session.delete(term)
    if earlier:
        trail.record(session, actor, "keys:destroy-terms", subject=f"key:{now}", keys=[t.key_id for t in earlier])
    return len(earlier)


def _broken(session: Session) -> tuple[str, ...]:
    """The places whose secrets open with no key."""
    header = header_of(session.keyring.term())
    found: list[str] = []
    for column, seal in sealed_columns(Base.metadata):
        old = sa.select(column.table).where(column.is_not(None), _begin_of(column) != header)
        for row in session.execute(old).mappings():
            place = seal.place(column.table, dict(row))
            try:
                session.keyring.unseal(row[column.name], **place)
            except SealBroken:
                found.append(f"{column.table.name}.{column.name} of row {place['row']}")
    return tuple(found)


def _usage(session: Session) -> dict[str, int]:
    used: dict[str, int] = {}
    for column, _seal in sealed_columns(Base.metadata):
        begin = _begin_of(column)
        counted = sa.select(begin, sa.func.count()).where(column.is_not(None)).group_by(begin)
        for header, count in session.execute(counted):
            key_id = bytes(header)[1:].hex()
            used[key_id] = used.get(key_id, 0) + count
    return used


def _count_old(column: sa.Column[Any], header: bytes) -> sa.Select[Any]:
    return sa.select(sa.func.count()).where(column.is_not(None), _begin_of(column) != header)


def _begin_of(column: sa.Column[Any]) -> sa.Function[Any]:
    """The beginning of a sealed value, which names its key."""
    return sa.func.substr(column, 1, len(header_of(bytes(8))), type_=sa.LargeBinary())
