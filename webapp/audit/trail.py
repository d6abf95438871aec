"""A hash-chained ledger written in the transaction of the act itself.

Each line's hash is an HMAC over its content and the hash before it, with a key derived from the master key: who can
write to the database alone can neither alter, remove nor reorder a line unseen. Who cuts off the end *and* sets the
head back to an earlier line leaves a whole, shorter chain: a copy of the head kept elsewhere shows that, and one is
written to the log each day. The head row is locked while a line is added, which keeps one chain with many writers on
both engines. Triggers refuse changes to lines. Old lines go from the front alone, and a sealed checkpoint takes their
place.
"""

from __future__ import annotations

import contextlib
import hmac
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Mapped, mapped_column

from webapp.actor import Actor
from webapp.db import Base, Session, UtcDateTime, Written, spell
from webapp.errors import Unavailable

GENESIS = "0" * 64


class AuditLine(Base):
    """One act. ``action`` is ``noun:verb``, ``subject`` is ``noun:id``, ``details`` a JSON object."""

    __tablename__ = "audit_lines"

    id: Mapped[int] = mapped_column(sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    actor_id: Mapped[int | None]
    actor_name: Mapped[str] = mapped_column(sa.String(320))
    source: Mapped[str] = mapped_column(sa.String(100))
    action: Mapped[str] = mapped_column(sa.String(60), index=True)
    subject: Mapped[str] = mapped_column(sa.String(200), index=True)
    outcome: Mapped[str] = mapped_column(sa.String(20))
    details: Mapped[str] = mapped_column(sa.Text)
    hash: Mapped[str] = mapped_column(sa.String(64))

    def facts(self) -> list[tuple[str, str]]:
        """The details as a person reads them: one name and one value each, empty ones left out."""
        return list(_flat(json.loads(self.details)))


def _flat(details: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in details.items():
        if isinstance(value, dict):
            yield from _flat(value)
        elif value not in ("", None, []):
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield name.replace("_", " "), text.replace("_", " ") if name == "changed" else text


class AuditHead(Base):
    """The end of the chain: one row, locked while a line is added."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(primary_key=True)
    line_id: Mapped[int] = mapped_column(sa.BigInteger)
    hash: Mapped[str] = mapped_column(sa.String(64))


class AuditCheckpoint(Base):
    """The last line that was removed from the front because of its age, and a seal that only this program makes."""

    __tablename__ = "audit_checkpoint"

    id: Mapped[int] = mapped_column(primary_key=True)
    line_id: Mapped[int] = mapped_column(sa.BigInteger)
    hash: Mapped[str] = mapped_column(sa.String(64))
    seal: Mapped[str] = mapped_column(sa.String(64))


class NotRecorded(Unavailable):
    """The line of an act could not be written, so the act does not happen."""


_HEAD_NOW: Final = "SELECT line_id, hash FROM audit_head WHERE id = 1"
_ADD_LINE: Final = Written(
    "INSERT INTO audit_lines (id, at, actor_id, actor_name, source, action, subject, outcome, details, hash) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_MOVE_HEAD: Final = Written("UPDATE audit_head SET line_id = ?, hash = ? WHERE id = 1")


def record(
    session: Session, actor: Actor, action: str, *, subject: str = "", outcome: str = "done", **details: object
) -> None:
    """Add a line to the chain, in the caller's transaction. Raises NotRecorded, and then nothing of it may stay."""
    session.flush()  # What the caller's own rows violate is no fault of the trail.
    previous, at = _locked_head(session), session.now().astimezone(UTC)
    said = json.dumps(details, sort_keys=True, ensure_ascii=False, default=str)
    who = (actor.id, actor.name[:320], actor.source[:100])
    line = (previous.line_id + 1, at, *who, action, subject[:200], outcome, said)
    hash = _hash(_key(session), previous.hash, line)
    # Each act adds one, so both statements go past the work of the ORM and the compiler.
    connection = session.connection()
    try:
        _ADD_LINE.run(connection, (line[0], spell(connection, at), *line[2:], hash))
        _MOVE_HEAD.run(connection, (line[0], hash))
    except OperationalError:
        raise
    except DBAPIError:
        raise NotRecorded(
            "This could not be written to the audit trail, so it was not done. Ask whoever runs Keypost to look into "
            "it with: bin/keypost audit verify"
        ) from None


def _locked_head(session: Session) -> Head:
    """The end of the chain, which nobody else moves before this transaction ends."""
    head = _ask_head(session)
    if head is None:
        session.add_unless_there(AuditHead, id=1, line_id=0, hash=GENESIS)
        head = _ask_head(session)
    return head or Head(0, GENESIS)


def _ask_head(session: Session) -> Head | None:
    connection = session.connection()
    held = "" if connection.dialect.name == "sqlite" else " FOR UPDATE"
    row = connection.exec_driver_sql(_HEAD_NOW + held).one_or_none()
    return Head(*row) if row is not None else None


def latest(session: Session, *, before: int | None = None, limit: int = 50) -> Sequence[AuditLine]:
    """The newest lines first, or those before line ``before``."""
    lines = sa.select(AuditLine).order_by(AuditLine.id.desc()).limit(limit)
    if before is not None:
        lines = lines.where(AuditLine.id < before)
    return session.scalars(lines).all()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What verify() found: the number of lines read and, if the chain is broken, where and how."""

    lines: int
    broken_at: int | None = None
    reason: str = ""

    @property
    def sound(self) -> bool:
        return self.broken_at is None


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain: the number of its last line, and that line's hash, which vouches for all before it."""

    line_id: int
    hash: str


def head(session: Session) -> Head:
    """The end of the chain as it stands; a copy kept elsewhere shows later whether lines were cut off."""
    row = session.get(AuditHead, 1, populate_existing=True)
    return Head(row.line_id, row.hash) if row is not None else Head(0, GENESIS)


def verify(session: Session, copy: str | None = None) -> Verdict:
    """Walk the whole chain and compare every hash. copy: a head that was noted earlier and must be in the chain."""
    start = _start(session)
    if start is None:
        return Verdict(0, 1, "the checkpoint that stands for the removed oldest lines was altered")
    key, previous, expected, seen = _key(session), start.hash, start.line_id + 1, start.hash == copy
    with contextlib.closing(_lines(session)) as lines:
        for line in lines:
            count = expected - 1 - start.line_id
            if line.id != expected:
                return Verdict(count, expected, f"line {expected} is missing")
            if not hmac.compare_digest(line.hash, _hash(key, previous, line[:-1])):
                return Verdict(count, line.id, f"line {line.id} was altered, or exchanged with another")
            previous, expected = line.hash, expected + 1
            seen = seen or previous == copy
    count, end = expected - 1 - start.line_id, head(session)
    if (end.line_id, end.hash) != (expected - 1, previous):
        return Verdict(count, expected, f"the lines after {expected - 1} are missing")
    if copy is not None and not seen:
        return Verdict(count, expected, f"no line has the hash that was noted: lines after {expected - 1} were cut off")
    return Verdict(count)


def prune(session: Session, actor: Actor, before: datetime, *, limit: int = 1000) -> int:
    """Remove at most ``limit`` lines from the front that are older than ``before``; gives how many.

    The checkpoint takes their place, and a line tells of it. The latest line always stays.
    """
    start = _start(session)
    if start is None:
        return 0
    session.get(AuditHead, 1, with_for_update=True)
    kept = session.scalar(sa.select(AuditLine.id).where(AuditLine.at >= before).order_by(AuditLine.id).limit(1))
    last = min((kept or head(session).line_id) - 1, start.line_id + limit)
    if last <= start.line_id:
        return 0
    old = session.scalar(sa.select(AuditLine.hash).where(AuditLine.id == last))
    if old is None:
        return 0
    session.merge(AuditCheckpoint(id=1, line_id=last, hash=old, seal=_checkpoint_seal(session, last, old)))
    session.flush()
    session.execute(sa.delete(AuditLine).where(AuditLine.id <= last))
    record(session, actor, "audit:prune", subject=f"line:{last}", lines=last - start.line_id, before=before.isoformat())
    return last - start.line_id


def _start(session: Session) -> Head | None:
    """Where the chain begins: at nothing, or after the lines that were removed; None when that was altered."""
    row = session.get(AuditCheckpoint, 1, populate_existing=True)
    if row is None:
        return Head(0, GENESIS)
    if not hmac.compare_digest(row.seal, _checkpoint_seal(session, row.line_id, row.hash)):
        return None
    return Head(row.line_id, row.hash)


def _checkpoint_seal(session: Session, line_id: int, hash: str) -> str:
    return session.keyring.digest("audit checkpoint", str(line_id), hash)


def _lines(session: Session) -> sa.Result[Any]:
    columns = AuditLine.__table__.columns
    return session.execute(sa.select(*columns).order_by(AuditLine.id).execution_options(yield_per=1000))


def _key(session: Session) -> bytes:
    return session.keyring.derive("audit chain")


def _hash(key: bytes, previous: str, line: Sequence[Any]) -> str:
    """line: what stands in its columns, in their order, but for the hash itself."""
    line_id, at, *rest = line
    content = json.dumps([previous, line_id, at.isoformat(), *rest])
    return hmac.new(key, content.encode("utf-8", "surrogatepass"), "sha256").hexdigest()
