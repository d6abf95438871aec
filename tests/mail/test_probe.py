"""The road of real mail: what is sent over it, in which order, and what is told about it."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Sequence

import pytest
import trustme

from tests.support.mail_certificates import Trusting, server_context
from tests.support.mail_server import MailServer
from tests.support.scripted_smtp import DEFAULT_REPLIES, ScriptedServer, Talk, replying
from webapp.errors import Invalid
from webapp.keyring import Secret
from webapp.mail.dial import Address
from webapp.mail.message import compose
from webapp.mail.probe import Attempt, Result, Stage, login_check, outcome_of, probe
from webapp.mail.transport import STAGES, Connection, Login, Security, Server, mail_command, rcpt_command
from webapp.mail.wire import Deadline

AUTHORITY = trustme.CA()
GOOD = server_context(AUTHORITY.issue_cert("localhost"))
LOGIN = Login("user@example.test", Secret("correct-horse"))
MESSAGE = compose(sender="user@example.test", recipient="b@example.test", subject="Hello", text=".\n..dots\n.end\n")


def attempt(port: int, security: Security, **more: object) -> Attempt:
    server = Server("localhost", port, security, "keypost.example.test")
    fields = {"login": LOGIN, "sender": "user@example.test", "recipient": "b@example.test", "message": MESSAGE, **more}
    return Attempt(server, **fields)  # type: ignore[arg-type]


def test_starttls_delivers_and_tells_every_stage(mail_server_starttls: MailServer, mail_authority: trustme.CA) -> None:
    told = list(probe(attempt(mail_server_starttls.port, Security.TLS), Trusting(mail_authority)))
    assert [stage.name for stage in told if isinstance(stage, Stage)] == list(STAGES)
    result = told[-1]
    assert isinstance(result, Result)
    assert (result.outcome, result.diagnosis, result.queue_id) == ("accepted", None, "TEST000001")
    assert result.negotiated.tls_version == "TLSv1.3"
    assert (result.negotiated.mechanism, result.negotiated.size) == ("PLAIN", 10_000_000)
    accepted = mail_server_starttls.wait_for_message()
    assert (accepted.username, accepted.content) == ("user@example.test", MESSAGE)


def test_ssl_encrypts_before_the_greeting(mail_server_ssl: MailServer, mail_authority: trustme.CA) -> None:
    result = outcome_of(attempt(mail_server_ssl.port, Security.SSL), Trusting(mail_authority))
    assert result.outcome == "accepted"
    assert [stage.name for stage in result.stages][:4] == ["resolve", "connect", "tls", "greeting"]
    assert result.certificate is not None
    assert result.certificate.trusted
    assert "localhost" in result.certificate.names


def test_the_json_is_the_public_interface(mail_server_ssl: MailServer) -> None:
    told = json.loads(json.dumps(outcome_of(attempt(mail_server_ssl.port, Security.SSL), Trusting()).as_dict()))
    assert told["outcome"] == "failed"
    assert set(told["stages"][0]) == {"name", "outcome", "milliseconds", "detail"}
    assert {"code", "cause", "remedy", "reply"} <= set(told["diagnosis"])
    assert {"subject", "issuer", "names", "not_after", "sha256", "trusted"} <= set(told["certificate"])
    assert told["certificate"]["trusted"] is False
    assert told["transcript"]


def test_a_rotated_password_is_used_by_the_next_connection(
    mail_server_ssl: MailServer, mail_authority: trustme.CA
) -> None:
    mail_server_ssl.users["user@example.test"] = "rotated"
    server = Server("localhost", mail_server_ssl.port, Security.SSL)
    old = outcome_of(login_check(server, LOGIN), Trusting(mail_authority))
    new = outcome_of(login_check(server, Login("user@example.test", Secret("rotated"))), Trusting(mail_authority))
    assert old.diagnosis is not None
    assert (old.diagnosis.code, new.outcome) == ("credentials-refused", "accepted")
    assert mail_server_ssl.failed_logins == ["user@example.test"]


def test_what_was_offered_before_starttls_is_forgotten() -> None:
    """The first EHLO offers SIZE and AUTH; the one inside TLS does not, and that one counts."""

    def script(talk: Talk) -> None:
        talk.say("220 ready")
        talk.expect("EHLO")
        talk.say("250-mail", "250-SIZE 1", "250-AUTH PLAIN", "250 STARTTLS")
        talk.expect("STARTTLS")
        talk.say("220 go")
        talk.begin_tls(GOOD)
        talk.expect("EHLO")
        talk.say("250 mail")
        talk.hear()

    with ScriptedServer(script) as server:
        result = outcome_of(attempt(server.port, Security.TLS), Trusting(AUTHORITY))
    assert result.diagnosis is not None
    assert result.diagnosis.code == "authentication-not-offered"
    assert result.negotiated.size is None


def test_an_international_domain_travels_as_a_labels() -> None:
    with ScriptedServer(replying()) as server:
        sent = outcome_of(
            attempt(server.port, Security.NEVER, sender="a@Müller.example", recipient="b@日本.example"), Trusting()
        )
    assert sent.outcome == "accepted"
    assert "MAIL FROM:<a@xn--mller-kva.example> SIZE=" in "\n".join(server.heard)
    assert "RCPT TO:<b@xn--wgv71a.example>" in server.heard


def test_a_name_is_the_same_in_capitals(mail_server_ssl: MailServer, mail_authority: trustme.CA) -> None:
    place = Server("LocalHost.", mail_server_ssl.port, Security.SSL)
    assert outcome_of(login_check(place, LOGIN), Trusting(mail_authority)).outcome == "accepted"


def test_smtputf8_is_used_where_it_is_needed_and_offered() -> None:
    offering = DEFAULT_REPLIES["EHLO"].replace("250 STARTTLS", "250 SMTPUTF8")
    with ScriptedServer(replying(EHLO=offering)) as server:
        needed = outcome_of(attempt(server.port, Security.NEVER, recipient="jörg@example.test"), Trusting())
        spared = outcome_of(attempt(server.port, Security.NEVER), Trusting())
    assert (needed.outcome, spared.outcome) == ("accepted", "accepted")
    commands = [line.endswith("SMTPUTF8") for line in server.heard if line.startswith("MAIL")]
    assert commands == [True, False]


def test_a_server_that_knows_only_helo_is_enough() -> None:
    with ScriptedServer(replying(EHLO="502 5.5.1 what", HELO="250 hello")) as server:
        result = outcome_of(attempt(server.port, Security.NEVER, login=None), Trusting())
    assert result.outcome == "accepted"


def test_ipv4_is_tried_when_ipv6_leads_nowhere() -> None:
    def both(name: str, port: int) -> Sequence[Address]:
        return [
            Address(socket.AF_INET6, "2001:db8::1", ("2001:db8::1", port)),
            Address(socket.AF_INET, "127.0.0.1", ("127.0.0.1", port)),
        ]

    with ScriptedServer(replying()) as server:
        result = outcome_of(attempt(server.port, Security.NEVER), Trusting(), resolver=both)
    assert result.outcome == "accepted"
    assert result.stages[1].milliseconds < 2000


def test_ipv6_is_used_where_it_works() -> None:
    with ScriptedServer(replying(), host="::1") as server:
        place = Server("::1", server.port, Security.NEVER)
        result = outcome_of(Attempt(place, LOGIN, "a@example.test"), Trusting())
    assert result.outcome == "accepted"
    assert server.heard[0] == "EHLO [IPv6:::1]"


def test_the_name_is_looked_up_once() -> None:
    """A second answer would be a link-local address: nobody may be led there by asking again."""
    answers = iter(["127.0.0.1", "169.254.169.254", "169.254.169.254"])

    def rebinding(name: str, port: int) -> Sequence[Address]:
        ip = next(answers)
        return [Address(socket.AF_INET, ip, (ip, port))]

    with ScriptedServer(replying(GOOD, at_once=True)) as server:
        result = outcome_of(attempt(server.port, Security.SSL), Trusting(), resolver=rebinding)
    assert result.certificate is not None
    assert server.connections == 2
    assert next(answers) == "169.254.169.254"


@pytest.mark.parametrize("sender", ["a@b.example>\r\nRCPT TO:<x@y", "a b@c.example", "a@b.example, c@d.example", "a@"])
def test_an_address_that_is_none_is_not_sent(sender: str) -> None:
    with pytest.raises(Invalid):
        outcome_of(attempt(25, Security.NEVER, sender=sender), Trusting())


def test_a_context_that_does_not_verify_is_not_used() -> None:
    class Careless:
        def ssl_context(self, host: str, port: int) -> ssl.SSLContext:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context

    with ScriptedServer(replying(GOOD, at_once=True)) as server, pytest.raises(ValueError, match="verify"):
        outcome_of(attempt(server.port, Security.SSL), Careless())


def test_one_connection_carries_many_messages(mail_server_ssl: MailServer, mail_authority: trustme.CA) -> None:
    server = Server("localhost", mail_server_ssl.port, Security.SSL)
    with Connection(server, Trusting(mail_authority)) as connection:
        connection.open(LOGIN)
        for _ in range(5):
            connection.mail_from("user@example.test", size=len(MESSAGE))
            connection.rcpt_to("b@example.test")
            connection.data(MESSAGE)
        connection.quit()
    assert len(mail_server_ssl.wait_for_messages(5)) == 5
    assert (mail_server_ssl.connections, mail_server_ssl.logins) == (1, ["user@example.test"])


def test_commands_can_be_pipelined(mail_server_ssl: MailServer, mail_authority: trustme.CA) -> None:
    server = Server("localhost", mail_server_ssl.port, Security.SSL)
    with Connection(server, Trusting(mail_authority)) as connection:
        connection.open(LOGIN)
        assert connection.features.pipelining
        commands = [mail_command("user@example.test", connection.features), rcpt_command("b@example.test"), "DATA"]
        connection.send("".join(command + "\r\n" for command in commands).encode())
        assert [connection.read_reply().code for _ in commands] == [250, 250, 354]
        connection.send(MESSAGE + b".\r\n")
        assert connection.read_reply().code == 250
        connection.quit()


def test_a_reply_does_not_stay_in_the_way_of_a_deadline() -> None:
    deadline = Deadline(0)
    with pytest.raises(TimeoutError):
        deadline.within(10).remaining()
