"""People at their browsers, over HTTP, as a browser without scripts would do it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from webapp.actor import Role, command_line
from webapp.db import Database
from webapp.identity.setup import offer_setup
from webapp.identity.users import User, add_user, find_user
from webapp.keyring import Secret

PASSWORD = "correct horse battery staple"
HTMX = {"HX-Request": "true"}


@dataclass
class Person:
    """A signed-in user and their browser."""

    user: User
    client: FlaskClient

    def get(self, path: str, *, htmx: bool = False) -> TestResponse:
        return self.client.get(path, headers=HTMX if htmx else {})

    def post(self, path: str, fields: dict[str, Any] | None = None, *, htmx: bool = False) -> TestResponse:
        """Post a form with the token a page of this session carries."""
        data = {"csrf_token": csrf_token(self.client), **(fields or {})}
        return self.client.post(path, data=data, headers=HTMX if htmx else {})


def csrf_token(client: FlaskClient) -> str:
    """The anti-forgery token out of a page that every visitor may open."""
    for path in ("/profile", "/profile/second-factor", "/sign-in"):
        page = client.get(path)
        found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page.text)
        if page.status_code == 200 and found:
            return found[1]
    raise AssertionError("no page has a form")


def claim(app: Flask, database: Database, *, email: str = "alice@example.com", name: str = "Alice Admin") -> Person:
    """Set up the installation as its first administrator."""
    client = app.test_client()
    token = offer_setup(database)
    response = client.post(
        "/setup",
        data={
            "csrf_token": _setup_csrf(client, token),
            "token": token,
            "name": name,
            "email": email,
            "password": PASSWORD,
        },
    )
    assert response.status_code == 303, response.text
    with database.reading() as session:
        user = find_user(session, email)
    assert user is not None
    return Person(user, client)


def _setup_csrf(client: FlaskClient, token: str | None) -> str:
    found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', client.get(f"/setup?token={token}").text)
    assert found
    return found[1]


def add_person(app: Flask, database: Database, *, email: str, name: str, role: Role) -> Person:
    """Add a user at the command line and sign them in over HTTP."""
    with database.transaction() as session:
        user = add_user(session, command_line(), email=email, name=name, role=role, password=Secret(PASSWORD))
    return sign_in(app, user)


def sign_in(app: Flask, user: User, *, password: str = PASSWORD) -> Person:
    client = app.test_client()
    response = client.post(
        "/sign-in", data={"csrf_token": csrf_token(client), "email": user.email, "password": password}
    )
    assert response.status_code == 303, response.text
    return Person(user, client)
