"""Accounts in the browser: sealed, revealed on demand, each time with a trace."""

from __future__ import annotations

import re

import pytest
import sqlalchemy as sa

from tests.support.people import Person
from webapp.audit import trail
from webapp.db import Database

CANARY = "c4n4ry-sings-Ünder-ground"


@pytest.fixture
def account(alice: Person) -> str:
    """The path of an account of Alice's."""
    resource = alice.post("/resources/new", {"name": "Mail host", "kind": "Server"}).headers["Location"]
    response = alice.post(f"{resource}/accounts/new", {"username": "postmaster", "password": CANARY})
    assert response.status_code == 303, response.text
    found = re.search(r'href="(/accounts/\d+)"', alice.get(resource).text)
    assert found
    return found[1]


def test_no_page_shows_the_password_unasked(alice: Person, account: str) -> None:
    resource = "/resources/1"
    for path in (account, f"{account}/password", resource, f"{resource}/edit", "/resources", "/admin", "/admin/audit"):
        assert CANARY not in alice.get(path).text, path


def test_the_database_holds_it_sealed(alice: Person, account: str, database: Database) -> None:
    with database.reading() as session:
        for table in sa.inspect(session.connection()).get_table_names():
            rows = session.execute(sa.text(f'SELECT * FROM "{table}"')).all()  # noqa: S608
            assert CANARY not in repr(rows)
            assert CANARY.encode() not in b"".join(value for row in rows for value in row if isinstance(value, bytes))


@pytest.mark.parametrize("htmx", [True, False], ids=["part", "page"])
def test_revealing_shows_it_once_and_leaves_a_trace(
    alice: Person, account: str, database: Database, htmx: bool
) -> None:
    response = alice.post(f"{account}/reveal", htmx=htmx)
    assert response.status_code == 200
    assert CANARY in response.text
    assert response.headers["Cache-Control"] == "no-store"
    assert ("<html" in response.text) is not htmx
    with database.reading() as session:
        line = trail.latest(session)[0]
    assert (line.action, line.actor_id) == ("account:reveal", alice.user.id)
    assert CANARY not in line.details


def test_a_link_cannot_reveal(alice: Person, account: str) -> None:
    assert alice.get(f"{account}/reveal").status_code == 405


def test_revealing_needs_the_token_of_the_form(alice: Person, account: str) -> None:
    response = alice.client.post(f"{account}/reveal", headers={"HX-Request": "true"})
    assert response.status_code == 400
    assert CANARY not in response.text


def test_the_old_password_stays_in_the_history(alice: Person, account: str) -> None:
    assert alice.post(f"{account}/password", {"password": "second password"}).status_code == 303
    assert "second password" in alice.post(f"{account}/reveal").text
    assert CANARY in alice.post(f"{account}/reveal", {"version": "1"}).text


@pytest.mark.parametrize("version", ["3", "0", "-1", "9" * 30])
def test_a_version_that_never_was_is_not_found(alice: Person, account: str, version: str) -> None:
    assert alice.post(f"{account}/reveal", {"version": version}).status_code == 404


@pytest.mark.parametrize("password", ["", "•••••••••", "a" * 1025], ids=["none", "the mask", "too long"])
def test_what_is_no_password_is_refused_at_its_field(alice: Person, account: str, password: str) -> None:
    response = alice.post(f"{account}/password", {"password": password})
    assert response.status_code == 422
    assert 'id="password-error"' in response.text
    assert CANARY in alice.post(f"{account}/reveal").text


def test_a_mistake_elsewhere_does_not_echo_the_password(alice: Person, account: str) -> None:
    response = alice.post("/resources/1/accounts/new", {"username": "", "password": "second-canary"})
    assert response.status_code == 422
    assert "second-canary" not in response.text


def test_a_user_name_is_there_once(alice: Person, account: str) -> None:
    response = alice.post("/resources/1/accounts/new", {"username": "postmaster", "password": "x"})
    assert response.status_code == 422
    assert 'id="username-error"' in response.text


def test_user_name_and_notes_are_changed(alice: Person, account: str) -> None:
    version = re.search(r'name="version"[^>]*value="(\d+)"', alice.get(account).text)
    assert version
    changed = {"username": "hostmaster", "notes": "for the zone", "version": version[1]}
    assert alice.post(account, changed).status_code == 303
    text = alice.get(account).text
    assert "hostmaster" in text
    assert "for the zone" in text


def test_what_was_typed_is_kept_beside_its_error(alice: Person, account: str) -> None:
    response = alice.post(account, {"username": "", "notes": "typed with care"})
    assert response.status_code == 422
    assert "typed with care" in response.text


def test_it_is_deleted_with_its_history(alice: Person, account: str, database: Database) -> None:
    assert alice.post(f"{account}/delete").status_code == 303
    assert alice.get(account).status_code == 404
    with database.reading() as session:
        assert session.scalar(sa.text("SELECT count(*) FROM account_passwords")) == 0


def test_each_generated_password_is_another(alice: Person) -> None:
    found = [re.search(r'id="generated-text">([^<]+)<', alice.post("/accounts/_generated").text) for _ in range(2)]
    assert found[0]
    assert found[1]
    assert found[0][1] != found[1][1]
    assert len(found[0][1]) >= 20
