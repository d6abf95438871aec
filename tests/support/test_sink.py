"""The server that benchmarks and crash tests rely on tells the truth."""

from __future__ import annotations

import smtplib
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from tests.support.sink import HANG_UP, TAKE_AND_HANG_UP, Sink

LETTER = b"Message-ID: <1@example.test>\r\nFrom: <a@example.test>\r\n\r\nhello\r\n"
LETTER_WITH_ID_INSIDE = b"From: <a@example.test>\r\nMessage-ID: <2@example.test>\r\n\r\n.dot\r\n"


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    with Sink(tmp_path) as running:
        yield running


@contextmanager
def talking_to(sink: Sink) -> Iterator[smtplib.SMTP]:
    client = smtplib.SMTP(sink.host, sink.port, timeout=10)
    try:
        yield client
    finally:
        client.close()


def send(client: smtplib.SMTP, to: str = "bob@example.test", letter: bytes = LETTER_WITH_ID_INSIDE) -> None:
    client.sendmail("a@example.test", [to], letter)


def test_a_message_is_in_the_log_once_it_has_been_accepted(sink: Sink) -> None:
    with talking_to(sink) as client:
        send(client)
        (accepted,) = sink.accepted()
    assert (accepted.recipient, accepted.message_id, accepted.connection) == ("bob@example.test", "<2@example.test>", 1)
    # smtplib doubles the dot.
    assert accepted.size == len(LETTER_WITH_ID_INSIDE) + 1


def test_many_messages_in_one_write_are_told_apart(sink: Sink) -> None:
    mail = b"MAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n"
    with socket.create_connection((sink.host, sink.port), timeout=10) as client, client.makefile("rb") as replies:
        client.sendall(b"EHLO here\r\n" + mail)
        while not replies.readline().startswith(b"354"):
            pass
        for _ in range(3):
            client.sendall(LETTER + b".\r\n" + mail)
            assert [replies.readline()[:3] for _ in range(4)] == [b"250", b"250", b"250", b"354"]
    assert sink.count() == len(sink.accepted()) == 3
    assert sink.heard().violations == []


def test_a_body_that_nobody_asked_for_yet_is_a_violation(sink: Sink) -> None:
    with socket.create_connection((sink.host, sink.port), timeout=10) as client, client.makefile("rb") as replies:
        client.sendall(b"EHLO here\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\n" + LETTER + b".\r\n")
        while not replies.readline().startswith(b"354"):
            pass
        assert replies.readline().startswith(b"250")
    assert len(sink.heard().violations) == 1


def test_what_breaks_off_before_the_dot_was_not_accepted(sink: Sink) -> None:
    with talking_to(sink) as client:
        client.ehlo()
        client.mail("a@example.test")
        client.rcpt("b@example.test")
        client.docmd("DATA")
        client.send(LETTER)
    with talking_to(sink) as client:
        send(client)
    assert [each.connection for each in sink.accepted()] == [2]


def test_it_signs_in_behind_starttls_and_only_with_the_right_password(tmp_path: Path) -> None:
    authority = trustme.CA()
    pem = tmp_path / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(pem)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with Sink(tmp_path, certificate=pem, login=("user", "correct-horse")) as sink:
        client = smtplib.SMTP("localhost", sink.port, timeout=10)
        with pytest.raises(smtplib.SMTPException):
            client.login("user", "correct-horse")
        client.starttls(context=context)
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("user", "wrong")
        client.login("user", "correct-horse")
        send(client)
        client.close()
        heard = sink.heard()
    assert (len(heard.accepted), heard.logins, heard.refused_logins, heard.violations) == (1, 1, 1, [])


def test_it_says_what_it_is_told_to_say(sink: Sink) -> None:
    sink.tell(replies={"RCPT bad@example.test": "550 5.1.1 unknown"})
    with talking_to(sink) as client:
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            send(client, "bad@example.test")
        send(client, "good@example.test")
    assert [each.recipient for each in sink.accepted()] == ["good@example.test"]


@pytest.mark.parametrize("step", ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "body", "message"])
def test_it_hangs_up_where_it_is_told_to(sink: Sink, step: str) -> None:
    sink.tell(replies={step: HANG_UP})
    with pytest.raises((smtplib.SMTPServerDisconnected, OSError)), talking_to(sink) as client:
        send(client)
    assert sink.accepted() == []


def test_it_may_take_a_message_without_saying_so(sink: Sink) -> None:
    sink.tell(replies={"message": TAKE_AND_HANG_UP})
    with pytest.raises(smtplib.SMTPServerDisconnected), talking_to(sink) as client:
        send(client)
    assert len(sink.accepted()) == 1


def test_it_refuses_connections_and_comes_back_on_its_port(sink: Sink) -> None:
    sink.tell(listening=False, hang_up=True)
    with pytest.raises(ConnectionRefusedError), talking_to(sink):
        pass
    sink.tell(listening=True)
    with talking_to(sink) as client:
        send(client)


def test_each_reply_comes_later_by_the_delay(sink: Sink) -> None:
    sink.tell(delay=0.05)
    with talking_to(sink) as client:
        client.ehlo()
        begun = time.monotonic()
        client.noop()
        client.noop()
        assert time.monotonic() - begun >= 0.1
