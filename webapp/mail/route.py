"""The road of real mail to the server: which settings, login and trust it takes, and opening a connection along it.

A route is a snapshot, read anew for each connection: whoever changes the password, the settings or the trusted
certificates changes the next connection, and never a part of one.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from webapp.db import Database, Session
from webapp.errors import Conflict, NotFound
from webapp.i18n import gettext as _
from webapp.mail import checks, settings
from webapp.mail.address import valid_address
from webapp.mail.checks import Fingerprint, MailCheck
from webapp.mail.diagnosis import Context, Diagnosis, context_of, diagnose
from webapp.mail.dial import Resolver, system_resolver
from webapp.mail.letters import Letters
from webapp.mail.presented import Presented, describe
from webapp.mail.probe import Result, second_look
from webapp.mail.settings import MailSettings, PortClosed, Target
from webapp.mail.transport import Connection, Fault, Trust
from webapp.mail.wire import Deadline
from webapp.outbox import pause
from webapp.outbox.pause import Reason
from webapp.trust import store
from webapp.vault.accounts import Account

OPEN_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 4.0
_LOGIN_CODES: Final = frozenset(
    {
        "credentials-refused",
        "application-password-required",
        "basic-authentication-disabled",
        "oauth-token-refused",
    }
)
"""Codes after which trying again might lock the mailbox."""
LATE_STAGES: Final = ("sender", "recipient", "message")
"""A pause that began here ends when a message has gone through, and not when a connection has been opened."""


@dataclass(frozen=True, slots=True)
class Route:
    """One way to a server. about: the keyed fingerprint of all that decides whether it can be gone; server: for
    people, as ``host:port``; domain: for the Message-IDs of what goes this way."""

    target: Target
    letters: Letters
    fingerprint: Fingerprint
    about: str

    @property
    def server(self) -> str:
        return f"{self.target.server.name}:{self.target.server.port}"

    @property
    def domain(self) -> str:
        return valid_address(self.target.sender_address, ascii_domain=True).rpartition("@")[2]


class NoWay(Exception):
    """A route cannot be gone. reason: for the pause; the rest is of what was tried, None where nothing could be."""

    def __init__(
        self,
        reason: Reason,
        route: Route | None = None,
        diagnosis: Diagnosis | None = None,
        certificate: Presented | None = None,
    ) -> None:
        super().__init__(reason.code)
        self.reason = reason
        self.route = route
        self.diagnosis = diagnosis
        self.certificate = certificate


def read_route(session: Session) -> Route | None:
    """The saved settings as they are now, or None while mail is not set up.

    Raises NoWay when the login is gone, or mail may not use the port any more.
    """
    try:
        return route_to(session, settings.saved_target(session))
    except NotFound:
        return None
    except PortClosed as error:
        remedy = _("Choose another port in the Mail Server Settings, or have this one added to KEYPOST_MAIL_PORTS.")
        server = _saved_server(session)
        raise NoWay(Reason(stamp(session), server, "port-closed", "connect", error.sentence, remedy)) from None
    except Conflict as error:
        server = _saved_server(session)
        remedy = _("Open the Mail Server Settings, and choose or type it again.")
        raise NoWay(
            Reason(stamp(session), server, "login-missing", "authentication", error.sentence, remedy, login=True)
        ) from None


def _saved_server(session: Session) -> str:
    saved = settings.current(session)
    return f"{saved.server_name}:{saved.port}" if saved else ""


def route_to(session: Session, target: Target) -> Route:
    """The route to any target."""
    fingerprint = checks.fingerprint_of(session, target)
    return Route(target, Letters.read(session, target), fingerprint, about(session, target, fingerprint))


def about_now(session: Session) -> str:
    """The fingerprint of the saved settings, empty while mail is not set up. Raises NoWay."""
    way = read_route(session)
    return way.about if way is not None else ""


def about(session: Session, target: Target, fingerprint: Fingerprint) -> str:
    """The fingerprint of a route: what a check is about, and what is trusted there."""
    trusted = sorted(store.fingerprints(session, target.server.name, target.server.port))
    return session.keyring.digest("delivery route", fingerprint.exact, *trusted)


_newest: Final = sa.select(sa.func.count(), sa.func.max(store.TrustedCertificate.imported_at)).subquery()
_STAMP: Final = (
    sa.select(MailSettings.version, Account.id, Account.password_version, Account.version, *_newest.c)
    .select_from(_newest)
    .join(MailSettings, sa.true(), isouter=True)
    .join(Account, Account.id == MailSettings.account_id, isouter=True)
)


def stamp(session: Session) -> str:
    """What changes whenever a new connection may go another way than the last; one cheap statement, no secret."""
    row = session.connection().execute(_STAMP).one()
    return hashlib.sha256(repr(tuple(row)).encode()).hexdigest()


def open_route(
    database: Database, trust: Trust, *, resolver: Resolver = system_resolver, session_seconds: float = OPEN_SECONDS
) -> tuple[Connection, Route] | None:
    """Connect, encrypt and sign in along the saved settings; None while mail is not set up. Raises NoWay.

    When the server refuses the login, the secret is read again and, if it changed meanwhile, tried once more.
    """
    with database.reading() as session:
        route = read_route(session)
    if route is None:
        return None
    try:
        return go(route, trust, resolver=resolver, session_seconds=session_seconds), route
    except NoWay as way:
        if way.reason.code != "credentials-refused":
            raise
        with database.reading() as session:
            again = read_route(session)
        if again is None or again.target.login == route.target.login:
            raise
    return go(again, trust, resolver=resolver, session_seconds=session_seconds), again


def go(
    route: Route, trust: Trust, *, resolver: Resolver = system_resolver, session_seconds: float = OPEN_SECONDS
) -> Connection:
    """Open a connection along a route, up to where messages can be sent. Raises NoWay, and nothing else."""
    connection = Connection(
        route.target.server,
        trust,
        unencrypted_login_allowed=route.target.unencrypted_login_allowed,
        deadline=Deadline(session_seconds),
        resolver=resolver,
    )
    try:
        connection.open(route.target.login)
    except Fault as fault:
        diagnosis, certificate = explain(connection, route, fault)
        connection.close()
        raise NoWay(reason_of(route, diagnosis), route, diagnosis, certificate) from None
    return connection


def explain(connection: Connection, route: Route, fault: Fault) -> tuple[Diagnosis, Presented | None]:
    """What a fault on this connection means, after a second look where that tells more."""
    context = _context(connection, route)
    with contextlib.suppress(TimeoutError):
        context = second_look(fault, context, connection, Deadline(_LOOK_SECONDS))
    chain = connection.presented_chain()
    certificate = context.certificate or (describe(chain, trusted=True) if chain else None)
    return diagnose(fault.stage, fault, context), certificate


def explain_briefly(connection: Connection, route: Route, fault: Fault, *, recipient: str = "") -> Diagnosis:
    """What a fault on this connection means, at once and without asking the server anything."""
    return diagnose(fault.stage, fault, _context(connection, route, recipient))


def _context(connection: Connection, route: Route, recipient: str = "") -> Context:
    target = route.target
    return context_of(connection, sender=target.sender_address, recipient=recipient, login=target.login)


def reason_of(route: Route, diagnosis: Diagnosis) -> Reason:
    """A diagnosis as the reason of a pause."""
    return Reason(
        about=route.about,
        server=route.server,
        code=diagnosis.code,
        stage=diagnosis.stage,
        cause=diagnosis.cause,
        remedy=diagnosis.remedy,
        reply=diagnosis.reply or "",
        login=diagnosis.code in _LOGIN_CODES,
    )


def conclude(database: Database, check_id: int, result: Result) -> None:
    """Draw from a recorded check of the saved settings what it means for the queue: pause it, or let it go on.

    Nothing, once other settings were saved meanwhile or the password was changed: what failed is not theirs.
    """
    with database.transaction() as session:
        try:
            way = read_route(session)
        except NoWay as no_way:
            pause.begin(session, no_way.reason)
            return
        check = session.get(MailCheck, check_id)
        if way is None or check is None or check.fingerprint != way.fingerprint.exact:
            return
        waits = pause.current(session)
        if result.diagnosis is None:
            if waits is not None and waits.stage not in LATE_STAGES:
                pause.end(session)
        elif result.diagnosis.permanence == "server":
            pause.begin(session, reason_of(way, result.diagnosis))
