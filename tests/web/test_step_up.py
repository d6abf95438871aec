"""Proof, within a session, of who one is: asked for before what matters most, at most once in five minutes."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from flask import Flask

from tests.support.mail_form import PAGE, typed
from tests.support.people import PASSWORD, Person, add_person
from webapp.actor import Role, command_line
from webapp.audit import trail
from webapp.db import Database, utc_now
from webapp.identity.imports import PEOPLE
from webapp.identity.users import add_user

BOB = {"name": "Bob User", "email": "bob@example.com", "role": "administrator"}
REVEAL = "/accounts/1/reveal"


@pytest.fixture
def later(database: Database) -> Callable[[timedelta], None]:
    """Move the clock to so long after now."""
    start = utc_now()

    def to(after: timedelta) -> None:
        database.clock = lambda: start + after

    return to


@pytest.fixture
def stale(alice: Person, later: Callable[[timedelta], None]) -> Person:
    """Alice, with account 1, six minutes after she last proved who she is."""
    alice.post("/resources/new", {"name": "Mail host", "kind": "Server"})
    alice.post("/resources/1/accounts/new", {"username": "root", "password": "canary"})
    later(timedelta(minutes=6))
    return alice


def test_who_has_just_signed_in_is_not_asked_again(stale: Person, later: Callable[[timedelta], None]) -> None:
    later(timedelta(minutes=4))
    assert "canary" in stale.post(REVEAL).text


def test_after_five_minutes_a_password_is_revealed_only_to_who_confirms(stale: Person) -> None:
    asked = stale.post(REVEAL, {"version": "1"})
    assert asked.status_code == 422
    assert "Confirm that it is you" in asked.text
    assert "canary" not in asked.text
    assert f'action="{REVEAL}"' in asked.text
    assert 'name="version" value="1"' in asked.text
    assert "canary" in stale.post(REVEAL, {"version": "1", "proof_password": PASSWORD}).text


def test_a_table_makes_administrators_only_of_who_confirms(stale: Person, database: Database) -> None:
    table = {"text": "name,email,role\nBob,bob@example.com,Administrator\n"}
    draft = stale.post("/admin/users/import", table).headers["Location"]
    asked = stale.post(f"{draft}/start", {"by_mail": "y"})
    assert asked.status_code == 422
    assert "Needed because this makes somebody an administrator" in asked.text
    assert not PEOPLE.work(database)
    assert "Nobody has been added yet" in stale.get(draft).text
    assert stale.post(f"{draft}/start", {"by_mail": "y", "proof_password": PASSWORD}).status_code == 303


def test_a_table_of_others_needs_no_confirmation(stale: Person) -> None:
    draft = stale.post("/admin/users/import", {"text": "name,email\nBob,bob@example.com\n"}).headers["Location"]
    assert stale.post(f"{draft}/start", {"by_mail": "y"}).status_code == 303


def test_one_proof_is_good_for_five_minutes(stale: Person, later: Callable[[timedelta], None]) -> None:
    stale.post(REVEAL, {"proof_password": PASSWORD})
    later(timedelta(minutes=10))
    assert "canary" in stale.post(REVEAL).text
    later(timedelta(minutes=12))
    assert stale.post(REVEAL).status_code == 422


def test_a_wrong_password_confirms_nothing_and_is_not_shown(stale: Person) -> None:
    answer = stale.post(REVEAL, {"proof_password": "wrong-canary"})
    assert answer.status_code == 422
    assert "not your password" in answer.text
    assert "canary" not in answer.text


def test_guessing_the_proof_has_its_limit(stale: Person) -> None:
    for _ in range(5):
        stale.post(REVEAL, {"proof_password": "wrong"})
    answer = stale.post(REVEAL, {"proof_password": PASSWORD})
    assert "Wait" in answer.text
    assert "canary" not in answer.text


def test_somebody_elses_password_confirms_nothing(app: Flask, database: Database, alice: Person) -> None:
    eve = add_person(app, database, email="eve@example.com", name="Eve", role=Role.ADMINISTRATOR)
    eve.post("/profile", {"current": PASSWORD, "password": "violet turbine kettle"})
    start = utc_now()
    database.clock = lambda: start + timedelta(minutes=6)
    assert eve.post("/confirm", {"proof_password": PASSWORD}).status_code == 422
    assert eve.post("/confirm", {"proof_password": "violet turbine kettle"}).status_code == 303


def test_the_session_gets_a_new_token_and_the_old_one_is_worth_nothing(app: Flask, stale: Person) -> None:
    before = stale.client.get_cookie("keypost")
    assert before is not None
    stale.post("/confirm", {"proof_password": PASSWORD})
    thief = app.test_client()
    thief.set_cookie("keypost", before.value)
    assert thief.get("/resources").status_code == 302
    assert stale.get("/resources").status_code == 200


def test_forms_opened_before_the_proof_can_still_be_sent(stale: Person) -> None:
    form = stale.get("/resources/new").text
    token = re.search(r'name="csrf_token" value="([^"]+)"', form)
    assert token
    stale.post("/confirm", {"proof_password": PASSWORD})
    sent = stale.client.post("/resources/new", data={"csrf_token": token[1], "name": "Kept", "kind": "Server"})
    assert sent.status_code == 303


def test_under_htmx_the_page_is_told_to_ask_and_nothing_is_swapped(stale: Person) -> None:
    answer = stale.post(REVEAL, htmx=True)
    assert (answer.status_code, answer.text) == (403, "")
    assert json.loads(answer.headers["HX-Trigger"]) == {"keypost:prove": {}}
    dialog = stale.get("/confirm", htmx=True)
    assert "<html" not in dialog.text
    assert 'hx-post="/confirm"' in dialog.text
    proved = stale.post("/confirm", {"proof_password": PASSWORD}, htmx=True)
    assert (proved.status_code, json.loads(proved.headers["HX-Trigger"])) == (204, {"keypost:proved": {}})
    assert "canary" in stale.post(REVEAL, htmx=True).text


def test_confirming_leads_on_to_a_page_of_ours_alone(stale: Person) -> None:
    assert stale.post("/confirm", {"proof_password": PASSWORD, "next": "/profile"}).headers["Location"] == "/profile"
    for target in ("https://evil.example", "//evil.example", "/\\evil.example"):
        sent = stale.post("/confirm", {"proof_password": PASSWORD, "next": target})
        assert sent.headers["Location"] == "/resources"


def test_what_was_typed_in_the_mail_settings_stays_and_no_secret_is_shown(stale: Person) -> None:
    fields = typed(2525, server_name="relay.example.test", password="smtp-canary")
    asked = stale.post(PAGE, fields)
    assert asked.status_code == 422
    assert 'value="relay.example.test"' in asked.text
    assert 'name="proof_password"' in asked.text
    assert "smtp-canary" not in asked.text
    wrong = stale.post(PAGE, fields | {"proof_password": "wrong-canary"})
    assert wrong.status_code == 422
    assert "canary" not in wrong.text
    assert stale.get("/admin").text.count("not set up") == 1


def test_a_page_asks_at_once_when_the_proof_is_old(stale: Person, later: Callable[[timedelta], None]) -> None:
    assert 'name="proof_password"' in stale.get(PAGE).text
    assert 'name="proof_password"' not in stale.get(PAGE, htmx=True).text
    later(timedelta(minutes=1))
    assert 'name="proof_password"' not in stale.get(PAGE).text


def test_certificates_are_imported_and_trusted_only_after_proof(stale: Person) -> None:
    asked = stale.post("/admin/certificates", {"file": (io.BytesIO(b"junk"), "a.pem")})
    assert (asked.status_code, "Confirm that it is you" in asked.text) == (422, True)
    refused = stale.post("/admin/certificates", {"pem": "junk", "proof_password": PASSWORD})
    assert "Nothing was imported" in refused.text


def test_a_private_key_in_place_of_a_certificate_is_not_shown_while_proof_is_asked(stale: Person) -> None:
    answer = stale.post("/admin/certificates", {"pem": "-----BEGIN PRIVATE KEY-----\ncanary"})
    assert (answer.status_code, "contains a private key" in answer.text) == (422, True)
    assert "canary" not in answer.text


def test_trusting_what_a_server_presented_needs_proof(stale: Person) -> None:
    assert "Confirm that it is you" in stale.post(f"{PAGE}/trust", typed(1, sha256="0" * 64)).text
    assert stale.post(f"{PAGE}/trust", typed(1, sha256="0" * 64), htmx=True).status_code == 403


def test_an_administrator_is_made_only_after_proof(stale: Person) -> None:
    assert "Confirm that it is you" in stale.post("/admin/users/new", BOB).text
    assert "bob@example.com" not in stale.get("/admin/users").text
    assert stale.post("/admin/users/new", BOB | {"proof_password": PASSWORD}).status_code == 200


def test_other_roles_are_given_without_it(stale: Person) -> None:
    assert stale.post("/admin/users/new", BOB | {"role": "password-user"}).status_code == 200


def test_nobody_is_raised_to_administrator_without_proof(app: Flask, database: Database, stale: Person) -> None:
    carol = add_person(app, database, email="carol@example.com", name="Carol", role=Role.PASSWORD_USER)
    raised = {"name": "Carol", "role": "administrator", "active": "y"}
    assert stale.post(f"/admin/users/{carol.user.id}", raised).status_code == 422
    assert stale.post(f"/admin/users/{carol.user.id}", raised | {"proof_password": PASSWORD}).status_code == 303


def test_an_administrator_who_was_disabled_is_let_in_again_only_after_proof(
    app: Flask, database: Database, stale: Person
) -> None:
    carol = add_person(app, database, email="carol@example.com", name="Carol", role=Role.ADMINISTRATOR)
    enabled = {"name": "Carol", "role": "administrator", "active": "y"}
    assert stale.post(f"/admin/users/{carol.user.id}", {"name": "Carol", "role": "administrator"}).status_code == 303
    assert stale.post(f"/admin/users/{carol.user.id}", enabled).status_code == 422
    assert stale.post(f"/admin/users/{carol.user.id}", enabled | {"proof_password": PASSWORD}).status_code == 303


@pytest.mark.parametrize("path", ["/admin/users/1/second-factor/remove", "/profile/second-factor/app/remove"])
def test_second_factors_are_touched_only_after_proof(stale: Person, path: str) -> None:
    asked = stale.post(path)
    assert (asked.status_code, "Confirm that it is you" in asked.text) == (422, True)


def test_the_audit_trail_is_exported_only_after_proof(stale: Person) -> None:
    asked = stale.post("/admin/audit/export", {"person": "Zoe"})
    assert (asked.status_code, asked.mimetype) == (422, "text/html")
    assert 'name="person" value="Zoe"' in asked.text
    exported = stale.post("/admin/audit/export", {"person": "Zoe", "proof_password": PASSWORD})
    assert (exported.status_code, exported.mimetype) == (200, "text/csv")


def test_each_proof_leaves_an_audit_line_without_what_was_typed(stale: Person, database: Database) -> None:
    stale.post("/confirm", {"proof_password": "wrong-canary"})
    stale.post("/confirm", {"proof_password": PASSWORD})
    with database.reading() as session:
        lines = trail.latest(session, limit=2)
    assert [(line.action, line.outcome) for line in lines] == [
        ("session:confirm", "done"),
        ("session:confirm", "refused"),
    ]
    assert not any(secret in line.details for line in lines for secret in ("canary", PASSWORD))


@pytest.mark.parametrize("credential", ["{}", "junk", "[" * 20_000])
def test_what_is_no_answer_of_a_passkey_confirms_nothing_and_leaves_few_lines(
    stale: Person, database: Database, credential: str
) -> None:
    for _ in range(3):
        assert stale.post("/confirm/passkey/options").status_code == 200
        answer = stale.post("/confirm", {"proof_passkey": credential})
        assert answer.status_code == 422
        assert "does not open" in answer.text
    assert stale.post(REVEAL).status_code == 422
    with database.reading() as session:
        assert [line.outcome for line in trail.latest(session, limit=3)] == ["refused"] * 3


def test_a_passkeys_answer_without_a_question_is_too_late(stale: Person) -> None:
    assert "took too long" in stale.post("/confirm", {"proof_passkey": "{}"}).text
    assert stale.post("/sign-in/passkey/options").status_code == 200
    assert "took too long" in stale.post("/confirm", {"proof_passkey": "{}"}).text


@pytest.fixture
def bob(app: Flask, database: Database, alice: Person) -> Person:
    return add_person(app, database, email="bob@example.com", name="Bob", role=Role.PASSWORD_USER)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/resources/1/sharing", {"right": "view"}),
        ("/accounts/1/sharing", {"right": "view"}),
        ("/resources/1/transfer", {}),
    ],
)
def test_what_only_a_proof_reveals_is_not_given_to_somebody_else_without_one(
    stale: Person, bob: Person, path: str, fields: dict[str, str]
) -> None:
    whom = fields | {"person": bob.user.email, "user_id": str(bob.user.id), "who": str(bob.user.id)}
    asked = stale.post(path, whom)
    assert asked.status_code == 422
    assert "Confirm that it is you" in asked.text
    assert bob.get("/accounts/1").status_code == 404


def test_a_link_for_an_administrator_who_has_no_password_yet_is_made_only_for_who_confirms(
    stale: Person, database: Database
) -> None:
    with database.transaction() as session:
        user = add_user(session, command_line(), email="eve@example.com", name="Eve", role=Role.ADMINISTRATOR)
    asked = stale.post(f"/admin/users/{user.id}/link")
    assert asked.status_code == 422
    assert "/welcome?token=" not in asked.text
    assert "/welcome?token=" in stale.post(f"/admin/users/{user.id}/link", {"proof_password": PASSWORD}).text
