"""Which certificates mail relies on, and which of them end soon."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from webapp.db import Session
from webapp.i18n import gettext as _
from webapp.i18n import lazy, moment
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
class Term:
    """When a certificate ends. days: whole ones from now, rounded up, 0 or less once it has ended.

    warning: the smallest of WARNING_DAYS that the end is within, 0 once it has come, None while it is far.
    """

    not_after: datetime
    days: int
    warning: int | None


@dataclass(frozen=True, slots=True)
class Use:
    """What relies on a trusted certificate, as far as it is known. by: "" for nothing; sentence: for a person."""

    by: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Standing:
    """A trusted certificate, what relies on it, and when it ends."""

    certificate: Trusted
    use: Use
    term: Term


@dataclass(frozen=True, slots=True)
class Own:
    """The certificate that the saved mail server presented when it was last asked."""

    server_name: str
    port: int
    seen_at: datetime
    description: Description
    term: Term


@dataclass(frozen=True, slots=True)
class Ending:
    """A certificate that ends soon or has ended. about: whose it is, the start of a sentence; sha256: of a trusted
    one, None for the mail server's own; in_use: whether mail fails without it, as far as it is known; certificate: its
    SHA-256, whichever it is."""

    about: str
    term: Term
    sha256: str | None
    in_use: bool
    certificate: str


def term(not_after: datetime, now: datetime) -> Term:
    """How far away a certificate's end is; both aware."""
    left = not_after - now
    warning = min((days for days in WARNING_DAYS if left <= timedelta(days=days)), default=None)
    return Term(not_after, math.ceil(left / timedelta(days=1)), 0 if left <= timedelta(0) else warning)


def own_certificate(session: Session) -> Own | None:
    """The saved server's own certificate as it was last seen; None when no check has seen one that can be read, or
    none is asked for."""
    saved = settings.current(session)
    chain = _seen(session, saved) if saved is not None and saved.security != Security.NEVER else None
    certificates = seen.readable(chain.certificates) if chain else []
    if saved is None or chain is None or not certificates:
        return None
    about = describe(certificates[0])
    return Own(saved.server_name, saved.port, chain.seen_at, about, term(about.not_after, session.now()))


def use_of(session: Session, certificate: Trusted) -> Use:
    """Whether the saved mail settings rely on a trusted certificate: by its pin, or by what their server presented."""
    saved = settings.current(session)
    if saved is None or saved.security == Security.NEVER:
        return Use("", _("Nothing: the saved mail settings use no encrypted connection."))
    place = _("%(server_name)s, port %(port)s", server_name=saved.server_name, port=saved.port)
    if certificate.is_pinned:
        if (certificate.host, certificate.port) == (saved.server_name.rstrip(".").lower(), saved.port):
            return Use(_(USE), _("Used by %(use)s: it is pinned to their server, %(place)s.", use=_(USE), place=place))
        return Use("", _("Nothing: the saved mail settings name another server, %(place)s.", place=place))
    chain = _seen(session, saved)
    if chain is None:
        return Use("", _("Not known: no check has seen yet what %(place)s presents.", place=place))
    seen_at = moment(chain.seen_at)
    if seen.vouches(certificate.sha256, store.certificate_of(session, certificate), chain.certificates):
        return Use(
            _(USE),
            _(
                "Used by %(use)s: it vouches for what %(place)s presented on %(moment)s.",
                use=_(USE),
                place=place,
                moment=seen_at,
            ),
        )
    return Use(
        "",
        _("Nothing that is known: %(place)s presented other certificates on %(moment)s.", place=place, moment=seen_at),
    )


def standings(session: Session) -> list[Standing]:
    """Every trusted certificate with what relies on it, the first to end in front."""
    now = session.now()
    return [
        Standing(each, use_of(session, each), term(each.description.not_after, now)) for each in store.trusted(session)
    ]


def endings(session: Session) -> list[Ending]:
    """The trusted certificates, and the saved server's own, that end within 30 days or have ended; the first first."""
    now = session.now()
    found = [
        Ending(
            lazy("The trusted certificate %(label)s", label=each.description.label),
            term(each.description.not_after, now),
            each.sha256,
            bool(use_of(session, each).by),
            each.sha256,
        )
        for each in store.expiring(session, WARNING_DAYS[0])
    ]
    own = own_certificate(session)
    if own is not None and own.term.warning is not None:
        about = lazy("The certificate of your mail server %(server_name)s", server_name=own.server_name)
        found.append(Ending(about, own.term, None, in_use=True, certificate=own.description.sha256))
    return sorted(found, key=lambda each: each.term.not_after)


def _seen(session: Session, saved: MailSettings | None) -> SeenChain | None:
    return seen.last_seen(session, saved.server_name, saved.port) if saved else None
