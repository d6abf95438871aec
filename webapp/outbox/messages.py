"""Messages to people: what waits, what became of each, and queue(), which adds one in the transaction of its cause.

A row says whom to tell what. The text itself is written at delivery, from ``kind`` and the sealed data, so that a
one-time link lies nowhere in clear and the data can go once it has been used.
"""

from __future__ import annotations

import enum
import json
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp.actor import Actor
from webapp.db import Base, Session, SessionKeyring, Told, UtcDateTime, Written, sealed_as, spell
from webapp.i18n import N_
from webapp.i18n import gettext as _
from webapp.keyring import Keyring, Secret
from webapp.outbox import wake
from webapp.search import key

LIFE: Final = timedelta(days=5)
"""So long a message is tried (RFC 5321, 4.5.4.1 recommends four to five days)."""
LARGEST_DATA: Final = 256 * 1024


class Kind(enum.StrEnum):
    """What a message is about; the value is stored, and names the folder of its text."""

    ACCOUNT_CREATED = "account-created"
    PASSWORD_RESET = "password-reset"  # noqa: S105 - a kind of mail, not a password
    ROLE_CHANGED = "role-changed"
    RESOURCE_SHARED = "resource-shared"
    ACCOUNT_SHARED = "account-shared"
    PASSWORD_CHANGED = "password-changed"  # noqa: S105 - a kind of mail, not a password
    MAIL_SETTINGS_CHANGED = "mail-settings-changed"
    CERTIFICATE_EXPIRING = "certificate-expiring"

    @property
    def is_essential(self) -> bool:
        """Whether somebody could not sign in without it: nobody can switch these off."""
        return self in (Kind.ACCOUNT_CREATED, Kind.PASSWORD_RESET)

    @property
    def label(self) -> str:
        """The kind as lists show it."""
        return _(_KINDS[self])

    @property
    def found_by(self) -> str:
        """The kind as a search finds it: the same for every reader."""
        return self.value.replace("-", " ")


class State(enum.StrEnum):
    """What became of a message. ACCEPTED means that the server took it, and no more than that is known."""

    QUEUED = "queued"
    SENDING = "sending"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    GIVEN_UP = "given-up"
    CANCELLED = "cancelled"

    @property
    def is_waiting(self) -> bool:
        """Whether it may still be sent."""
        return self in (State.QUEUED, State.SENDING)

    @property
    def label(self) -> str:
        """The state as pages and commands write it."""
        return _("accepted by the server") if self is State.ACCEPTED else self.short_label

    @property
    def short_label(self) -> str:
        """The state where it stands among others."""
        return _(_STATES[self])


_KINDS: Final = {
    Kind.ACCOUNT_CREATED: N_("Account created"),
    Kind.PASSWORD_RESET: N_("Password reset"),
    Kind.ROLE_CHANGED: N_("Role changed"),
    Kind.RESOURCE_SHARED: N_("Resource shared"),
    Kind.ACCOUNT_SHARED: N_("Account shared"),
    Kind.PASSWORD_CHANGED: N_("Password changed"),
    Kind.MAIL_SETTINGS_CHANGED: N_("Mail settings changed"),
    Kind.CERTIFICATE_EXPIRING: N_("Certificate expiring"),
}
_STATES: Final = {
    State.QUEUED: N_("queued"),
    State.SENDING: N_("sending"),
    State.ACCEPTED: N_("accepted"),
    State.REFUSED: N_("refused"),
    State.GIVEN_UP: N_("given up"),
    State.CANCELLED: N_("cancelled"),
}


def kind_label(value: str) -> str:
    """The kind of a message as lists show it; one that only a newer Keypost knows is spelled out."""
    return Kind(value).label if value in set(Kind) else value.replace("-", " ").capitalize()


def state_label(value: str) -> str:
    """The state of a message as pages write it; one that only a newer Keypost knows as it stands."""
    return State(value).label if value in set(State) else value


WAITING: Final = (State.QUEUED.value, State.SENDING.value)
_big = sa.BigInteger().with_variant(sa.Integer, "sqlite")


class Message(Base):
    """One message to one person.

    token: random, part of the Message-ID, and the place its data is sealed for. user_id: whom it tells, when that is a
    user; about: ``noun:id`` of what it tells of; cause: who brought it about. due_at: when it may next be tried;
    expires_at: when trying ends. attempts: how often a server was asked; crashes: how many workers died holding it.
    lease, lease_until: which claim holds it, and for how long. message_id: fixed by the first claim. code, stage,
    reply, server: of the newest attempt, masked; an accepted one has no code. again_of: the message this one repeats.
    found_by: the key of what a search looks at.
    """

    __tablename__ = "outbox_messages"
    __table_args__ = (
        sa.Index(
            "ix_outbox_messages_queued",
            "due_at",
            "id",
            "queued_at",
            sqlite_where=sa.text("state = 'queued'"),
            postgresql_where=sa.text("state = 'queued'"),
        ),
        sa.Index(
            "ix_outbox_messages_sending",
            "lease_until",
            sqlite_where=sa.text("state = 'sending'"),
            postgresql_where=sa.text("state = 'sending'"),
        ),
        sa.Index(
            "ix_outbox_messages_ended",
            "ended_at",
            "state",
            "queued_at",
            sqlite_where=sa.text("ended_at IS NOT NULL"),
            postgresql_where=sa.text("ended_at IS NOT NULL"),
        ),
        sa.Index(
            "ix_outbox_messages_emptied",
            "ended_at",
            sqlite_where=sa.text("ended_at IS NOT NULL AND sealed IS NOT NULL"),
            postgresql_where=sa.text("ended_at IS NOT NULL AND sealed IS NOT NULL"),
        ),
        sa.Index("ix_outbox_messages_user_id_id", "user_id", "id"),
    )

    id: Mapped[int] = mapped_column(_big, primary_key=True)
    token: Mapped[str] = mapped_column(sa.String(32), unique=True)
    kind: Mapped[str] = mapped_column(sa.String(40))
    user_id: Mapped[int | None]
    recipient: Mapped[str] = mapped_column(sa.String(320))
    recipient_name: Mapped[str] = mapped_column(sa.String(200))
    about: Mapped[str] = mapped_column(sa.String(200))
    cause: Mapped[str] = mapped_column(sa.String(320))
    sealed: Mapped[bytes | None] = mapped_column(info=sealed_as("{token}", field="data"))
    state: Mapped[str] = mapped_column(sa.String(10))
    queued_at: Mapped[datetime] = mapped_column(UtcDateTime)
    due_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    attempts: Mapped[int]
    crashes: Mapped[int]
    lease: Mapped[str | None] = mapped_column(sa.String(32))
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    message_id: Mapped[str | None] = mapped_column(sa.String(320))
    attempted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    code: Mapped[str] = mapped_column(sa.String(60))
    stage: Mapped[str] = mapped_column(sa.String(20))
    reply: Mapped[str] = mapped_column(Told)
    server: Mapped[str] = mapped_column(sa.String(270))
    again_of: Mapped[int | None] = mapped_column(sa.BigInteger)
    found_by: Mapped[str] = mapped_column(sa.Text, server_default="")


class FailedAttempt(Base):
    """One attempt that did not end with the server accepting the message; an accepted one stands in the message."""

    __tablename__ = "outbox_failed_attempts"

    id: Mapped[int] = mapped_column(_big, primary_key=True)
    message_id: Mapped[int] = mapped_column(_big, sa.ForeignKey("outbox_messages.id", ondelete="CASCADE"), index=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    code: Mapped[str] = mapped_column(sa.String(60))
    stage: Mapped[str] = mapped_column(sa.String(20))
    reply: Mapped[str] = mapped_column(Told)
    server: Mapped[str] = mapped_column(sa.String(270))


_INSERT: Final = Written(
    "INSERT INTO outbox_messages (token, kind, user_id, recipient, recipient_name, about, cause, sealed, state, "
    "queued_at, due_at, expires_at, attempts, crashes, code, stage, reply, server, again_of, found_by) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?, 0, 0, '', '', '', '', ?, ?)",
    on_postgresql=wake.RINGING,
)


def queue(
    session: Session,
    actor: Actor,
    kind: Kind,
    *,
    recipient: str,
    recipient_name: str = "",
    user_id: int | None = None,
    about: str = "",
    data: Mapping[str, str] | None = None,
    life: timedelta = LIFE,
    again_of: int | None = None,
) -> str:
    """Add a message in the caller's transaction, and wake the delivery once that has committed; gives its token.

    data: what the text says, by placeholder; sealed until the message has ended. life: how long it is worth sending,
    five days at most. Raises ValueError for more data than 256 KiB.
    """
    token = secrets.token_hex(16)
    content = json.dumps(dict(data or {}), ensure_ascii=False, separators=(",", ":"))
    if len(content.encode("utf-8", "surrogatepass")) > LARGEST_DATA:
        raise ValueError("a message's data has at most 256 KiB")
    now = session.now()
    sealed = session.keyring.seal(Secret(content), **place(token))
    connection = session.connection()
    at = spell(connection, now)
    _INSERT.run(
        connection,
        (
            token,
            kind.value,
            user_id,
            recipient[:320],
            recipient_name[:200],
            about[:200],
            actor.name[:320],
            sealed,
            at,
            at,
            spell(connection, now + min(life, LIFE)),
            again_of,
            key(f"{recipient_name[:200]} {recipient[:320]} {kind.found_by}"),
        ),
    )
    wake.ring_after_commit(session, with_row=True)
    return token


def picked(found: sa.Select[tuple[int]]) -> sa.Select[tuple[int]]:
    """These ids, worked out once: PostgreSQL may look into a plain subquery for each row, and so exceed its LIMIT."""
    once = found.cte("picked").prefix_with("MATERIALIZED", dialect="postgresql")
    return sa.select(once.c.id)


def changed(session: Session, statement: sa.Update | sa.Delete) -> int:
    """Run a statement on messages; gives how many it changed. SQLite's driver does not count those that begin WITH."""
    return len(session.connection().execute(statement.returning(Message.__table__.c.id)).all())


def cancel_waiting(session: Session, user_id: int, kinds: Iterable[Kind]) -> None:
    """End what waits for a user and has lost its worth; nothing of these kinds that was queued before is tried again.

    What a worker holds at this moment expires; what was refused or given up loses what it would say.
    """
    theirs = sa.update(Message).where(Message.user_id == user_id, Message.kind.in_([kind.value for kind in kinds]))
    now = session.now()
    session.execute(theirs.where(Message.state == State.SENDING.value).values(expires_at=now))
    session.execute(theirs.where(Message.state.not_in(WAITING)).values(sealed=None))
    session.execute(
        theirs.where(Message.state == State.QUEUED.value).values(state=State.CANCELLED.value, ended_at=now, sealed=None)
    )


def place(token: str) -> dict[str, Any]:
    """Where a message's data is sealed for."""
    return {"table": "outbox_messages", "row": token, "field": "data"}


def read_data(keyring: Keyring | SessionKeyring, token: str, sealed: bytes) -> dict[str, str]:
    """What queue() was given. Raises SealBroken, or ValueError for what is no object of texts."""
    data = json.loads(keyring.unseal(sealed, **place(token)).reveal())
    if not isinstance(data, dict) or not all(isinstance(value, str) for value in data.values()):
        raise ValueError("the data of a message is an object of texts")
    return data
