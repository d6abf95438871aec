"""The pause: while the server itself is at fault, nothing is tried but one connection now and then.

A pause is about a destination: server, login, password version and trust, as a keyed fingerprint. When that changes the
next attempt is due at once; otherwise the attempts grow rarer. One worker of all makes each.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp.actor import Actor, program
from webapp.audit import trail
from webapp.db import Base, Session, Told, UtcDateTime
from webapp.outbox import wake

_ONLY: Final = 1
_DELAYS: Final = tuple(timedelta(minutes=minutes) for minutes in (1, 1, 2, 3, 5))
_LOGIN_DELAYS: Final = (timedelta(minutes=15), timedelta(hours=4), timedelta(days=1))
"""After a refused login: three attempts within a day at most, beside those asked for, so that ours lock no mailbox."""
_LONGEST: Final = max(_LOGIN_DELAYS)
_CLAIMED: Final = timedelta(minutes=2)
"""How long an attempt may take before another worker makes it."""


class Pause(Base):
    """Why delivery waits; there is no row while it does not.

    about: the fingerprint of what failed. login: the server refused the login itself. attempts: with that in vain.
    asked: the next attempt is somebody's wish and does not count as one, unless it would have been due anyway.
    """

    __tablename__ = "outbox_pause"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    since: Mapped[datetime] = mapped_column(UtcDateTime)
    about: Mapped[str] = mapped_column(sa.String(64))
    server: Mapped[str] = mapped_column(sa.String(270))
    code: Mapped[str] = mapped_column(sa.String(60))
    stage: Mapped[str] = mapped_column(sa.String(20))
    cause: Mapped[str] = mapped_column(Told)
    remedy: Mapped[str] = mapped_column(Told)
    reply: Mapped[str] = mapped_column(sa.Text)
    login: Mapped[bool]
    attempts: Mapped[int]
    attempted_at: Mapped[datetime] = mapped_column(UtcDateTime)
    attempt_at: Mapped[datetime] = mapped_column(UtcDateTime)
    asked: Mapped[bool] = mapped_column(default=False, server_default=sa.false())


@dataclass(frozen=True, slots=True)
class Reason:
    """What is wrong with the server. cause, remedy: sentences for a person; reply: its own words, masked."""

    about: str
    server: str
    code: str
    stage: str
    cause: str
    remedy: str
    reply: str = ""
    login: bool = False


def current(session: Session) -> Pause | None:
    """The pause, if delivery is paused."""
    return session.get(Pause, _ONLY, populate_existing=True)


_STANDS: Final = sa.select(sa.exists(sa.select(Pause.id)))


def stands(session: Session) -> bool:
    """Whether delivery is paused; cheaper than current()."""
    return bool(session.connection().scalar(_STANDS))


def begin(session: Session, reason: Reason) -> Pause:
    """Pause, or note that another attempt failed. A first failure and each change of reason leaves an audit line."""
    now = session.now()
    values = {
        "about": reason.about,
        "server": reason.server[:270],
        "code": reason.code,
        "stage": reason.stage,
        "cause": reason.cause,
        "remedy": reason.remedy,
        "reply": reason.reply[:1000],
        "login": reason.login,
        "attempted_at": now,
    }
    session.add_unless_there(Pause, id=_ONLY, since=now, attempts=0, attempt_at=now, **values)
    pause = session.get_one(Pause, _ONLY, with_for_update=True, populate_existing=True)
    if is_news(pause, reason):
        pause.attempts = 0
        trail.record(
            session,
            program(),
            "outbox:pause",
            subject="outbox",
            outcome="failed",
            code=reason.code,
            server=pause.server,
        )
    for name, value in values.items():
        setattr(pause, name, value)
    pause.attempts = max(pause.attempts + (not pause.asked), 1)
    pause.asked = False
    delays = _LOGIN_DELAYS if reason.login else _DELAYS
    pause.attempt_at = now + delays[min(pause.attempts, len(delays)) - 1]
    session.flush()
    return pause


def is_news(known: Pause | None, reason: Reason) -> bool:
    """Whether nothing has failed for this reason since the pause began, or since what failed was changed."""
    return known is None or not known.attempts or (known.code, known.about) != (reason.code, reason.about)


def end(session: Session) -> bool:
    """Go on, and wake all workers; tells whether there was a pause."""
    pause = session.get(Pause, _ONLY, with_for_update=True, populate_existing=True)
    if pause is None:
        return False
    trail.record(session, program(), "outbox:resume", subject="outbox", code=pause.code, server=pause.server)
    session.delete(pause)
    session.flush()
    wake.ring_after_commit(session)
    return True


def is_attempt_due(pause: Pause, about: str, now: datetime) -> bool:
    """Whether the server may be asked again: the time has come, or what failed has changed since."""
    return pause.about != about or pause.attempt_at <= now or pause.attempt_at > now + 2 * _LONGEST


def claim_attempt(session: Session, about: str) -> bool:
    """Be the one worker that asks the server now; the others wait for a minute. True without any pause."""
    pause = session.get(Pause, _ONLY, with_for_update=True, populate_existing=True)
    if pause is None:
        return True
    if not is_attempt_due(pause, about, session.now()):
        return False
    if pause.about != about:
        pause.about, pause.attempts = about, 0
    pause.attempt_at = session.now() + _CLAIMED
    session.flush()
    return True


def ask_now(session: Session, actor: Actor) -> bool:
    """Have the server asked at once: somebody pressed the button. Tells whether there is a pause at all.

    Should that fail, the wait is as long as it was before: only attempts of its own accord lengthen it.
    """
    now = session.now()
    ask = sa.update(Pause).values(attempt_at=now, asked=Pause.asked | (Pause.attempt_at > now + _CLAIMED))
    asked = session.connection().execute(ask).rowcount > 0
    if asked:
        trail.record(session, actor, "outbox:ask-now", subject="outbox")
        wake.ring_after_commit(session)
    return asked
