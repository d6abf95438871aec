"""One's own profile."""

from __future__ import annotations

import re

import pytest
from flask import Flask

from tests.support.people import PASSWORD, Person, add_person, sign_in
from webapp.actor import Role, command_line
from webapp.db import Database
from webapp.identity.links import make_link
from webapp.identity.users import User
from webapp.logs import Entries

NEW = "another quite long password"


def test_it_says_who_one_is(alice: Person) -> None:
    text = alice.get("/profile").text
    for fact in ("Alice Admin", "alice@example.com", "Administrator"):
        assert fact in text


def test_a_new_password_ends_the_other_sessions(app: Flask, alice: Person) -> None:
    other = sign_in(app, alice.user)
    response = alice.post("/profile", {"current": PASSWORD, "password": NEW})
    assert response.status_code == 303
    assert "1 other session ended." in alice.get("/profile").text
    assert other.get("/profile").status_code == 302
    sign_in(app, alice.user, password=NEW)


def test_a_wrong_current_password_is_shown_at_its_field(alice: Person) -> None:
    response = alice.post("/profile", {"current": "not mine, but long enough", "password": NEW})
    assert response.status_code == 422
    assert 'id="current-error"' in response.text
    assert NEW not in response.text
    assert "not mine" not in response.text


def test_a_short_new_password_is_shown_at_its_field(alice: Person) -> None:
    response = alice.post("/profile", {"current": PASSWORD, "password": "short"})
    assert response.status_code == 422
    assert 'id="password-error"' in response.text


def test_one_can_end_a_session_elsewhere(app: Flask, alice: Person) -> None:
    other = sign_in(app, alice.user)
    listed = re.findall(r'action="(/profile/sessions/\d+/end)"', alice.get("/profile").text)
    assert alice.post(listed[0]).status_code == 303
    assert (alice.get("/profile").status_code, other.get("/profile").status_code) == (200, 302)


def test_somebody_elses_session_cannot_be_ended(app: Flask, database: Database, alice: Person) -> None:
    bob = add_person(app, database, email="bob@example.com", name="Bob", role=Role.ADMINISTRATOR)
    for number in range(1, 6):
        if bob.get("/profile").text.count(f"/profile/sessions/{number}/end") == 0:
            bob.post(f"/profile/sessions/{number}/end")
    assert alice.get("/profile").status_code == 200


def test_the_form_cannot_change_role_or_address(alice: Person) -> None:
    alice.post("/profile", {"current": PASSWORD, "password": NEW, "role": "password-user", "email": "x@y", "id": "9"})
    assert alice.get("/admin").status_code == 200
    assert "alice@example.com" in alice.get("/profile").text


def test_fields_that_a_form_does_not_have_are_named_in_the_log_without_their_values(
    alice: Person, caplog: pytest.LogCaptureFixture
) -> None:
    strays = {"role": "administrator", "is_admin": "canary", "x\nforged entry": "y"}
    alice.post("/profile", {"current": "wrong", "password": PASSWORD, **strays})
    (entry,) = [record for record in caplog.records if record.name == "webapp.forms"]
    assert "POST /profile from 127.0.0.1 carried 3 fields" in entry.getMessage()
    assert "role, is_admin" in entry.getMessage()
    assert "canary" not in entry.getMessage()
    assert "\n" not in Entries().format(entry)


def carried(page: str, action: str) -> dict[str, str]:
    """What the form of a page carries by itself, with something typed into each empty field."""
    form = page.partition(f'action="{action}"')[2].partition("</form>")[0]
    inputs = re.findall(r"<input\b[^>]*>", form)
    pairs = [(re.search(r'\bname="([^"]*)"', each), re.search(r'\bvalue="([^"]*)"', each)) for each in inputs]
    return {name[1]: value[1] if value and value[1] else "typed" for name, value in pairs if name}


def test_what_the_page_of_a_form_carries_makes_no_entry(
    app: Flask, alice: Person, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with database.transaction() as session:
        user = session.get(User, alice.user.id)
        assert user is not None
        token = make_link(session, command_line(), user).reveal()
    invited = app.test_client()
    own = carried(alice.get("/profile").text, "/profile")
    welcome = carried(invited.get(f"/welcome?token={token}").text, "/welcome")
    assert {"username", "password"} <= own.keys() & welcome.keys()
    assert alice.client.post("/profile", data=own).status_code == 422
    assert invited.post("/welcome", data=welcome).status_code == 422
    assert not [record.getMessage() for record in caplog.records if record.name == "webapp.forms"]
