"""One-time links: who opens one may set the password of one user, once, and not for long.

The link holds a random token; the database holds its SHA-256 alone. A new link ends the one before of the same purpose,
and any change of the password ends all.
"""

from __future__ import annotations

import enum
from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp.actor import Actor
from webapp.audit import trail
from webapp.db import CLOCK_TOLERANCE, Base, Database, Session, UtcDateTime
from webapp.errors import Refused
from webapp.i18n import gettext as _
from webapp.i18n import lazy
from webapp.identity.sessions import begin_session, end_sessions
from webapp.identity.tokens import new_token, token_hash
from webapp.identity.users import User, set_password
from webapp.keyring import Secret
from webapp.outbox import messages
from webapp.outbox.messages import Kind

_REFUSAL = lazy(
    "This link is not valid any more. It works once and for a limited time, and a newer one "
    "ends it: ask for a new one where you got it, or sign in if you have set your password "
    "already."
)


class Purpose(enum.StrEnum):
    """What a link is for; a user may hold one of each."""

    WELCOME = "welcome"
    RESET = "reset"

    @property
    def life(self) -> timedelta:
        """How long such a link is valid."""
        return timedelta(hours=72) if self is Purpose.WELCOME else timedelta(minutes=20)

    @property
    def kind(self) -> Kind:
        """The mail that brings such a link."""
        return Kind.ACCOUNT_CREATED if self is Purpose.WELCOME else Kind.PASSWORD_RESET


class OneTimeLink(Base):
    """The one link of its purpose that a user may have. password_mark: of the password it was made to replace."""

    __tablename__ = "one_time_links"

    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    purpose: Mapped[str] = mapped_column(sa.String(20), primary_key=True)
    token_hash: Mapped[str] = mapped_column(sa.String(64), unique=True)
    password_mark: Mapped[str] = mapped_column(sa.String(64))
    made_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Opened(NamedTuple):
    """What a valid link leads to."""

    user: User
    purpose: Purpose


def make_link(
    session: Session, actor: Actor, user: User, purpose: Purpose = Purpose.WELCOME, *, action: str = "user:link"
) -> Secret:
    """A new token for the user; the one before, and the mail that still waits with it, are worth nothing from now on.

    action: how the audit trail names it. Raises Refused for a disabled user.
    """
    if not user.active:
        raise Refused(_("%(name)s is disabled. Enable this user first, then make a link.", name=user.name))
    token = new_token()
    session.execute(sa.delete(OneTimeLink).where(OneTimeLink.user_id == user.id, OneTimeLink.purpose == purpose.value))
    session.add(
        OneTimeLink(
            user_id=user.id,
            purpose=purpose.value,
            token_hash=token_hash(token),
            password_mark=_mark(user),
            made_at=session.now(),
        )
    )
    messages.cancel_waiting(session, user.id, [purpose.kind])
    trail.record(session, actor, action, subject=f"user:{user.id}", email=user.email)
    return Secret(token)


def open_link(session: Session, token: str) -> Opened:
    """Whose password the link sets, and what for; nothing is spent. Raises Refused for one that is not valid."""
    row = session.execute(
        sa.select(User, OneTimeLink)
        .join(OneTimeLink, OneTimeLink.user_id == User.id)
        .where(OneTimeLink.token_hash == token_hash(token), User.active)
    ).one_or_none()
    if row is None:
        raise Refused(_REFUSAL)
    user, link = row
    purpose = Purpose(link.purpose)
    age = session.now() - link.made_at
    if not -CLOCK_TOLERANCE <= age <= purpose.life or link.password_mark != _mark(user):
        raise Refused(_REFUSAL)
    return Opened(user, purpose)


def spend(database: Database, token: str, password: Secret, source: str) -> str | None:
    """Set the password, end every link and session of the user, and begin a session of a newcomer; gives its token.

    Who had a password before gets none and signs in with the new one: a link proves a mailbox, and stands in for no
    second factor. Raises Refused, and Invalid for the password.
    """
    with database.transaction() as session:
        user = open_link(session, token).user
        spent = session.connection().execute(sa.delete(OneTimeLink).where(OneTimeLink.token_hash == token_hash(token)))
        if spent.rowcount != 1:
            raise Refused(_REFUSAL)
        is_newcomer = user.password_hash is None
        end_links(session, user)
        set_password(session, user.actor(source), user, password)
        end_sessions(session, user.id)
        return begin_session(session, user, source) if is_newcomer else None


def end_links(session: Session, user: User) -> None:
    """End every link of the user, and the mails that wait with one."""
    session.execute(sa.delete(OneTimeLink).where(OneTimeLink.user_id == user.id))
    messages.cancel_waiting(session, user.id, [purpose.kind for purpose in Purpose])


def _mark(user: User) -> str:
    return token_hash(user.password_hash or "")
