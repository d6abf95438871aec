"""What machines are told: whether Keypost does its work, and figures about it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from tests.support.mail_settings import draft
from tests.support.people import Person
from webapp import create_app
from webapp.actor import command_line
from webapp.config import Config
from webapp.db import Database
from webapp.errors import CannotStart
from webapp.installation import Installation, InstallationRow
from webapp.mail import settings
from webapp.outbox import lease, outcomes, pause, workers
from webapp.outbox.messages import Kind, queue
from webapp.outbox.outcomes import Outcome
from webapp.outbox.pause import Reason

TOKEN = "a-token-that-nobody-guesses"
REASON = Reason(
    "about", "mail.example.com:587", "credentials-refused", "authentication", "It refused bob.", "Check it."
)


def later(database: Database, **span: float) -> None:
    then = database.clock() + timedelta(**span)
    database.clock = lambda: then


def live(database: Database) -> None:
    with database.transaction() as session:
        workers.begin(session, workers.new_id())


def reasons(client: FlaskClient, path: str = "/healthz") -> list[str]:
    answer = client.get(path)
    assert answer.json is not None
    assert answer.status_code == (503 if answer.json["reasons"] else 200)
    assert answer.json["status"] == ("failing" if answer.json["reasons"] else "ok")
    return list(answer.json["reasons"])


def add(database: Database) -> None:
    with database.transaction() as session:
        queue(session, command_line(), Kind.ROLE_CHANGED, recipient="bob@example.com", recipient_name="Bob")


def figures(client: FlaskClient, **headers: str) -> str:
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 200
    return answer.text


def test_a_fresh_start_is_well(client: FlaskClient) -> None:
    assert reasons(client) == []


def test_a_silent_worker_is_told_after_a_minute(client: FlaskClient, database: Database) -> None:
    live(database)
    later(database, seconds=59)
    assert reasons(client) == []
    later(database, seconds=2)
    assert reasons(client) == ["nobody delivers mail: no worker was heard of for 60 seconds"]


def test_a_pause_is_told_with_its_code_and_no_address(client: FlaskClient, database: Database) -> None:
    live(database)
    with database.transaction() as session:
        pause.begin(session, REASON)
    (reason,) = reasons(client)
    assert reason.startswith("mail is paused since 2")
    assert reason.endswith("(credentials-refused)")
    assert "example" not in client.get("/healthz").text


def test_a_message_that_is_long_overdue_is_told(client: FlaskClient, database: Database) -> None:
    add(database)
    later(database, minutes=16)
    live(database)
    assert reasons(client) == ["the oldest message that is due has waited for 16 minutes"]


def test_another_key_is_told(client: FlaskClient, database: Database) -> None:
    with database.transaction() as session:
        session.execute(sa.update(InstallationRow).values(key_check="other"))
    assert reasons(client) == reasons(client, "/healthz/ready") == ["the master key is not the one of this database"]


def test_pages_are_ready_although_mail_is_paused(client: FlaskClient, database: Database) -> None:
    with database.transaction() as session:
        pause.begin(session, REASON)
    assert reasons(client, "/healthz/ready") == []


def test_a_process_lives_without_its_database(client: FlaskClient, database: Database) -> None:
    with database.transaction() as session:
        session.execute(sa.text("ALTER TABLE installation RENAME TO gone"))
    assert reasons(client) == ["the database does not answer"]
    assert reasons(client, "/healthz/live") == []


def test_a_balancer_may_ask_under_any_name(client: FlaskClient, database: Database) -> None:
    with database.transaction() as session:
        settings.save(session, command_line(), draft(access_url="https://keypost.example.com"))
    assert client.get("/healthz", headers={"Host": "10.0.0.7:8000"}).status_code == 421
    for path in ("/healthz/ready", "/healthz/live"):
        assert client.get(path, headers={"Host": "10.0.0.7:8000"}).status_code == 200


def test_the_figures_follow_the_outbox(client: FlaskClient, database: Database) -> None:
    live(database)
    add(database)
    with database.transaction() as session:
        taken = lease.claim(session, 10, domain="example.com")
        outcomes.record(session, [Outcome(each, "accepted") for each in taken])
    add(database)
    later(database, seconds=30)
    text = figures(client)
    for line in (
        'keypost_messages{state="queued"} 1.0',
        'keypost_messages{state="accepted"} 1.0',
        'keypost_messages_last_day{outcome="accepted"} 1.0',
        'keypost_delivery_paused{code=""} 0.0',
        "keypost_workers_alive 1.0",
        'keypost_build_info{version="',
    ):
        assert line in text, line
    assert "keypost_oldest_waiting_seconds 30." in text


def test_a_pause_is_a_figure_with_its_code(client: FlaskClient, database: Database) -> None:
    with database.transaction() as session:
        pause.begin(session, REASON)
    assert 'keypost_delivery_paused{code="credentials-refused"} 1.0' in figures(client)


def test_no_figure_names_anybody(client: FlaskClient, database: Database) -> None:
    add(database)
    assert "bob" not in figures(client).lower()


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "203.0.113.7"},
        {"Via": "1.1 proxy"},
        {"X-Real-IP": "203.0.113.7"},
        {"Forwarded": "for=203.0.113.7"},
        {"Host": "keypost.example.com"},
    ],
)
def test_the_figures_do_not_go_through_a_proxy(client: FlaskClient, headers: dict[str, str]) -> None:
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code in (400, 401, 421)
    assert "keypost_messages" not in answer.text


def test_the_figures_do_not_go_to_other_machines(client: FlaskClient) -> None:
    answer = client.get("/metrics", environ_base={"REMOTE_ADDR": "203.0.113.7"})
    assert answer.status_code == 401
    assert "KEYPOST_METRICS_TOKEN" in answer.text


def test_an_administrator_may_read_the_figures(alice: Person) -> None:
    answer = alice.client.get("/metrics", environ_base={"REMOTE_ADDR": "203.0.113.7"})
    assert answer.status_code == 200


def test_with_a_token_it_alone_opens_the_figures(installation: Installation) -> None:
    config = replace(installation.config, metrics_token=TOKEN)
    client = create_app(replace(installation, config=config)).test_client()
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert "keypost_messages" in figures(client, Authorization=f"Bearer {TOKEN}")


@pytest.mark.parametrize("token", ["short", "with blanks in between", "möglichst-lang-und-unlesbar"])
def test_a_token_that_could_be_guessed_or_not_be_sent_stops_the_start(token: str) -> None:
    with pytest.raises(CannotStart, match="KEYPOST_METRICS_TOKEN"):
        Config.from_environment({"KEYPOST_METRICS_TOKEN": token})
