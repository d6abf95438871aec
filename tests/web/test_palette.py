"""Go to: what each role finds, and what nobody finds who may not see it."""

from __future__ import annotations

import re

import pytest
from flask import Flask

from tests.support.people import Person, add_person
from webapp.actor import Role, command_line
from webapp.db import Database
from webapp.keyring import Secret
from webapp.vault import accounts
from webapp.vault.resources import ResourceDetails, add_resource


def places(person: Person, q: str = "") -> list[str]:
    """Where the finds lead."""
    return re.findall(
        r'<a role="option"[^>]* href="([^"]+)"', person.client.get(f"/go?q={q}", headers={"HX-Request": "true"}).text
    )


@pytest.fixture
def account_id(alice: Person, database: Database) -> int:
    with database.transaction() as session:
        provider = add_resource(session, command_line(), ResourceDetails("Mail provider"))
        return accounts.add_account(session, command_line(), provider.id, "ann@example.test", Secret("x" * 20)).id


def test_the_owner_finds_resource_account_and_page(alice: Person, account_id: int) -> None:
    assert places(alice, "mail") == [
        "/admin/settings/mail",
        "/admin/mail-texts",
        "/profile/mails",
        "/resources/1",
        f"/accounts/{account_id}",
    ]


def test_a_stranger_finds_neither_resource_nor_account_nor_admin(
    alice: Person, account_id: int, app: Flask, database: Database
) -> None:
    bob = add_person(app, database, email="bob@example.com", name="Bob", role=Role.PASSWORD_USER)
    assert places(bob, "mail") == ["/profile/mails"]
    assert places(bob) == [
        *("/resources", "/resources/import", "/resources/export"),
        *("/profile", "/profile/second-factor", "/profile/mails", "/profile/language", "/profile/keyboard"),
    ]


def test_an_auditor_finds_the_trail(alice: Person, app: Flask, database: Database) -> None:
    dora = add_person(app, database, email="dora@example.com", name="Dora", role=Role.PASSWORD_AUDITOR)
    assert "/admin/audit" in places(dora)


def test_every_page_that_is_offered_opens(alice: Person) -> None:
    assert {alice.get(path).status_code for path in places(alice)} == {200}


def test_what_is_typed_is_only_ever_text(alice: Person) -> None:
    page = alice.get("/go?q=<script>alert(1)</script>").text
    assert "<script>alert" not in page
