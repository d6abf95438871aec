"""The outbox for tests: queueing, one pass of delivery, and what became of messages."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from tests.support.mail_settings import draft
from webapp.actor import command_line
from webapp.db import Database, utc_now
from webapp.mail import settings
from webapp.mail.delivery import Counts, Delivery
from webapp.mail.kinds import OUTLINES
from webapp.mail.settings import Draft
from webapp.mail.transport import Security
from webapp.outbox.messages import Kind, Message, queue
from webapp.trust.store import TrustStore


class MovableClock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = utc_now()

    def __call__(self) -> datetime:
        return self.now

    def go(self, **by: float) -> None:
        self.now += timedelta(**by)


def save(database: Database, given: Draft) -> None:
    """Save mail settings, at whatever version they are."""
    with database.transaction() as session:
        saved = settings.current(session)
        settings.save(session, command_line(), given if saved is None else _at(given, saved.version))


def _at(given: Draft, version: int) -> Draft:
    return Draft(**{**{name: getattr(given, name) for name in Draft.__slots__}, "version": version})


def open_relay(port: int, host: str = "127.0.0.1") -> Draft:
    """Settings for a server that wants neither encryption nor a login."""
    return draft(server_name=host, port=port, security=Security.NEVER, requires_authentication=False, username="")


def enqueue(database: Database, *recipients: str, kind: Kind = Kind.ACCOUNT_CREATED) -> list[str]:
    """Queue a message to each, in one transaction; gives their tokens."""
    with database.transaction() as session:
        return [
            queue(session, command_line(), kind, recipient=recipient, recipient_name="Bob", **_example(kind))
            for recipient in recipients
        ]


def _example(kind: Kind) -> dict[str, Any]:
    outline = OUTLINES[kind]
    return {"about": outline.about, "data": {**outline.data, "token": "a-token-of-a-link"}}


def deliver(database: Database) -> Counts:
    """One pass of a worker."""
    return Delivery(database, TrustStore(database), step_seconds=5).deliver_due()


def states(database: Database) -> Counter[str]:
    """How many messages are in which state."""
    with database.reading() as session:
        return Counter(session.scalars(sa.select(Message.state)))


def only(database: Database, recipient: str) -> Message:
    """The one message to somebody."""
    with database.reading() as session:
        return session.scalars(sa.select(Message).where(Message.recipient == recipient)).one()
