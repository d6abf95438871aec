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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from webapp import faults
from webapp.keyring import Secret
from webapp.mail import dial, oauth, sasl
from webapp.mail.address import valid_address
from webapp.mail.dial import Address, Resolver, system_resolver
from webapp.mail.transcript import Masker, Transcript
from webapp.mail.wire import Closed, Deadline, Malformed, Reply, ReplyReader, Wire

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
_UNSENDABLE: Final = re.compile("[\x00\ud800-\udfff]")
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
    """Who signs in, and with what. oauth: fetch a token and sign in with that; the password is the client's secret."""

    username: str
    password: Secret
    oauth: oauth.ClientCredentials | None = None


class Trust(Protocol):
    """Decides which certificates are good for mail."""

    def ssl_context(self, host: str, port: int) -> ssl.SSLContext:
        """A context that verifies; it may leave the name alone only where a certificate is pinned to host and port."""
        ...

    def public_context(self, host: str, port: int) -> ssl.SSLContext:
        """A context for what is no mail: no imported certificate counts."""
        ...


Sign = Literal[
    "reply",  # the server answered, but not what was hoped for
    "error",  # an OSError, ssl.SSLError or socket.gaierror, in Fault.error
    "timeout",
    "closed",
    "malformed",  # Fault.error is a wire.Malformed
    "name-invalid",
    "port-invalid",
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
    words = [f"MAIL FROM:<{_path(sender)}>"]
    if size is not None and "SIZE" in features:
        words.append(f"SIZE={size}")
    if smtputf8:
        words.append("SMTPUTF8")
    return " ".join(words)


def rcpt_command(recipient: str) -> str:
    """The RCPT command."""
    return f"RCPT TO:<{_path(recipient)}>"


def _path(address: str) -> str:
    """An address for the envelope: its domain as A-labels; nothing that could end the command early."""
    path = valid_address(address, ascii_domain=True) if address else ""
    if re.search(r"[<>\s\x00-\x1f\x7f]", path):
        raise ValueError("not a mail address")
    return path


def stuffed(message: bytes) -> bytes:
    """A message whose lines all end in CRLF, the last too, as DATA carries it: dots doubled, the final dot added."""
    first = b"." if message.startswith(b".") else b""
    return first + message.replace(b"\r\n.", b"\r\n..") + b".\r\n"


def on_the_wire(message: bytes) -> bytes:
    """A message as DATA carries it (RFC 5321, 4.5.2): every line ends in CRLF, dots doubled, the final dot added."""
    lines = re.sub(rb"\r\n|\r|\n", b"\r\n", message)
    return stuffed(lines + (b"" if lines.endswith(b"\r\n") or not lines else b"\r\n"))


def queue_id(reply: Reply) -> str | None:
    """The name under which a server says it queued a message, as far as its words are of a known kind."""
    found = _QUEUE_ID.search(b" ".join(reply.lines))
    return next((group.decode() for group in found.groups() if group), None) if found else None


class Connection:
    """A conversation with one server, one step per method; each step raises Fault and nothing else.

    Use: resolve, connect, then greeting, hello, starttls as the mode demands (or ``open()`` for all of it),
    authenticate, mail_from, rcpt_to, data, rset for the next message, quit, close. For pipelining: ``features``,
    ``send()``, ``read_reply()`` and the command builders of this module; ``socket`` is the raw (TLS) socket.

    seconds are bounds, not waits. deadline, if given, bounds the whole conversation besides each step.
    unencrypted_login_allowed: without it nobody signs in over an unencrypted connection, but to this machine itself.
    """

    def __init__(
        self,
        server: Server,
        trust: Trust,
        *,
        unencrypted_login_allowed: bool = False,
        connect_seconds: float = CONNECT_SECONDS,
        step_seconds: float = STEP_SECONDS,
        deadline: Deadline | None = None,
        resolver: Resolver = system_resolver,
        masker: Masker | None = None,
        transcript: Transcript | None = None,
    ) -> None:
        self.server = server
        self.masker = masker or Masker()
        self.addresses: Sequence[Address] = ()
        self.address: Address | None = None
        self.features = Features()
        self.mechanism: str | None = None
        self._trust = trust
        self._unencrypted_login_allowed = unencrypted_login_allowed
        self._connect_seconds = connect_seconds
        self._step_seconds = step_seconds
        self._deadline = deadline
        self._resolver = resolver
        self._transcript = transcript
        self._wire: Wire | None = None
        self._fresh_tls = False

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *ignored: object) -> None:
        self.close()

    @property
    def socket(self) -> socket.socket:
        """The connected socket; an ssl.SSLSocket once TLS has begun."""
        return self._connected().socket

    @property
    def encrypted(self) -> bool:
        """Whether what is sent now is sent over TLS."""
        return self._wire is not None and isinstance(self._wire.socket, ssl.SSLSocket)

    @property
    def cipher(self) -> tuple[str, str] | None:
        """TLS version and cipher, once TLS has begun."""
        sock = self._wire.socket if self._wire else None
        if not isinstance(sock, ssl.SSLSocket):
            return None
        version, cipher = sock.version(), sock.cipher()
        return (version, cipher[0]) if version and cipher else None

    def open(self, login: Login | None = None) -> None:
        """Do everything up to where messages can be sent: connect, greet, encrypt, sign in."""
        self.resolve()
        self.connect()
        if self.server.security is Security.SSL:
            self.secure()
        self.greeting()
        self.hello()
        if self.server.security is Security.TLS:
            self.starttls()
        if login is not None:
            self.authenticate(login)

    def resolve(self) -> Sequence[Address]:
        """Find the addresses of the server, once; later steps use these and never ask again."""
        try:
            found = dial.resolve(
                self.server.name, self.server.port, self._resolver, self._within(self._connect_seconds)
            )
        except TimeoutError:
            raise Fault("resolve", "timeout") from None
        except socket.gaierror as error:
            raise Fault("resolve", "error", error=error) from None
        except (UnicodeError, OSError) as error:
            raise Fault("resolve", "name-invalid", error=error) from None
        forbidden = [address for address in found if dial.is_forbidden(address.ip)]
        if forbidden or not found:
            raise Fault("resolve", "address-forbidden", detail=", ".join(address.ip for address in forbidden))
        self.addresses = found
        return found

    def connect(self) -> Address:
        """Connect to one of the resolved addresses."""
        faults.reach("connect")
        try:
            sock, self.address = dial.dial(self.addresses, self._within(self._connect_seconds))
        except OSError as error:
            raise Fault("connect", "timeout" if isinstance(error, TimeoutError) else "error", error=error) from None
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._wire = Wire(sock)
        self._note(f"connected to {self.address.ip} port {self.server.port}")
        return self.address

    def secure(self) -> None:
        """The TLS handshake, verified. For SSL mode; starttls() does it for TLS mode."""
        faults.reach("tls")
        wire = self._connected()
        context = self._trust.ssl_context(self.server.name, self.server.port)
        if context.verify_mode is not ssl.CERT_REQUIRED:
            raise ValueError("a context for mail must verify certificates")
        context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
        with self._faults("tls"):
            wire.socket.settimeout(self._within(self._connect_seconds).remaining())
            # The handshake comes with the wrapping: a context for pinned certificates insists on that order.
            secured = context.wrap_socket(wire.socket, server_hostname=self.server.name)
            self._wire = Wire(secured)
            if secured.version() is None:
                raise Closed
        self._fresh_tls = True
        version, cipher = self.cipher or ("", "")
        self._note(f"encrypted with {version}, {cipher}")

    def greeting(self, seconds: float | None = None) -> Reply:
        """Read the greeting; wait ``seconds`` for it. After a time-out this may be called again."""
        faults.reach("greeting")
        reply = self.read_reply("greeting", seconds)
        if reply.code != 220:
            raise Fault("greeting", "reply", reply=reply)
        return reply

    def hello(self) -> Features:
        """EHLO, or HELO for a server that knows no EHLO; what is offered replaces whatever was offered before."""
        faults.reach("hello")
        self.features = Features()
        name = self.server.hello_name or self._own_name()
        reply = self._command("hello", f"EHLO {name}")
        if reply.code in (500, 502):
            reply = self._command("hello", f"HELO {name}")
            self._expect("hello", reply, 250)
            return self.features
        self._expect("hello", reply, 250)
        self.features = read_features(reply)
        return self.features

    def starttls(self) -> Features:
        """STARTTLS, the handshake, and EHLO anew (RFC 3207). Never goes on without encryption."""
        if "STARTTLS" not in self.features:
            raise Fault("tls", "starttls-not-offered")
        self._expect("tls", self._command("tls", "STARTTLS"), 220)
        if self._connected().holds_unread():
            raise Fault("tls", "injected")
        self.features = Features()
        self.secure()
        return self.hello()

    def authenticate(self, login: Login) -> str:
        """Sign in with exactly one mechanism, and return its name (RFC 4954)."""
        faults.reach("authentication")
        self._may_sign_in(login)
        mechanism = sasl.choose(self.features.mechanisms, self.encrypted, token=login.oauth is not None)
        if mechanism is None:
            offered = ", ".join(self.features.mechanisms)
            raise Fault("authentication", "mechanism-unsupported", detail=offered)
        self.masker.hide(login.password)
        secret = self._token(login.oauth, login.password) if login.oauth else login.password
        try:
            reply = self._sign_in(mechanism, login.username, secret)
        except sasl.BadChallenge as error:
            with contextlib.suppress(Fault):
                self._answer(b"*", shown="*", keep=True)
            raise Fault("authentication", "challenge", error=error, detail=str(error)) from None
        self._expect("authentication", reply, 235)
        self.mechanism = mechanism
        return mechanism

    def mail_from(self, sender: str, *, size: int | None = None, smtputf8: bool = False) -> Reply:
        """MAIL. size: the message's length in bytes. smtputf8: some address of this message needs it."""
        self.check_message(size=size, smtputf8=smtputf8)
        command = mail_command(sender, self.features, size=size, smtputf8=smtputf8)
        return self._expect("sender", self._command("sender", command), 250)

    def check_message(self, *, size: int | None, smtputf8: bool) -> None:
        """Raise Fault for what this server has already said that it will not take."""
        if smtputf8 and not self.features.smtputf8:
            raise Fault("sender", "smtputf8-not-offered")
        limit = self.features.size
        if size is not None and limit is not None and size > limit:
            raise Fault("sender", "too-big", detail=str(limit))

    def rcpt_to(self, recipient: str) -> Reply:
        """RCPT."""
        reply = self._command("recipient", rcpt_command(recipient))
        return reply if reply.code == 251 else self._expect("recipient", reply, 250)

    def data(self, message: bytes) -> Reply:
        """DATA and the message; returns the server's final words."""
        self._expect("message", self._command("message", "DATA"), 354)
        self.send(on_the_wire(message), "message")
        self._note(f"the message, {len(message)} bytes")
        return self._expect("message", self.read_reply("message"), 250)

    def rset(self) -> Reply:
        """RSET: forget the message begun."""
        return self._expect("sender", self._command("sender", "RSET"), 250)

    def quit(self) -> None:
        """QUIT, politely and briefly, and close. Never raises."""
        with contextlib.suppress(Fault, ValueError):
            if self._wire is not None:
                self._command("message", "QUIT", _QUIT_SECONDS)
        self.close()

    def close(self) -> None:
        """Close the socket at once. Never raises."""
        if self._wire is not None:
            with contextlib.suppress(OSError):
                self._wire.socket.close()
            self._wire = None

    def send(self, data: bytes, stage: StageName = "message", seconds: float | None = None) -> None:
        """Send bytes as they are, for pipelining; nothing of it is recorded."""
        with self._faults(stage):
            self._connected().send(data, self._within(seconds or self._step_seconds))

    def read_reply(self, stage: StageName = "message", seconds: float | None = None) -> Reply:
        """The next reply, whatever it says."""
        with self._faults(stage):
            reply = self._connected().read_reply(self._within(seconds or self._step_seconds))
        self._fresh_tls = False
        if self._transcript is not None:
            self._transcript.received(reply)
        return reply

    @property
    def reader(self) -> ReplyReader:
        """What has been read ahead; for who goes on with the socket by themselves."""
        return self._connected().reader

    def presented_chain(self) -> tuple[bytes, ...]:
        """The certificates the server presented, DER, its own first; empty before TLS."""
        sock = self._wire.socket if self._wire else None
        return presented_chain(sock) if isinstance(sock, ssl.SSLSocket) else ()

    def _may_sign_in(self, login: Login) -> None:
        here = self.address is not None and dial.is_loopback(self.address.ip)
        if not (self.encrypted or self._unencrypted_login_allowed or here):
            raise Fault("authentication", "login-unencrypted")
        if "AUTH" not in self.features:
            raise Fault("authentication", "authentication-not-offered")
        if _UNSENDABLE.search(login.username + login.password.reveal()) or (login.oauth and "\x01" in login.username):
            raise Fault("authentication", "login-unsendable")

    def _token(self, credentials: oauth.ClientCredentials, secret: Secret) -> Secret:
        """A fresh token, for this sign-in alone."""
        deadline = self._within(self._connect_seconds)
        self._note(f"asking for a token at {credentials.token_url}")
        try:
            token = oauth.fetch_token(
                credentials, secret, self._trust.public_context, deadline, masker=self.masker, resolver=self._resolver
            )
        except oauth.TokenFault as error:
            sign: Sign = "token-refused" if isinstance(error, oauth.TokenRefused) else "token-unreachable"
            raise Fault("authentication", sign, detail=oauth.shown(error.detail, self.masker)) from None
        self._note("a token was issued")
        return token

    def _sign_in(self, mechanism: str, username: str, secret: Secret) -> Reply:
        exchange = sasl.MECHANISMS[mechanism](username, secret.reveal())
        answer = next(exchange)
        challenges_shown = mechanism in ("PLAIN", "LOGIN", "XOAUTH2")
        command = f"AUTH {mechanism}"
        if mechanism in sasl.SENDS_FIRST:
            self._hide(mechanism, answer)
            line = command.encode() + b" " + base64.b64encode(answer)
            reply = self._answer(line, shown=f"{command} ***", keep=challenges_shown)
        else:
            reply = self._answer(command.encode(), shown=command, keep=challenges_shown)
        while reply.code == 334:
            challenge = b"" if challenges_shown else sasl.decode_challenge(reply.lines[-1])
            try:
                answer = exchange.send(challenge)
            except StopIteration:
                raise sasl.BadChallenge("the server keeps asking") from None
            self._hide(mechanism, answer)
            reply = self._answer(base64.b64encode(answer), shown="***", keep=challenges_shown)
        if reply.code == 235 and mechanism == "SCRAM-SHA-256" and answer:
            raise sasl.BadChallenge("the server did not prove that it knows the password")
        return reply

    def _hide(self, mechanism: str, answer: bytes) -> None:
        self.masker.hide_form(base64.b64encode(answer))
        if mechanism == "CRAM-MD5":
            self.masker.hide(answer.rpartition(b" ")[2])
        elif mechanism == "SCRAM-SHA-256":
            self.masker.hide(answer.partition(b",p=")[2])

    def _answer(self, line: bytes, *, shown: str, keep: bool) -> Reply:
        if self._transcript is not None:
            self._transcript.sent(shown)
        self.send(line + b"\r\n", "authentication")
        with self._faults("authentication"):
            reply = self._connected().read_reply(self._within(self._step_seconds))
        if self._transcript is not None:
            hidden = Reply(reply.code, (b"***",))
            self._transcript.received(reply if keep or reply.code != 334 else hidden)
        return reply

    def _command(self, stage: StageName, line: str, seconds: float | None = None) -> Reply:
        if _COMMAND_CONTROL.search(line):
            raise ValueError("a command is one line")
        if self._transcript is not None:
            self._transcript.sent(line)
        self.send(line.encode() + b"\r\n", stage, seconds)
        return self.read_reply(stage, seconds)

    @staticmethod
    def _expect(stage: StageName, reply: Reply, code: int) -> Reply:
        if reply.code != code:
            raise Fault(stage, "reply", reply=reply)
        return reply

    @contextlib.contextmanager
    def _faults(self, stage: StageName) -> Iterator[None]:
        fresh = self._fresh_tls
        try:
            yield
        except Malformed as error:
            raise Fault(stage, "malformed", error=error, detail=error.service) from None
        except Closed:
            raise Fault(stage, "closed", fresh_tls=fresh) from None
        except TimeoutError as error:
            raise Fault(stage, "timeout", error=error) from None
        except OSError as error:
            raise Fault(stage, "error", error=error, fresh_tls=fresh) from None

    def _connected(self) -> Wire:
        if self._wire is None:
            raise Fault("connect", "closed")
        return self._wire

    def _within(self, seconds: float) -> Deadline:
        return self._deadline.within(seconds) if self._deadline else Deadline(seconds)

    def _own_name(self) -> str:
        name = socket.gethostname()
        if "." in name and name.isascii():
            return name
        ip = str(self.socket.getsockname()[0]).partition("%")[0]
        return f"[IPv6:{ip}]" if ":" in ip else f"[{ip}]"

    def _note(self, text: str) -> None:
        if self._transcript is not None:
            self._transcript.note(text)


def presented_chain(sock: ssl.SSLSocket) -> tuple[bytes, ...]:
    """What the other side presented, DER, its own certificate first.

    Public only since Python 3.13; before, the same call waits one level deeper and gives objects instead of bytes.
    """
    if hasattr(sock, "get_unverified_chain"):
        return tuple(sock.get_unverified_chain() or ())
    inner = getattr(sock, "_sslobj", None)
    found = inner.get_unverified_chain() if inner is not None else None
    return tuple(ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in found or ())
