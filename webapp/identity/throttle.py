"""Limits on wrong attempts to prove who one is: they slow a guesser down and lock nobody out.

Each limit counts the attempts that share something: the browser, the address they came from, the account they were
meant for, or nothing at all. Some are free; then each has to wait, twice as long as the one before, up to a bound.
Counts fall again with time. They lie in the database: several processes share them and a restart forgives nothing.

An attempt from a browser that has signed in to the account before counts for that browser alone, so that whoever
guesses at an account keeps its owner waiting on new browsers only (OWASP: device cookies).
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp.actor import Actor
from webapp.audit import trail
from webapp.db import Base, Session, UtcDateTime
from webapp.errors import Invalid
from webapp.i18n import gettext as _
from webapp.i18n import lazy

_FORGET = timedelta(hours=1)


class SignInFailure(Base):
    """How often attempts of one kind failed of late. ``account`` names the account they were meant for, hashed."""

    __tablename__ = "sign_in_failures"

    key: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    account: Mapped[str | None] = mapped_column(sa.String(64), index=True)
    count: Mapped[int]
    last_at: Mapped[datetime] = mapped_column(UtcDateTime)


@dataclass(frozen=True, slots=True)
class Limit:
    """``free`` attempts without waiting; one is forgiven each ``forgives``; nobody waits longer than ``longest``.

    why: what a person who has to wait is told first; ``{count}`` is how many attempts there were.
    """

    name: str
    free: int
    forgives: timedelta
    longest: timedelta
    why: str


_HERE = Limit(
    "here", 5, timedelta(minutes=12), timedelta(minutes=5), lazy("There were {count} wrong attempts from here.")
)  # fmt: skip
_BROWSER = replace(_HERE, name="browser")
_SOURCE = Limit(
    "source", 50, timedelta(minutes=1), timedelta(minutes=5), lazy("There were many wrong attempts from your network.")
)
_ACCOUNT = Limit(
    "account",
    25,
    timedelta(minutes=5),
    timedelta(minutes=15),
    lazy(
        "Somebody has tried many wrong passwords for this address. A browser that has signed in "
        "with it before need not wait."
    ),
)
_EVERYWHERE = Limit(
    "everywhere",
    500,
    timedelta(seconds=2),
    timedelta(seconds=4),
    lazy("Many wrong passwords are being tried at this moment. A browser that has signed in before need not wait."),
)
_AGAIN = replace(_HERE, name="again")
_SECOND_FACTOR = Limit(
    "second factor", 5, timedelta(minutes=12), timedelta(minutes=15), lazy("There were {count} wrong codes.")
)


@dataclass(frozen=True, slots=True)
class Counter:
    """One count that an attempt belongs to. ``earned``: a success wipes it out, and not only its own attempt."""

    limit: Limit
    key: str
    account: str | None = None
    earned: bool = False


@dataclass(frozen=True, slots=True)
class KnownBrowser:
    """A browser that proved by a signed cookie as whom it has signed in before."""

    id: str
    user_ids: frozenset[int]


def for_sign_in(
    email: str, source: str, *, free: int, user_id: int | None, browser: KnownBrowser | None
) -> list[Counter]:
    """What an attempt to sign in counts for. ``user_id`` is whose address it is, if anybody's."""
    account = _account(email)
    if browser is not None and user_id in browser.user_ids:
        return [_counter(replace(_BROWSER, free=free), account, browser.id, account=account, earned=True)]
    place = network(source)
    return [
        _counter(replace(_HERE, free=free), account, place, account=account, earned=True),
        _counter(_SOURCE, place),
        _counter(_ACCOUNT, account, account=account),
        _counter(_EVERYWHERE),
    ]


def for_password_again(email: str) -> list[Counter]:
    """What an attempt to give one's password once more, within a session, counts for."""
    account = _account(email)
    return [_counter(_AGAIN, account, account=account, earned=True)]


def for_second_factor(email: str) -> list[Counter]:
    """What a code counts for; only who knows the password gets this far, so the source does not matter."""
    account = _account(email)
    return [_counter(_SECOND_FACTOR, account, account=account, earned=True)]


def count_attempt(session: Session, counters: Sequence[Counter]) -> None:
    """Count an attempt as failed before it is judged, so that many at once gain nothing. Raises Invalid: wait."""
    rows = [(counter, _locked(session, counter)) for counter in sorted(counters, key=lambda each: each.key)]
    for counter, row in rows:
        _refuse_too_soon(session, counter.limit, row)
    for counter, row in rows:
        row.count = _lasting(session, counter.limit, row) + 1
        row.last_at = session.now()


def forgive(session: Session, counters: Sequence[Counter]) -> None:
    """Take back an attempt that succeeded, and with it the failures before where success proves them a person's own."""
    for counter in sorted(counters, key=lambda each: each.key):
        if counter.earned:
            session.execute(sa.delete(SignInFailure).where(SignInFailure.key == counter.key))
        else:
            _take_back(session, counter)


def unlock(session: Session, actor: Actor, email: str) -> int:
    """Forget every failure at an account, so that its owner need not wait; gives how many counts there were."""
    forgotten = session.connection().execute(
        sa.delete(SignInFailure).where(SignInFailure.account == _account(email))
    )  # fmt: skip
    trail.record(session, actor, "user:unlock", email=email.strip()[:320])
    return forgotten.rowcount


def forget_old(session: Session) -> None:
    """Delete counts that time has forgiven."""
    session.execute(sa.delete(SignInFailure).where(SignInFailure.last_at < session.now() - _FORGET))


def _locked(session: Session, counter: Counter) -> SignInFailure:
    session.add_unless_there(SignInFailure, key=counter.key, account=counter.account, count=0, last_at=session.now())
    return session.get_one(SignInFailure, counter.key, with_for_update=True, populate_existing=True)


def _lasting(session: Session, limit: Limit, row: SignInFailure) -> int:
    """The attempts that time has not forgiven yet."""
    return max(0, row.count - max(0, (session.now() - row.last_at) // limit.forgives))


def _refuse_too_soon(session: Session, limit: Limit, row: SignInFailure) -> None:
    count = _lasting(session, limit, row)
    if count < limit.free:
        return
    wait = min(timedelta(seconds=2 ** min(count - limit.free, 12)), limit.longest)
    left = row.last_at + wait - session.now()
    if timedelta() < left <= limit.longest:
        seconds = int(left.total_seconds()) + 1
        raise Invalid(
            _(
                "%(format)s Wait %(seconds)s seconds and try again.",
                format=limit.why.format(count=count),
                seconds=seconds,
            )
        )


def _take_back(session: Session, counter: Counter) -> None:
    session.execute(
        sa.update(SignInFailure)
        .where(SignInFailure.key == counter.key, SignInFailure.count > 0)
        .values(count=SignInFailure.count - 1)
    )


def _counter(limit: Limit, *parts: str, account: str | None = None, earned: bool = False) -> Counter:
    return Counter(limit, _hash(limit.name, *parts), account, earned)


def network(source: str) -> str:
    """What an address counts as: of IPv6 its /64, out of which one visitor takes a new address whenever they like."""
    try:
        ip = ipaddress.IPv6Address(source)
    except ValueError:
        return source
    return str(ipaddress.IPv6Network((ip.packed[:8] + bytes(8), 64)))


def _account(email: str) -> str:
    return _hash("account of", email.strip().casefold())


def _hash(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
