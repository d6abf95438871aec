"""Wherever somebody gets a password for Keypost, the first that would be guessed are refused."""

from __future__ import annotations

import re

import pytest
from flask import Flask

from tests.cli.test_vault_commands import run
from tests.support.people import PASSWORD, Person, csrf_token
from tests.test_architecture import ROOT
from webapp.actor import command_line
from webapp.db import Database
from webapp.identity.links import make_link
from webapp.identity.setup import offer_setup
from webapp.identity.users import find_user
from webapp.installation import Installation

COMMON = ["passwordpassword", "qwertyuiopasdfgh"]
REFUSED = "among the first passwords"


@pytest.mark.parametrize("common", COMMON)
def test_the_first_administrator_gets_no_common_password(app: Flask, database: Database, common: str) -> None:
    client, token = app.test_client(), offer_setup(database)
    found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', client.get(f"/setup?token={token}").text)
    assert found
    fields = {"csrf_token": found[1], "token": token, "name": "Ada", "email": "ada@example.com", "password": common}
    answer = client.post("/setup", data=fields)
    assert (answer.status_code, REFUSED in answer.text) == (422, True)


@pytest.mark.parametrize("common", COMMON)
def test_no_common_password_is_chosen_by_a_link_or_on_the_profile(
    app: Flask, alice: Person, database: Database, common: str
) -> None:
    with database.transaction() as session:
        user = find_user(session, alice.user.email)
        assert user is not None
        token = make_link(session, command_line(), user).reveal()
    client = app.test_client()
    fields = {"csrf_token": csrf_token(client), "token": token, "password": common}
    for answer in (
        client.post("/welcome", data=fields),
        alice.post("/profile", {"current": PASSWORD, "password": common}),
    ):
        assert (answer.status_code, REFUSED in answer.text) == (422, True)


def test_the_command_line_gives_no_common_password(installation: Installation) -> None:
    add = ("users", "add", "--email", "ada@example.com", "--name", "Ada", "--role", "Password User")
    result = run(installation, *add, "--password-stdin", given=COMMON[0])
    assert result.exit_code == 1
    assert REFUSED in result.stderr


def test_there_is_no_other_way_to_store_a_password() -> None:
    writers = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "webapp").rglob("*.py")
        if re.search(r"password_hash\s*=[^=]", path.read_text())
    }
    assert writers == {
        "webapp/identity/users.py",  # which judges each
        "webapp/identity/sessions.py",  # a stronger hash of the same
    }
