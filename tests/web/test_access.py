"""Whoever calls whatever: every address of the URL map, tried by everybody.

Who may call what is written down here a second time, by address, independent of what the views declare.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.people import HTMX, Person, add_person, csrf_token
from webapp import access, create_app
from webapp.actor import Role
from webapp.db import Database
from webapp.installation import Installation

EVERYBODY = ("/", "/sign-in", "/setup", "/welcome", "/healthz", "/metrics", "/static/<path:filename>")
# The first that fits decides.
INSIDE = (
    ("/admin/audit", {Role.ADMINISTRATOR, Role.PASSWORD_AUDITOR}),
    ("/admin", {Role.ADMINISTRATOR}),
    ("/resources/new", {Role.ADMINISTRATOR, Role.PASSWORD_ADMINISTRATOR}),
    ("/resources", set(Role)),
    ("/accounts", set(Role)),
    ("/profile", set(Role)),
    ("/sign-out", set(Role)),
)


def _allowed(rule: str) -> set[Role]:
    return next(roles for prefix, roles in INSIDE if rule == prefix or rule.startswith(f"{prefix}/"))


def _addresses(app: Flask) -> Iterator[tuple[str, str, str]]:
    """Each rule that is not for everybody, a method, and an address that exists where Alice's things are meant."""
    for rule in app.url_map.iter_rules():
        if rule.rule in EVERYBODY:
            continue
        values = {name: "0" * 64 if name == "sha256" else 1 for name in rule.arguments}
        with app.test_request_context():
            path = app.url_map.bind("localhost").build(rule.endpoint, values)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            yield rule.rule, method, path


def _call(client: FlaskClient, method: str, path: str, token: str, **headers: str) -> TestResponse:
    data = {"csrf_token": token} if method == "POST" else None
    return client.open(path, method=method, data=data, headers=headers)


@pytest.fixture
def possessions(alice: Person) -> None:
    """Resource 1 and account 1, of Alice's."""
    assert alice.post("/resources/new", {"name": "Mail host", "kind": "Server"}).status_code == 303
    assert alice.post("/resources/1/accounts/new", {"username": "root", "password": "canary"}).status_code == 303


def test_a_view_that_does_not_say_whom_it_lets_in_stops_the_start(app: Flask, installation: Installation) -> None:
    bare = Flask("bare")
    bare.add_url_rule("/open", view_func=lambda: "")
    with pytest.raises(RuntimeError, match="do not say whom they let in"):
        access.guard(bare, installation)
    create_app(installation)


def test_visitors_are_sent_to_sign_in_from_everywhere(app: Flask, alice: Person, client: FlaskClient) -> None:
    token = csrf_token(client)
    for _rule, method, path in _addresses(app):
        page = _call(client, method, path, token)
        assert (page.status_code, page.headers["Location"].split("?")[0]) == (302, "/sign-in"), path
        part = _call(client, method, path, token, **HTMX)
        assert (part.status_code, part.headers["HX-Redirect"].split("?")[0]) == (401, "/sign-in"), path


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.ADMINISTRATOR])
def test_each_role_reaches_what_it_may_and_nothing_else(
    app: Flask, database: Database, possessions: None, role: Role
) -> None:
    person = add_person(app, database, email="eve@example.com", name="Eve", role=role)
    token = csrf_token(person.client)
    for rule, method, path in _addresses(app):
        if rule == "/sign-out":
            continue
        response = _call(person.client, method, path, token)
        if role not in _allowed(rule):
            assert response.status_code == 403, (method, path)
            assert "Ask an administrator" in response.text
        elif "<id:resource_id>" in rule or "<id:account_id>" in rule or "<id:sign_in_id>" in rule:
            assert response.status_code == 404, (method, path)
            assert "canary" not in response.text
        else:
            assert response.status_code in (200, 204, 303, 422), (method, path)


def test_an_administrator_too_sees_nothing_of_what_others_own(
    app: Flask, database: Database, possessions: None
) -> None:
    stranger = add_person(app, database, email="bob@example.com", name="Bob", role=Role.ADMINISTRATOR)
    token = csrf_token(stranger.client)
    for rule, method, path in _addresses(app):
        if "<id:resource_id>" in rule or "<id:account_id>" in rule:
            assert _call(stranger.client, method, path, token).status_code == 404, (method, path)
    assert "Mail host" not in stranger.get("/resources").text


def test_what_is_foreign_is_answered_like_what_is_not_there(app: Flask, database: Database, possessions: None) -> None:
    stranger = add_person(app, database, email="bob@example.com", name="Bob", role=Role.ADMINISTRATOR)
    for foreign, missing in (("/resources/1", "/resources/4711"), ("/accounts/1", "/accounts/4711")):
        assert stranger.get(foreign).text.split("</header>")[1] == stranger.get(missing).text.split("</header>")[1]


@pytest.mark.parametrize(
    "number", ["0", "2147483647", "2147483648", "9999999999", "9" * 30, "-1", "1.0", "٣", "1e3", "x"]
)
def test_a_number_that_is_no_rows_is_not_found(alice: Person, number: str) -> None:
    for path in ("/resources/{}", "/resources/{}/edit", "/accounts/{}", "/accounts/{}/password"):
        assert alice.get(path.format(number)).status_code == 404
    assert alice.post(f"/profile/sessions/{number}/end").status_code == 404


@pytest.mark.parametrize("name", ["X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override", "X-Forwarded-User"])
def test_no_header_opens_a_door(alice: Person, client: FlaskClient, name: str) -> None:
    for value in ("/sign-in", "GET", "alice@example.com"):
        assert client.get("/admin", headers={name: value}).status_code == 302
