"""The outbox as administrators see it and act on it: find, count, try again, cancel, send again.

Each act is one statement that says in which state it may happen, so that it cannot overtake a worker: what a worker
holds is left to it, and what was cancelled is never sent. Each leaves an audit line in the caller's transaction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy import orm

from webapp.actor import Actor
from webapp.audit import trail
from webapp.db import Session
from webapp.errors import Conflict, NotFound
from webapp.i18n import gettext as _
from webapp.i18n import lazy
from webapp.keyring import SealBroken
from webapp.outbox import wake
from webapp.outbox.messages import LIFE, FailedAttempt, Kind, Message, State, changed, picked, queue, read_data
from webapp.search import LARGEST_ID, Page, holds_all, span, words

PER_PAGE: Final = 50
AT_ONCE: Final = 1000
"""So many messages at most are tried again or cancelled in one step; whoever asks takes as many steps as it needs."""
AGAIN_TO_ONE: Final = 5
AGAIN_IN_ALL: Final = 100
"""So many messages at most are sent again within an hour: to one person, and in all."""

_TOKEN: Final = re.compile(r"<?([0-9a-f]{32})@\S*")
_FAILED: Final = (State.REFUSED, State.GIVEN_UP)
_table = cast(sa.Table, Message.__table__)
_DEAD_LINK: Final = lazy(
    "The link in it has expired. Let the person ask for a new one, or make one on the page of the user."
)

Maker = Callable[[Session, Actor, Message], str]
"""Queues a message that says anew what an earlier one said, with a new link where it has one; gives its token."""
_makers: dict[str, Maker] = {}
_DATED: Final = tuple(kind.value for kind in Kind if kind.is_essential)
"""These kinds carry a link that dies, so trying them can never begin anew."""


def register_again(kind: Kind, maker: Maker) -> None:
    """Have messages of a kind made anew when they are sent again: what they said is out of date by then."""
    _makers[kind.value] = maker


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which messages are meant: in this state, of this kind, holding these words; None and "" leave it open."""

    state: State | None = None
    kind: str = ""
    q: str = ""

    def condition(self) -> sa.ColumnElement[bool]:
        found = [_state_is(self.state)] if self.state else []
        if self.kind:
            found.append(_table.c.kind == self.kind)
        return sa.and_(sa.true(), *found, *map(_holds, words(self.q)))

    def facts(self) -> dict[str, str]:
        """As the audit trail says it."""
        return {"state": self.state or "", "kind": self.kind, "search": self.q}


@dataclass(frozen=True, slots=True)
class Entry:
    """One message, its failed attempts, the newest first, and what can be done with it.

    message: without its data. no_retry, no_cancel, no_again: why not, a sentence; empty when it can be done.
    """

    message: Message
    attempts: Sequence[FailedAttempt]
    no_retry: str
    no_cancel: str
    no_again: str


def _state_is(state: State) -> sa.ColumnElement[bool]:
    """A state as literal text, which alone lets SQLite use the indexes of one state."""
    return _table.c.state == sa.literal_column(f"'{state.value}'")


def _holds(word: str) -> sa.ColumnElement[bool]:
    token = _TOKEN.fullmatch(word)
    return _table.c.token == token[1] if token else holds_all(Message.found_by, [word])


def find(session: Session, wanted: Wanted, *, page: int = 1, per_page: int = PER_PAGE) -> Page[Message]:
    """The messages that are meant: those that wait in the order they will be tried, others the newest first."""
    condition = wanted.condition()
    total = session.scalar(sa.select(sa.func.count()).select_from(Message).where(condition)) or 0
    page, pages, per_page = span(total, page, per_page)
    found = (
        sa.select(Message)
        .options(orm.defer(Message.sealed, raiseload=True))
        .where(condition)
        .order_by(*_order(wanted.state))
        .limit(per_page)
        .offset((page - 1) * per_page)
    )
    return Page(session.scalars(found).all(), total, page, pages, wanted.q)


def _order(state: State | None) -> Sequence[sa.UnaryExpression[Any]]:
    """Each order has an index that gives it."""
    if state is None:
        return (Message.id.desc(),)
    if state.is_waiting:
        return (Message.due_at.asc(), Message.id.asc())
    return (Message.ended_at.desc(), Message.id.desc())


def counts(session: Session) -> dict[State, int]:
    """How many messages are in each state."""
    number = sa.func.count()
    waiting = [
        sa.select(sa.literal(state.value).label("state"), number.label("number"))
        .select_from(_table)
        .where(_state_is(state))
        for state in State
        if state.is_waiting
    ]
    ended = sa.select(_table.c.state, number).where(_table.c.ended_at.is_not(None)).group_by(_table.c.state)
    found = {state: int(many) for state, many in session.execute(sa.union_all(*waiting, ended))}
    return {state: found.get(state.value, 0) for state in State}


def is_something_due(session: Session) -> bool:
    """Whether a message waits whose time has come."""
    due_at = session.scalar(sa.select(sa.func.min(Message.due_at)).where(_state_is(State.QUEUED)))
    return due_at is not None and due_at <= session.now()


def get(session: Session, message_id: int) -> Entry:
    """One message. Raises NotFound."""
    message = _message(session, message_id)
    attempts = session.scalars(
        sa.select(FailedAttempt)
        .where(FailedAttempt.message_id == message_id)
        .order_by(FailedAttempt.id.desc())
        .limit(200)
    ).all()
    has_data = _has_data(session, message_id)
    return Entry(
        message,
        attempts,
        no_retry=_no_retry(session, message, has_data),
        no_cancel=_no_cancel(message),
        no_again=_no_again(session, message, has_data),
    )


def retry(session: Session, actor: Actor, message_id: int) -> None:
    """Have a message tried now: one that waits, or one that failed and still has its data.

    Raises NotFound, or Conflict that says why it cannot be tried.
    """
    now = session.now()
    waits = sa.update(_table).where(_table.c.id == message_id, _state_is(State.QUEUED)).values(due_at=now)
    failed = sa.update(_table).where(_table.c.id == message_id, _may_be_revived(session)).values(_revived(session))
    if not (changed(session, waits) or changed(session, failed)):
        message = _message(session, message_id)
        why = _no_retry(session, message, _has_data(session, message_id))
        raise Conflict(why or _("It changed in this very moment. Look again, and try once more."))
    trail.record(session, actor, "outbox:retry", subject=f"message:{message_id}")
    wake.ring_after_commit(session)


def retry_all(session: Session, actor: Actor, wanted: Wanted) -> int:
    """Have all of these tried now; gives how many, AT_ONCE at most: go on until it gives fewer."""
    now = session.now()
    waits = sa.and_(_state_is(State.QUEUED), _table.c.due_at > now)
    tried = changed(session, _some(sa.and_(wanted.condition(), waits)).values(due_at=now))
    if tried < AT_ONCE:
        failed = sa.and_(wanted.condition(), _may_be_revived(session))
        tried += changed(session, _some(failed, AT_ONCE - tried).values(_revived(session)))
    if tried:
        trail.record(session, actor, "outbox:retry-all", subject="outbox", messages=tried, **wanted.facts())
        wake.ring_after_commit(session)
    return tried


def cancel(session: Session, actor: Actor, message_id: int) -> None:
    """See to it that a message that waits is never sent.

    Raises NotFound, or Conflict that says why it is too late.
    """
    waits = sa.update(_table).where(_table.c.id == message_id, _state_is(State.QUEUED))
    if not changed(session, waits.values(_cancelled(session))):
        why = _no_cancel(_message(session, message_id))
        raise Conflict(why or _("It changed in this very moment. Look again, and try once more."))
    trail.record(session, actor, "outbox:cancel", subject=f"message:{message_id}")


def cancel_all(session: Session, actor: Actor, wanted: Wanted) -> int:
    """Cancel all of these that wait; gives how many, AT_ONCE at most: go on until it gives fewer."""
    waiting = replace(wanted, state=State.QUEUED)
    gone = changed(session, _some(waiting.condition()).values(_cancelled(session)))
    if gone:
        trail.record(session, actor, "outbox:cancel-all", subject="outbox", messages=gone, **waiting.facts())
    return gone


def again(session: Session, actor: Actor, message_id: int) -> int:
    """Queue a new message that says what an earlier one said; gives its number.

    Raises NotFound, or Conflict: it still waits, its data is gone, or too many were sent again within the hour.
    """
    message = _message(session, message_id)
    why = _no_again(session, message, _has_data(session, message_id)) or _too_many(session, message)
    if why:
        raise Conflict(why)
    maker = _makers.get(message.kind)
    token = maker(session, actor, message) if maker else _repeat(session, actor, message)
    changed(session, sa.update(_table).where(_table.c.token == token).values(again_of=message_id))
    fresh = session.scalars(sa.select(Message.id).where(Message.token == token)).one()
    trail.record(session, actor, "outbox:again", subject=f"message:{message_id}", message=fresh)
    return fresh


def _repeat(session: Session, actor: Actor, message: Message) -> str:
    sealed = session.scalars(sa.select(Message.sealed).where(Message.id == message.id)).one()
    try:
        data = read_data(session.keyring, message.token, sealed or b"")
        kind = Kind(message.kind)
    except (SealBroken, ValueError):
        raise Conflict(_("What this message was to say cannot be read. Do again what brought it about.")) from None
    return queue(
        session,
        actor,
        kind,
        recipient=message.recipient,
        recipient_name=message.recipient_name,
        user_id=message.user_id,
        about=message.about,
        data=data,
        life=message.expires_at - session.now() if kind.value in _DATED else LIFE,
    )


def _some(condition: sa.ColumnElement[bool], most: int = AT_ONCE) -> sa.Update:
    """An update of some messages; those that a worker is just taking are left to it."""
    found = sa.select(_table.c.id).where(condition).limit(most).with_for_update(skip_locked=True)
    return sa.update(_table).where(_table.c.id.in_(picked(found)), condition)


def _revived(session: Session) -> dict[str, Any]:
    """Queued once more, with a fresh life where no link sets its end. What workers died with is still tried alone."""
    return {
        "state": State.QUEUED.value,
        "due_at": session.now(),
        "ended_at": None,
        "expires_at": sa.case((_table.c.kind.in_(_DATED), _table.c.expires_at), else_=session.now() + LIFE),
        "crashes": sa.case((_table.c.crashes > 0, 1), else_=0),
    }


def _cancelled(session: Session) -> dict[str, Any]:
    return {"state": State.CANCELLED.value, "ended_at": session.now()}


def _may_be_revived(session: Session) -> sa.ColumnElement[bool]:
    """It failed, it still has its data, and no link in it is dead."""
    return sa.and_(
        sa.or_(*map(_state_is, _FAILED)),
        _table.c.sealed.is_not(None),
        sa.or_(_table.c.kind.not_in(_DATED), _table.c.expires_at > session.now()),
    )


def _message(session: Session, message_id: int) -> Message:
    found = None
    if 0 < message_id <= LARGEST_ID:
        found = session.get(
            Message, message_id, options=[orm.defer(Message.sealed, raiseload=True)], populate_existing=True
        )
    if found is None:
        raise NotFound(
            _(
                "There is no message %(message_id)s in the outbox, or not any more. Look it up in the "
                "list: bin/keypost outbox list, or Admin → Outbox.",
                message_id=message_id,
            )
        )
    return found


def _has_data(session: Session, message_id: int) -> bool:
    return bool(session.scalar(sa.select(Message.sealed.is_not(None)).where(Message.id == message_id)))


def _no_retry(session: Session, message: Message, has_data: bool) -> str:
    state = State(message.state)
    if state is State.QUEUED:
        return ""
    if state is State.SENDING:
        return _("It is being sent at this moment. What becomes of it shows here in a minute.")
    if state is State.ACCEPTED:
        return _("The server has accepted it. To tell the person once more, send it again.")
    if state is State.CANCELLED:
        return _("It was cancelled, and what was cancelled is never sent. Send it again if it is wanted after all.")
    if not has_data:
        return _("What it was to say was deleted five days after it ended, or once it was out of date.")
    return _DEAD_LINK if _link_is_dead(session, message) else ""


def _link_is_dead(session: Session, message: Message) -> bool:
    return message.kind in _DATED and message.expires_at <= session.now()


def _no_cancel(message: Message) -> str:
    state = State(message.state)
    if state is State.QUEUED:
        return ""
    if state is State.SENDING:
        return _(
            "It is being sent at this moment, too late to cancel it. If the server does not take it, "
            "it waits here again within five minutes, and can be cancelled then."
        )
    return _("It no longer waits: it is %(label)s.", label=state.label)


def _no_again(session: Session, message: Message, has_data: bool) -> str:
    if State(message.state).is_waiting:
        return _("It has not been sent yet. It will be, or you can have it tried now.")
    if message.kind in _makers:
        return ""
    if has_data:
        return _DEAD_LINK if _link_is_dead(session, message) else ""
    return _(
        "Its content was deleted, as it is for every message that was accepted or ended long "
        "ago. Do again what brought it about, and a new message is written."
    )


def _too_many(session: Session, message: Message) -> str:
    lately = sa.and_(Message.again_of.is_not(None), Message.queued_at > session.now() - timedelta(hours=1))
    to_one, in_all = session.execute(
        sa.select(
            sa.func.count().filter(Message.recipient == message.recipient),
            sa.func.count(),
        ).where(lately)
    ).one()
    if to_one >= AGAIN_TO_ONE:
        return _(
            "%(to_one)s messages were sent again to %(recipient)s within the hour, and more would be "
            "a nuisance. Wait, or ask the person whether one has arrived.",
            to_one=to_one,
            recipient=message.recipient,
        )
    if in_all >= AGAIN_IN_ALL:
        return _(
            "%(in_all)s messages were sent again within the hour, which is as many as may be. Wait for a while.",
            in_all=in_all,
        )
    return ""
