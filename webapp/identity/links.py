"""One-time links: who opens one may set the password of one user, once, for three days.

The link holds a random token; the database holds its SHA-256 alone. A new link ends the one before.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp.actor import Actor
from webapp.audit import trail
from webapp.db import Base, Database, Session, UtcDateTime
from webapp.errors import Refused
from webapp.identity import passwords
from webapp.identity.sessions import begin_session, end_sessions
from webapp.identity.tokens import new_token, token_hash
from webapp.identity.users import User, set_password
from webapp.keyring import Secret

VALID_FOR = timedelta(hours=72)
_REFUSAL = (
    "This link is not valid any more. It works once and for three days, and a newer one ends it: "
    "ask your administrator for a new one, or sign in if you have set your password already."
)


class OneTimeLink(Base):
    """The one link a user may have."""

    __tablename__ = "one_time_links"

    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    token_hash: Mapped[str] = mapped_column(sa.String(64), unique=True)
    made_at: Mapped[datetime] = mapped_column(UtcDateTime)


def make_link(session: Session, actor: Actor, user: User) -> Secret:
    """A new token for the user; the one before is worth nothing from now on. Raises Refused for a disabled user."""
    if not user.active:
        raise Refused(f"{user.name} is disabled. Enable this user first, then make a link.")
    token = new_token()
    session.execute(sa.delete(OneTimeLink).where(OneTimeLink.user_id == user.id))
    session.add(OneTimeLink(user_id=user.id, token_hash=token_hash(token), made_at=session.now()))
    trail.record(session, actor, "user:link", subject=f"user:{user.id}")
    return Secret(token)


def owner_of(session: Session, token: str) -> User:
    """Whose password the link sets. Raises Refused for a wrong, spent, replaced or expired one."""
    row = session.execute(
        sa.select(User, OneTimeLink.made_at)
        .join(OneTimeLink, OneTimeLink.user_id == User.id)
        .where(OneTimeLink.token_hash == token_hash(token), User.active)
    ).one_or_none()
    if row is None or session.now() - row[1] > VALID_FOR:
        raise Refused(_REFUSAL)
    return row[0]


def spend(database: Database, token: str, password: Secret, source: str) -> str:
    """Set the password, end the link and every session of the user, and begin a new one; gives its token.

    Raises Refused, and Invalid for the password.
    """
    passwords.check_new(password)
    with database.transaction() as session:
        user = owner_of(session, token)
        spent = session.connection().execute(sa.delete(OneTimeLink).where(OneTimeLink.token_hash == token_hash(token)))
        if spent.rowcount != 1:
            raise Refused(_REFUSAL)
        set_password(session, user.actor(source), user, password)
        end_sessions(session, user.id)
        return begin_session(session, user, source)
