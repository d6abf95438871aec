"""`keypost mail probe --json` and the page say the same of the same server."""

from __future__ import annotations

import html
import json
import re
import socket
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
import trustme
from click.testing import CliRunner

from tests.support.mail_certificates import Issued, server_context
from tests.support.mail_form import PAGE, SECRET, TEST, USER, outcome, stages, typed
from tests.support.people import Person
from tests.support.scripted_smtp import HANG_UP, Script, ScriptedServer, Talk, replying
from webapp.cli.mail import group
from webapp.installation import Installation


def ehlo(*offers: str) -> str:
    return "\r\n".join(["250-mail.example.test", *(f"250-{offer}" for offer in offers), "250 HELP"])


def tls(issued: Issued) -> Callable[[], Script]:
    return lambda: replying(issued.server_context(), at_once=True)


def imap(talk: Talk) -> None:
    talk.say("* OK [CAPABILITY IMAP4rev1] Dovecot ready.")
    talk.hold()


FAILURES: dict[str, tuple[str, Callable[[], Script]]] = {
    "greeting-refused": ("never", lambda: replying(greeting="554 5.7.1 go away")),
    "not-smtp": ("never", lambda: imap),
    "connection-dropped": ("never", lambda: replying(greeting=HANG_UP)),
    "hello-refused": ("never", lambda: replying(EHLO="550 5.7.1 who?", HELO="550 5.7.1 who?")),
    "starttls-not-offered": ("tls", lambda: replying(EHLO=ehlo("AUTH PLAIN"))),
    "starttls-refused": ("tls", lambda: replying(STARTTLS="454 4.7.0 not now")),
    "starttls-expected": ("ssl", lambda: replying(server_context(trustme.CA().issue_cert("localhost")))),
    "certificate-self-signed": ("ssl", tls(Issued())),
    "certificate-untrusted": ("ssl", tls(Issued(issuer=Issued("An authority", authority=True)))),
    "authentication-not-offered": ("never", lambda: replying(EHLO=ehlo("SIZE 1000"))),
    "mechanism-unsupported": ("never", lambda: replying(EHLO=ehlo("AUTH NTLM GSSAPI"))),
    "credentials-refused": ("never", lambda: replying(AUTH="535 5.7.8 no")),
    "application-password-required": ("never", lambda: replying(AUTH="534 5.7.9 app password")),
    "authentication-unavailable": ("never", lambda: replying(AUTH="454 4.7.0 later")),
    "sender-refused": ("never", lambda: replying(MAIL="553 5.7.1 not owned by user")),
    "relay-denied": ("never", lambda: replying(RCPT="554 5.7.1 relay access denied")),
    "recipient-unknown": ("never", lambda: replying(RCPT="550 5.1.1 no such user")),
    "greylisted": ("never", lambda: replying(RCPT="450 4.7.1 greylisted, try again later")),
    "message-refused": ("never", lambda: replying(message="554 5.7.1 spam")),
    "conversation-broken": ("never", lambda: replying(message=HANG_UP)),
}


def by_page(person: Person, port: int, security: str, **changes: str) -> dict[str, Any]:
    """What the page's result says, in the words of the command line."""
    text = person.post(TEST, typed(port, security, **changes), htmx=True).text
    said = [html.unescape(each) for each in re.findall(r"<p>(.*?)</p>", text)]
    went, code = outcome(text)
    return {"outcome": went, "code": code, "stages": stages(text), "said": said}


def by_command(installation: Installation, port: int, security: str, server: str = "localhost") -> dict[str, Any]:
    arguments = ["--server", server, "--port", str(port), "--security", security, "--sender", "keypost@example.test"]
    login = ["--to", "ann@example.test", "--username", USER, "--password-stdin"]
    done = CliRunner().invoke(group, ["probe", *arguments, *login, "--json"], input=SECRET, obj=installation)
    said = json.loads(done.stdout)
    assert done.exit_code == (0 if said["outcome"] == "accepted" else 1)
    return {**said, "stages": {stage["name"]: stage["outcome"] for stage in said["stages"]}}


def agree(page: dict[str, Any], command: dict[str, Any], code: str) -> None:
    found = command["diagnosis"]
    assert (page["outcome"], page["code"]) == ("failed", code)
    assert (command["outcome"], found["code"]) == ("failed", code)
    assert page["stages"] == command["stages"]
    assert any(found["cause"] == each for each in page["said"]), (found["cause"], page["said"])
    assert any(found["remedy"] in each for each in page["said"]), (found["remedy"], page["said"])
    if found["reply"]:
        assert any(found["reply"] in each for each in page["said"]), (found["reply"], page["said"])


@pytest.mark.parametrize("code", FAILURES)
def test_a_failure_has_one_diagnosis(alice: Person, installation: Installation, code: str) -> None:
    security, script = FAILURES[code]
    with ScriptedServer(script()) as server:
        agree(by_page(alice, server.port, security), by_command(installation, server.port, security), code)
    assert server.errors == []


def test_a_port_where_nothing_listens_has_one_diagnosis(alice: Person, installation: Installation) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    agree(by_page(alice, port, "tls"), by_command(installation, port, "tls"), "connection-refused")


def test_a_name_that_does_not_exist_has_one_diagnosis(alice: Person, installation: Installation) -> None:
    page = by_page(alice, 587, "tls", server_name="nosuch.invalid")
    agree(page, by_command(installation, 587, "tls", "nosuch.invalid"), "name-not-found")


def test_an_accepted_message_is_accepted_by_both(alice: Person, installation: Installation) -> None:
    with ScriptedServer(replying()) as server:
        page, command = by_page(alice, server.port, "never"), by_command(installation, server.port, "never")
    assert (page["outcome"], page["code"]) == (command["outcome"], "") == ("accepted", "")
    assert page["stages"] == command["stages"]
    assert command["diagnosis"] is None


def test_the_saved_settings_have_that_diagnosis_too(alice: Person, installation: Installation) -> None:
    with ScriptedServer(replying(AUTH="535 5.7.8 no")) as server:
        alice.post(PAGE, typed(server.port))
        page = by_page(alice, server.port, "never", version="1")
        done = CliRunner().invoke(group, ["test", "--to", "ann@example.test", "--json"], obj=installation)
    said = json.loads(done.stdout)
    said["stages"] = {stage["name"]: stage["outcome"] for stage in said["stages"]}
    agree(page, said, "credentials-refused")
