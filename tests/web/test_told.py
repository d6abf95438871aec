"""From the page on which somebody is added to the mail that arrives, and what the pages say of it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.support.mail_server import NEVER, MailServer
from tests.support.outbox import deliver, open_relay, save
from tests.support.people import PASSWORD, Person, csrf_token
from webapp.db import Database
from webapp.identity import forgotten

BOB = {"name": "Bob User", "email": "bob@example.test", "role": "password-user"}


@pytest.fixture
def relay(database: Database) -> Iterator[MailServer]:
    """A server that takes everything, and settings that lead there."""
    with MailServer(NEVER) as server:
        save(database, open_relay(server.port))
        yield server


def arrived_link(relay: MailServer, number: int = -1) -> str:
    """The path of the one-time link in a mail that arrived."""
    body = relay.accepted[number].message.get_body(("plain",))
    assert body is not None
    found = re.search(r"https://keypost\.example\.test(/welcome\?token=[\w-]+)", body.get_content())
    assert found, body.get_content()
    return found[1]


def spend(client: FlaskClient, link: str, password: str = PASSWORD) -> int:
    fields = {"csrf_token": csrf_token(client), "token": link.partition("=")[2], "password": password}
    return client.post("/welcome", data=fields).status_code


def test_who_is_added_gets_a_mail_whose_link_lets_them_in(
    alice: Person, database: Database, relay: MailServer, client: FlaskClient
) -> None:
    assert alice.post("/admin/users/new", BOB).status_code in (200, 303)
    deliver(database)
    assert "accepted by the server" in alice.get("/admin/users").text
    assert relay.accepted[0].recipients == ("bob@example.test",)
    link = arrived_link(relay)
    assert client.get(link).status_code == 200
    assert spend(client, link) == 303
    assert client.get("/resources").status_code == 200
    assert "has set a password" in alice.get("/admin/users").text


def test_a_mail_holds_no_password_and_its_link_works_once(
    alice: Person, database: Database, relay: MailServer, app: Flask
) -> None:
    alice.post("/admin/users/new", BOB)
    deliver(database)
    link = arrived_link(relay)
    assert spend(app.test_client(), link) == 303
    assert spend(app.test_client(), link) == 403


def test_without_mail_the_page_says_so_and_offers_the_link(alice: Person) -> None:
    page = alice.post("/admin/users/new", BOB).text
    assert "Mail is not set up yet" in page
    assert re.search(r'id="link">http://localhost/welcome\?token=[\w-]+<', page)
    assert "1 person has not been told" in alice.get("/admin").text


def test_it_stands_on_the_admin_page_until_it_is_false(alice: Person, database: Database) -> None:
    alice.post("/admin/users/new", BOB)
    assert "1 person has not been told" in alice.get("/admin").text
    with MailServer(NEVER) as relay:
        save(database, open_relay(relay.port))
        deliver(database)
    assert "has not been told" not in alice.get("/admin").text


def test_a_refused_mail_counts_as_not_told_and_shows_the_servers_words(
    alice: Person, database: Database, relay: MailServer
) -> None:
    relay.refuse["bob@example.test"] = "550 5.1.1 no mailbox of that name"
    alice.post("/admin/users/new", BOB)
    deliver(database)
    page = alice.get("/admin/users").text
    assert "no mailbox of that name" in page
    assert "refused" in page
    assert "1 person has not been told" in alice.get("/admin").text
    assert "Bob User" in alice.get("/admin/users?show=not-told").text


def test_sending_again_makes_a_new_link_and_kills_the_old(
    alice: Person, database: Database, relay: MailServer, app: Flask
) -> None:
    alice.post("/admin/users/new", BOB)
    deliver(database)
    assert alice.post("/admin/users/2/tell").status_code == 303
    deliver(database)
    assert len(relay.accepted) == 2
    assert app.test_client().get(arrived_link(relay, 0)).status_code == 403
    assert app.test_client().get(arrived_link(relay, 1)).status_code == 200


def test_everybody_who_has_not_been_told_is_told_by_one_button(
    alice: Person, database: Database, relay: MailServer
) -> None:
    relay.refuse["bob@example.test"] = "550 5.1.1 unknown"
    alice.post("/admin/users/new", BOB)
    deliver(database)
    relay.refuse.clear()
    assert alice.post("/admin/users/tell").status_code == 303
    deliver(database)
    assert [each.recipients for each in relay.accepted] == [("bob@example.test",)]
    assert "not been told" not in alice.get("/admin/users").text


def test_while_mail_is_paused_adding_works_and_the_link_is_offered(alice: Person, database: Database) -> None:
    save(database, open_relay(1))
    alice.post("/admin/users/new", BOB)
    deliver(database)
    page = alice.post("/admin/users/new", {**BOB, "email": "carol@example.test", "name": "Carol"}).text
    assert "Mail is paused" in page
    assert "/welcome?token=" in page


def ask(client: FlaskClient, email: str) -> str:
    answer = client.post("/forgotten", data={"csrf_token": csrf_token(client), "email": email})
    assert answer.status_code == 303, answer.text
    return client.get(answer.headers["Location"]).text


def test_who_forgot_the_password_sets_a_new_one_by_mail(
    alice: Person, database: Database, relay: MailServer, app: Flask
) -> None:
    ask(app.test_client(), "alice@example.com")
    assert forgotten.answer(database) is False
    deliver(database)
    newcomer = app.test_client()
    assert spend(newcomer, arrived_link(relay), "another correct horse battery") == 303
    assert alice.get("/resources").status_code == 302, "the open session goes on"
    fields = {"csrf_token": csrf_token(newcomer), "email": "alice@example.com"}
    assert newcomer.post("/sign-in", data={**fields, "password": "another correct horse battery"}).status_code == 303


def test_nobody_learns_by_asking_who_has_an_account(
    alice: Person, database: Database, relay: MailServer, app: Flask
) -> None:
    known, unknown = (ask(app.test_client(), f"{name}@example.com") for name in ("alice", "nobody"))
    nonce = re.compile(r'nonce="[^"]+"|csrf_token" value="[^"]+"')
    assert nonce.sub("", known) == nonce.sub("", unknown)
    while forgotten.answer(database):
        pass
    deliver(database)
    assert [each.recipients for each in relay.accepted] == [("alice@example.com",)]


def test_without_mail_the_page_says_whom_to_ask(client: FlaskClient) -> None:
    assert "mail is not set up here" in client.get("/forgotten").text


def test_asking_too_often_is_told_at_the_form(alice: Person, relay: MailServer, app: Flask) -> None:
    client = app.test_client()
    for _ in range(3):
        ask(client, "alice@example.com")
    answer = client.post("/forgotten", data={"csrf_token": csrf_token(client), "email": "alice@example.com"})
    assert answer.status_code == 422
    assert "within the hour" in answer.text


@pytest.mark.usefixtures("relay")
def test_right_after_somebody_was_added_sending_again_is_no_first_choice(alice: Person) -> None:
    alice.post("/admin/users/new", BOB)
    assert "<button>Send again</button>" in alice.get("/admin/users/2").text


def test_once_the_mail_was_refused_sending_again_is_the_first_choice(
    alice: Person, database: Database, relay: MailServer
) -> None:
    relay.refuse["bob@example.test"] = "550 5.1.1 no such mailbox"
    alice.post("/admin/users/new", BOB)
    deliver(database)
    assert '<button class="primary">Send again</button>' in alice.get("/admin/users/2").text
