"""A TLS context for a server one of whose certificates is pinned: that very certificate needs no matching name.

OpenSSL can check a name always or never, and knows no trust anchor that may stand for itself alone. So here it verifies
chain, dates and signatures, and the names and the pin are checked directly after the handshake, before the first byte
of application data can be sent.
"""

from __future__ import annotations

import hashlib
import ipaddress
import socket
import ssl
from collections.abc import Iterable
from typing import Any, NoReturn, cast

_NAME_MISMATCH = 62  # X509_V_ERR_HOSTNAME_MISMATCH
_NOT_AN_AUTHORITY = 79  # X509_V_ERR_INVALID_CA


class PinnedSocket(ssl.SSLSocket):
    """A socket whose handshake ends with the check of pins and names."""

    def do_handshake(self, block: bool = False) -> None:
        """Shake hands. Raises ssl.SSLCertVerificationError when the certificate is neither pinned nor fitting."""
        super().do_handshake(block)
        cast(PinnedContext, self.context).check_peer(self)


class PinnedContext(ssl.SSLContext):
    """Accepts a pinned certificate from one host, and any other only as a plain context would."""

    sslsocket_class = PinnedSocket

    host: str
    pins: frozenset[str]
    only_pinned: frozenset[str]

    @classmethod
    def to(cls, host: str, pins: frozenset[str], *, only_pinned: frozenset[str]) -> PinnedContext:
        """Pins are fingerprints, SHA-256 in hexadecimal; ``only_pinned`` those that are not trusted otherwise."""
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.host, context.pins, context.only_pinned = host, pins, only_pinned
        return context

    def wrap_socket(  # noqa: PLR0917 - the signature is ssl's
        self,
        sock: socket.socket,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        suppress_ragged_eofs: bool = True,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> PinnedSocket:
        """As in ssl, but the handshake always comes first: an implicit one, at the first write, would check nothing."""
        if server_side or not do_handshake_on_connect or not server_hostname:
            raise ValueError("a pinned context is for clients that shake hands at once and name the server")
        wrapped = super().wrap_socket(
            sock,
            suppress_ragged_eofs=suppress_ragged_eofs,
            server_hostname=server_hostname,
            session=session,
        )
        return cast(PinnedSocket, wrapped)

    def wrap_bio(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: what it returns would shake hands without the check."""
        raise ValueError("a pinned context wraps sockets only")

    def check_peer(self, sock: ssl.SSLSocket) -> None:
        """Raise ssl.SSLCertVerificationError unless the peer shows the pinned certificate or would pass without it."""
        chain = _verified_chain(sock)
        name = str(sock.server_hostname)
        if _sha256(chain[0]) in self.pins and _same_host(name, self.host):
            return
        if any(_sha256(der) in self.only_pinned for der in chain):
            raise _refusal(_NOT_AN_AUTHORITY, "a pinned certificate vouches for itself alone, at its own host")
        if not matches(name, _names(sock)):
            raise _refusal(_NAME_MISMATCH, f"Hostname mismatch, certificate is not valid for '{name}'.")


def matches(host: str, certified: Iterable[str]) -> bool:
    """Whether one of the certified names covers the host: equal, or by ``*`` for its whole first label (RFC 9525)."""
    address = _address(host)
    if address is not None:
        return any(_address(each) == address for each in certified)
    return any(_covers(each.lower(), _a_labels(host)) for each in certified)


def _covers(pattern: str, host: str) -> bool:
    first, _, parent = host.partition(".")
    return pattern == host or (bool(first) and "." in parent and pattern == f"*.{parent}")


def _same_host(one: str, other: str) -> bool:
    return _a_labels(one) == _a_labels(other)


def _a_labels(host: str) -> str:
    host = host.rstrip(".").lower()
    return host if host.isascii() else host.encode("idna").decode("ascii")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None


def _names(sock: ssl.SSLSocket) -> list[str]:
    """The DNS names and addresses OpenSSL read from the peer's certificate."""
    alternative = cast("tuple[tuple[str, str], ...]", (sock.getpeercert() or {}).get("subjectAltName", ()))
    return [value.strip() for kind, value in alternative if kind in ("DNS", "IP Address")]


def _verified_chain(sock: ssl.SSLSocket) -> list[bytes]:
    """The chain OpenSSL built, DER, the server's own certificate first. Public since Python 3.13 only."""
    public = getattr(sock, "get_verified_chain", None)
    if public is not None:
        return list(public())
    return [each.public_bytes(2) for each in sock._sslobj.get_verified_chain()]  # type: ignore[attr-defined]


def _sha256(der: bytes) -> str:
    return hashlib.sha256(der).hexdigest()


def _refusal(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(
        ssl.SSL_ERROR_SSL, f"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {message}"
    )
    error.verify_code, error.verify_message, error.reason = code, message, "CERTIFICATE_VERIFY_FAILED"
    error.library = "SSL"
    return error
