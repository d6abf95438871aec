"""The one road to a mail server: the test, the login check and real delivery all go through ``Connection``.

smtplib is not used underneath. Its time-outs bound each read and not the whole, its login() tries one mechanism after
the other, its starttls() keeps bytes that were injected before the handshake, and its debug output prints passwords;
so the conversation (RFC 5321, 3207, 4954, 6531) is held here, one step per method, each within its deadline.
"""

from __future__ import annotations

import base64
import contextlib
import enum
import re
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from webapp.keyring import Secret
from webapp.mail import dial, sasl
from webapp.mail.address import needs_smtputf8
from webapp.mail.dial import Address, Resolver, system_resolver
from webapp.mail.transcript import Masker, Transcript
from webapp.mail.wire import Closed, Deadline, Malformed, Reply, Wire

StageName = Literal[
    "resolve", "connect", "greeting", "hello", "tls", "authentication", "sender", "recipient", "message"
]
STAGES: Final[tuple[StageName, ...]] = (
    "resolve",
    "connect",
    "greeting",
    "hello",
    "tls",
    "authentication",
    "sender",
    "recipient",
    "message",
)
CONNECT_SECONDS: Final = 10.0
STEP_SECONDS: Final = 30.0
_QUIT_SECONDS: Final = 1.0
_COMMAND_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_QUEUE_ID: Final = re.compile(
    rb"queued as ([A-Za-z0-9._-]{4,64})|\bid=([A-Za-z0-9-]{6,64})|<([^<>\s]{4,120})> *Queued|"
    rb"^(?:[245]\.[0-9.]+ )?(?:ok:? )?([A-Za-z0-9-]{6,64}) message accepted",
    re.IGNORECASE,
)


class Security(enum.StrEnum):
    """How a connection is protected: not at all, TLS from the first byte, or STARTTLS (required, never downgraded)."""

    NEVER = "never"
    SSL = "ssl"
    TLS = "tls"


DEFAULT_PORTS: Final = {Security.NEVER: 25, Security.SSL: 465, Security.TLS: 587}


@dataclass(frozen=True, slots=True)
class Server:
    """Where to connect. name: host name (A-labels) or IP address; hello_name: our own name in EHLO."""

    name: str
    port: int
    security: Security
    hello_name: str | None = None


@dataclass(frozen=True, slots=True)
class Login:
    """Who signs in, and with what."""

    username: str
    password: Secret


class Trust(Protocol):
    """Decides which certificates are good for mail."""

    def ssl_context(self, host: str, port: int) -> ssl.SSLContext:
        """A context that verifies; it may leave the name alone only where a certificate is pinned to host and port."""
        ...


Sign = Literal[
    "reply",  # the server answered, but not what was hoped for
    "error",  # an OSError, ssl.SSLError or socket.gaierror, in Fault.error
    "timeout",
    "closed",
    "malformed",  # Fault.error is a wire.Malformed
    "name-invalid",
    "address-forbidden",
    "starttls-not-offered",
    "injected",
    "login-unencrypted",
    "login-unsendable",
    "authentication-not-offered",
    "mechanism-unsupported",
    "challenge",
    "too-big",
    "smtputf8-not-offered",
    "implicit-tls",  # found by a second look
    "token-refused",
    "token-unreachable",
]


class Fault(Exception):
    """A step failed. Data for diagnosis.diagnose(); the text of this exception is for developers and holds no secret.

    reply: the server's answer, if that was the fault. error: the exception underneath. detail: words for the diagnosis.
    fresh_tls: the connection broke at the first use after a TLS handshake (RFC 8446: a certificate may be missing).
    """

    def __init__(
        self,
        stage: StageName,
        sign: Sign,
        *,
        reply: Reply | None = None,
        error: BaseException | None = None,
        detail: str = "",
        fresh_tls: bool = False,
    ) -> None:
        super().__init__(f"{stage}: {sign}" + (f" {reply.code}" if reply else ""))
        self.stage: StageName = stage
        self.sign: Sign = sign
        self.reply = reply
        self.error = error
        self.detail = detail
        self.fresh_tls = fresh_tls


@dataclass(frozen=True, slots=True)
class Features:
    """What a server offers in answer to EHLO: keyword (upper case) to its parameters."""

    keywords: dict[str, str] = field(default_factory=dict)

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.keywords

    @property
    def size(self) -> int | None:
        """The largest message it takes, in bytes (RFC 1870); None when it does not say."""
        digits = self.keywords.get("SIZE", "")
        return int(digits) or None if re.fullmatch(r"[0-9]{1,15}", digits, re.ASCII) else None

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """The ways to sign in (RFC 4954), in the server's order."""
        return tuple(self.keywords.get("AUTH", "").upper().split())

    @property
    def pipelining(self) -> bool:
        """Whether several commands may be sent at once (RFC 2920)."""
        return "PIPELINING" in self

    @property
    def smtputf8(self) -> bool:
        """Whether addresses may be written in UTF-8 (RFC 6531)."""
        return "SMTPUTF8" in self


def read_features(reply: Reply) -> Features:
    """Read the answer to EHLO (RFC 5321, 4.1.1.1); ``AUTH=`` is how old servers wrote it."""
    keywords: dict[str, str] = {}
    for line in reply.lines[1:]:
        word, _, rest = line.decode("ascii", "replace").strip().replace("AUTH=", "AUTH ", 1).partition(" ")
        known = keywords.get(word.upper(), "")
        keywords[word.upper()] = f"{known} {rest}".strip()
    return Features(keywords)


def mail_command(sender: str, features: Features, *, size: int | None = None, smtputf8: bool = False) -> str:
    """The MAIL command, with SIZE and SMTPUTF8 where they are offered and needed."""
    words = [f"MAIL FROM:<{sender}>"]
    if size is not None and "SIZE" in features:
        words.append(f"SIZE={size}")
    if smtputf8:
        words.append("SMTPUTF8")
    return " ".join(words)


def rcpt_command(recipient: str) -> str:
    """The RCPT command."""
    return f"RCPT TO:<{recipient}>"


def on_the_wire(message: bytes) -> bytes:
    """A message as DATA carries it (RFC 5321, 4.5.2): every line ends in CRLF, dots doubled, the final dot added."""
    lines = re.sub(rb"\r\n|\r|\n", b"\r\n", message)
    stuffed = re.sub(rb"(?m)^\.", b"..", lines)
    return stuffed + (b"" if stuffed.endswith(b"\r\n") or not stuffed else b"\r\n") + b".\r\n"


def queue_id(reply: Reply) -> str | None:
    """The name under which a server says it queued a message, as far as its words are of a known kind."""
    found = _QUEUE_ID.search(b" ".join(reply.lines))
    return next((group.decode() for group in found.groups() if group), None) if found else None
