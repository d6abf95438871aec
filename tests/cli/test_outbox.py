"""`keypost outbox …`: what waits, what became of each message, and what can be done about it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.support.mail_settings import draft
from tests.support.outbox import save
from webapp.actor import command_line
from webapp.cli import main
from webapp.doctor import mail
from webapp.doctor.findings import State as Found
from webapp.installation import Installation
from webapp.outbox import lease, outcomes, pause, workers
from webapp.outbox.messages import Kind, Message, queue
from webapp.outbox.outcomes import Outcome
from webapp.outbox.pause import Reason

REASON = Reason("about", "mail.example.com:587", "connection-refused", "connect", "It refused.", "Check it.")


def run(installation: Installation, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["outbox", *arguments], obj=installation)


def told(installation: Installation, *arguments: str) -> Any:
    return json.loads(run(installation, *arguments, "--json").stdout)


@pytest.fixture
def messages(installation: Installation) -> None:
    """One to Bob that was refused, and one to Carol that waits."""
    with installation.database.transaction() as session:
        queue(session, command_line(), Kind.ROLE_CHANGED, recipient="bob@example.com", data={"link": "canary"})
        taken = lease.claim(session, 1, domain="example.com")
        words = ("recipient-unknown", "recipient", "550 5.1.1 unknown", "mail.example.com:587")
        outcomes.record(session, [Outcome(taken[0], "refused", *words)])
        queue(session, command_line(), Kind.ACCOUNT_CREATED, recipient="carol@example.com", recipient_name="Carol")


def states(installation: Installation) -> list[str]:
    with installation.database.reading() as session:
        return [each.state for each in session.query(Message).order_by(Message.id)]


def test_an_empty_outbox_is_said_to_be_empty(installation: Installation) -> None:
    assert "The outbox is empty." in run(installation, "list").output


def test_it_lists_what_waits_and_what_became_of_the_rest(installation: Installation, messages: None) -> None:
    listed = run(installation, "list").output
    assert "account-created to Carol <carol@example.com>: queued" in listed
    assert "role-changed to bob@example.com: refused, recipient-unknown" in listed
    assert "1 queued, 1 refused" in listed
    found = told(installation, "list", "--state", "queued")
    assert [each["recipient"] for each in found["messages"]] == ["carol@example.com"]
    assert found["counts"]["refused"] == 1


def test_it_shows_each_attempt_with_cause_remedy_and_the_server_s_words(
    installation: Installation, messages: None
) -> None:
    shown = run(installation, "show", "1").output
    assert "mail.example.com knows no mailbox bob@example.com." in shown
    assert "550 5.1.1 unknown" in shown
    assert "bin/keypost outbox retry 1" in shown
    assert "bin/keypost outbox cancel 1" not in shown
    (attempt,) = told(installation, "show", "1")["failed_attempts"]
    assert (attempt["code"], attempt["remedy"]) == ("recipient-unknown", "Correct the recipient's address.")


def test_it_shows_why_a_message_was_set_aside_that_nobody_tried(installation: Installation, messages: None) -> None:
    with installation.database.transaction() as session:
        outcomes.hold_restored(session)
    assert "It waited in a backup that was restored" in run(installation, "show", "2").output


def test_nothing_shows_what_a_message_says(installation: Installation, messages: None) -> None:
    for arguments in (["list"], ["show", "1"]):
        assert "canary" not in run(installation, *arguments).output + json.dumps(told(installation, *arguments))


def test_one_is_tried_again_and_one_is_cancelled(installation: Installation, messages: None) -> None:
    assert told(installation, "retry", "1") == {"outcome": "queued", "messages": 1}
    assert told(installation, "cancel", "2") == {"outcome": "cancelled", "messages": 1}
    assert states(installation) == ["queued", "cancelled"]


def test_all_are_cancelled_that_match(installation: Installation, messages: None) -> None:
    assert told(installation, "cancel", "--all", "--search", "carol")["messages"] == 1
    assert states(installation) == ["refused", "cancelled"]


def test_what_cannot_be_done_is_said_and_changes_nothing(installation: Installation, messages: None) -> None:
    done = run(installation, "cancel", "2", "1")
    assert done.exit_code == 1
    assert "It no longer waits: it is refused." in done.stderr
    assert states(installation) == ["refused", "queued"]


@pytest.mark.parametrize(
    "arguments", [["retry"], ["cancel"], ["retry", "1", "--all"], ["cancel", "1", "--search", "x"]]
)
def test_without_numbers_or_all_it_asks_which(installation: Installation, messages: None, arguments: list[str]) -> None:
    assert run(installation, *arguments).exit_code == 2


def test_sending_again_tells_the_new_message_s_number(installation: Installation, messages: None) -> None:
    assert told(installation, "again", "1") == {"outcome": "queued", "id": 3}


def test_the_state_tells_whether_mail_gets_out(installation: Installation, messages: None) -> None:
    deserted = run(installation, "state")
    assert (deserted.exit_code, "Nobody delivers." in deserted.output) == (1, True)
    with installation.database.transaction() as session:
        workers.begin(session, workers.new_id())
    nowhere = run(installation, "state")
    assert (nowhere.exit_code, "Mail is not set up yet" in nowhere.output) == (1, True)
    save(installation.database, draft())
    assert run(installation, "state").exit_code == 0
    with installation.database.transaction() as session:
        pause.begin(session, REASON)
    paused = run(installation, "state")
    assert paused.exit_code == 1
    assert "It refused.\nCheck it." in paused.output
    assert told(installation, "state")["paused"]["code"] == "connection-refused"


def test_one_pass_without_mail_settings_leaves_what_waits(installation: Installation, messages: None) -> None:
    done = run(installation, "deliver")
    assert done.exit_code == 1
    assert "1 waiting" in done.output
    assert states(installation) == ["refused", "queued"]


def test_doctor_names_a_missing_worker_and_a_pause(installation: Installation, messages: None) -> None:
    with installation.database.transaction() as session:
        pause.begin(session, REASON)
        assert mail.worker(session).state is Found.FAILING
        assert mail.delivery(session).state is Found.FAILING
        workers.begin(session, workers.new_id())
        pause.end(session)
        assert mail.worker(session).state is Found.OK
        assert mail.delivery(session).state is Found.OK
