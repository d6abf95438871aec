"""Trust is part of the destination: no certificate that somebody imports later leads a stored login elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from tests.support.mail_certificates import Issued
from tests.support.mail_form import PAGE, SECRET, TEST, typed
from tests.support.people import Person, add_person
from tests.support.scripted_smtp import ScriptedServer, replying
from webapp.actor import Role, command_line
from webapp.db import Database
from webapp.trust import store


def trust(database: Database, by: Person | None, certificate: Issued) -> None:
    with database.transaction() as session:
        actor = by.user.actor("test") if by else command_line()
        store.import_certificates(session, actor, certificate.pem, source="later.pem")


@pytest.fixture
def bob(app: Flask, database: Database, alice: Person) -> Person:
    return add_person(app, database, email="bob@example.com", name="Bob Builder", role=Role.ADMINISTRATOR)


def kept(port: int, **changes: Any) -> dict[str, Any]:
    return typed(port, "ssl", password="", version="1", **changes)


def test_a_certificate_of_somebody_elses_does_not_open_the_way_for_a_stored_password(
    alice: Person, bob: Person, database: Database
) -> None:
    own = Issued()
    with ScriptedServer(replying(own.server_context(), at_once=True)) as impostor:
        assert alice.post(PAGE, typed(impostor.port, "ssl")).status_code == 303
        trust(database, bob, own)
        for path in (TEST, PAGE):
            answer = bob.post(path, kept(impostor.port))
            assert answer.status_code == 422
            assert "Bob Builder has imported the certificate" in answer.text
        assert impostor.connections == 0
        assert SECRET not in "".join(impostor.heard)


def test_the_page_names_what_was_imported_since(alice: Person, bob: Person, database: Database) -> None:
    own = Issued()
    alice.post(PAGE, typed(465, "ssl"))
    assert "data-newly-trusted" not in alice.get(PAGE).text
    trust(database, bob, own)
    assert "data-newly-trusted" in alice.get(PAGE).text
    assert alice.post(PAGE, typed(465, "ssl", version="1")).status_code == 303
    assert "data-newly-trusted" not in alice.get(PAGE).text


def test_ones_own_imports_and_those_of_the_command_line_ask_for_nothing(alice: Person, database: Database) -> None:
    alice.post(PAGE, typed(465, "ssl"))
    trust(database, alice, Issued("one"))
    trust(database, None, Issued("two"))
    assert alice.post(PAGE, kept(465)).status_code == 303
