"""A hash-chained ledger written in the transaction of the act itself.

Each line's hash is an HMAC over its content and the hash before it, with a key derived from the master key: who can
write to the database alone can neither alter, remove nor reorder a line unseen; only who cuts off the end *and* sets
the head back to an earlier line leaves a whole, shorter chain. The head row is locked while a line is added, which
keeps one chain with many writers on both engines.
"""

from __future__ import annotations

import contextlib
import hmac
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp.actor import Actor
from webapp.db import Base, Session, UtcDateTime

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
            yield name.replace("_", " "), text


class AuditHead(Base):
    """The end of the chain: one row, locked while a line is added."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(primary_key=True)
    line_id: Mapped[int] = mapped_column(sa.BigInteger)
    hash: Mapped[str] = mapped_column(sa.String(64))


def record(
    session: Session, actor: Actor, action: str, *, subject: str = "", outcome: str = "done", **details: object
) -> AuditLine:
    """Add a line to the chain, in the caller's transaction."""
    head = session.get(AuditHead, 1, with_for_update=True)
    if head is None:
        session.add_unless_there(AuditHead, id=1, line_id=0, hash=GENESIS)
        head = session.get_one(AuditHead, 1, with_for_update=True)
    line = AuditLine(
        id=head.line_id + 1,
        at=session.now(),
        actor_id=actor.id,
        actor_name=actor.name[:320],
        source=actor.source[:100],
        action=action,
        subject=subject[:200],
        outcome=outcome,
        details=json.dumps(details, sort_keys=True, ensure_ascii=False, default=str),
    )
    line.hash = _hash(_key(session), head.hash, line)
    head.line_id, head.hash = line.id, line.hash
    session.add(line)
    session.flush()
    return line


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


def verify(session: Session) -> Verdict:
    """Walk the whole chain and compare every hash."""
    key, previous, expected = _key(session), GENESIS, 1
    with contextlib.closing(_lines(session)) as lines:
        for line in lines:
            if line.id != expected:
                return Verdict(expected - 1, expected, f"line {expected} is missing")
            if not hmac.compare_digest(line.hash, _hash(key, previous, line)):
                return Verdict(expected - 1, line.id, f"line {line.id} was altered, or one before it was exchanged")
            previous, expected = line.hash, expected + 1
    head = session.get(AuditHead, 1, populate_existing=True)
    if (head.line_id, head.hash) != (expected - 1, previous) if head is not None else expected > 1:
        return Verdict(expected - 1, expected, f"the lines after {expected - 1} are missing")
    return Verdict(expected - 1)


def _lines(session: Session) -> sa.ScalarResult[AuditLine]:
    return session.scalars(
        sa.select(AuditLine).order_by(AuditLine.id).execution_options(yield_per=1000, populate_existing=True)
    )


def _key(session: Session) -> bytes:
    return session.keyring.derive("audit chain")


def _hash(key: bytes, previous: str, line: AuditLine) -> str:
    content = json.dumps(
        [
            previous,
            line.id,
            line.at.isoformat(),
            line.actor_id,
            line.actor_name,
            line.source,
            line.action,
            line.subject,
            line.outcome,
            line.details,
        ]
    )
    return hmac.new(key, content.encode("utf-8", "surrogatepass"), "sha256").hexdigest()
