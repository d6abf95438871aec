"""Sign-in and sessions: rows in the database, so that each can be ended at once.

The browser holds a random token; the database holds its SHA-256 alone. The token changes when the session comes to
mean more: at the second step of signing in, when its person proves once more who they are, and with a new password.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp.actor import NOBODY, Actor, Role
from webapp.audit import refused, trail
from webapp.db import CLOCK_TOLERANCE, Base, Database, Session, UtcDateTime
from webapp.errors import Invalid, NotFound, Refused
from webapp.i18n import gettext as _
from webapp.i18n import lazy
from webapp.identity import passkeys, passwords, policy, recovery, second_factor, throttle
from webapp.identity.policy import SignInPolicy
from webapp.identity.throttle import KnownBrowser
from webapp.identity.tokens import new_token, token_hash
from webapp.identity.users import User, find_user, get_user, set_password, sign_out_everywhere
from webapp.keyring import Secret

PROOF_HOLDS: Final = timedelta(minutes=5)
SECOND_STEP_WITHIN: Final = timedelta(minutes=10)
_SEEN_EVERY = timedelta(minutes=1)
_UNWRITTEN: Final[WeakKeyDictionary[Database, dict[int, datetime]]] = WeakKeyDictionary()
_WRONG_CODE = lazy(
    "That code is not right, or it has been used already. Wait for the next one, or use a recovery code."
)
_ENDED = lazy("Your session has ended in the meantime. Sign in again.")
_PROOF_TOO_LATE = lazy("That took too long, or was begun elsewhere. Try again.")
_TOO_LATE = lazy("The second step took too long, or was begun elsewhere. Sign in again.")


class SignIn(Base):
    """One browser signed in as one user.

    proved_at: when the person last proved who they are.
    awaits_second_factor: the password was right, and nothing is open yet.
    """

    __tablename__ = "sign_ins"

    id: Mapped[int] = mapped_column(primary_key=True)
    token_hash: Mapped[str] = mapped_column(sa.String(64), unique=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    epoch: Mapped[int]
    source: Mapped[str] = mapped_column(sa.String(100))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)
    proved_at: Mapped[datetime] = mapped_column(UtcDateTime)
    awaits_second_factor: Mapped[bool]


@dataclass(frozen=True, slots=True)
class Resumed:
    """A live session. ``lacks_second_factor``: the policy asks this user for one, and nothing else is open until then.

    proved: whether the person proved within PROOF_HOLDS who they are. sign_in_id: the session's number.
    """

    user: User
    sign_in_id: int
    proved: bool
    has_second_factor: bool
    has_passkey: bool
    lacks_second_factor: bool


def sign_in(
    database: Database,
    email: str,
    password: Secret,
    source: str,
    *,
    browser: KnownBrowser | None = None,
    former: str | None = None,
) -> tuple[str, User]:
    """Check the password and begin a session; gives its token. Raises Invalid with one text for every reason.

    former: the token of the session that the browser holds until now, which ends. Raises Unavailable when too many sign
    in at this moment.

    The hash is compared outside any transaction: it takes a tenth of a second, and writers must not wait for it.
    An attempt counts as failed from before the comparison until it has succeeded, so that many at once gain nothing.
    """
    with passwords.place_in_line():
        return _sign_in(database, email, password, source, browser=browser, former=former)


def _sign_in(
    database: Database, email: str, password: Secret, source: str, *, browser: KnownBrowser | None, former: str | None
) -> tuple[str, User]:
    with database.transaction() as session:
        user = find_user(session, email)
        free = policy.current(session).free_attempts
        counters = throttle.for_sign_in(
            email, source, free=free, user_id=user.id if user is not None else None, browser=browser
        )
        throttle.count_attempt(session, counters)
    good = passwords.verify_password(user.password_hash if user and user.active else None, password)
    stronger = passwords.stronger_hash(user.password_hash, password) if good and user is not None else None
    with database.transaction() as session:
        if good and user is not None and (now := _unchanged(session, user)) is not None:
            throttle.forgive(session, counters)
            now.password_hash = stronger or now.password_hash
            _end_former(session, former)
            return begin_session(session, now, source), now
        stranger = Actor(None, email[:320] or "nobody", source, Role.PASSWORD_USER)
        trail.record(session, stranger, "session:sign-in", outcome="refused")
    raise Invalid(_("This e-mail address and password do not match. Check both and try again."))


def begin_session(session: Session, user: User, source: str) -> str:
    """A new session for a user who has just proved one factor; gives its token.

    For somebody with a second factor nothing is open until finish_sign_in().
    """
    half = second_factor.has_one(session, user.id)
    token = _insert(session, user, source, awaits_second_factor=half)
    if not half:
        trail.record(session, user.actor(source), "session:sign-in", subject=f"user:{user.id}")
    return token


def awaiting(session: Session, token: str) -> User | None:
    """Whose second factor the session waits for, if it does."""
    return session.scalar(
        sa.select(User)
        .join(SignIn, SignIn.user_id == User.id)
        .where(
            SignIn.token_hash == token_hash(token),
            SignIn.awaits_second_factor,
            SignIn.epoch == User.session_epoch,
            SignIn.created_at >= session.now() - SECOND_STEP_WITHIN,
            User.active,
        )
    )


def finish_sign_in(database: Database, token: str, code: str, source: str) -> tuple[str, str]:
    """Check the second factor and open the session; gives its new token and how it was proved.

    Raises Invalid for the code, and Refused when no sign-in waits for it.
    """
    with database.transaction() as session:
        user = _needs_awaiting(session, token)
        throttle.count_attempt(session, throttle.for_second_factor(user.email))
    with database.reading() as reading:
        recovery_code = recovery.look_up(reading, user.id, code)
    with database.transaction() as session:
        user = _needs_awaiting(session, token)
        how = second_factor.accept(session, user.id, code, recovery_code)
        if how:
            throttle.forgive(session, throttle.for_second_factor(user.email))
            return _open(session, token, user, source, how), how
        trail.record(session, user.actor(source), "session:second-factor", outcome="refused")
    raise Invalid(_WRONG_CODE, "code")


def sign_in_by_passkey(
    session: Session, party: passkeys.RelyingParty, *, challenge: bytes, answer: str, token: str | None, source: str
) -> tuple[str, User]:
    """Open a session by a passkey: as the second step of the session ``token``, or else all by itself. Raises Invalid.

    Gives the session's token.
    """
    half = awaiting(session, token) if token is not None else None
    user = passkeys.prove(
        session,
        party,
        challenge=challenge,
        answer=answer,
        user_id=half.id if half is not None else None,
        owner_verified=half is None,
    )
    if half is not None and token is not None:
        return _open(session, token, user, source, "passkey"), user
    _end_former(session, token)
    fresh = _insert(session, user, source, awaits_second_factor=False)
    trail.record(session, user.actor(source), "session:sign-in", subject=f"user:{user.id}", by="passkey")
    return fresh, user


def refuse_passkey(session: Session, source: str) -> None:
    """Leave a line about a passkey that opened nothing, unless there were many of late."""
    refused.record(session, Actor(None, NOBODY, source, Role.PASSWORD_USER), "signing in by a passkey")


def resume(database: Database, token: str) -> Resumed | None:
    """The live session of a token, or None for one that is unknown, ended, not complete or too old."""
    with database.reading() as session:
        row = session.execute(
            sa.select(SignIn, User, SignInPolicy, second_factor.is_set_up(User.id), second_factor.has_passkey(User.id))
            .join(User, User.id == SignIn.user_id)
            .outerjoin(SignInPolicy, SignInPolicy.id == 1)
            .where(SignIn.token_hash == token_hash(token), ~SignIn.awaits_second_factor, *_alive())
        ).one_or_none()
        if row is None:
            return None
        sign, user, saved, has_second_factor, has_passkey = row
        rules, now = saved or policy.default(), session.now()
        seen_at = max(sign.seen_at, _unwritten(database).get(sign.id, sign.seen_at))
        if now - seen_at > rules.idle or now - sign.created_at > rules.longest:
            return None
        if seen_at > now + CLOCK_TOLERANCE:  # The clock was set back: nobody knows how old this session is.
            return None
    if now - sign.seen_at > _SEEN_EVERY:
        _note_seen(database, sign.id, now)
    lacks = rules.needs_second_factor(user.role) and not has_second_factor
    proved = timedelta() <= now - sign.proved_at <= PROOF_HOLDS
    return Resumed(user, sign.id, proved, bool(has_second_factor), bool(has_passkey), lacks)


def _note_seen(database: Database, sign_in_id: int, now: datetime) -> None:
    seen = sa.update(SignIn).where(SignIn.id == sign_in_id).values(seen_at=now)
    if database.note(lambda session: session.execute(seen)):
        _unwritten(database).pop(sign_in_id, None)
    else:
        _unwritten(database)[sign_in_id] = now


def _unwritten(database: Database) -> dict[int, datetime]:
    """When sessions were last seen, as far as the database could not be told: nobody is signed out on its account."""
    return _UNWRITTEN.setdefault(database, {})


def prove(database: Database, actor: Actor, token: str, *, password: Secret, code: str) -> str:
    """Prove once more who one is, by the password or a code; gives the session's new token.

    Raises Invalid, and Unavailable when too many do so at this moment.
    """
    with passwords.place_in_line():
        return _prove(database, actor, token, password, code)


def _prove(database: Database, actor: Actor, token: str, password: Secret, code: str) -> str:
    with database.transaction() as session:
        user = get_user(session, actor.id or 0)
        counters = throttle.for_second_factor(user.email) if code else throttle.for_password_again(user.email)
        throttle.count_attempt(session, counters)
    how = "password" if not code and passwords.verify_password(user.password_hash, password) else ""
    with database.reading() as reading:
        recovery_code = recovery.look_up(reading, user.id, code) if code else None
    with database.transaction() as session:
        user = still_signed_in(session, actor, token)
        how = how or (second_factor.accept(session, user.id, code, recovery_code) if code else "")
        if how:
            throttle.forgive(session, counters)
            trail.record(session, actor, "session:confirm", subject=f"user:{user.id}", by=how)
            return renew(session, token, user)
        trail.record(session, actor, "session:confirm", subject=f"user:{user.id}", outcome="refused")
    if code:
        raise Invalid(_WRONG_CODE, "proof_code")
    raise Invalid(_("That is not your password. Check it and try again."), "proof_password")


def prove_by_passkey(
    database: Database, actor: Actor, party: passkeys.RelyingParty, token: str, *, challenge: bytes | None, answer: str
) -> str:
    """Prove once more who one is, by a passkey that verified its owner; gives the session's new token. Raises Invalid.

    challenge: the one that the browser was given for this, if it still is good.
    """
    try:
        if challenge is None:
            raise Invalid(_PROOF_TOO_LATE)
        with database.transaction() as session:
            user = passkeys.prove(
                session, party, challenge=challenge, answer=answer, user_id=actor.id, owner_verified=True
            )
            _needs_alive(session, token, user)
            trail.record(session, actor, "session:confirm", subject=f"user:{user.id}", by="passkey")
            return renew(session, token, user)
    except Invalid as error:
        with database.transaction() as session:
            refused.record(session, actor, "confirming by a passkey")
        raise Invalid(str(error), "proof_passkey") from None


def renew(session: Session, token: str, user: User) -> str:
    """Give the session a new token, now that its person has proved who they are. Raises Refused: it has ended."""
    fresh, now = new_token(), session.now()
    renewed = session.connection().execute(
        sa.update(SignIn)
        .where(SignIn.token_hash == token_hash(token), SignIn.user_id == user.id)
        .values(token_hash=token_hash(fresh), epoch=user.session_epoch, proved_at=now, seen_at=now)
    )
    if renewed.rowcount != 1:
        raise Refused(_ENDED)
    return fresh


def still_signed_in(session: Session, actor: Actor, token: str) -> User:
    """The actor as a user. Raises Refused when something ended their session since this request began.

    Call it before keep_this_one(), which would bring such a session back.
    """
    user = get_user(session, actor.id or 0)
    _needs_alive(session, token, user)
    return user


def _needs_alive(session: Session, token: str, user: User) -> None:
    """Raises Refused when something ended the session while a password was compared: no proof brings it back."""
    alive = sa.select(SignIn.id).join(User, User.id == SignIn.user_id).where(SignIn.user_id == user.id, *_alive())
    if session.scalar(alive.where(SignIn.token_hash == token_hash(token))) is None:
        raise Refused(_ENDED)


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
    """Delete sessions, failures and challenges that no longer matter."""
    now, rules = session.now(), policy.current(session)
    session.execute(
        sa.delete(SignIn).where((SignIn.seen_at < now - rules.idle) | (SignIn.created_at < now - rules.longest))
    )
    throttle.forget_old(session)
    passkeys.forget_old(session)


def sessions_of(session: Session, user_id: int) -> Sequence[SignIn]:
    """The live sessions of a user, the latest first."""
    now, rules = session.now(), policy.current(session)
    return session.scalars(
        sa.select(SignIn)
        .join(User, User.id == SignIn.user_id)
        .where(SignIn.user_id == user_id, ~SignIn.awaits_second_factor, *_alive())
        .where(SignIn.seen_at >= now - rules.idle, SignIn.created_at >= now - rules.longest)
        .order_by(SignIn.seen_at.desc(), SignIn.id.desc())
    ).all()


def is_current(listed: Sequence[SignIn], token: str) -> int | None:
    """The number of the session that holds ``token``, if it is in the list."""
    return next((sign.id for sign in listed if sign.token_hash == token_hash(token)), None)


def end_session(session: Session, actor: Actor, sign_in_id: int) -> None:
    """End one session of the actor's own. Raises NotFound."""
    sign = session.get(SignIn, sign_in_id)
    if sign is None or sign.user_id != actor.id:
        raise NotFound(_("There is no such session; it may have ended by itself."))
    session.delete(sign)
    trail.record(session, actor, "session:end", subject=f"user:{actor.id}")


def change_own_password(
    database: Database, actor: Actor, token: str, *, current: Secret, new: Secret
) -> tuple[str, int]:
    """Replace the actor's own password and end their other sessions; gives this one's new token, and how many ended.

    Raises Invalid, Unavailable.
    """
    with database.transaction() as session:
        user = get_user(session, actor.id or 0)
        passwords.check_new(new, about=user.words())
        counters = throttle.for_password_again(user.email)
        throttle.count_attempt(session, counters)
    with passwords.place_in_line():
        good = passwords.verify_password(user.password_hash, current)
    if not good:
        with database.transaction() as session:
            trail.record(session, actor, "user:set-password", subject=f"user:{user.id}", outcome="refused")
        raise Invalid(_("That is not your current password."), "current")
    with database.transaction() as session:
        throttle.forgive(session, counters)
        user = still_signed_in(session, actor, token)
        set_password(session, actor, user, new)
        ended = end_sessions(session, user.id, except_token=token)
        return renew(session, token, user), ended


def keep_this_one(session: Session, token: str, user: User) -> str:
    """End the user's other sessions, because what proves who they are has changed; gives this one's new token."""
    sign_out_everywhere(session, user)
    end_sessions(session, user.id, except_token=token)
    return renew(session, token, user)


def _end_former(session: Session, token: str | None) -> None:
    """End the session that somebody signs in over: the browser forgets its token, and nobody else shall know it."""
    if token is not None:
        session.execute(sa.delete(SignIn).where(SignIn.token_hash == token_hash(token)))


def _insert(session: Session, user: User, source: str, *, awaits_second_factor: bool) -> str:
    token, now = new_token(), session.now()
    session.add(
        SignIn(
            token_hash=token_hash(token),
            user_id=user.id,
            epoch=user.session_epoch,
            source=source[:100],
            created_at=now,
            seen_at=now,
            proved_at=now,
            awaits_second_factor=awaits_second_factor,
        )
    )
    return token


def _open(session: Session, token: str, user: User, source: str, how: str) -> str:
    """Put a whole session in the place of the one that waited for its second factor."""
    ended = session.connection().execute(
        sa.delete(SignIn).where(SignIn.token_hash == token_hash(token), SignIn.awaits_second_factor)
    )
    if ended.rowcount != 1:
        raise Refused(_TOO_LATE)
    trail.record(session, user.actor(source), "session:sign-in", subject=f"user:{user.id}", by=how)
    return _insert(session, user, source, awaits_second_factor=False)


def _needs_awaiting(session: Session, token: str) -> User:
    user = awaiting(session, token)
    if user is None:
        raise Refused(_TOO_LATE)
    return user


def _alive() -> tuple[sa.SQLColumnExpression[bool], ...]:
    """What a session needs of its user: active, and nothing has ended their sessions since it began."""
    return User.active, SignIn.epoch == User.session_epoch


def _unchanged(session: Session, user: User) -> User | None:
    """The user, if still what they were when the comparison of the password began."""
    now = session.get(User, user.id)
    return now if now is not None and now.active and now.password_hash == user.password_hash else None
