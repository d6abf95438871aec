"""The staged conversation behind the test of the page, the login check and ``keypost mail probe``.

It goes the road of real mail (transport.Connection) and reports every stage as it ends, the explained result last.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from typing import Any, Final, Literal

from webapp.errors import Invalid
from webapp.i18n import gettext as _
from webapp.mail import look
from webapp.mail.address import needs_smtputf8, valid_address, valid_port, valid_server_name
from webapp.mail.diagnosis import Context, Diagnosis, context_of, diagnose
from webapp.mail.dial import Resolver, system_resolver
from webapp.mail.message import compose
from webapp.mail.presented import Presented, describe
from webapp.mail.transcript import Masker, Transcript
from webapp.mail.transport import (
    STAGES,
    Connection,
    Fault,
    Login,
    Security,
    Server,
    StageName,
    Trust,
    queue_id,
)
from webapp.mail.wire import Deadline, Reply

Outcome = Literal["done", "failed", "skipped"]

_SHARE_FOR_THE_CONVERSATION: Final = 0.8
_GREETING_MOMENT_SECONDS: Final = 3.0
_LOOK_SECONDS: Final = 4.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """What to try. Without a recipient it ends after MAIL FROM; see login_check() for less. timeout: seconds, in all.

    message: None makes a short test message. unencrypted_login_allowed: consent to sign in without encryption.
    """

    server: Server
    login: Login | None
    sender: str
    sender_name: str = ""
    recipient: str | None = None
    message: bytes | EmailMessage | None = None
    timeout: float = 15.0
    unencrypted_login_allowed: bool = False
    last_stage: StageName = "message"


def login_check(
    server: Server, login: Login | None, *, timeout: float = 15.0, unencrypted_login_allowed: bool = False
) -> Attempt:
    """An attempt that ends once the server has accepted the login; no sender is named, nothing is sent."""
    return Attempt(
        server,
        login,
        sender="",
        timeout=timeout,
        unencrypted_login_allowed=unencrypted_login_allowed,
        last_stage="authentication",
    )


@dataclass(frozen=True, slots=True)
class Stage:
    """How one step went. milliseconds: how long it took; detail: one line for a person, without secrets."""

    name: StageName
    outcome: Outcome
    milliseconds: float
    detail: str

    def as_dict(self) -> dict[str, Any]:
        """JSON of the public interface."""
        return {
            "name": self.name,
            "outcome": self.outcome,
            "milliseconds": round(self.milliseconds, 1),
            "detail": self.detail,
        }


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What the two sides agreed on, as far as they got. size: the largest message taken, in bytes.

    mechanisms: the ways to sign in that the server offers, in its last hello.
    """

    tls_version: str | None = None
    cipher: str | None = None
    mechanism: str | None = None
    size: int | None = None
    smtputf8: bool = False
    pipelining: bool = False
    mechanisms: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON; null where nothing was agreed."""
        return {
            "tls_version": self.tls_version,
            "cipher": self.cipher,
            "mechanism": self.mechanism,
            "size": self.size,
            "smtputf8": self.smtputf8,
            "pipelining": self.pipelining,
            "mechanisms": list(self.mechanisms),
        }


@dataclass(frozen=True, slots=True)
class Result:
    """How it all ended. reply: the server's final words, masked; queue_id: its name for the message, if it gave one."""

    outcome: Literal["accepted", "failed"]
    stages: tuple[Stage, ...]
    diagnosis: Diagnosis | None
    certificate: Presented | None
    transcript: tuple[str, ...]
    reply: str | None = None
    queue_id: str | None = None
    negotiated: Negotiated = field(default_factory=Negotiated)

    def as_dict(self) -> dict[str, Any]:
        """JSON of the public interface, as ``mail probe --json`` prints it."""
        return {
            "outcome": self.outcome,
            "stages": [stage.as_dict() for stage in self.stages],
            "diagnosis": self.diagnosis.as_dict() if self.diagnosis else None,
            "certificate": self.certificate.as_dict() if self.certificate else None,
            "transcript": list(self.transcript),
            "reply": self.reply,
            "queue_id": self.queue_id,
            "negotiated": self.negotiated.as_dict(),
        }


def probe(attempt: Attempt, trust: Trust, *, resolver: Resolver = system_resolver) -> Iterator[Stage | Result]:
    """Try it: yields each Stage as it ends, and last the Result. Never raises for what a server or a network does.

    Raises Invalid for a sender or recipient that is no mail address.
    """
    run = _Run(attempt, trust, resolver)
    try:
        yield from run.stages()
        yield run.result()
    finally:
        run.close()


def outcome_of(attempt: Attempt, trust: Trust, *, resolver: Resolver = system_resolver) -> Result:
    """The same for those who only want the end."""
    *_, last = probe(attempt, trust, resolver=resolver)
    if not isinstance(last, Result):
        raise AssertionError("a probe ends with its result")
    return last


class _Run:
    def __init__(self, attempt: Attempt, trust: Trust, resolver: Resolver) -> None:
        self._attempt = _checked(attempt)
        self._deadline = Deadline(attempt.timeout)
        self._begun = time.monotonic()
        self._masker = Masker()
        if attempt.login:
            self._masker.hide(attempt.login.password)
        self._transcript = Transcript(self._masker)
        self._message = _message_bytes(self._attempt)
        self._done: list[Stage] = []
        self._diagnosis: Diagnosis | None = None
        self._certificate: Presented | None = None
        self._negotiated = Negotiated()
        self._last_reply: Reply | None = None
        self._connection = Connection(
            self._attempt.server,
            trust,
            unencrypted_login_allowed=attempt.unencrypted_login_allowed,
            step_seconds=attempt.timeout,
            deadline=self._deadline.within(attempt.timeout * _SHARE_FOR_THE_CONVERSATION),
            resolver=resolver,
            masker=self._masker,
            transcript=self._transcript,
        )

    def stages(self) -> Iterator[Stage]:
        for name, step in self._plan():
            stage = self._take(name, step) if step and not self._diagnosis else self._skip(name)
            self._done.append(stage)
            yield stage
        if not self._diagnosis:
            self._connection.quit()

    def result(self) -> Result:
        accepted = self._diagnosis is None
        sent = accepted and self._last_reply is not None and self._attempt.recipient is not None
        return Result(
            outcome="accepted" if accepted else "failed",
            stages=tuple(self._done),
            diagnosis=self._diagnosis,
            certificate=self._certificate,
            transcript=self._transcript.lines(),
            reply=self._masker.reply(self._last_reply) if self._last_reply else None,
            queue_id=self._queue_id() if sent else None,
            negotiated=self._negotiated,
        )

    def close(self) -> None:
        self._connection.close()

    def _queue_id(self) -> str | None:
        found = queue_id(self._last_reply) if self._last_reply else None
        return self._masker.text(found) if found else None

    def _plan(self) -> list[tuple[StageName, Callable[[], str] | None]]:
        steps: dict[StageName, Callable[[], str] | None] = {
            "resolve": self._resolve,
            "connect": self._connect,
            "greeting": self._greeting,
            "hello": self._hello,
            "tls": self._tls if self._attempt.server.security is not Security.NEVER else None,
            "authentication": self._authentication if self._attempt.login else None,
            "sender": self._sender,
            "recipient": self._recipient if self._attempt.recipient else None,
            "message": self._hand_over if self._attempt.recipient else None,
        }
        last = STAGES.index(self._attempt.last_stage)
        order = list(STAGES)
        if self._attempt.server.security is Security.SSL:
            order.remove("tls")
            order.insert(order.index("greeting"), "tls")
        return [(name, steps[name] if STAGES.index(name) <= last else None) for name in order]

    def _take(self, name: StageName, step: Callable[[], str]) -> Stage:
        begun = time.monotonic()
        try:
            outcome, detail = "done", step()
        except Fault as fault:
            self._note_what_was_agreed()
            self._diagnosis = self._explain(name, fault)
            self._transcript.note(f"failed: {self._diagnosis.code}")
            self._last_reply = fault.reply or self._last_reply
            return Stage(name, "failed", _milliseconds(begun), self._diagnosis.cause)
        self._note_what_was_agreed()
        return Stage(name, "done" if outcome else "skipped", _milliseconds(begun), self._masker.text(detail))

    def _skip(self, name: StageName) -> Stage:
        return Stage(name, "skipped", 0.0, _("not reached") if self._diagnosis else _("not needed"))

    def _resolve(self) -> str:
        _check_place(self._attempt.server)
        return ", ".join(address.ip for address in self._connection.resolve())

    def _connect(self) -> str:
        address = self._connection.connect()
        return _("%(address)s port %(port)s", address=address.ip, port=self._attempt.server.port)

    def _greeting(self) -> str:
        try:
            reply = self._connection.greeting(min(_GREETING_MOMENT_SECONDS, self._attempt.timeout / 4))
        except Fault as fault:
            if fault.sign != "timeout" or self._connection.encrypted or self._speaks_otherwise():
                raise
            reply = self._connection.greeting()
        return _first_line(reply)

    def _speaks_otherwise(self) -> bool:
        """A silent port may be waiting for TLS, or for a web browser: ask it before waiting longer."""
        self._spoken = look.for_tls(self._attempt.server, self._connection.addresses, self._patience())
        return self._spoken not in (None, "unknown")

    _spoken: Any = None

    def _hello(self) -> str:
        features = self._connection.hello()
        return ", ".join(features.keywords) or _("no extensions")

    def _tls(self) -> str:
        if self._attempt.server.security is Security.SSL:
            self._connection.secure()
        else:
            self._connection.starttls()
        self._certificate = describe(self._connection.presented_chain(), trusted=True)
        return ", ".join(self._connection.cipher or ())

    def _authentication(self) -> str:
        if self._attempt.login is None:
            return ""
        mechanism = self._connection.authenticate(self._attempt.login)
        who = self._attempt.login.username
        return _("signed in as %(who)s (%(mechanism)s)", who=who, mechanism=mechanism)

    def _sender(self) -> str:
        attempt = self._attempt
        wide = any(needs_smtputf8(address) for address in (attempt.sender, attempt.recipient or ""))
        size = len(self._message) if attempt.recipient else None
        self._last_reply = self._connection.mail_from(attempt.sender, size=size, smtputf8=wide)
        reply = self._last_reply
        if attempt.recipient is None:
            self._connection.rset()
        return _first_line(reply)

    def _recipient(self) -> str:
        self._last_reply = self._connection.rcpt_to(self._attempt.recipient or "")
        return _first_line(self._last_reply)

    def _hand_over(self) -> str:
        self._last_reply = self._connection.data(self._message)
        return _first_line(self._last_reply)

    def _note_what_was_agreed(self) -> None:
        version, cipher = self._connection.cipher or (None, None)
        features = self._connection.features
        self._negotiated = Negotiated(
            version,
            cipher,
            self._connection.mechanism,
            features.size,
            features.smtputf8,
            features.pipelining,
            features.mechanisms,
        )

    def _explain(self, name: StageName, fault: Fault) -> Diagnosis:
        context = context_of(
            self._connection,
            sender=self._attempt.sender,
            recipient=self._attempt.recipient or "",
            login=self._attempt.login,
            seconds=time.monotonic() - self._begun,
            speaks=self._spoken,
            certificate=self._certificate,
        )
        with contextlib.suppress(TimeoutError):
            context = second_look(fault, context, self._connection, self._patience())
        self._certificate = context.certificate
        return diagnose(name, fault, context)

    def _patience(self) -> Deadline:
        self._deadline.remaining()
        return self._deadline.within(_LOOK_SECONDS)


def second_look(fault: Fault, context: Context, connection: Connection, deadline: Deadline) -> Context:
    """Learn by another connection, on which nothing secret can be sent, what this fault alone does not tell.

    The presented certificate after a refusal; whether the server wants one of ours; what a port speaks that does not
    speak TLS. Real delivery may use it too, before it calls diagnose().
    """
    server, addresses = connection.server, connection.addresses
    unfinished = fault.stage == "tls" and fault.sign in ("error", "closed", "timeout")
    if unfinished or fault.fresh_tls:
        seen = look.at_tls(server, addresses, deadline)
        context = replace(
            context,
            certificate=context.certificate or describe(seen.chain, trusted=False),
            asks_for_certificate=seen.asks_for_certificate,
        )
    if unfinished and context.certificate is None and server.security is Security.SSL:
        context = replace(context, speaks=look.for_tls(server, addresses, deadline))
        if context.speaks in (None, "unknown"):
            context = replace(context, plain=look.plainly(server, addresses, deadline))
    return context


def _checked(attempt: Attempt) -> Attempt:
    """The same attempt, its addresses in order. Raises Invalid."""
    sender = valid_address(attempt.sender, field="sender_address") if attempt.sender else ""
    recipient = valid_address(attempt.recipient, field="test_recipient") if attempt.recipient else None
    server = attempt.server
    with contextlib.suppress(Invalid):
        server = replace(server, name=valid_server_name(server.name))
    return replace(attempt, server=server, sender=sender, recipient=recipient)


def _check_place(server: Server) -> None:
    try:
        valid_server_name(server.name)
    except Invalid:
        raise Fault("resolve", "name-invalid") from None
    try:
        valid_port(server.port)
    except Invalid:
        raise Fault("resolve", "port-invalid") from None


def _message_bytes(attempt: Attempt) -> bytes:
    if attempt.recipient is None:
        return b""
    if isinstance(attempt.message, bytes):
        return attempt.message
    if attempt.message is None:
        return _short_message(attempt)
    wide = any(needs_smtputf8(address) for address in (attempt.sender, attempt.recipient))
    return attempt.message.as_bytes(policy=SMTPUTF8 if wide else SMTP)


def _short_message(attempt: Attempt) -> bytes:
    return compose(
        sender=attempt.sender,
        sender_name=attempt.sender_name,
        recipient=attempt.recipient or "",
        subject="Keypost test message",
        text="This is a test of the mail settings of Keypost. It arrived.\n",
    )


def _first_line(reply: Reply) -> str:
    return f"{reply.code} {reply.lines[0].decode('utf-8', 'replace')}"


def _milliseconds(begun: float) -> float:
    return (time.monotonic() - begun) * 1000
