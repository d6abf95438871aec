"""The same form sent twice, as by a second click, is done once; both are answered alike."""

from __future__ import annotations

import re
import threading
from datetime import timedelta
from io import BytesIO

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.support.people import Person
from webapp.db import Database, utc_now


def form_on(client: FlaskClient, path: str) -> dict[str, str]:
    """The hidden fields of the form on a page."""
    form = client.get(path).text.partition('<form class="card"')[2].partition("</form>")[0]
    return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form)) | dict(
        re.findall(r'<input id="version" name="(\w+)" type="hidden" value="([^"]*)"', form)
    )


@pytest.fixture
def typed(alice: Person) -> dict[str, str]:
    return form_on(alice.client, "/resources/new") | {"name": "Printer", "kind": "Server"}


def test_a_second_click_is_answered_like_the_first(alice: Person, typed: dict[str, str]) -> None:
    answers = [alice.client.post("/resources/new", data=typed) for _ in range(3)]
    assert [(each.status_code, each.headers.get("Location")) for each in answers] == [(303, "/resources/1")] * 3
    assert alice.get("/admin/audit").text.count("Added a resource") <= 2  # once as a choice, once as a line


def test_what_the_first_click_said_is_said_after_the_second(alice: Person, typed: dict[str, str]) -> None:
    alice.client.post("/resources/new", data=typed)
    alice.get("/resources/1")
    said = alice.client.post("/resources/new", data=typed, follow_redirects=True)
    assert 'role="status"' in said.text


def test_the_page_opened_anew_does_it_anew(alice: Person, typed: dict[str, str]) -> None:
    alice.client.post("/resources/new", data=typed)
    fresh = form_on(alice.client, "/resources/new") | {"name": "Printer", "kind": "Server"}
    assert alice.client.post("/resources/new", data=fresh).status_code == 422


def test_other_words_in_the_same_page_are_another_form(alice: Person, typed: dict[str, str]) -> None:
    alice.client.post("/resources/new", data=typed)
    other = alice.client.post("/resources/new", data=typed | {"name": "Scanner"})
    assert other.headers["Location"] == "/resources/2"


def test_what_was_refused_may_be_sent_again(alice: Person, typed: dict[str, str]) -> None:
    assert alice.client.post("/resources/new", data=typed | {"name": ""}).status_code == 422
    assert alice.client.post("/resources/new", data=typed | {"name": ""}).status_code == 422


def test_clicks_at_the_same_moment_do_it_once(app: Flask, alice: Person, typed: dict[str, str]) -> None:
    cookie = alice.client.get_cookie("keypost")
    assert cookie is not None
    places: list[str] = []

    def click() -> None:
        client = app.test_client()
        client.set_cookie("keypost", cookie.value)
        places.append(client.post("/resources/new", data=typed).headers.get("Location", "refused"))

    clicks = [threading.Thread(target=click) for _ in range(4)]
    for each in clicks:
        each.start()
    for each in clicks:
        each.join()
    assert places == ["/resources/1"] * 4


def test_it_is_forgotten_after_an_hour(alice: Person, typed: dict[str, str], database: Database) -> None:
    alice.client.post("/resources/new", data=typed)
    later = utc_now() + timedelta(minutes=9)
    for _ in range(7):
        database.clock = lambda at=later: at  # type: ignore[misc]
        alice.get("/resources")
        later += timedelta(minutes=9)
    assert alice.client.post("/resources/new", data=typed).status_code == 422


def test_a_file_of_the_same_name_that_was_changed_is_another_form(alice: Person) -> None:
    hidden = form_on(alice.client, "/admin/users/import")
    tables = (b"name;email\nBob;bob@example.com\n", b"name;email\nCarol;carol@example.com\n")
    places = [
        alice.client.post("/admin/users/import", data=hidden | {"file": (BytesIO(table), "people.csv")}).location
        for table in (*tables, tables[0])
    ]
    assert places[0] == places[2] != places[1]
