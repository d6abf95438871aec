"""A forgotten password: one answer for whoever asks, and a link by mail for the owner of the address."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.mail_server import NEVER, MailServer
from tests.support.outbox import deliver, open_relay, save, states
from tests.support.people import Person, add_person, csrf_token, sign_in
from webapp.actor import Role
from webapp.db import Database
from webapp.identity import forgotten

NEW = "an entirely different sentence"


@pytest.fixture
def mail_server(database: Database) -> Iterator[MailServer]:
    """The server that mail is set up with."""
    with MailServer(NEVER) as server:
        save(database, open_relay(server.port))
        yield server


@pytest.fixture
def bob(app: Flask, database: Database, alice: Person) -> Person:
    return add_person(app, database, email="bob@example.com", name="Bob", role=Role.PASSWORD_USER)


@pytest.fixture
def carol_who_is_disabled(app: Flask, database: Database, alice: Person) -> None:
    carol = add_person(app, database, email="carol@example.com", name="Carol", role=Role.PASSWORD_USER)
    alice.post(f"/admin/users/{carol.user.id}", {"name": "Carol", "role": "password-user"})


def ask(client: FlaskClient, email: str = "bob@example.com") -> TestResponse:
    return client.post("/forgotten", data={"csrf_token": csrf_token(client), "email": email})


def link_by_mail(database: Database, server: MailServer) -> str:
    """Let the request be answered and the mail delivered; gives the path of its link."""
    while forgotten.answer(database):
        pass
    deliver(database)
    body = server.wait_for_message().message.get_body(("plain",))
    assert body is not None
    found = re.search(r"(/welcome\?token=[\w-]+)", body.get_content())
    assert found, body.get_content()
    return found[1]


def spend(client: FlaskClient, link: str) -> TestResponse:
    fields = {"csrf_token": csrf_token(client), "token": link.partition("=")[2], "password": NEW}
    return client.post("/welcome", data=fields)


@pytest.mark.parametrize("email", ["bob@example.com", "nobody@example.com", "carol@example.com"])
@pytest.mark.usefixtures("bob", "carol_who_is_disabled", "mail_server")
def test_known_unknown_and_disabled_get_the_same_answer(client: FlaskClient, email: str) -> None:
    answer = ask(client, email)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/forgotten/asked")
    assert email not in client.get("/forgotten/asked").text


def test_the_link_sets_a_new_password_once_and_ends_every_session(
    app: Flask, bob: Person, client: FlaskClient, database: Database, mail_server: MailServer
) -> None:
    ask(client)
    link = link_by_mail(database, mail_server)
    assert bob.get("/resources").status_code == 200
    assert spend(client, link).headers["Location"] == "/sign-in"
    assert bob.get("/resources").status_code == 302
    assert client.get("/resources").status_code == 302
    assert spend(app.test_client(), link).status_code == 403
    assert sign_in(app, bob.user, password=NEW).get("/resources").status_code == 200


def test_the_link_ends_after_twenty_minutes(
    bob: Person, client: FlaskClient, database: Database, mail_server: MailServer
) -> None:
    ask(client)
    link = link_by_mail(database, mail_server)
    assert client.get(link).status_code == 200
    later = database.clock() + timedelta(minutes=21)
    database.clock = lambda: later
    assert client.get(link).status_code == 403


def test_an_unknown_address_gets_no_mail(
    bob: Person, client: FlaskClient, database: Database, mail_server: MailServer
) -> None:
    ask(client, "nobody@example.com")
    forgotten.answer(database)
    assert not states(database)


@pytest.mark.parametrize("email", ["bob@example.com", "nobody@example.com"])
def test_the_fourth_request_within_the_hour_is_refused_for_known_and_unknown_alike(
    bob: Person, client: FlaskClient, database: Database, mail_server: MailServer, email: str
) -> None:
    assert [ask(client, email).status_code for _ in range(4)] == [303, 303, 303, 422]


def test_until_mail_is_set_up_the_page_says_whom_to_ask(bob: Person, client: FlaskClient, database: Database) -> None:
    assert "mail is not set up here" in client.get("/forgotten").text
    ask(client)
    forgotten.answer(database)
    assert not states(database)


def test_what_is_no_address_is_said_at_the_field(bob: Person, client: FlaskClient, mail_server: MailServer) -> None:
    assert ask(client, "bob").status_code == 422
