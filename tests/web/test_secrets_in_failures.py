"""Whatever fails in whichever layer: what was typed in secret is in no answer, no log entry and no audit line."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
import sqlalchemy as sa
from flask import Flask, request

from tests.support.people import PASSWORD, Person, csrf_token
from webapp import logs
from webapp.audit import trail
from webapp.audit.trail import AuditLine
from webapp.db import Database, Session, SessionKeyring
from webapp.forms import Form
from webapp.identity import passwords, sessions
from webapp.keyring import Keyring
from webapp.vault import accounts

CANARY = "canary-in-the-coal-mine"
LAYERS = {
    "form": (Form, "validate"),
    "vault": (accounts, "add_account"),
    "audit": (trail, "record"),
    "keyring of the session": (SessionKeyring, "seal"),
    "keyring": (Keyring, "seal"),
    "database": (Session, "flush"),
    "commit": (Session, "commit"),
}
SIGN_IN = {
    "sign-in": (sessions, "sign_in"),
    "hash": (passwords, "verify_password"),
    "audit": (trail, "record"),
    "commit": (Session, "commit"),
}


def _raise(*arguments: Any, **named: Any) -> NoReturn:
    """Fail as badly as can be: with everything that was given, and was typed, in the words of the exception."""
    raise RuntimeError(f"failed with {arguments!r} and {named!r}, asked for with {request.form!r}")


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """What the log holds by now, as it is written."""
    caplog.set_level(logging.DEBUG)

    def written() -> str:
        return "\n".join(map(logs.Entries().format, caplog.records))

    return written


@pytest.fixture(autouse=True)
def quiet(app: Flask) -> Flask:
    """The application as it answers outside tests: what fails is answered, and not raised to the test."""
    app.config["PROPAGATE_EXCEPTIONS"] = False
    return app


def audited(database: Database) -> str:
    with database.reading() as session:
        return "\n".join(session.scalars(sa.select(AuditLine.details)).all())


@pytest.mark.parametrize("layer", LAYERS)
def test_a_password_for_the_vault_stays_secret_when_this_fails(
    alice: Person, database: Database, log: Callable[[], str], monkeypatch: pytest.MonkeyPatch, layer: str
) -> None:
    alice.post("/resources/new", {"name": "Mail host", "kind": "Server"})
    fields = {"csrf_token": csrf_token(alice.client), "username": "root", "password": CANARY}
    with monkeypatch.context() as patch:
        patch.setattr(*LAYERS[layer], _raise)
        answer = alice.client.post("/resources/1/accounts/new", data=fields)
    assert answer.status_code == 500
    assert "unexpected RuntimeError" in log()
    for seen in (answer.text, log(), audited(database)):
        assert CANARY not in seen


@pytest.mark.parametrize("layer", SIGN_IN)
def test_ones_own_password_stays_secret_when_this_fails(
    alice: Person, database: Database, log: Callable[[], str], monkeypatch: pytest.MonkeyPatch, layer: str
) -> None:
    client = alice.client.application.test_client()
    fields = {"csrf_token": csrf_token(client), "email": alice.user.email, "password": PASSWORD}
    with monkeypatch.context() as patch:
        patch.setattr(*SIGN_IN[layer], _raise)
        answer = client.post("/sign-in", data=fields)
    assert answer.status_code == 500
    assert "unexpected RuntimeError" in log()
    for seen in (answer.text, log(), audited(database)):
        assert PASSWORD not in seen


def test_a_statement_that_fails_does_not_tell_what_it_carried(
    alice: Person, database: Database, log: Callable[[], str]
) -> None:
    alice.post("/resources/new", {"name": "Mail host", "kind": "Server"})
    with database.transaction() as session:
        session.execute(sa.text("ALTER TABLE accounts RENAME TO gone"))
    answer = alice.post("/resources/1/accounts/new", {"username": f"user-{CANARY}", "password": CANARY})
    with database.transaction() as session:
        session.execute(sa.text("ALTER TABLE gone RENAME TO accounts"))
    assert answer.status_code in (500, 503)
    assert "Error" in log()
    for seen in (answer.text, log(), audited(database)):
        assert CANARY not in seen
