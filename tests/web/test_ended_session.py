"""A form sent after its session ended is kept, and sent again after signing in."""

from __future__ import annotations

import pkgutil
import re
from datetime import timedelta
from html import unescape

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse
from wtforms import PasswordField
from wtforms.fields.core import UnboundField

import webapp.forms
from tests.support.people import HTMX, PASSWORD, Person, add_person, csrf_token
from webapp import access
from webapp.actor import Role
from webapp.db import Database, utc_now

OURS = {"Sec-Fetch-Site": "same-origin"}
TYPED = {"name": "A “mail” <provider>", "address": "mail.example.com", "kind": "Server", "notes": "typed\r\nlong"}


def fields(page: str) -> dict[str, str]:
    """What the page's form sends again."""
    form = page.partition('id="send-again"')[2].partition("</form>")[0]
    return {name: unescape(value) for name, value in re.findall(r'name="([^"]+)" value="([^"]*)"', form)}


def sign_in_again(client: FlaskClient, email: str = "alice@example.com") -> None:
    data = {"csrf_token": csrf_token(client), "email": email, "password": PASSWORD}
    assert client.post("/sign-in", data=data).status_code == 303


def test_no_field_for_a_password_is_one_that_is_kept() -> None:
    forms = [pkgutil.resolve_name(f"webapp.forms.{each.name}") for each in pkgutil.iter_modules(webapp.forms.__path__)]
    classes = {each for module in forms for each in vars(module).values() if isinstance(each, type)}
    secret = {
        name
        for form in classes
        for name, field in vars(form).items()
        if isinstance(field, UnboundField) and issubclass(field.field_class, PasswordField)
    }
    assert {"password", "current"} <= secret
    assert [name for name in secret if not any(part in name for part in access._NOT_CARRIED)] == []


@pytest.fixture
def kept(alice: Person, database: Database) -> TestResponse:
    """The answer to a form that was sent an hour after the page was left."""
    data = {"csrf_token": csrf_token(alice.client), **TYPED}
    later = utc_now() + timedelta(hours=1)
    database.clock = lambda: later
    return alice.client.post("/resources/new", data=data, headers=OURS)


def test_what_may_be_a_private_key_is_not_kept_in_the_page(alice: Person, database: Database) -> None:
    data = {"csrf_token": csrf_token(alice.client), "pem": "-----BEGIN PRIVATE KEY-----\ncanary"}
    later = utc_now() + timedelta(hours=1)
    database.clock = lambda: later
    ended = alice.client.post("/admin/certificates", data=data, headers=OURS)
    assert "has to be chosen once more" in ended.text
    assert "canary" not in ended.text


def test_what_was_typed_is_kept_and_nothing_is_done(kept: TestResponse) -> None:
    assert kept.status_code == 401
    assert "Your session has ended" in kept.text
    assert fields(kept.text).items() >= TYPED.items()


def test_it_is_sent_again_after_signing_in(alice: Person, kept: TestResponse) -> None:
    sign_in_again(alice.client)
    shown = alice.client.post("/resources/new", data=fields(kept.text), headers=OURS)
    assert shown.status_code == 400
    assert "Send it once more" in shown.text
    assert alice.client.post("/resources/new", data=fields(shown.text), headers=OURS).status_code == 303
    assert "A “mail” &lt;provider&gt;" in alice.get("/resources").text


def test_a_password_is_not_kept_in_the_page(alice: Person, database: Database) -> None:
    data = {"csrf_token": csrf_token(alice.client), "username": "root", "password": "a secret of a printer"}
    later = utc_now() + timedelta(hours=1)
    database.clock = lambda: later
    page = alice.client.post("/resources/1/accounts/new", data=data, headers=OURS).text
    assert fields(page)["username"] == "root"
    assert "a secret of a printer" not in page
    assert "Passwords are not kept" in page


@pytest.mark.parametrize("headers", [{}, {"Sec-Fetch-Site": "none"}, {"Origin": "null"}])
def test_who_is_no_page_of_ours_is_offered_nothing(alice: Person, app: Flask, headers: dict[str, str]) -> None:
    stale = csrf_token(app.test_client())
    answer = alice.client.post("/resources/new", data={"csrf_token": stale, **TYPED}, headers=headers)
    assert answer.status_code == 400
    assert "send-again" not in answer.text


def test_a_part_of_a_page_is_told_and_may_ask_for_a_new_token(alice: Person, app: Flask) -> None:
    stale = csrf_token(app.test_client())
    data = {"csrf_token": stale, **TYPED}
    told = alice.client.post("/resources/new", data=data, headers={**OURS, **HTMX})
    assert (told.status_code, told.headers["HX-Trigger"]) == (401, '{"keypost:ended": {}}')
    token = alice.get(f"/sign-in/_token?user={alice.user.id}").text
    assert alice.client.post("/resources/new", data={"csrf_token": token, **TYPED}, headers=OURS).status_code == 303


def test_nobody_goes_on_with_what_somebody_else_typed(alice: Person) -> None:
    assert alice.get(f"/sign-in/_token?user={(alice.user.id or 0) + 1}").status_code == 409
    assert alice.get("/sign-in/_token").status_code == 409


@pytest.fixture
def bob(app: Flask, alice: Person, database: Database) -> Person:
    return add_person(app, database, email="bob@example.com", name="Bob", role=Role.PASSWORD_ADMINISTRATOR)


DROPPED = "Somebody else filled in this form"


def test_what_was_kept_for_somebody_is_not_sent_by_whoever_signs_in_next(
    alice: Person, bob: Person, kept: TestResponse
) -> None:
    sign_in_again(alice.client, "bob@example.com")
    refused = alice.client.post("/resources/new", data=fields(kept.text), headers=OURS)
    assert refused.status_code == 409
    assert DROPPED in refused.text
    assert "A “mail”" not in refused.text
    assert "A “mail”" not in alice.get("/resources").text


def test_a_form_left_open_is_not_sent_by_whoever_signs_in_next(alice: Person, bob: Person) -> None:
    data = {"csrf_token": csrf_token(alice.client), **TYPED}
    alice.post("/sign-out")
    sign_in_again(alice.client, "bob@example.com")
    refused = alice.client.post("/resources/new", data=data, headers=OURS)
    assert (refused.status_code, DROPPED in refused.text) == (409, True)


def test_a_form_kept_after_signing_out_is_still_that_of_who_made_it(alice: Person, bob: Person) -> None:
    data = {"csrf_token": csrf_token(alice.client), **TYPED}
    alice.post("/sign-out")
    shown = alice.client.post("/resources/new", data=data, headers=OURS)
    assert "Your session has ended" in shown.text
    sign_in_again(alice.client, "bob@example.com")
    assert DROPPED in alice.client.post("/resources/new", data=fields(shown.text), headers=OURS).text
    sign_in_again(alice.client)
    again = alice.client.post("/resources/new", data=fields(shown.text), headers=OURS)
    assert alice.client.post("/resources/new", data=fields(again.text), headers=OURS).status_code == 303


def test_a_form_of_nobody_knows_whom_is_not_sent(alice: Person, app: Flask) -> None:
    data = {"csrf_token": csrf_token(app.test_client()), **TYPED}
    assert alice.client.post("/resources/new", data=data, headers=OURS).status_code == 409
