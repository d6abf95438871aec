"""Every code of a diagnosis is reached by a real conversation, and says its stage, its cause and its remedy."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.support.mail_certificates import Issued, Trusting, server_context
from tests.support.scripted_smtp import HANG_UP, RESET, SILENCE, Script, ScriptedServer, Talk, replying
from webapp.keyring import Secret
from webapp.mail.dial import Address
from webapp.mail.explanations import CODES
from webapp.mail.oauth import ClientCredentials
from webapp.mail.probe import Attempt, Result, outcome_of
from webapp.mail.transport import Login, Security, Server, Trust

NEVER, SSL, TLS = Security.NEVER, Security.SSL, Security.TLS
LOGIN = Login("kåre@example.test", Secret("pässword 1"))
AUTHORITY = trustme.CA(organization_name="Keypost test run")
GOOD = server_context(AUTHORITY.issue_cert("localhost", "127.0.0.1"))
REACHED: set[str] = set()


def attempt(
    port: int,
    security: Security = NEVER,
    *,
    host: str = "localhost",
    login: Login | None = LOGIN,
    sender: str = "sender@example.test",
    recipient: str = "recipient@example.test",
    message: bytes | None = None,
    timeout: float = 5,
) -> Attempt:
    return Attempt(Server(host, port, security, "keypost.example.test"), login, sender, "", recipient, message, timeout)


def talk_to(script: Script, security: Security = NEVER, trust: Trust | None = None, **more: object) -> Result:
    with ScriptedServer(script) as server:
        result = outcome_of(attempt(server.port, security, **more), trust or Trusting(AUTHORITY))  # type: ignore[arg-type]
    assert server.errors == []
    return result


def expect(result: Result, code: str, stage: str) -> Result:
    assert result.diagnosis is not None
    assert (result.diagnosis.code, result.diagnosis.stage) == (code, stage)
    assert result.outcome == "failed"
    assert [each.name for each in result.stages if each.outcome == "failed"] == [stage]
    assert "{" not in result.diagnosis.cause + result.diagnosis.remedy
    assert "pässword" not in str(result.as_dict())
    REACHED.add(code)
    return result


def resolving(*answers: str | OSError) -> Callable[[str, int], Sequence[Address]]:
    def resolver(name: str, port: int) -> Sequence[Address]:
        found = []
        for answer in answers:
            if isinstance(answer, OSError):
                raise answer
            family = socket.AF_INET6 if ":" in answer else socket.AF_INET
            found.append(Address(family, answer, (answer, port)))
        return found

    return resolver


# Reaching the server


def test_it_knows_a_name_that_does_not_exist() -> None:
    expect(outcome_of(attempt(25, host="nosuch.invalid"), Trusting()), "name-not-found", "resolve")


def test_it_knows_a_resolver_that_does_not_answer() -> None:
    silent = resolving(socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"))
    expect(outcome_of(attempt(25), Trusting(), resolver=silent), "name-unresolvable", "resolve")


def test_it_does_not_wait_for_a_resolver_that_hangs() -> None:
    never = threading.Event()

    def hanging(name: str, port: int) -> Sequence[Address]:
        never.wait(30)
        return []

    expect(outcome_of(attempt(25, timeout=0.5), Trusting(), resolver=hanging), "name-unresolvable", "resolve")
    never.set()


@pytest.mark.parametrize("name", ["smtp://mail.example.com", "mail example", "smtp..x", "a" * 64, "", "1.2.3.4.5"])
def test_it_refuses_a_name_that_cannot_be_one(name: str) -> None:
    expect(outcome_of(attempt(25, host=name), Trusting()), "name-invalid", "resolve")


@pytest.mark.parametrize(
    "ip",
    ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "224.0.0.1", "0.0.0.0", "fd00:ec2::254"],  # noqa: S104
)
def test_it_never_connects_to_a_link_local_address(ip: str) -> None:
    result = outcome_of(attempt(25), Trusting(), resolver=resolving("127.0.0.1", ip))
    expect(result, "name-invalid", "resolve")
    assert result.diagnosis is not None
    assert ip in result.diagnosis.cause


@pytest.mark.parametrize("port", [0, -1, 65536, 70000])
def test_it_refuses_a_port_that_does_not_exist(port: int) -> None:
    expect(outcome_of(attempt(port), Trusting()), "port-invalid", "resolve")


def test_it_knows_a_port_where_nothing_listens() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    result = expect(outcome_of(attempt(port, TLS), Trusting()), "connection-refused", "connect")
    assert result.diagnosis is not None
    assert result.diagnosis.correction == {"port": "587"}


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port whose queue of connections is full: further packets are dropped, as a firewall does."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(0)
    waiting = []
    for _ in range(4):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(listening.getsockname())
        waiting.append(client)
    yield listening.getsockname()[1]
    for each in (*waiting, listening):
        each.close()


def test_it_knows_packets_that_are_dropped(deaf_port: int) -> None:
    expect(outcome_of(attempt(deaf_port, timeout=1), Trusting()), "connection-timeout", "connect")


def test_it_knows_a_missing_route() -> None:
    # TCP has no route to the broadcast address, on any machine.
    result = outcome_of(attempt(25), Trusting(), resolver=resolving("255.255.255.255"))
    expect(result, "network-unreachable", "connect")


@pytest.mark.parametrize(
    ("when", "ending", "stage"),
    [("greeting", HANG_UP, "greeting"), ("EHLO", HANG_UP, "hello"), ("EHLO", RESET, "hello")],
)
def test_it_knows_a_connection_that_is_dropped(when: str, ending: str, stage: str) -> None:
    expect(talk_to(replying(**{when: ending})), "connection-dropped", stage)


def test_it_knows_a_connection_that_is_reset_before_the_greeting() -> None:
    result = talk_to(replying(greeting=RESET))
    assert result.diagnosis is not None
    # The reset may overtake the end of connecting.
    assert result.diagnosis.stage in ("connect", "greeting")
    expect(result, "connection-dropped", result.diagnosis.stage)


def test_it_knows_a_server_that_stops_answering() -> None:
    expect(talk_to(replying(EHLO=SILENCE), timeout=1), "connection-dropped", "hello")


def test_it_knows_a_server_that_never_greets() -> None:
    expect(talk_to(replying(greeting=SILENCE), timeout=2), "greeting-timeout", "greeting")


@pytest.mark.parametrize(
    ("greeting", "kind"),
    [
        ("* OK [CAPABILITY IMAP4rev1] Dovecot ready.", "IMAP"),
        ("+OK POP3 ready", "POP3"),
        ("SSH-2.0-OpenSSH_9.2p1", "SSH"),
        ("HTTP/1.1 400 Bad Request", "HTTP"),
        ("RFB 003.008", "another kind"),
    ],
)
def test_it_names_the_kind_of_a_service_that_is_no_mail_server_and_hides_its_words(greeting: str, kind: str) -> None:
    result = expect(talk_to(replying(greeting=greeting)), "not-smtp", "greeting")
    assert result.diagnosis is not None
    assert kind in result.diagnosis.cause
    assert greeting not in str(result.as_dict())


def web_server(talk: Talk) -> None:
    talk.sock.recv(65536)
    talk.say("HTTP/1.1 400 Bad Request", "Content-Length: 0", "")


@pytest.mark.parametrize(("security", "stage"), [(NEVER, "greeting"), (SSL, "tls")])
def test_it_knows_a_web_server_that_waits_for_the_first_word(security: Security, stage: str) -> None:
    result = expect(talk_to(web_server, security), "not-smtp", stage)
    assert result.diagnosis is not None
    assert "HTTP" in result.diagnosis.cause


@pytest.mark.parametrize("greeting", ["421 4.7.0 too many connections", "554 5.7.1 you are blocked"])
def test_it_knows_a_greeting_that_refuses(greeting: str) -> None:
    expect(talk_to(replying(greeting=greeting)), "greeting-refused", "greeting")


@pytest.mark.parametrize(
    ("replies", "stage"),
    [
        ({"greeting": "220 " + "x" * 10_000}, "greeting"),
        ({"greeting": "220-again\r\n" * 20_000}, "greeting"),
        ({"greeting": "\x00\x01\x02\x03\x04"}, "greeting"),
        ({"greeting": "999 what"}, "greeting"),
        ({"greeting": "220-one\r\n250 two"}, "greeting"),
        ({"EHLO": "hello yourself"}, "hello"),
        ({"MAIL": "2500 ok"}, "sender"),
    ],
)
def test_it_knows_replies_that_are_none(replies: dict[str, str], stage: str) -> None:
    expect(talk_to(replying(**replies)), "protocol-violation", stage)


# TLS


@pytest.mark.parametrize("security", [NEVER, TLS])
def test_it_knows_a_port_that_expects_tls_at_once(security: Security) -> None:
    result = expect(talk_to(replying(GOOD, at_once=True), security), "implicit-tls-expected", "greeting")
    assert result.diagnosis is not None
    assert result.diagnosis.correction is not None
    assert result.diagnosis.correction["security"] == "ssl"


def test_it_knows_a_port_that_begins_without_encryption() -> None:
    result = expect(talk_to(replying(GOOD), SSL), "starttls-expected", "tls")
    assert result.diagnosis is not None
    assert result.diagnosis.correction is not None
    assert result.diagnosis.correction["security"] == "tls"


def test_it_offers_no_unencrypted_way_as_a_correction() -> None:
    result = expect(talk_to(replying(EHLO="250 mail"), SSL), "starttls-expected", "tls")
    assert result.diagnosis is not None
    assert result.diagnosis.correction is None


def test_it_never_goes_on_without_starttls() -> None:
    with ScriptedServer(replying(EHLO="250-mail\r\n250-XXXXXXXA\r\n250 AUTH PLAIN")) as server:
        result = outcome_of(attempt(server.port, TLS), Trusting(AUTHORITY))
    expect(result, "starttls-not-offered", "tls")
    assert server.heard == ["EHLO keypost.example.test"]


def test_it_knows_a_server_that_refuses_starttls() -> None:
    expect(talk_to(replying(STARTTLS="454 4.7.0 TLS not available"), TLS), "starttls-refused", "tls")


@pytest.mark.parametrize("ending", [HANG_UP, RESET, SILENCE])
def test_it_knows_a_handshake_that_breaks_off(ending: str) -> None:
    def script(talk: Talk) -> None:
        talk.say("220 ready")
        talk.expect("EHLO")
        talk.say("250-mail", "250 STARTTLS")
        talk.expect("STARTTLS")
        talk.say("220 go ahead")
        talk.sock.recv(65536)
        if ending == SILENCE:
            talk.hold()
        elif ending == RESET:
            talk.reset()

    expect(talk_to(script, TLS, timeout=1), "tls-handshake-failed", "tls")


def test_it_refuses_text_slipped_in_before_the_handshake() -> None:
    def script(talk: Talk) -> None:
        talk.say("220 ready")
        talk.expect("EHLO")
        talk.say("250-mail", "250 STARTTLS")
        talk.expect("STARTTLS")
        talk.say("220 go ahead", "250-injected", "250 AUTH PLAIN")
        talk.begin_tls(GOOD)

    result = expect(talk_to(script, TLS), "tls-handshake-failed", "tls")
    assert result.diagnosis is not None
    assert "slipped in" in result.diagnosis.cause


def old(version: ssl.TLSVersion) -> ssl.SSLContext:
    context = Issued().server_context(ciphers="ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = version
    return context


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_it_speaks_no_tls_older_than_1_2() -> None:
    expect(talk_to(replying(old(ssl.TLSVersion.TLSv1_1), at_once=True), SSL), "tls-version", "tls")


def test_it_knows_when_there_is_no_common_cipher() -> None:
    context = Issued(key=rsa.generate_private_key(65537, 2048)).server_context(ciphers="AES128-SHA:@SECLEVEL=0")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    expect(talk_to(replying(context, at_once=True), SSL), "tls-cipher", "tls")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("security", [SSL, TLS])
def test_it_knows_a_server_that_wants_a_certificate_of_ours(version: ssl.TLSVersion, security: Security) -> None:
    context = server_context(AUTHORITY.issue_cert("localhost"))
    context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    AUTHORITY.configure_trust(context)
    result = talk_to(replying(context, at_once=security is SSL), security)
    assert result.diagnosis is not None
    expect(result, "client-certificate-wanted", result.diagnosis.stage)


def presenting(context: ssl.SSLContext, trust: Trust, *, host: str = "localhost", security: Security = SSL) -> Result:
    """Probe a server with this certificate; it must never be told a login."""
    with ScriptedServer(replying(context, at_once=security is SSL)) as server:
        result = outcome_of(attempt(server.port, security, host=host), trust)
    assert not [line for line in server.heard if line.startswith(("AUTH", "MAIL"))]
    assert result.certificate is not None
    assert not result.certificate.trusted
    return result


@pytest.mark.parametrize("security", [SSL, TLS])
def test_it_shows_a_self_signed_certificate(security: Security) -> None:
    own = Issued()
    result = presenting(own.server_context(), Trusting(), security=security)
    expect(result, "certificate-self-signed", "tls")
    assert result.certificate is not None
    assert result.certificate.sha256 == own.certificate.fingerprint(hashes.SHA256()).hex()
    assert result.certificate.names == ("localhost", "127.0.0.1")


@pytest.mark.parametrize("with_root", [True, False])
def test_it_shows_the_chain_of_an_unknown_authority(with_root: bool) -> None:
    root = Issued("An unknown root", authority=True)
    leaf = Issued(issuer=root)
    result = presenting(leaf.server_context(chain=(root,) if with_root else ()), Trusting())
    expect(result, "certificate-untrusted", "tls")
    assert result.certificate is not None
    assert len(result.certificate.chain) == (2 if with_root else 1)
    assert result.certificate.issuer == "CN=An unknown root"


def test_it_knows_a_missing_intermediate() -> None:
    root = Issued("Root", authority=True)
    middle = Issued("Intermediate", issuer=root, authority=True)
    leaf = Issued(issuer=middle)
    expect(presenting(leaf.server_context(), Trusting(root.pem)), "certificate-untrusted", "tls")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_it_lists_the_names_of_a_certificate_for_another_server(host: str) -> None:
    other = AUTHORITY.issue_cert("mail.example.test", "*.example.test")
    result = expect(
        presenting(server_context(other), Trusting(AUTHORITY), host=host), "certificate-name-mismatch", "tls"
    )
    assert result.diagnosis is not None
    assert "mail.example.test, *.example.test" in result.diagnosis.cause
    assert result.diagnosis.correction is None


def test_it_knows_a_certificate_without_a_name() -> None:
    own = Issued("Mail", names=())
    expect(presenting(own.server_context(), Trusting(own.pem)), "certificate-name-mismatch", "tls")


def test_it_knows_an_expired_certificate() -> None:
    over = AUTHORITY.issue_cert("localhost", not_after=datetime.now(UTC) - timedelta(days=1))
    expect(presenting(server_context(over), Trusting(AUTHORITY)), "certificate-expired", "tls")


def test_it_knows_a_certificate_of_the_future() -> None:
    early = AUTHORITY.issue_cert("localhost", not_before=datetime.now(UTC) + timedelta(days=2))
    expect(presenting(server_context(early), Trusting(AUTHORITY)), "certificate-not-yet-valid", "tls")


def test_it_knows_a_certificate_for_another_purpose() -> None:
    root = Issued("Root", authority=True)
    leaf = Issued(issuer=root, purpose=ExtendedKeyUsageOID.CLIENT_AUTH)
    expect(presenting(leaf.server_context(), Trusting(root.pem)), "certificate-unsuitable", "tls")


def test_it_knows_an_issuer_that_may_not_issue() -> None:
    root = Issued("Root", authority=True)
    fake = Issued("No authority", issuer=root, purpose=None)
    leaf = Issued(issuer=fake)
    expect(presenting(leaf.server_context(chain=(fake,)), Trusting(root.pem)), "certificate-unsuitable", "tls")


def test_it_knows_a_path_that_is_too_long() -> None:
    root = Issued("Root", authority=True, path_length=0)
    middle = Issued("Intermediate", issuer=root, authority=True)
    leaf = Issued(issuer=middle)
    expect(presenting(leaf.server_context(chain=(middle,)), Trusting(root.pem)), "certificate-unsuitable", "tls")


def test_it_knows_a_key_that_is_too_weak() -> None:
    root = Issued("Root", authority=True)
    leaf = Issued(issuer=root, key=rsa.generate_private_key(65537, 1024))  # noqa: S505
    context = leaf.server_context(ciphers="ALL:@SECLEVEL=0")
    expect(presenting(context, Trusting(root.pem)), "certificate-unsuitable", "tls")


# Greeting and login


@pytest.mark.parametrize("reply", ["504 5.5.2 need a full host name", "550 5.7.1 bad name"])
def test_it_knows_a_server_that_dislikes_our_name(reply: str) -> None:
    result = expect(talk_to(replying(EHLO=reply)), "hello-refused", "hello")
    assert result.diagnosis is not None
    assert "keypost.example.test" in result.diagnosis.cause


@pytest.mark.parametrize(
    ("verb", "reply", "stage"),
    [
        ("AUTH", "530 5.7.0 Must issue a STARTTLS command first", "authentication"),
        ("AUTH", "504 5.5.4 Unrecognized authentication type", "authentication"),
        ("AUTH", "538 5.7.11 Encryption required", "authentication"),
        ("MAIL", "530 5.7.0 Must issue a STARTTLS command first", "sender"),
    ],
)
def test_it_knows_a_server_that_demands_encryption(verb: str, reply: str, stage: str) -> None:
    result = expect(talk_to(replying(**{verb: reply})), "encryption-required", stage)
    assert result.diagnosis is not None
    assert result.diagnosis.correction is not None
    assert result.diagnosis.correction["security"] == "tls"


AUTH_REPLIES = [
    ("credentials-refused", "535 5.7.8 Authentication credentials invalid"),
    ("credentials-refused", "535 5.7.3 Authentication unsuccessful"),
    ("credentials-refused", "535 no"),
    ("application-password-required", "534 5.7.9 Application-specific password required"),
    ("credentials-refused", "535 5.7.139 Authentication unsuccessful, the user credentials were incorrect."),
    ("basic-authentication-disabled", "535 5.7.139 Authentication unsuccessful, basic authentication is disabled"),
    ("basic-authentication-disabled", "550 5.7.30 Basic authentication is not supported"),
    ("authentication-unavailable", "454 4.7.0 Temporary authentication failure"),
    ("authentication-unavailable", "432 4.3.2 a password transition is needed"),
    ("authentication-unavailable", "421 4.7.0 try again later"),
    ("unclassified", "503 5.5.1 Bad sequence of commands"),
]


@pytest.mark.parametrize(("code", "reply"), AUTH_REPLIES)
def test_it_knows_why_a_login_was_refused(code: str, reply: str) -> None:
    result = expect(talk_to(replying(AUTH=reply)), code, "authentication")
    assert result.diagnosis is not None
    assert result.diagnosis.reply == reply


def test_it_knows_a_server_without_a_login() -> None:
    expect(talk_to(replying(EHLO="250-mail\r\n250 SIZE")), "authentication-not-offered", "authentication")


def test_it_knows_a_server_with_foreign_ways_to_sign_in() -> None:
    result = talk_to(replying(EHLO="250-mail\r\n250 AUTH NTLM GSSAPI XOAUTH2"))
    expect(result, "mechanism-unsupported", "authentication")
    assert result.diagnosis is not None
    assert "NTLM, GSSAPI, XOAUTH2" in result.diagnosis.cause


# Sender, recipient, message

REPLIES = [
    ("authentication-required", "sender", {"MAIL": "530 5.7.1 Authentication required"}),
    ("authentication-required", "sender", {"MAIL": "530 5.7.57 Client was not authenticated"}),
    ("sender-refused", "sender", {"MAIL": "553 sorry"}),
    ("sender-refused", "sender", {"MAIL": "550 5.7.1 not owned by user"}),
    ("sender-refused", "sender", {"MAIL": "501 5.1.7 Bad sender address syntax"}),
    ("sender-refused", "recipient", {"RCPT": "553 5.7.1 <a>: Sender address rejected: not owned by user"}),
    ("sender-refused", "message", {"message": "550 5.7.60 Client does not have permissions to send as this sender"}),
    ("sender-refused", "message", {"message": "554 5.2.252 SendAsDenied"}),
    ("relay-denied", "recipient", {"RCPT": "554 5.7.1 Relay access denied"}),
    ("relay-denied", "recipient", {"RCPT": "550 5.7.54 Unable to relay recipient in non-accepted domain"}),
    ("relay-denied", "recipient", {"RCPT": "550 5.7.64 TenantAttribution; Relay Access Denied"}),
    ("recipient-unknown", "recipient", {"RCPT": "550 5.1.1 User unknown"}),
    ("recipient-unknown", "recipient", {"RCPT": "550 5.1.10 Recipient not found"}),
    ("recipient-unknown", "recipient", {"RCPT": "553 5.1.3 bad destination"}),
    ("recipient-refused", "recipient", {"RCPT": "552 5.2.2 Mailbox full"}),
    ("recipient-refused", "recipient", {"RCPT": "554 5.7.1 Client host blocked using a list"}),
    ("greylisted", "recipient", {"RCPT": "450 4.2.0 Greylisted"}),
    ("greylisted", "recipient", {"RCPT": "451 4.7.1 come back later"}),
    ("throttled", "recipient", {"RCPT": "450 4.7.1 too fast"}),
    ("throttled", "recipient", {"RCPT": "452 4.5.3 too many recipients"}),
    ("throttled", "sender", {"MAIL": "421 4.7.0 slow down"}),
    ("message-too-big", "sender", {"MAIL": "552 5.3.4 message size exceeds fixed limit"}),
    ("message-too-big", "message", {"message": "552 5.3.4 too big"}),
    ("recipient-refused", "message", {"message": "552 5.2.2 The recipient is over quota"}),
    ("message-refused", "message", {"message": "550 5.7.1 looks like spam"}),
    ("message-refused", "message", {"message": "554 5.7.9 DMARC policy"}),
    ("server-storage", "message", {"message": "452 4.3.1 Insufficient system storage"}),
    ("server-storage", "message", {"message": "451 4.3.0 queue file write error"}),
    ("server-storage", "recipient", {"RCPT": "430 4.2.0 mailbox busy"}),
    ("message-deferred", "message", {"message": "451 4.7.650 try later"}),
    ("conversation-broken", "message", {"message": HANG_UP}),
    ("conversation-broken", "message", {"message": RESET}),
    ("conversation-broken", "message", {"message": SILENCE}),
    ("conversation-broken", "message", {"DATA": HANG_UP}),
    ("unclassified", "message", {"DATA": "250 what"}),
    ("unclassified", "greeting", {"greeting": "250 hello"}),
]


@pytest.mark.parametrize(("code", "stage", "replies"), REPLIES)
def test_it_sorts_each_reply(code: str, stage: str, replies: dict[str, str]) -> None:
    result = expect(talk_to(replying(**replies), timeout=2), code, stage)
    assert result.diagnosis is not None
    reply = next(iter(replies.values()))
    assert result.diagnosis.reply == (None if reply in (HANG_UP, RESET, SILENCE) else reply)


def test_it_reads_the_limit_before_it_sends_too_much() -> None:
    with ScriptedServer(replying(EHLO="250-mail\r\n250-AUTH PLAIN\r\n250 SIZE 1000")) as server:
        result = outcome_of(attempt(server.port, message=b"x" * 2000), Trusting())
    expect(result, "message-too-big", "sender")
    assert not [line for line in server.heard if line.startswith("MAIL")]


def test_it_knows_a_server_that_cannot_take_an_international_address() -> None:
    result = talk_to(replying(), sender="jörg@example.test")
    expect(result, "internationalized-address-unsupported", "sender")


def with_a_token(url: str) -> Result:
    login = Login("alerts@example.test", LOGIN.password, ClientCredentials(url, "client"))
    return talk_to(replying(EHLO="250-mail\r\n250 AUTH XOAUTH2"), login=login)


def test_it_knows_a_token_service_that_refuses() -> None:
    def endpoint(talk: Talk) -> None:
        talk.expect("POST /token")
        while talk.hear():
            pass
        answer = '{"error": "invalid_client", "error_description": "unknown pässword 1"}'
        talk.say("HTTP/1.1 401 Unauthorized", f"Content-Length: {len(answer.encode())}", "", answer)

    with ScriptedServer(endpoint) as service:
        result = expect(with_a_token(f"http://localhost:{service.port}/token"), "oauth-token-refused", "authentication")
    assert service.errors == []
    assert result.diagnosis is not None
    assert "invalid_client: unknown" in result.diagnosis.cause


def test_it_knows_a_token_service_that_does_not_answer() -> None:
    with ScriptedServer(lambda talk: talk.reset()) as service:
        result = with_a_token(f"http://localhost:{service.port}/token")
    expect(result, "oauth-token-unreachable", "authentication")


def test_the_most_telling_address_decides() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    result = outcome_of(attempt(port), Trusting(), resolver=resolving("255.255.255.255", "127.0.0.1"))
    expect(result, "connection-refused", "connect")


def test_every_code_was_reached(request: pytest.FixtureRequest) -> None:
    """Runs last in this file; alone it has nothing to look at."""
    ran = {item.originalname for item in request.session.items if item.path == request.path}  # type: ignore[attr-defined]
    everything = {name for name in globals() if name.startswith("test_")}
    if ran >= everything and not hasattr(request.config, "workerinput"):
        assert set(CODES) == REACHED
