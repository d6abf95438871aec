"""Claiming a new installation in the browser."""

from __future__ import annotations

from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.support.people import PASSWORD, claim, csrf_token
from webapp.db import Database, utc_now
from webapp.identity.setup import offer_setup


def _post(client: FlaskClient, token: str | None, **fields: str) -> tuple[int, str]:
    data = {
        "csrf_token": csrf_token(client),
        "token": token or "",
        "name": "Ada",
        "email": "ada@example.com",
        "password": PASSWORD,
        **fields,
    }
    response = client.post("/setup", data=data)
    return response.status_code, response.text


def test_the_link_leads_to_an_administrator_signed_in(app: Flask, database: Database) -> None:
    ada = claim(app, database, email="ada@example.com", name="Ada")
    assert ada.get("/admin").status_code == 200


@pytest.mark.parametrize("query", ["", "?token=", "?token=guess"])
def test_without_the_token_nobody_can_claim(client: FlaskClient, database: Database, query: str) -> None:
    offer_setup(database)
    response = client.get(f"/setup{query}")
    assert response.status_code == 403
    assert "start Keypost again" in response.text
    assert _post(client, query.removeprefix("?token="))[0] == 403


def test_a_spent_link_says_so(app: Flask, database: Database, client: FlaskClient) -> None:
    token = offer_setup(database)
    assert _post(client, token)[0] == 303
    stranger = app.test_client()
    assert stranger.get(f"/setup?token={token}").status_code == 403
    assert _post(stranger, token, email="eve@example.com")[0] == 403


def test_an_expired_link_says_so(client: FlaskClient, database: Database) -> None:
    token = offer_setup(database)
    later = utc_now() + timedelta(minutes=61)
    database.clock = lambda: later
    response = client.get(f"/setup?token={token}")
    assert response.status_code == 403
    assert "expired" in response.text


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", "", "Give your name."),
        ("email", "ada", "That is not an e-mail address."),
        ("email", "", "Give the e-mail address."),
        ("password", "short", "Use at least 15 characters"),
        ("password", "", "Give the password."),
    ],
)
def test_a_mistake_is_shown_at_its_field_and_the_rest_is_kept(
    client: FlaskClient, database: Database, field: str, value: str, said: str
) -> None:
    status, text = _post(client, offer_setup(database), **{field: value})
    assert status == 422
    assert f'id="{field}-error"' in text
    assert said in text
    assert PASSWORD not in text


def test_the_form_does_not_choose_the_role(client: FlaskClient, database: Database) -> None:
    assert _post(client, offer_setup(database), role="password-user", active="")[0] == 303
    assert client.get("/admin").status_code == 200
