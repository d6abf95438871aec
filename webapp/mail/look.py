"""A second look at a server after something failed: what does it speak, and which certificate does it present?

Nothing here can carry a login or a message: these functions take an address and send a hello at most. That is why a
connection without verification is allowed here and nowhere else.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from webapp.mail.dial import Address, dial
from webapp.mail.transport import Security, Server, presented_chain, read_features
from webapp.mail.wire import Closed, Deadline, Malformed, Service, Wire, service_of

_CERTIFICATE_REQUEST: Final = 13
_ALERT, _HANDSHAKE = 0x15, 0x16


@dataclass(frozen=True, slots=True)
class TlsLook:
    """What a handshake without verification showed. chain: DER; asks_for_certificate: the server wants one from us."""

    chain: tuple[bytes, ...] = ()
    asks_for_certificate: bool = False


@dataclass(frozen=True, slots=True)
class PlainLook:
    """What a server says without TLS. smtp: it greets as a mail server; otherwise ``service`` says what it is."""

    smtp: bool
    starttls: bool = False
    service: Service = "unknown"


def at_tls(server: Server, addresses: Sequence[Address], deadline: Deadline) -> TlsLook:
    """Read the presented chain the way ``server.security`` reaches TLS. Never raises for what the server does."""
    asked: list[bool] = []
    with contextlib.suppress(OSError, Malformed, Closed), _connected(addresses, deadline) as wire:
        if server.security is Security.TLS:
            _begin_starttls(wire, deadline)
        return _handshake(wire.socket, server.name, deadline, asked)
    return TlsLook(asks_for_certificate=bool(asked))


def for_tls(server: Server, addresses: Sequence[Address], deadline: Deadline) -> Service | bool | None:
    """Does a silent port speak TLS? True, or the service that its answer to a TLS hello betrays, or None."""
    with contextlib.suppress(OSError):
        with _connected(addresses, deadline) as wire:
            wire.send(_client_hello(server.name), deadline)
            wire.socket.settimeout(deadline.remaining())
            answer = wire.socket.recv(64)
        if len(answer) > 1 and answer[0] in (_ALERT, _HANDSHAKE) and answer[1] == 3:
            return True
        return service_of(answer) if answer else None
    return None


def plainly(server: Server, addresses: Sequence[Address], deadline: Deadline) -> PlainLook | None:
    """What does a port say that does not speak TLS? None when it says nothing in time."""
    try:
        with _connected(addresses, deadline) as wire:
            if wire.read_reply(deadline).code != 220:
                return PlainLook(smtp=True)
            wire.send(f"EHLO {server.hello_name or '[127.0.0.1]'}\r\n".encode(), deadline)
            return PlainLook(smtp=True, starttls="STARTTLS" in read_features(wire.read_reply(deadline)))
    except Malformed as error:
        return PlainLook(smtp=False, service=error.service)
    except (OSError, Closed):
        return None


@contextlib.contextmanager
def _connected(addresses: Sequence[Address], deadline: Deadline) -> Iterator[Wire]:
    sock, _ = dial(addresses, deadline)
    try:
        yield Wire(sock)
    finally:
        sock.close()


def _begin_starttls(wire: Wire, deadline: Deadline) -> None:
    wire.read_reply(deadline)
    wire.send(b"EHLO [127.0.0.1]\r\n", deadline)
    wire.read_reply(deadline)
    wire.send(b"STARTTLS\r\n", deadline)
    wire.read_reply(deadline)


def _handshake(sock: socket.socket, name: str, deadline: Deadline, asked: list[bool]) -> TlsLook:
    def watch(_: Any, direction: str, __: Any, ___: Any, message: Any, ____: bytes) -> None:
        if direction == "read" and message == _CERTIFICATE_REQUEST:
            asked.append(True)

    context = _looking_context()
    # The ssl module offers no public sign of a CertificateRequest; without this the code would only be guessed.
    context._msg_callback = watch  # type: ignore[attr-defined]
    sock.settimeout(deadline.remaining())
    with context.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False) as secured:
        secured.settimeout(deadline.remaining())
        secured.do_handshake()
        return TlsLook(presented_chain(secured), bool(asked))


def _looking_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _client_hello(name: str) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = _looking_context().wrap_bio(incoming, outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()
