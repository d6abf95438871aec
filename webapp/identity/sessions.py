"""Sign-in and sessions: rows in the database, so that each can be ended at once.

The browser holds a random token; the database holds its SHA-256 alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp.actor import Actor, Role
from webapp.audit import trail
from webapp.db import Base, Database, Session, UtcDateTime
from webapp.errors import Invalid, NotFound
from webapp.identity import passwords
from webapp.identity.tokens import new_token, token_hash
from webapp.identity.users import User, find_user, get_user, set_password
from webapp.keyring import Secret

IDLE = timedelta(minutes=30)
ABSOLUTE = timedelta(hours=12)
_SEEN_EVERY = timedelta(minutes=1)
_FAILURES_BEFORE_WAIT = 5
_LONGEST_WAIT = timedelta(minutes=5)


class SignIn(Base):
    """One browser signed in as one user."""

    __tablename__ = "sign_ins"

    id: Mapped[int] = mapped_column(primary_key=True)
    token_hash: Mapped[str] = mapped_column(sa.String(64), unique=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    source: Mapped[str] = mapped_column(sa.String(100))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)


class SignInFailure(Base):
    """How often a sign-in to one address from one source failed of late; kept so that a restart forgives nothing."""

    __tablename__ = "sign_in_failures"

    key: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    count: Mapped[int]
    last_at: Mapped[datetime] = mapped_column(UtcDateTime)


def sign_in(database: Database, email: str, password: Secret, source: str) -> tuple[str, User]:
    """Check the password and begin a session; gives its token. Raises Invalid with one text for every reason.

    The hash is compared outside any transaction: it takes a tenth of a second, and writers must not wait for it.
    An attempt counts as failed from before the comparison until it has succeeded, so that many at once gain nothing.
    """
    key = _failure_key(email, source)
    with database.transaction() as session:
        _count_attempt(session, key)
        user = find_user(session, email)
    good = passwords.verify_password(user.password_hash if user and user.active else None, password)
    with database.transaction() as session:
        if good and user is not None and _is_unchanged(session, user):
            session.execute(sa.delete(SignInFailure).where(SignInFailure.key == key))
            return begin_session(session, user, source), user
        stranger = Actor(None, email[:320] or "nobody", source, Role.PASSWORD_USER)
        trail.record(session, stranger, "session:sign-in", outcome="refused")
    raise Invalid("This e-mail address and password do not match. Check both and try again.")


def begin_session(session: Session, user: User, source: str) -> str:
    """A new session for a user whose identity has just been proved; gives its token."""
    token = new_token()
    now = session.now()
    session.add(SignIn(token_hash=token_hash(token), user_id=user.id, source=source[:100], created_at=now, seen_at=now))
    trail.record(session, user.actor(source), "session:sign-in", subject=f"user:{user.id}")
    return token


def resume(database: Database, token: str) -> User | None:
    """The active user of a live session, or None for any token that is unknown, ended or too old."""
    with database.reading() as session:
        row = session.execute(
            sa.select(SignIn, User)
            .join(User, User.id == SignIn.user_id)
            .where(SignIn.token_hash == token_hash(token), User.active)
        ).one_or_none()
        if row is None:
            return None
        sign, user = row
        now = session.now()
        if now - sign.seen_at > IDLE or now - sign.created_at > ABSOLUTE:
            return None
    if now - sign.seen_at > _SEEN_EVERY:
        with database.transaction() as session:
            session.execute(sa.update(SignIn).where(SignIn.id == sign.id).values(seen_at=now))
    return user


def sign_out(session: Session, actor: Actor, token: str) -> None:
    """End the session; what the browser still holds is worth nothing from now on."""
    session.execute(sa.delete(SignIn).where(SignIn.token_hash == token_hash(token)))
    trail.record(session, actor, "session:sign-out", subject=f"user:{actor.id}")


def end_sessions(session: Session, user_id: int, *, except_token: str | None = None) -> int:
    """End all sessions of a user (but one); gives how many ended."""
    ended = sa.delete(SignIn).where(SignIn.user_id == user_id)
    if except_token is not None:
        ended = ended.where(SignIn.token_hash != token_hash(except_token))
    return session.connection().execute(ended).rowcount


def forget_old(session: Session) -> None:
    """Delete sessions and failures that no longer matter."""
    now = session.now()
    session.execute(sa.delete(SignIn).where((SignIn.seen_at < now - IDLE) | (SignIn.created_at < now - ABSOLUTE)))
    session.execute(sa.delete(SignInFailure).where(SignInFailure.last_at < now - timedelta(hours=1)))


def _is_unchanged(session: Session, user: User) -> bool:
    """Whether the user is still what they were when the comparison of the password began."""
    now = session.get(User, user.id)
    return now is not None and now.active and now.password_hash == user.password_hash


def _refuse_too_soon(session: Session, failure: SignInFailure) -> None:
    if failure.count < _FAILURES_BEFORE_WAIT:
        return
    wait = min(timedelta(seconds=2 ** min(failure.count - _FAILURES_BEFORE_WAIT, 9)), _LONGEST_WAIT)
    left = failure.last_at + wait - session.now()
    if timedelta() < left <= _LONGEST_WAIT:
        raise Invalid(
            f"There were {failure.count} wrong attempts from here. Wait {int(left.total_seconds()) + 1} seconds "
            "and try again."
        )


def _count_attempt(session: Session, key: str) -> None:
    session.add_unless_there(SignInFailure, key=key, count=0, last_at=session.now())
    failure = session.get_one(SignInFailure, key, with_for_update=True)
    _refuse_too_soon(session, failure)
    failure.count += 1
    failure.last_at = session.now()


def _failure_key(email: str, source: str) -> str:
    return hashlib.sha256(f"{email.strip().casefold()}\x1f{source}".encode("utf-8", "surrogatepass")).hexdigest()


def sessions_of(session: Session, user_id: int) -> Sequence[SignIn]:
    """The live sessions of a user, the latest first."""
    now = session.now()
    return session.scalars(
        sa.select(SignIn)
        .where(SignIn.user_id == user_id, SignIn.seen_at >= now - IDLE, SignIn.created_at >= now - ABSOLUTE)
        .order_by(SignIn.seen_at.desc(), SignIn.id.desc())
    ).all()


def is_current(listed: Sequence[SignIn], token: str) -> int | None:
    """The number of the session that holds ``token``, if it is in the list."""
    return next((sign.id for sign in listed if sign.token_hash == token_hash(token)), None)


def end_session(session: Session, actor: Actor, sign_in_id: int) -> None:
    """End one session of the actor's own. Raises NotFound."""
    sign = session.get(SignIn, sign_in_id)
    if sign is None or sign.user_id != actor.id:
        raise NotFound("There is no such session; it may have ended by itself.")
    session.delete(sign)
    trail.record(session, actor, "session:end", subject=f"user:{actor.id}")


def change_own_password(database: Database, actor: Actor, token: str, *, current: Secret, new: Secret) -> int:
    """Replace the actor's own password and end their other sessions; gives how many ended. Raises Invalid."""
    passwords.check_new(new)
    key = _failure_key(f"\x1fpassword of user {actor.id}", "any")
    with database.transaction() as session:
        _count_attempt(session, key)
        known = get_user(session, actor.id or 0).password_hash
    if not passwords.verify_password(known, current):
        raise Invalid("That is not your current password.", "current")
    with database.transaction() as session:
        session.execute(sa.delete(SignInFailure).where(SignInFailure.key == key))
        set_password(session, actor, get_user(session, actor.id or 0), new)
        return end_sessions(session, actor.id or 0, except_token=token)
