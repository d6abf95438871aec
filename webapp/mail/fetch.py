"""One HTTP request on a socket of ``dial``: bounded in time and size, and no redirect is ever followed."""

from __future__ import annotations

import io
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any, Final, cast
from urllib.parse import urlsplit

from webapp.mail import dial
from webapp.mail.address import valid_server_name
from webapp.mail.dial import Resolver
from webapp.mail.wire import Deadline

ANSWER_LIMIT: Final = 64 * 1024

SslContext = Callable[[str, int], ssl.SSLContext]
"""Makes the TLS context of a connection to a host and port."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. location: where a redirect would have led, or "" when it is none."""

    status: int
    location: str
    body: bytes


class Forbidden(Exception):
    """The name leads to an address that Keypost does not connect to."""


def send(
    url: str,
    headers: dict[str, str],
    body: bytes | None = None,
    *,
    ssl_context: SslContext,
    deadline: Deadline,
    resolver: Resolver,
    plain_to_anywhere: bool = False,
) -> Answer:
    """GET, or POST a body, on one connection, and read the whole answer.

    url: checked by the caller; plain_to_anywhere: whether http:// may leave this machine. Raises Forbidden, OSError
    (TimeoutError, socket.gaierror, ssl.SSLError, dial.Unreachable), UnicodeError, or HTTPException for what is no HTTP.
    """
    parts = urlsplit(url)
    encrypted = parts.scheme == "https"
    host, port = valid_server_name(parts.hostname or ""), parts.port or (443 if encrypted else 80)
    addresses = dial.resolve(host, port, resolver, deadline)
    plain = encrypted or plain_to_anywhere
    if not addresses or any(
        dial.is_forbidden(each.ip) or not (plain or dial.is_loopback(each.ip)) for each in addresses
    ):
        raise Forbidden(host)
    sock, _ = dial.dial(addresses, deadline)
    method = "GET" if body is None else "POST"
    request = _request(method, url, headers, body or b"")
    with sock:
        sock.settimeout(deadline.remaining())
        if not encrypted:
            return _exchange(sock, method, request, deadline)
        context = ssl_context(host, port)
        if context.verify_mode is not ssl.CERT_REQUIRED:
            raise ValueError("a context for requests must verify certificates")
        context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
        with context.wrap_socket(sock, server_hostname=host) as secured:
            return _exchange(secured, method, request, deadline)


def _request(method: str, url: str, headers: dict[str, str], body: bytes) -> bytes:
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join([*lines, "Connection: close", "", ""])
    return head.encode("ascii") + body


def _exchange(sock: socket.socket, method: str, request: bytes, deadline: Deadline) -> Answer:
    sock.settimeout(deadline.remaining())
    sock.sendall(request)
    with HTTPResponse(cast(socket.socket, _Bounded(sock, deadline)), method=method) as response:
        response.begin()
        location = response.getheader("Location") or "" if 300 <= response.status < 400 else ""
        return Answer(response.status, location, response.read())


class _Bounded(io.RawIOBase):
    """What HTTPResponse reads from: never longer than the deadline, never more than the limit."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline
        self._left = ANSWER_LIMIT

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._left <= 0:
            raise HTTPException("the answer has no end")
        self._sock.settimeout(self._deadline.remaining())
        read = self._sock.recv_into(buffer, min(len(buffer), self._left))
        self._left -= read
        return read
