"""Which certificates mail relies on, and which of them end soon."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from webapp.db import Session
from webapp.mail import settings
from webapp.mail.settings import USE, MailSettings
from webapp.mail.transport import Security
from webapp.trust import seen, store
from webapp.trust.certificates import Description, describe
from webapp.trust.seen import SeenChain
from webapp.trust.store import Trusted

WARNING_DAYS: Final = (30, 14, 7, 1)
"""So many days before a certificate ends, a warning grows stronger."""


@dataclass(frozen=True, slots=True)
class Ending:
    """A certificate that ends soon or has ended. about: whose it is, as the start of a sentence; warning: the smallest
    of WARNING_DAYS it is within, 0 once it has ended; sha256: of the trusted one, None for the mail server's own."""

    about: str
    not_after: datetime
    warning: int
    sha256: str | None
    in_use: bool


@dataclass(frozen=True, slots=True)
class Use:
    """What relies on a trusted certificate, as far as it is known. sentence: for a person; by: "" for nothing."""

    by: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Own:
    """The certificate that the saved mail server presented when it was last asked."""

    server_name: str
    port: int
    seen_at: datetime
    description: Description


def warning(not_after: datetime, now: datetime) -> int | None:
    """The smallest of WARNING_DAYS that a certificate's end is within, 0 once it has ended, None while it is far."""
    left = not_after - now
    if left <= timedelta(0):
        return 0
    return min((days for days in WARNING_DAYS if left <= timedelta(days=days)), default=None)


def days_left(not_after: datetime, now: datetime) -> int:
    """Whole days until the end, rounded up; 0 or less once it has come."""
    return math.ceil((not_after - now) / timedelta(days=1))


def own_certificate(session: Session) -> Own | None:
    """The saved server's own certificate as it was last seen; None when no check has seen one that can be read."""
    saved = settings.current(session)
    chain = _seen(session, saved)
    certificates = seen.readable(chain.certificates) if chain else []
    if saved is None or chain is None or not certificates:
        return None
    return Own(saved.server_name, saved.port, chain.seen_at, describe(certificates[0]))


def use_of(session: Session, certificate: Trusted) -> Use:
    """Whether the saved mail settings rely on a trusted certificate: by its pin, or by what their server presented."""
    saved = settings.current(session)
    if saved is None or saved.security == Security.NEVER:
        return Use("", "Nothing: the saved mail settings use no encrypted connection.")
    place = f"{saved.server_name}, port {saved.port}"
    if certificate.is_pinned:
        if (certificate.host, certificate.port) == (saved.server_name.rstrip(".").lower(), saved.port):
            return Use(USE, f"Used by {USE}: it is pinned to their server, {place}.")
        return Use("", f"Nothing: the saved mail settings name another server, {place}.")
    chain = _seen(session, saved)
    if chain is None:
        return Use("", f"Not known: no check has seen yet what {place} presents.")
    moment = f"{chain.seen_at:%Y-%m-%d %H:%M} UTC"
    if seen.vouches(certificate.sha256, store.certificate_of(session, certificate), chain.certificates):
        return Use(USE, f"Used by {USE}: it vouches for what {place} presented on {moment}.")
    return Use("", f"Nothing that is known: {place} presented other certificates on {moment}.")


def endings(session: Session) -> list[Ending]:
    """The trusted certificates, and the saved server's own, that end within 30 days or have ended; the first first."""
    now = session.now()
    found = [
        Ending(
            f"The trusted certificate {each.description.label}",
            each.description.not_after,
            warning(each.description.not_after, now) or 0,
            each.sha256,
            bool(use_of(session, each).by),
        )
        for each in store.expiring(session, WARNING_DAYS[0])
    ]
    own = own_certificate(session)
    if own is not None and (near := warning(own.description.not_after, now)) is not None:
        about = f"The certificate of your mail server {own.server_name}"
        found.append(Ending(about, own.description.not_after, near, None, in_use=True))
    return sorted(found, key=lambda each: each.not_after)


def uses(session: Session, certificates: Sequence[Trusted]) -> list[tuple[Trusted, Use]]:
    """Each certificate with what relies on it."""
    return [(each, use_of(session, each)) for each in certificates]


def _seen(session: Session, saved: MailSettings | None) -> SeenChain | None:
    return seen.last_seen(session, saved.server_name, saved.port) if saved else None
