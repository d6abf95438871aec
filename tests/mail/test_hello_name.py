"""Our own name for EHLO: a setting, said to real servers, and part of what a test proves."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from tests.support.mail_certificates import Trusting
from tests.support.mail_settings import draft, join
from tests.support.scripted_smtp import Script, ScriptedServer, Talk, replying
from webapp.actor import Actor
from webapp.audit.trail import AuditLine
from webapp.cli import main
from webapp.db import Database
from webapp.errors import Invalid
from webapp.installation import Installation
from webapp.keyring import Secret
from webapp.mail import checks, settings
from webapp.mail.address import valid_hello_name
from webapp.mail.probe import Result, outcome_of
from webapp.mail.settings import Draft, InvalidFields, MailSettings, VersionConflict
from webapp.mail.transport import Security

OURS = "keypost.example.test"


@pytest.fixture
def ann(database: Database) -> Actor:
    return join(database, "Ann")


def save(database: Database, actor: Actor, given: Draft) -> MailSettings:
    with database.transaction() as session:
        return settings.save(session, actor, given)


def relay(port: int, **changes: object) -> Draft:
    place = {"server_name": "localhost", "port": port, "security": Security.NEVER, "requires_authentication": False}
    return draft(**{**place, "username": "", "password": Secret(""), **changes})


def greeted(database: Database, script: Script, actor: Actor, **changes: object) -> tuple[list[str], Result]:
    """What a server hears first from the saved settings, and how it ended."""
    with ScriptedServer(script) as server:
        save(database, actor, relay(server.port, **changes))
        with database.reading() as session:
            attempt = settings.saved_target(session).attempt(None)
        result = outcome_of(attempt, Trusting())
    return [line for line in server.heard if line.startswith(("EHLO", "HELO"))], result


def wants_ours(talk: Talk) -> None:
    talk.say("220 ready")
    while True:
        said = talk.hear()
        talk.say("550 5.7.1 who are you?" if said.startswith("EHLO") and said != f"EHLO {OURS}" else "250 ok")


def test_the_saved_name_is_what_the_server_hears(database: Database, ann: Actor) -> None:
    heard, result = greeted(database, wants_ours, ann, hello_name=f" {OURS.upper()}. ")
    assert (heard, result.outcome) == ([f"EHLO {OURS}"], "accepted")


def test_a_name_of_other_letters_is_said_as_a_labels(database: Database, ann: Actor) -> None:
    heard, _ = greeted(database, replying(), ann, hello_name="tresor.bücher.example")
    assert heard == ["EHLO tresor.xn--bcher-kva.example"]


def test_without_a_name_the_system_gives_it(database: Database, ann: Actor) -> None:
    heard, _ = greeted(database, replying(), ann)
    assert len(heard) == 1
    assert heard[0].removeprefix("EHLO ")


def test_a_server_that_refuses_our_name_is_told_with_where_to_set_it(database: Database, ann: Actor) -> None:
    _, result = greeted(database, wants_ours, ann, hello_name="other.example.test")
    assert result.diagnosis is not None
    assert result.diagnosis.code == "hello-refused"
    assert "other.example.test" in result.diagnosis.cause
    assert "Name of this machine" in result.diagnosis.remedy


@pytest.mark.parametrize(
    "wrong", ["two words", "192.0.2.1", "[192.0.2.1]", "::1", "x:25", "smtp://x", "a@b", "a..b", "x\r\nRSET"]
)
def test_it_refuses_what_is_no_host_name(database: Database, ann: Actor, wrong: str) -> None:
    with pytest.raises(InvalidFields) as caught:
        save(database, ann, draft(hello_name=wrong))
    assert set(caught.value.errors) == {"hello_name"}
    with pytest.raises(Invalid):
        valid_hello_name(wrong)


def test_a_stored_password_stays_when_only_our_name_changes(database: Database, ann: Actor) -> None:
    save(database, ann, draft())
    assert save(database, ann, draft(hello_name=OURS, password=Secret(""), version=1)).hello_name == OURS


def test_another_name_ends_what_a_test_proved(database: Database, ann: Actor) -> None:
    with database.transaction() as session:
        first = settings.target_for(session, ann, draft())
        second = settings.target_for(session, ann, draft(hello_name=OURS))
        assert checks.fingerprint_of(session, first).exact != checks.fingerprint_of(session, second).exact


def test_the_change_is_in_the_audit_trail(database: Database, ann: Actor) -> None:
    save(database, ann, draft(hello_name=OURS))
    with database.reading() as session:
        details = [line.details for line in session.query(AuditLine).filter_by(action="mail:save")]
    assert OURS in str(details)


def test_two_who_name_it_differently_see_both(database: Database, ann: Actor) -> None:
    save(database, ann, draft(hello_name=OURS))
    with pytest.raises(VersionConflict) as caught:
        save(database, ann, draft())
    assert caught.value.differences == [("Name of this machine", "as the system gives it", OURS)]


def test_the_command_line_sets_shows_and_tries_it(installation: Installation) -> None:
    def run(*arguments: str) -> str:
        done = CliRunner().invoke(main, ["mail", *arguments], obj=installation)
        assert done.exit_code == 0, done.output
        return done.stdout

    with ScriptedServer(wants_ours) as server:
        place = ("--port", str(server.port), "--security", "never", "--sender", "a@example.test")
        run("probe", "--server", "localhost", *place, "--hello-name", OURS)
        run("set", "--server-name", "localhost", *place, "--no-authentication", "--hello-name", OURS)
    assert server.heard[0] == f"EHLO {OURS}"
    assert json.loads(run("show", "--json"))["hello_name"] == OURS
    run("set", "--hello-name", "")
    assert json.loads(run("show", "--json"))["hello_name"] is None
