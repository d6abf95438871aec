"""Which workers live: each says so every few seconds, so that a page can tell when nobody delivers."""

from __future__ import annotations

import os
import secrets
import socket
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp.db import Base, Session, UtcDateTime

ALIVE_FOR: Final = timedelta(seconds=60)
"""Who has been silent for longer counts as dead."""


class Worker(Base):
    """One process that delivers. name: of its machine and process; seen_at: when it last said that it lives."""

    __tablename__ = "outbox_workers"

    id: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(200))
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)


def new_id() -> str:
    """An id for a worker that is about to begin."""
    return secrets.token_hex(16)


def begin(session: Session, worker_id: str) -> None:
    """Enter a worker."""
    now, name = session.now(), f"{socket.gethostname()}, process {os.getpid()}"
    session.add_unless_there(Worker, id=worker_id, name=name[:200], started_at=now, seen_at=now)


def is_alive(session: Session, worker_id: str) -> bool:
    """Say that the worker lives, and forget those that have long been silent; False when it was forgotten itself."""
    now = session.now()
    session.execute(sa.delete(Worker).where(Worker.seen_at < now - timedelta(days=1), Worker.id != worker_id))
    said = sa.update(Worker).where(Worker.id == worker_id).values(seen_at=now)
    return session.connection().execute(said).rowcount == 1


def end(session: Session, worker_id: str) -> None:
    """The worker ends in good order."""
    session.execute(sa.delete(Worker).where(Worker.id == worker_id))
