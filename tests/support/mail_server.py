"""A real mail server for tests: real sockets, real TLS, users whose passwords can change while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
import logging
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any

import pytest
import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

logging.getLogger("mail.log").setLevel(logging.CRITICAL)

NEVER, STARTTLS, SSL = "never", "starttls", "ssl"
HOST_NAMES = ("localhost", "127.0.0.1", "mail.example.test")


@dataclass(frozen=True)
class Accepted:
    """One message the server took: its envelope, who had signed in, and the bytes as they came."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    username: str | None
    encrypted: bool

    @property
    def message(self) -> EmailMessage:
        parsed = email.message_from_bytes(self.content, policy=email.policy.default)
        assert isinstance(parsed, EmailMessage)
        return parsed


@dataclass
class MailServer:
    """A server in a thread of its own. ``with MailServer("starttls", users={"user": "password"}) as server: …``

    security: "never", "starttls" or "ssl" (also "tls" for "starttls"). users: who may sign in; change it at any
    time. With users, mail without a login is refused. authority issues the certificate unless one is given.
    ``refuse[address] = "550 5.1.1 unknown"`` answers RCPT to that address so.
    """

    security: str = STARTTLS
    users: dict[str, str] = field(default_factory=dict)
    certificate: trustme.LeafCert | None = None
    authority: trustme.CA | None = None
    login_required: bool | None = None
    size_limit: int = 10_000_000
    refuse: dict[str, str] = field(default_factory=dict)
    host: str = "127.0.0.1"
    name: str = "localhost"
    port: int = 0
    accepted: list[Accepted] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    passwords: list[str] = field(default_factory=list)
    failed_logins: list[str] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self.security = STARTTLS if self.security == "tls" else self.security
        self._arrived = threading.Condition()
        self._taken = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._open: set[SMTP] = set()
        if self.security != NEVER and self.certificate is None:
            self.authority = self.authority or trustme.CA()
            self.certificate = self.authority.issue_cert(*HOST_NAMES)

    def __enter__(self) -> MailServer:
        self.start()
        return self

    def __exit__(self, *ignored: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; a server that was stopped comes back on the same port."""
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="mail server", daemon=True)
        self._thread.start()
        assert ready.wait(10), "the mail server did not start"

    def stop(self) -> None:
        """Close the port and every open connection."""
        if self._loop is None or self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop = None

    def wait_for_message(self, timeout: float = 10) -> Accepted:
        """The next message nobody has waited for yet. Raises AssertionError after ``timeout`` seconds."""
        with self._arrived:
            arrived = self._arrived.wait_for(lambda: len(self.accepted) > self._taken, timeout)
            assert arrived, f"no message arrived within {timeout} s"
            self._taken += 1
            return self.accepted[self._taken - 1]

    def wait_for_messages(self, count: int, timeout: float = 30) -> list[Accepted]:
        """All messages, as soon as there are ``count`` of them."""
        with self._arrived:
            arrived = self._arrived.wait_for(lambda: len(self.accepted) >= count, timeout)
            assert arrived, f"{len(self.accepted)} of {count} messages arrived within {timeout} s"
            return list(self.accepted)

    def wait_for_login(self, count: int = 1, timeout: float = 10) -> list[str]:
        """The names of all accepted logins, in order, as soon as there are ``count`` of them."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.logins) >= count, timeout), "nobody signed in"
            return list(self.logins)

    def authority_pem(self) -> bytes:
        """The certificate to import so that this server is trusted."""
        assert self.authority is not None, "this server has no certificate authority"
        return self.authority.cert_pem.bytes()

    def _run(self, ready: threading.Event) -> None:
        loop = self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        context = self._context()
        immediate = context if self.security == SSL else None
        listening = loop.run_until_complete(
            loop.create_server(lambda: self._protocol(loop, context), self.host, self.port, ssl=immediate)
        )
        self.port = listening.sockets[0].getsockname()[1]
        ready.set()
        try:
            loop.run_forever()
        finally:
            listening.close()
            self._hang_up(loop)
            loop.close()

    def _hang_up(self, loop: asyncio.AbstractEventLoop) -> None:
        for protocol in list(self._open):
            if isinstance(protocol.transport, asyncio.Transport):
                protocol.transport.abort()
        pending = asyncio.all_tasks(loop)
        for task in pending:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())

    def _context(self) -> ssl.SSLContext | None:
        if self.certificate is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.certificate.configure_cert(context)
        return context

    def _protocol(self, loop: asyncio.AbstractEventLoop, context: ssl.SSLContext | None) -> SMTP:
        self.connections += 1
        protocol = _Protocol(
            _Handler(self),
            hostname="mail.example.test",
            ident="ESMTP Keypost test server",
            data_size_limit=self.size_limit,
            enable_SMTPUTF8=True,
            loop=loop,
            tls_context=context if self.security == STARTTLS else None,
            require_starttls=self.security == STARTTLS,
            auth_require_tls=self.security == STARTTLS,
            authenticator=self._authenticate if self.users else None,
            auth_exclude_mechanism=() if self.users else ("PLAIN", "LOGIN"),
        )
        protocol.server = self
        return protocol

    def _authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        username, password = data.login.decode(), data.password.decode()
        matches = self.users.get(username) == password
        with self._arrived:
            (self.logins if matches else self.failed_logins).append(username)
            if matches:
                self.passwords.append(password)
            self._arrived.notify_all()
        return AuthResult(success=matches, handled=False, auth_data=username)

    def _keep(self, message: Accepted) -> int:
        with self._arrived:
            self.accepted.append(message)
            self._arrived.notify_all()
            return len(self.accepted)


class _Protocol(SMTP):
    server: MailServer

    def connection_made(self, transport: Any) -> None:
        self.server._open.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.server._open.discard(self)
        with contextlib.suppress(RuntimeError):
            super().connection_lost(error)


class _Handler:
    def __init__(self, server: MailServer) -> None:
        self.server = server

    async def handle_EHLO(
        self, smtp: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [*responses[:-1], "250-PIPELINING", "250-ENHANCEDSTATUSCODES", responses[-1]]

    async def handle_MAIL(
        self, smtp: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        required = bool(self.server.users) if self.server.login_required is None else self.server.login_required
        if required and not session.authenticated:
            return "530 5.7.1 Authentication required"
        if address in self.server.refuse:
            return self.server.refuse[address]
        envelope.mail_from = address
        return "250 2.1.0 Sender OK"

    async def handle_RCPT(
        self, smtp: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.server.refuse:
            return self.server.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Recipient OK"

    async def handle_DATA(self, smtp: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.original_content or b""
        username = session.auth_data if session.authenticated else None
        number = self.server._keep(
            Accepted(
                envelope.mail_from or "",
                tuple(envelope.rcpt_tos),
                content,
                username if isinstance(username, str) else None,
                self.server.security != NEVER,
            )
        )
        return f"250 2.0.0 Ok: queued as TEST{number:06d}"


@pytest.fixture(scope="session")
def mail_authority() -> trustme.CA:
    """A certificate authority made for this run; no system trusts it."""
    return trustme.CA(organization_name="Keypost test run")


@pytest.fixture
def mail_server_starttls(mail_authority: trustme.CA) -> Iterator[MailServer]:
    """A server for "TLS": STARTTLS first, then user@example.test with the password correct-horse."""
    with MailServer(STARTTLS, {"user@example.test": "correct-horse"}, authority=mail_authority) as server:
        yield server


@pytest.fixture
def mail_server_ssl(mail_authority: trustme.CA) -> Iterator[MailServer]:
    """A server for "SSL": TLS from the first byte, user@example.test with the password correct-horse."""
    with MailServer(SSL, {"user@example.test": "correct-horse"}, authority=mail_authority) as server:
        yield server
