"""Sorts a fault into exactly one code and says what it means.

By stage first, then by the kind of exception, then errno, verify_code, SSL reason, SMTP code and enhanced code
(RFC 3463); the server's words come last. They are shown beside our sentences, masked, never instead of them.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from webapp.i18n import Sentence, explain, lazy, moment
from webapp.i18n import gettext as _
from webapp.mail.address import needs_smtputf8
from webapp.mail.explanations import CODES, VARIANTS, Explanation, Permanence
from webapp.mail.look import PlainLook
from webapp.mail.presented import Presented
from webapp.mail.transcript import Masker
from webapp.mail.transport import DEFAULT_PORTS, Connection, Fault, Features, Login, Security, Server, StageName
from webapp.mail.wire import Malformed, Reply, Service

__all__ = ["CODES", "Context", "Diagnosis", "Explanation", "Permanence", "diagnose"]

_MODE_WORDS: Final = {Security.NEVER: lazy("Never"), Security.SSL: "SSL", Security.TLS: "TLS"}
_STAGE_WORDS: Final = {
    "resolve": lazy("Find server"),
    "connect": lazy("Connect"),
    "greeting": lazy("Greeting"),
    "hello": lazy("Hello"),
    "tls": lazy("Encryption"),
    "authentication": lazy("Sign in"),
    "sender": lazy("Sender"),
    "recipient": lazy("Recipient"),
    "message": lazy("Message"),
}
_DEFECT_WORDS: Final = {
    "foreign": lazy("no reply of a mail server"),
    "line-too-long": lazy("a line without end"),
    "reply-too-long": lazy("a reply without end"),
    "binary": lazy("binary data"),
    "code": lazy("a reply code that is none"),
}
_SHOWN: Final = 300


@dataclass(frozen=True, slots=True)
class Context:
    """What is known beside the fault. The fields from ``certificate`` on come from a second look, where one was taken.

    speaks: True when a silent port answers a TLS hello with TLS, or the service it betrayed.
    """

    server: Server
    masker: Masker
    sender: str = ""
    recipient: str = ""
    login: Login | None = None
    features: Features = field(default_factory=Features)
    addresses: tuple[str, ...] = ()
    encrypted: bool = False
    seconds: float = 0
    certificate: Presented | None = None
    asks_for_certificate: bool = False
    speaks: bool | Service | None = None
    plain: PlainLook | None = None


def context_of(connection: Connection, **more: Any) -> Context:
    """The context of a fault on this connection; ``more`` names the other fields of Context."""
    return Context(
        server=connection.server,
        masker=connection.masker,
        features=connection.features,
        addresses=tuple(address.ip for address in connection.addresses),
        encrypted=connection.encrypted,
        **more,
    )


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why it failed. reply: the server's words, masked. correction: form fields that would put it right."""

    code: str
    cause: str
    remedy: str
    reply: str | None
    stage: StageName
    correction: dict[str, str] | None = None
    permanence: Permanence = "server"

    def as_dict(self) -> dict[str, Any]:
        """JSON of the public interface."""
        return {
            "code": self.code,
            "cause": self.cause,
            "remedy": self.remedy,
            "reply": self.reply,
            "stage": self.stage,
            "correction": self.correction,
        }


def stage_in_words(stage: str) -> str:
    """A stage of a conversation in the reader's language; one without words of its own stays."""
    return str(_STAGE_WORDS.get(stage, stage))


def diagnose(stage: StageName, fault: Fault, context: Context) -> Diagnosis:
    """Sort ``fault``, which ended the stage ``stage``, and explain it."""
    code, _rest, variant = _sort(fault, context).partition("/")
    cause, remedy = VARIANTS.get(f"{code}/{variant}", (CODES[code].cause, CODES[code].remedy))
    words = _words(stage, fault, context)
    return Diagnosis(
        code=code,
        cause=explain(cause, **words),
        remedy=explain(remedy, **words),
        reply=context.masker.reply(fault.reply) if fault.reply else None,
        stage=stage,
        correction=_correction(code, context),
        permanence=_permanence(code, fault),
    )


def _permanence(code: str, fault: Fault) -> Permanence:
    reply = fault.reply
    if code not in ("greeting-refused", "unclassified", "hello-refused") or reply is None:
        return CODES[code].permanence
    if reply.code // 100 == 4:
        return "passing"
    return "message" if fault.stage in ("recipient", "message") else "server"


def _sort(fault: Fault, context: Context) -> str:
    wanted = _client_certificate(fault, context)
    if wanted:
        return wanted
    if fault.sign == "malformed" and isinstance(fault.error, Malformed):
        foreign = fault.error.defect == "foreign" and fault.stage == "greeting"
        return "not-smtp" if foreign else "protocol-violation"
    if fault.sign in _BY_SIGN:
        token = context.login is not None and context.login.oauth is not None
        return _BY_SIGN[fault.sign] + ("/token" if token and fault.sign == "mechanism-unsupported" else "")
    if fault.stage == "resolve":
        return _resolve(fault)
    if fault.stage == "connect":
        return _connect(fault)
    if fault.stage == "tls":
        return _tls(fault, context)
    if fault.sign == "reply" and fault.reply is not None:
        return _BY_REPLY[fault.stage](fault.reply, context)
    return _silence(fault, context)


_BY_SIGN: Final[Mapping[str, str]] = {
    "name-invalid": "name-invalid",
    "port-invalid": "port-invalid",
    "address-forbidden": "name-invalid/forbidden",
    "starttls-not-offered": "starttls-not-offered",
    "injected": "tls-handshake-failed/injected",
    "login-unencrypted": "encryption-required/consent",
    "login-unsendable": "credentials-refused/unsendable",
    "authentication-not-offered": "authentication-not-offered",
    "mechanism-unsupported": "mechanism-unsupported",
    "challenge": "protocol-violation",
    "too-big": "message-too-big/limit",
    "smtputf8-not-offered": "internationalized-address-unsupported",
    "token-refused": "oauth-token-refused",
    "token-unreachable": "oauth-token-unreachable",
}


def _client_certificate(fault: Fault, context: Context) -> str | None:
    reason = _reason(fault)
    if "CERTIFICATE_REQUIRED" in reason:
        return "client-certificate-wanted"
    broke_off = fault.sign in ("closed", "error") and (fault.fresh_tls or fault.stage == "tls")
    unverified = isinstance(fault.error, ssl.SSLCertVerificationError)
    return "client-certificate-wanted" if broke_off and context.asks_for_certificate and not unverified else None


_OTHER_SERVICES: Final = ("IMAP", "POP3", "SSH", "HTTP")


def _silence(fault: Fault, context: Context) -> str:
    if fault.stage == "message":
        return "conversation-broken"
    if fault.sign != "timeout":
        return "connection-dropped"
    if fault.stage != "greeting":
        return "connection-dropped/silent"
    if context.speaks is True:
        return "implicit-tls-expected"
    return "not-smtp" if context.speaks in _OTHER_SERVICES else "greeting-timeout"


def _resolve(fault: Fault) -> str:
    if fault.sign == "timeout":
        return "name-unresolvable"
    number = fault.error.errno if isinstance(fault.error, socket.gaierror) else None
    if number in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", -5)):
        return "name-not-found"
    return "name-unresolvable" if number in (socket.EAI_AGAIN, socket.EAI_FAIL) else "unclassified"


def _connect(fault: Fault) -> str:
    number = fault.error.errno if isinstance(fault.error, OSError) else None
    if fault.sign == "timeout" or number == errno.ETIMEDOUT:
        return "connection-timeout"
    if number == errno.ECONNREFUSED:
        return "connection-refused"
    if number in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.ENETDOWN):
        return "network-unreachable"
    if number in (errno.EPERM, errno.EACCES):
        return "network-unreachable/forbidden-here"
    return "connection-dropped" if number in (errno.ECONNRESET, errno.ECONNABORTED, None) else "unclassified"


_VERIFY_CODES: Final[Mapping[int, str]] = {
    18: "certificate-self-signed",
    2: "certificate-untrusted",
    19: "certificate-untrusted",
    20: "certificate-untrusted",
    21: "certificate-untrusted",
    62: "certificate-name-mismatch",
    64: "certificate-name-mismatch",
    10: "certificate-expired",
    9: "certificate-not-yet-valid",
}
_NOT_TLS: Final = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")
_VERSION: Final = ("ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "WRONG_SSL_VERSION", "NO_PROTOCOLS_AVAILABLE")
_CERTIFICATE: Final = ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK", "BAD_CERTIFICATE_TYPE")
_CIPHER: Final = (
    "HANDSHAKE_FAILURE",
    "DH_KEY_TOO_SMALL",
    "INSUFFICIENT_SECURITY",
    "NO_SHARED_CIPHER",
    "NO_CIPHERS_AVAILABLE",
    "LEGACY_RENEGOTIATION",
    "WRONG_CIPHER_RETURNED",
    "NO_SUITABLE",
)


def _tls(fault: Fault, context: Context) -> str:
    if fault.sign == "reply":
        return "starttls-refused"
    if isinstance(fault.error, ssl.SSLCertVerificationError):
        code = _VERIFY_CODES.get(fault.error.verify_code, "certificate-unsuitable")
        nameless = context.certificate is not None and not context.certificate.names
        return "certificate-name-mismatch/none" if code == "certificate-name-mismatch" and nameless else code
    reason = _reason(fault)
    for signs, code in ((_VERSION, "tls-version"), (_CERTIFICATE, "certificate-unsuitable"), (_CIPHER, "tls-cipher")):
        if any(sign in reason for sign in signs):
            return code
    if context.server.security is Security.SSL:
        return _plain_instead(reason, context)
    return "tls-handshake-failed/injected" if any(sign in reason for sign in _NOT_TLS) else "tls-handshake-failed"


def _plain_instead(reason: str, context: Context) -> str:
    if context.speaks in _OTHER_SERVICES:
        return "not-smtp"
    if context.plain is not None:
        if not context.plain.smtp:
            return "not-smtp"
        return "starttls-expected" if context.plain.starttls else "starttls-expected/never"
    return "starttls-expected" if any(sign in reason for sign in _NOT_TLS) else "tls-handshake-failed"


def _reason(fault: Fault) -> str:
    return (fault.error.reason or "") if isinstance(fault.error, ssl.SSLError) else ""


def _greeting(reply: Reply, context: Context) -> str:
    return "greeting-refused" if reply.code >= 400 else "unclassified"


def _hello(reply: Reply, context: Context) -> str:
    if reply.code == 421:
        return "throttled"
    if reply.code in (530, 538):
        return "encryption-required"
    return "hello-refused" if reply.code >= 500 else "unclassified"


def _authentication(reply: Reply, context: Context) -> str:
    enhanced = reply.enhanced
    if reply.code == 504:
        return "mechanism-unsupported" if context.encrypted else "encryption-required"
    if reply.code == 538 or (reply.code == 530 and not context.encrypted):
        return "encryption-required"
    wrong = enhanced == "5.7.139" and _any_word(reply, "credentials were incorrect")  # the one code for all refusals
    if enhanced in ("5.7.139", "5.7.30") and not wrong:
        return "basic-authentication-disabled"
    if reply.code == 534 or enhanced == "5.7.9":
        return "application-password-required"
    if reply.code == 535 or enhanced in ("5.7.8", "5.7.3"):
        token = context.login is not None and context.login.oauth is not None
        return "credentials-refused/token" if token else "credentials-refused"
    return "authentication-unavailable" if reply.code // 100 == 4 else "unclassified"


def _busy(reply: Reply) -> str | None:
    """The 4xx replies that mean the same wherever they come."""
    coded = (reply.code, reply.enhanced)
    if reply.code == 421 or coded in ((450, "4.7.1"), (452, "4.5.3"), (451, "4.7.500")):
        return "greylisted" if _any_word(reply, "greylist", "graylist", "grey-list") else "throttled"
    if coded in ((451, "4.3.0"), (430, "4.2.0"), (430, None)) or reply.code == 452 or reply.enhanced == "4.3.1":
        return "server-storage"
    return None


def _not_signed_in(reply: Reply, context: Context) -> str | None:
    if reply.code not in (530, 538):
        return None
    wants_tls = reply.code == 538 or reply.enhanced == "5.7.0" or _any_word(reply, "starttls")
    return "encryption-required" if wants_tls and not context.encrypted else "authentication-required"


def _sender(reply: Reply, context: Context) -> str:
    known = _busy(reply) or _not_signed_in(reply, context)
    if known:
        return known
    if reply.enhanced in ("5.6.7", "5.6.9"):
        return "internationalized-address-unsupported"
    if reply.code == 552:
        return "message-too-big"
    if context.login is None and _any_word(reply, "authentication required", "authenticate first", "must authenticate"):
        return "authentication-required"
    return "sender-refused" if reply.code in (501, 550, 551, 553, 554) else "unclassified"


def _recipient(reply: Reply, context: Context) -> str:
    known = _busy(reply) or _not_signed_in(reply, context) or _recipient_by_enhanced(reply)
    if known:
        return known
    if reply.code in (450, 451):
        return "greylisted"
    if _any_word(reply, "sender address rejected", "not owned", "sender rejected"):
        return "sender-refused"
    if _any_word(reply, "relay") or (reply.code == 554 and not _any_word(reply, "block", "listed", "spam")):
        return "relay-denied"
    return "recipient-refused" if reply.code // 100 == 5 else "unclassified"


def _recipient_by_enhanced(reply: Reply) -> str | None:
    coded = (reply.code, reply.enhanced)
    if reply.enhanced in ("5.1.7", "5.1.8", "5.7.60", "5.2.252"):
        return "sender-refused"
    if reply.enhanced in ("5.1.1", "5.1.10", "5.1.2", "5.1.6") or coded == (553, "5.1.3"):
        return "recipient-unknown"
    if reply.enhanced in ("5.7.54", "5.7.64"):
        return "relay-denied"
    if reply.enhanced in ("5.6.7", "5.6.9"):
        return "internationalized-address-unsupported"
    return "message-too-big" if coded == (552, "5.3.4") else None


def _message(reply: Reply, context: Context) -> str:
    if reply.enhanced in ("5.7.60", "5.2.252", "5.1.7"):
        return "sender-refused"
    busy = _busy(reply)
    if busy:
        return busy
    if reply.code // 100 == 4:
        return "message-deferred"
    if reply.enhanced == "5.2.2":  # the recipient's mailbox is full
        return "recipient-refused"
    if reply.code == 552:
        return "message-too-big"
    policy = (reply.enhanced or "").startswith("5.7.")
    return "message-refused" if reply.code in (550, 554) or policy else "unclassified"


_BY_REPLY: Final = {
    "greeting": _greeting,
    "hello": _hello,
    "authentication": _authentication,
    "sender": _sender,
    "recipient": _recipient,
    "message": _message,
}


def _any_word(reply: Reply, *words: str) -> bool:
    return any(word in reply.words for word in words)


def _words(stage: StageName, fault: Fault, context: Context) -> dict[str, str]:
    ours = {
        "port": str(context.server.port),
        "mode": _MODE_WORDS[context.server.security],
        "seconds": f"{context.seconds:.0f}",
        "stage": _STAGE_WORDS[stage],
    }
    foreign = _foreign_words(fault, context).items()
    return ours | {name: said if isinstance(said, Sentence) else context.masker.prose(said) for name, said in foreign}


def _foreign_words(fault: Fault, context: Context) -> dict[str, str]:
    """The words that come from people and servers: these might hold the secret."""
    seen = context.certificate
    return {
        "server": _short(context.server.name),
        "hello": _short(context.server.hello_name or _("it was given by its system")),
        "sender": _short(context.sender or _("this address")),
        "recipient": _short(context.recipient or _("this address")),
        "username": _short(context.login.username if context.login else _("this user")),
        "addresses": ", ".join(context.addresses) or _("no address"),
        "names": (", ".join(seen.names[:10]) if seen else "") or _("other names"),
        "subject": seen.subject if seen else _("its subject is unknown"),
        "issuer": seen.issuer if seen else _("an unknown authority"),
        "not_before": moment(seen.not_before) if seen and seen.not_before else _("a later date"),
        "not_after": (
            _("on %(when)s", when=moment(seen.not_after)) if seen and seen.not_after else _("on an unknown date")
        ),
        "sha256": seen.sha256 if seen else _("(not read)"),
        "detail": _short(_detail(fault, context)),
    }


def _detail(fault: Fault, context: Context) -> str:
    if fault.sign == "malformed" and isinstance(fault.error, Malformed):
        return _service(fault.error.service) if fault.stage == "greeting" else _DEFECT_WORDS[fault.error.defect]
    if context.plain is not None and not context.plain.smtp:
        return _service(context.plain.service)
    if isinstance(context.speaks, str):
        return _service(context.speaks)
    if fault.sign == "smtputf8-not-offered":
        return ", ".join(each for each in (context.sender, context.recipient) if each and needs_smtputf8(each))
    if fault.detail:
        return fault.detail
    if isinstance(fault.error, ssl.SSLCertVerificationError):
        return fault.error.verify_message
    if fault.reply is not None:
        enhanced = f" {fault.reply.enhanced}" if fault.reply.enhanced else ""
        return _("reply %(code)s", code=context.masker.prose(f"{fault.reply.code}{enhanced}"))
    return _reason(fault).replace("_", " ").lower() or {"timeout": _("no answer in time"), "closed": _("closed")}.get(
        fault.sign, getattr(fault.error, "strerror", None) or _("no further words")
    )


def _service(service: Service) -> str:
    return _("a service of another kind") if service == "unknown" else _("it speaks %(service)s", service=service)


def _short(text: str) -> str:
    if isinstance(text, Sentence):
        return text
    shown = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"


def _correction(code: str, context: Context) -> dict[str, str] | None:
    server, port = context.server, str(context.server.port)
    if code == "implicit-tls-expected":
        return {"security": "ssl", "port": port}
    if code == "starttls-expected":
        offered = context.plain is None or context.plain.starttls
        return {"security": "tls", "port": port} if offered else None
    if code == "starttls-not-offered":
        return {"security": "ssl", "port": "465"}
    if code in ("connection-refused", "connection-timeout"):
        return _other_port(server)
    if code in ("encryption-required", "authentication-not-offered") and server.security is Security.NEVER:
        return {"security": "tls", "port": port if "STARTTLS" in context.features else "587"}
    if code in ("authentication-required", "relay-denied") and context.login is None:
        return {"requires_authentication": "y"}
    if code == "sender-refused" and context.login and "@" in context.login.username:
        return {"sender_address": context.login.username} if context.login.username != context.sender else None
    if code == "certificate-name-mismatch" and context.certificate:
        return next(({"server_name": name} for name in context.certificate.names if _is_near(name, server.name)), None)
    return None


def _is_near(name: str, server_name: str) -> bool:
    """Whether a presented name stands in the domain that was asked for. The button signs in there at once, and anybody
    on the way can present a valid certificate for a name of their own."""
    domain = server_name.partition(".")[2].lower()
    return "." in domain and "*" not in name and f".{name}".lower().endswith(f".{domain}")


def _other_port(server: Server) -> dict[str, str]:
    if server.port != DEFAULT_PORTS[server.security]:
        return {"port": str(DEFAULT_PORTS[server.security])}
    return {"security": "ssl", "port": "465"} if server.security is Security.TLS else {"security": "tls", "port": "587"}
