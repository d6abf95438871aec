"""The same form sent twice, as by a second click, is done once; both are answered alike."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO

import pyotp
import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.exc import OperationalError
from werkzeug.test import TestResponse

from tests.support.people import PASSWORD, Person
from webapp import once
from webapp.actor import Role, command_line
from webapp.db import Database, Session, utc_now
from webapp.identity import submissions
from webapp.identity.links import make_link
from webapp.identity.setup import offer_setup
from webapp.identity.users import add_user


def form_on(client: FlaskClient, path: str) -> dict[str, str]:
    """The hidden fields of the form on a page."""
    return form_in(client.get(path).text, '<form class="card"')


def form_in(page: str, begin: str) -> dict[str, str]:
    form = page.partition(begin)[2].partition("</form>")[0]
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


@dataclass
class Clicked:
    """A form whose first answer the browser threw away, or took, before it sent the form once more."""

    first: TestResponse
    second: TestResponse
    client: FlaskClient


def click_twice(client: FlaskClient, path: str, data: dict[str, str], *, took_first: bool) -> Clicked:
    before = client.get_cookie("keypost")
    first = client.post(path, data=data)
    if not took_first and before is not None:
        client.set_cookie("keypost", before.value)
    return Clicked(first, client.post(path, data=data), client)


NEW_PASSWORD = "violet turbine kettle"


def sign_in_form(app: Flask, _alice: Person, _database: Database) -> tuple[FlaskClient, str, dict[str, str]]:
    client = app.test_client()
    data = form_in(client.get("/sign-in").text, '<form method="post" action="/sign-in"')
    return client, "/sign-in", data | {"email": "alice@example.com", "password": PASSWORD}


def set_up_app(alice: Person) -> tuple[pyotp.TOTP, dict[str, str]]:
    page = alice.get("/profile/second-factor").text
    path = "/profile/second-factor/app"
    alice.client.post(path, data=form_in(page, f'<form method="post" action="{path}"'))
    shown = alice.get(path).text
    secret = re.search(r'id="key">([A-Z2-7]{32})<', shown)
    assert secret
    return pyotp.TOTP(secret[1]), form_in(shown, f'action="{path}/confirm"')


def app_form(app: Flask, alice: Person, database: Database) -> tuple[FlaskClient, str, dict[str, str]]:
    totp, data = set_up_app(alice)
    return alice.client, "/profile/second-factor/app/confirm", data | {"code": totp.at(database.clock())}


def second_step_form(app: Flask, alice: Person, database: Database) -> tuple[FlaskClient, str, dict[str, str]]:
    client, path, data = app_form(app, alice, database)
    codes = re.findall(r"<code>([A-Z0-9]{4}-[A-Z0-9]{4}-[A-Z0-9]{4})</code>", client.post(path, data=data).text)
    client, path, data = sign_in_form(app, alice, database)
    step = client.post(path, data=data, follow_redirects=True)
    path = "/sign-in/second-step"
    return client, path, form_in(step.text, f'<form method="post" action="{path}"') | {"code": codes[0]}


def remove_app_form(app: Flask, alice: Person, database: Database) -> tuple[FlaskClient, str, dict[str, str]]:
    client, path, data = app_form(app, alice, database)
    client.post(path, data=data)
    path = "/profile/second-factor/app/remove"
    return client, path, form_in(alice.get("/profile/second-factor").text, f'<form method="post" action="{path}"')


def password_form(_app: Flask, alice: Person, _database: Database) -> tuple[FlaskClient, str, dict[str, str]]:
    data = form_in(alice.get("/profile").text, 'method="post" action="/profile"')
    return alice.client, "/profile", data | {"current": PASSWORD, "password": NEW_PASSWORD}


def confirmation_form(_app: Flask, alice: Person, database: Database) -> tuple[FlaskClient, str, dict[str, str]]:
    later = utc_now() + timedelta(minutes=6)
    database.clock = lambda: later
    data = form_in(alice.get("/confirm?next=/profile").text, 'method="post" action="/confirm"')
    return alice.client, "/confirm", data | {"proof_password": PASSWORD}


def confirmed_form(app: Flask, alice: Person, database: Database) -> tuple[FlaskClient, str, dict[str, str]]:
    path = "/profile/second-factor/app"
    form = form_in(alice.get("/profile/second-factor").text, f'<form method="post" action="{path}"')
    later = utc_now() + timedelta(minutes=6)
    database.clock = lambda: later
    data = form_in(alice.client.post(path, data=form).text, f'method="post" action="{path}"')
    return alice.client, path, data | {"proof_password": PASSWORD}


def welcome_form(app: Flask, _alice: Person, database: Database) -> tuple[FlaskClient, str, dict[str, str]]:
    with database.transaction() as session:
        user = add_user(session, command_line(), email="bob@example.com", name="Bob", role=Role.PASSWORD_USER)
        token = make_link(session, command_line(), user).reveal()
    client = app.test_client()
    data = form_in(client.get(f"/welcome?token={token}").text, 'method="post" action="/welcome"')
    return client, "/welcome", data | {"token": token, "password": NEW_PASSWORD}


FORMS = [
    sign_in_form,
    second_step_form,
    app_form,
    remove_app_form,
    password_form,
    confirmation_form,
    confirmed_form,
    welcome_form,
]
Form = Callable[[Flask, Person, Database], tuple[FlaskClient, str, dict[str, str]]]


@pytest.mark.parametrize("took_first", [False, True], ids=["second overtook", "second came late"])
@pytest.mark.parametrize("form", FORMS)
def test_where_the_token_changes_the_second_click_ends_where_the_first_did(
    app: Flask, alice: Person, database: Database, form: Form, took_first: bool
) -> None:
    clicked = click_twice(*form(app, alice, database), took_first=took_first)
    assert clicked.first.status_code in (200, 303)
    assert (clicked.second.status_code, clicked.second.location) == (
        clicked.first.status_code,
        clicked.first.location,
    )
    assert clicked.client.get("/resources").status_code == 200


@pytest.mark.parametrize("took_first", [False, True])
def test_recovery_codes_are_shown_to_the_second_click_because_nobody_saw_the_first_answer(
    app: Flask, alice: Person, database: Database, took_first: bool
) -> None:
    clicked = click_twice(*app_form(app, alice, database), took_first=took_first)
    codes = [re.findall(r"<code>([A-Z0-9-]{14})</code>", each.text) for each in (clicked.first, clicked.second)]
    assert codes[0] == codes[1] != []
    assert "nonce-" + re.findall(r'nonce="([^"]+)"', clicked.second.text)[0] in str(
        clicked.second.headers["Content-Security-Policy"]
    )


def test_recovery_codes_are_not_shown_again_later(app: Flask, alice: Person, database: Database) -> None:
    client, path, data = app_form(app, alice, database)
    client.post(path, data=data)
    later = utc_now() + timedelta(minutes=2)
    database.clock = lambda: later
    again = client.post(path, data=data)
    assert (again.status_code, again.location) == (303, "/")


def test_setting_up_twice_ends_signed_in(app: Flask, database: Database) -> None:
    client = app.test_client()
    token = offer_setup(database) or ""
    data = form_in(client.get(f"/setup?token={token}").text, 'method="post" action="/setup"')
    typed = {"token": token, "name": "Alice", "email": "alice@example.com", "password": PASSWORD}
    clicked = click_twice(client, "/setup", data | typed, took_first=False)
    assert clicked.first.status_code in (200, 303)
    assert (clicked.second.status_code, clicked.second.location) == (303, "/admin")
    assert client.get("/admin").status_code == 200


def test_the_new_token_is_handed_on_for_a_minute_alone(app: Flask, alice: Person, database: Database) -> None:
    client, path, data = password_form(app, alice, database)
    before = client.get_cookie("keypost")
    assert before is not None
    client.post(path, data=data)
    later = utc_now() + timedelta(minutes=2)
    database.clock = lambda: later
    client.set_cookie("keypost", before.value)
    client.post(path, data=data)
    assert client.get("/resources").status_code == 302


@pytest.mark.parametrize("other", [{"once": "guessed"}, {"current": "guessed"}, {"password": "guessed"}])
def test_who_has_the_old_token_alone_is_not_handed_the_new_one(
    app: Flask, alice: Person, database: Database, other: dict[str, str]
) -> None:
    client, path, data = password_form(app, alice, database)
    before = client.get_cookie("keypost")
    assert before is not None
    client.post(path, data=data)
    thief = app.test_client()
    thief.set_cookie("keypost", before.value)
    assert thief.post(path, data=data | other).status_code != 303
    assert thief.get("/resources").status_code == 302


def test_who_saw_a_form_but_has_no_cookie_is_handed_nothing(app: Flask, alice: Person, database: Database) -> None:
    client, path, data = sign_in_form(app, alice, database)
    client.post(path, data=data)
    stranger = app.test_client()
    assert stranger.post(path, data=data).status_code == 400
    assert stranger.get("/resources").status_code == 302


def test_nothing_of_the_new_token_is_in_the_database_in_clear(app: Flask, alice: Person, database: Database) -> None:
    client, path, data = password_form(app, alice, database)
    client.post(path, data=data)
    with client.session_transaction() as kept:
        token = kept["token"]
    with database.reading() as session:
        answers = session.scalars(sa.select(submissions.Submission.sealed)).all()
    assert len(answers) == 1
    assert token.encode() not in (answers[0] or b"")


def test_who_waits_for_the_first_click_does_not_write(
    alice: Person, typed: dict[str, str], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: list[str] = []
    begin = submissions.begin

    def first_click(session: Session, key: str) -> bool:
        if not keys:
            begin(session, key)
        keys.append(key)
        return begin(session, key)

    monkeypatch.setattr(submissions, "begin", first_click)
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 10:
            with database.transaction() as session:
                submissions.end(session, keys[0], None)

    monkeypatch.setattr(once.time, "sleep", wait)
    writes: list[object] = []
    sa.event.listen(
        database.engine,
        "begin",
        lambda connection: (
            writes.append(len(waits)) if connection.get_execution_options().get("keypost_writes") else None
        ),
    )
    assert alice.client.post("/resources/new", data=typed).status_code == 303
    assert len(waits) == 10
    assert set(writes) == {0, 10}


def test_what_was_done_is_said_though_it_could_not_be_kept_for_a_second_click(
    alice: Person, typed: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OperationalError("UPDATE", {"answer": "canary"}, ValueError("canary"))

    monkeypatch.setattr(submissions, "end", fail)
    answer = alice.client.post("/resources/new", data=typed)
    assert (answer.status_code, answer.location) == (303, "/resources/1")
    assert caplog.messages == ["what a form was answered could not be noted: OperationalError"]


def test_what_a_crash_left_may_be_sent_again_after_a_minute(
    alice: Person, typed: dict[str, str], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submissions, "end", lambda *_: None)
    alice.client.post("/resources/new", data=typed | {"name": ""})
    monkeypatch.undo()
    later = utc_now() + timedelta(seconds=61)
    database.clock = lambda: later
    assert alice.client.post("/resources/new", data=typed | {"name": ""}).status_code == 422


@pytest.mark.parametrize("form", [password_form, second_step_form, confirmed_form])
def test_two_clicks_at_the_same_moment_both_end_signed_in(
    app: Flask, alice: Person, database: Database, form: Form
) -> None:
    client, path, data = form(app, alice, database)
    cookie = client.get_cookie("keypost")
    assert cookie is not None
    gate, ends = threading.Barrier(2), list[tuple[int, str | None, int]]()

    def click() -> None:
        browser = app.test_client()
        browser.set_cookie("keypost", cookie.value)
        gate.wait(30)
        answer = browser.post(path, data=data)
        ends.append((answer.status_code, answer.location, browser.get("/resources").status_code))

    clicks = [threading.Thread(target=click) for _ in range(2)]
    for each in clicks:
        each.start()
    for each in clicks:
        each.join()
    assert ends == [(303, ends[0][1], 200)] * 2
