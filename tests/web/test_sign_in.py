"""Signing in and out in the browser."""

from __future__ import annotations

from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.support.people import HTMX, PASSWORD, Person, csrf_token, sign_in
from webapp.db import Database, utc_now

ENDED = '{"keypost:ended": {}}'


def _post(client: FlaskClient, **fields: str) -> tuple[int, str, str]:
    data = {"csrf_token": csrf_token(client), "email": "alice@example.com", "password": PASSWORD, **fields}
    response = client.post("/sign-in", data=data)
    return response.status_code, response.headers.get("Location", ""), response.text


def test_a_visitor_is_led_to_sign_in_and_back(alice: Person, client: FlaskClient) -> None:
    asked = client.get("/resources?q=mail")
    assert asked.status_code == 302
    assert asked.headers["Location"] == "/sign-in?next=/resources?q%3Dmail"
    form = client.get(asked.headers["Location"])
    assert 'value="/resources?q=mail"' in form.text
    assert _post(client, next="/resources?q=mail")[:2] == (303, "/resources?q=mail")


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "javascript:alert(1)",
        "evil.example",
        "@evil.example",
        " //evil.example",
        "/" + "a" * 600,
        "/\u2028/evil.example",
    ],
    ids=ascii,
)
def test_signing_in_never_leads_elsewhere(alice: Person, client: FlaskClient, target: str) -> None:
    assert _post(client, next=target)[:2] == (303, "/resources")
    assert alice.client.get("/sign-in", query_string={"next": target}).headers["Location"] == "/resources"


def test_a_wrong_password_is_answered_like_an_unknown_address(alice: Person, client: FlaskClient) -> None:
    wrong = _post(client, password="wrong password")
    unknown = _post(client, email="nobody@example.com")
    assert wrong[0] == unknown[0] == 422
    assert "do not match" in wrong[2]
    assert "do not match" in unknown[2]
    assert "wrong password" not in wrong[2]


def test_too_many_failures_are_told_to_wait(alice: Person, client: FlaskClient, database: Database) -> None:
    now = database.clock()
    database.clock = lambda: now  # A busy machine takes longer to answer than the first wait lasts.
    for _ in range(5):
        _post(client, password="wrong password")
    status, _location, text = _post(client)
    assert status == 422
    assert "Wait" in text


def test_locking_the_door_does_not_throw_out_who_is_in(alice: Person, client: FlaskClient) -> None:
    for _ in range(6):
        _post(client, password="wrong password")
    assert alice.get("/resources").status_code == 200


def test_signing_in_begins_with_a_fresh_cookie(alice: Person, client: FlaskClient) -> None:
    client.get("/sign-in")
    before = client.get_cookie("keypost")
    _post(client)
    after = client.get_cookie("keypost")
    assert before is not None
    assert after is not None
    assert before.value != after.value


def test_a_cookie_copied_before_signing_out_is_worth_nothing(app: Flask, alice: Person) -> None:
    cookie = alice.client.get_cookie("keypost")
    assert cookie is not None
    response = alice.post("/sign-out")
    assert (response.status_code, response.headers["Location"]) == (303, "/sign-in")
    assert response.headers["Clear-Site-Data"] == '"cache", "storage"'
    thief = app.test_client()
    thief.set_cookie("keypost", cookie.value)
    assert thief.get("/resources").status_code == 302


@pytest.mark.parametrize("value", ["", "x", "a.b.c", "." * 1000, "eyJ0b2tlbiI6MX0.x.y", "é", "\x7f"], ids=ascii)
def test_a_garbage_cookie_is_nobody(app: Flask, alice: Person, value: str) -> None:
    response = app.test_client().get("/resources", headers={"Cookie": f"keypost={value}"})
    assert response.status_code == 302


def test_an_ended_session_is_said_above_the_page_of_htmx(alice: Person, database: Database) -> None:
    later = utc_now() + timedelta(hours=1)
    database.clock = lambda: later
    response = alice.get("/admin/settings/mail", htmx=True)
    assert response.status_code == 401
    assert response.headers["HX-Trigger"] == ENDED
    assert response.text == ""


def test_a_form_sent_after_the_session_ended_leads_to_sign_in(alice: Person, database: Database) -> None:
    token = csrf_token(alice.client)
    later = utc_now() + timedelta(hours=1)
    database.clock = lambda: later
    plain = alice.client.post("/resources/new", data={"csrf_token": token, "name": "Lost"})
    assert (plain.status_code, plain.headers["Location"]) == (302, "/sign-in")
    part = alice.client.post("/resources/new", data={"csrf_token": token, "name": "Lost"}, headers=HTMX)
    assert (part.status_code, part.headers["HX-Trigger"]) == (401, ENDED)


def test_signing_in_needs_a_token_of_this_browser(alice: Person, app: Flask, client: FlaskClient) -> None:
    stolen = csrf_token(app.test_client())
    data = {"csrf_token": stolen, "email": "alice@example.com", "password": PASSWORD}
    response = client.post("/sign-in", data=data)
    assert response.status_code == 400
    assert "out of date" in response.text


def test_the_same_person_may_be_signed_in_twice(app: Flask, alice: Person) -> None:
    again = sign_in(app, alice.user)
    again.post("/sign-out")
    assert alice.get("/resources").status_code == 200
    assert again.get("/resources").status_code == 302


def test_signing_in_over_a_session_ends_it(app: Flask, alice: Person) -> None:
    """Two tabs of the sign-in page: the second signs in where the first has already."""
    before = alice.client.get_cookie("keypost")
    assert before is not None
    assert _post(alice.client)[0] == 303
    assert alice.get("/resources").status_code == 200
    kept = app.test_client()
    kept.set_cookie("keypost", before.value)
    assert kept.get("/resources").status_code == 302


@pytest.mark.parametrize("path", ["//evil.example/resources", "/\\evil.example", "//evil.example", "/%2f/evil.example"])
def test_no_address_of_ours_leads_to_another_site(alice: Person, client: FlaskClient, path: str) -> None:
    for browser in (alice.client, client):
        answer = browser.get("/", environ_overrides={"PATH_INFO": path})
        location = answer.headers.get("Location", "/")
        assert location.startswith(("/", "http://localhost/"))
        assert not location.removeprefix("http://localhost").startswith(("//", "/\\"))
