"""One mechanism per attempt, in UTF-8, and no secret of any mechanism in the record."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import socket
from collections.abc import Sequence

import pytest

from tests.support.mail_certificates import Trusting
from tests.support.scripted_smtp import Gone, ScriptedServer, Talk
from webapp.keyring import Secret
from webapp.mail import sasl
from webapp.mail.dial import Address
from webapp.mail.probe import Attempt, Result, login_check, outcome_of
from webapp.mail.transport import Login, Security, Server

USER, PASSWORD = "kåre@example.test", "pässword, correct"


def b64(data: bytes | str) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def unb64(text: str) -> str:
    return base64.b64decode(text).decode()


def greet(talk: Talk, mechanisms: str) -> str:
    talk.say("220 ready")
    talk.expect("EHLO")
    talk.say("250-mail", f"250 AUTH {mechanisms}")
    return talk.expect("AUTH")


def accept_if(talk: Talk, right: bool) -> None:
    talk.say("235 2.7.0 welcome" if right else "535 5.7.8 no")
    talk.expect("QUIT")
    talk.say("221 bye")


def plain(talk: Talk) -> None:
    _, mechanism, initial = greet(talk, "PLAIN").split(" ")
    accept_if(talk, mechanism == "PLAIN" and unb64(initial) == f"\0{USER}\0{PASSWORD}")


def plain_without_initial_response(talk: Talk) -> None:
    greet(talk, "PLAIN")
    talk.say("334 ")
    accept_if(talk, unb64(talk.hear()) == f"\0{USER}\0{PASSWORD}")


def login(talk: Talk) -> None:
    assert greet(talk, "LOGIN") == "AUTH LOGIN"
    talk.say("334 " + b64("Username:"))
    name = unb64(talk.hear())
    talk.say("334 " + b64("Password:"))
    accept_if(talk, (name, unb64(talk.hear())) == (USER, PASSWORD))


def cram_md5(talk: Talk) -> None:
    assert greet(talk, "LOGIN CRAM-MD5 PLAIN") == "AUTH CRAM-MD5"
    challenge = "<1896.697170952@mail.example.test>"
    talk.say("334 " + b64(challenge))
    digest = hmac.new(PASSWORD.encode(), challenge.encode(), "md5").hexdigest()
    accept_if(talk, unb64(talk.hear()) == f"{USER} {digest}")


class Scram:
    """The server's side of SCRAM-SHA-256 (RFC 5802, section 3)."""

    def __init__(self, *, iterations: int = 4096, knows_password: bool = True, skip_proof: bool = False) -> None:
        self.iterations = iterations
        self.knows_password = knows_password
        self.skip_proof = skip_proof
        self.said: list[str] = []

    def __call__(self, talk: Talk) -> None:
        _, mechanism, initial = greet(talk, "PLAIN CRAM-MD5 SCRAM-SHA-256").split(" ")
        assert mechanism == "SCRAM-SHA-256"
        bare = unb64(initial).removeprefix("n,,")
        salt = secrets.token_bytes(16)
        first = f"r={bare.partition(',r=')[2]}{secrets.token_hex(8)},s={b64(salt)},i={self.iterations}"
        talk.say("334 " + b64(first))
        answer = talk.hear()
        if answer == "*":
            talk.say("501 cancelled")
            raise Gone
        final, _, proof = unb64(answer).partition(",p=")
        salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), salt, self.iterations)
        signed = ",".join((bare, first, final)).encode()
        stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
        signature = hmac.digest(stored, signed, "sha256")
        key = bytes(a ^ b for a, b in zip(base64.b64decode(proof), signature, strict=True))
        if hashlib.sha256(key).digest() != stored:
            accept_if(talk, False)
            return
        verifier = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")
        verifier = verifier if self.knows_password else bytes(32)
        self.said += [answer, proof, b64(verifier)]
        if self.skip_proof:
            talk.say("235 2.7.0 believe me")
            return
        talk.say("334 " + b64("v=" + b64(verifier)))
        talk.hear()
        accept_if(talk, True)


def check(script: object, password: str = PASSWORD) -> Result:
    with ScriptedServer(script) as server:  # type: ignore[arg-type]
        place = Server("localhost", server.port, Security.NEVER, "keypost.example.test")
        result = outcome_of(login_check(place, Login(USER, Secret(password)), timeout=5), Trusting())
    assert server.errors == []
    for line in server.heard:
        if line.startswith(("EHLO", "QUIT")):
            continue
        for word in line.split(" ")[2:] if " " in line else [line]:
            assert len(word) < 8 or word not in "\n".join(result.transcript)
    assert password not in str(result.as_dict())
    return result


@pytest.mark.parametrize("script", [plain, plain_without_initial_response, login, cram_md5, Scram()])
def test_each_mechanism_signs_in_with_letters_beyond_ascii(script: object) -> None:
    result = check(script)
    assert result.outcome == "accepted", result.diagnosis
    assert result.negotiated.mechanism in sasl.MECHANISMS


@pytest.mark.parametrize("script", [plain, login, cram_md5, Scram()])
def test_a_wrong_password_is_one_failed_login(script: object) -> None:
    result = check(script, "wrong password")
    assert result.diagnosis is not None
    assert result.diagnosis.code == "credentials-refused"
    assert len([line for line in result.transcript if line.startswith("C: AUTH")]) == 1


@pytest.mark.parametrize("script", [Scram(knows_password=False), Scram(skip_proof=True), Scram(iterations=10**9)])
def test_a_scram_server_must_prove_itself_within_bounds(script: object) -> None:
    result = check(script)
    assert result.diagnosis is not None
    assert result.diagnosis.code == "protocol-violation"


def test_nothing_of_scram_that_could_be_guessed_against_is_recorded() -> None:
    script = Scram()
    result = check(script)
    assert script.said
    assert not [word for word in script.said if word in "\n".join(result.transcript)]


@pytest.mark.parametrize("password", ["a\0b", "half of a letter: \udcff"])
def test_what_no_server_can_be_told_is_not_sent(password: str) -> None:
    heard: list[str] = []

    def script(talk: Talk) -> None:
        heard.append(greet(talk, "PLAIN"))

    result = check(script, password)
    assert result.diagnosis is not None
    assert (result.diagnosis.code, heard) == ("credentials-refused", [])


def test_an_endless_dialogue_ends() -> None:
    def script(talk: Talk) -> None:
        greet(talk, "LOGIN")
        while True:
            talk.say("334 " + b64("more"))
            talk.hear()

    result = check(script)
    assert result.diagnosis is not None
    assert result.diagnosis.code == "protocol-violation"


@pytest.mark.parametrize(
    ("offered", "encrypted", "chosen"),
    [
        ("CRAM-MD5 SCRAM-SHA-256 LOGIN PLAIN", True, "PLAIN"),
        ("CRAM-MD5 LOGIN", True, "LOGIN"),
        ("CRAM-MD5 SCRAM-SHA-256 LOGIN PLAIN", False, "SCRAM-SHA-256"),
        ("CRAM-MD5 PLAIN", False, "CRAM-MD5"),
        ("login plain", False, "PLAIN"),
        ("NTLM GSSAPI", True, None),
    ],
)
def test_one_mechanism_is_chosen(offered: str, encrypted: bool, chosen: str | None) -> None:
    assert sasl.choose(offered.split(), encrypted) == chosen


def test_scram_reaches_the_example_of_the_rfc(monkeypatch: pytest.MonkeyPatch) -> None:
    nonce = "rOprNGfwEbeRWgbNEkqO"
    monkeypatch.setattr(sasl.secrets, "token_bytes", lambda _: base64.b64decode(nonce))
    exchange = sasl.scram_sha_256("user", "pencil")
    assert next(exchange) == f"n,,n=user,r={nonce}".encode()
    joint = f"{nonce}%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    answer = exchange.send(f"r={joint},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".encode())
    assert answer == f"c=biws,r={joint},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=".encode()
    assert exchange.send(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=") == b""


def outside(name: str, port: int) -> Sequence[Address]:
    """Reach this machine by an address that is not its loopback, as far as Keypost can tell."""
    return [Address(socket.AF_INET, "203.0.113.5", ("127.0.0.1", port))]


def test_a_password_never_crosses_an_open_network_without_consent() -> None:
    with ScriptedServer(plain) as server:
        place = Server("mail.example.test", server.port, Security.NEVER, "keypost.example.test")
        refused = outcome_of(login_check(place, Login(USER, Secret(PASSWORD))), Trusting(), resolver=outside)
    assert not [line for line in server.heard if line.startswith("AUTH")]
    assert refused.diagnosis is not None
    assert refused.diagnosis.code == "encryption-required"
    assert "did not send it" in refused.diagnosis.cause


def test_a_password_crosses_an_open_network_with_consent() -> None:
    with ScriptedServer(plain) as server:
        place = Server("mail.example.test", server.port, Security.NEVER, "keypost.example.test")
        consent = login_check(place, Login(USER, Secret(PASSWORD)), unencrypted_login_allowed=True)
        assert outcome_of(consent, Trusting(), resolver=outside).outcome == "accepted"


def test_a_secret_sent_back_by_the_server_does_not_reach_the_result() -> None:
    def script(talk: Talk) -> None:
        initial = greet(talk, "PLAIN").split(" ")[2]
        talk.say(
            f"535-5.7.8 {unb64(initial).rpartition(chr(0))[2]}", f"535-5.7.8 {initial[:9]}", f"535 5.7.8 {initial[9:]}"
        )

    result = check(script)
    assert result.diagnosis is not None
    assert result.diagnosis.reply == "535-5.7.8 ***\n535-5.7.8 ***\n535 5.7.8 ***="


def test_a_login_check_names_no_sender() -> None:
    with ScriptedServer(plain) as server:
        place = Server("localhost", server.port, Security.NEVER)
        result = outcome_of(login_check(place, Login(USER, Secret(PASSWORD)), timeout=5), Trusting())
    assert result.outcome == "accepted"
    assert [stage.name for stage in result.stages if stage.outcome == "done"][-1] == "authentication"
    assert not [line for line in server.heard if line.startswith("MAIL")]


def test_an_attempt_without_a_recipient_ends_after_the_sender() -> None:
    def script(talk: Talk) -> None:
        talk.say("220 ready")
        talk.expect("EHLO")
        talk.say("250 mail")
        talk.expect("MAIL FROM:<a@example.test>")
        talk.say("250 ok")
        talk.expect("RSET")
        talk.say("250 ok")
        talk.expect("QUIT")
        talk.say("221 bye")

    with ScriptedServer(script) as server:
        result = outcome_of(
            Attempt(Server("localhost", server.port, Security.NEVER), None, "a@example.test"), Trusting()
        )
    assert server.errors == []
    assert result.outcome == "accepted"
    assert [stage.name for stage in result.stages if stage.outcome == "skipped"] == [
        "tls",
        "authentication",
        "recipient",
        "message",
    ]
