"""Adding people so that they learn of it: a one-time link by mail, and what became of that mail.

Told is who has a password, or whose newest mail with a link the server accepted. A mail that is forgotten after its 30
days says nothing any more; its link has long been dead.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from webapp.actor import Actor, Role
from webapp.db import Database, Session
from webapp.errors import Conflict, Invalid, NotFound, Refused
from webapp.i18n import gettext as _
from webapp.i18n import later, lazy, ngettext
from webapp.identity import links, quota
from webapp.identity.quota import Quota
from webapp.identity.telling import tell
from webapp.identity.users import User, add_user, get_user
from webapp.keyring import Secret
from webapp.outbox import ledger
from webapp.outbox.codes import name_of
from webapp.outbox.messages import WAITING, Kind, Message, State

KINDS: Final = tuple(purpose.kind.value for purpose in links.Purpose)
"""The mails that bring somebody a link."""
_AT_ONCE: Final = 25
_EACH: Final = Quota("invitation", 3, timedelta(hours=1), lazy("This person was sent three mails within the hour."))


@dataclass(frozen=True, slots=True)
class Invited:
    """Somebody who was added, and the token of their link."""

    user: User
    token: Secret


def invite(session: Session, actor: Actor, *, email: str, name: str, role: Role) -> Invited:
    """Add a user and queue the mail with their link, in the caller's transaction. Raises Invalid."""
    user = add_user(session, actor, email=email, name=name, role=role)
    token = links.make_link(session, actor, user, action="user:invite")
    _tell(session, actor, user, token)
    return Invited(user, token)


def invite_again(session: Session, actor: Actor, user_id: int) -> Invited:
    """Queue a mail with a new link; the old link is dead, and its mail cancelled where it still waits.

    Raises NotFound, Invalid when it was done too often of late, Refused for a disabled user, and Conflict for one who
    has a password: theirs is nobody else's to replace.
    """
    user = get_user(session, user_id)
    if user.password_hash is not None:
        raise Conflict(_("%(name)s has set a password already, so there is nothing to send.", name=user.name))
    if user.active:
        quota.take(session, _EACH, str(user.id))
    before = _newest(session, [user.id]).get(user.id)
    token = links.make_link(session, actor, user, action="user:invite-again")
    _tell(session, actor, user, token, again_of=before.id if before else None)
    return Invited(user, token)


def _tell(session: Session, actor: Actor, user: User, token: Secret, again_of: int | None = None) -> None:
    life = links.Purpose.WELCOME.life
    tell(
        session,
        actor,
        user,
        Kind.ACCOUNT_CREATED,
        about=f"user:{user.id}",
        life=life,
        again_of=again_of,
        token=token.reveal(),
        added_by=actor.name,
        role=later(getattr, user, "role_label"),
        valid_until=(session.now() + life).isoformat(timespec="seconds"),
    )


@dataclass(frozen=True, slots=True)
class ToldMany:
    """What invite_everybody() did. passed_over: who had three mails within the hour. left: time was up before them."""

    told: int
    passed_over: int
    left: int


def invite_everybody(database: Database, actor: Actor, *, seconds: float = 5.0) -> ToldMany:
    """Queue a mail with a new link for all who have not been told and for whom none waits, a few in a transaction."""
    told = passed_over = last = 0
    until = time.monotonic() + seconds
    while True:
        with database.transaction() as session:
            ids = session.scalars(_untold(after=last).limit(_AT_ONCE)).all()
            for user_id in ids:
                try:
                    invite_again(session, actor, user_id)
                    told += 1
                except Invalid:
                    passed_over += 1
        if len(ids) < _AT_ONCE:
            return ToldMany(told, passed_over, 0)
        last = ids[-1]
        if time.monotonic() > until:
            with database.reading() as session:
                left = session.scalar(sa.select(sa.func.count()).select_from(_untold(after=last).subquery())) or 0
            return ToldMany(told, passed_over, left)


def _untold(*, after: int) -> sa.Select[int]:
    """The numbers of those whom nobody has told and for whom nothing waits."""
    waits = sa.func.coalesce(_newest_state(), "").in_(WAITING)
    return sa.select(User.id).where(not_told(), ~waits, User.id > after).order_by(User.id)


def not_told() -> sa.ColumnElement[bool]:
    """The condition that a user may come in and does not know it yet."""
    return sa.and_(
        User.active,
        User.password_hash.is_(None),
        sa.func.coalesce(_newest_state(), "") != State.ACCEPTED.value,
    )


def count_not_told(session: Session) -> int:
    return session.scalar(sa.select(sa.func.count()).select_from(User).where(not_told())) or 0


def _newest_state() -> sa.ScalarSelect[str]:
    return (
        sa.select(Message.state)
        .where(Message.user_id == User.id, Message.kind.in_(KINDS))
        .order_by(Message.id.desc())
        .limit(1)
        .correlate(User)
        .scalar_subquery()
    )


@dataclass(frozen=True, slots=True)
class Story:
    """What became of telling one person, by the newest mail that brought a link.

    message_id, state: None when there was none. at: of its newest step. said: the server's words, or what else there is
    to say.
    """

    has_password: bool
    message_id: int | None = None
    state: State | None = None
    at: datetime | None = None
    attempts: int = 0
    said: str = ""
    expired: bool = False

    @property
    def is_told(self) -> bool:
        return self.has_password or self.state is State.ACCEPTED

    @property
    def is_waiting(self) -> bool:
        """Whether a mail is still on its way."""
        return not self.has_password and self.state is not None and self.state.is_waiting

    @property
    def words(self) -> str:
        """The story as pages and commands tell it; ``said`` comes apart."""
        if self.has_password:
            return _("has set a password")
        if self.state is None:
            return _("not told: no mail was sent")
        if self.state is State.QUEUED and self.attempts:
            return ngettext("queued, after %(num)s attempt", "queued, after %(num)s attempts", self.attempts)
        return self.state.label


def stories(session: Session, users: Iterable[User]) -> dict[int, Story]:
    """The story of each, by the user's number."""
    users = list(users)
    newest = _newest(session, [user.id for user in users if user.password_hash is None])
    now = session.now()
    return {user.id: _story(user, newest.get(user.id), now) for user in users}


def _story(user: User, message: Message | None, now: datetime) -> Story:
    if user.password_hash is not None or message is None:
        return Story(has_password=user.password_hash is not None)
    state, expired = State(message.state), message.expires_at <= now
    return Story(
        has_password=False,
        message_id=message.id,
        state=state,
        at=message.ended_at or message.attempted_at or message.queued_at,
        attempts=message.attempts,
        said=_said(message, state, expired=expired),
        expired=expired,
    )


def _said(message: Message, state: State, *, expired: bool) -> str:
    if state is State.ACCEPTED:
        return _("Its link has expired.") if expired else ""
    if message.code == "expired":
        return _("Its link expired before it could be sent.")
    return message.reply or name_of(message.code)


def _newest(session: Session, user_ids: Sequence[int]) -> dict[int, Message]:
    """The newest mail with a link to each."""
    newest = (
        sa.select(sa.func.max(Message.id))
        .where(Message.user_id.in_(user_ids), Message.kind.in_(KINDS))
        .group_by(Message.user_id)
    )
    found = session.scalars(sa.select(Message).where(Message.id.in_(newest)).execution_options(populate_existing=True))
    return {message.user_id: message for message in found if message.user_id is not None}


def _again(session: Session, actor: Actor, message: Message) -> str:
    """What sending such a mail again means: a new link in a new mail. Raises Conflict when that cannot be."""
    if message.user_id is None:
        raise Conflict(_("It is not known any more whom this message was for. Add the user again."))
    try:
        invite_again(session, actor, message.user_id)
    except (Invalid, NotFound, Refused) as error:
        raise Conflict(str(error)) from None
    return _newest(session, [message.user_id])[message.user_id].token


ledger.register_again(Kind.ACCOUNT_CREATED, _again)
