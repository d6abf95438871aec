"""What every answer says to the browser, and to the caches between."""

from __future__ import annotations

import re

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.people import Person, csrf_token
from webapp.db import Database
from webapp.mail.wording import STYLE_SOURCE

PAGES = ("/resources", "/admin", "/profile", "/nowhere", "/admin/settings/mail", "/healthz")


def _policy(response: TestResponse) -> dict[str, str]:
    parts = (part.strip().partition(" ") for part in response.headers["Content-Security-Policy"].split(";"))
    return {name: value for name, _space, value in parts}


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_closed_to_strangers_and_caches(alice: Person, path: str) -> None:
    headers = alice.get(path).headers
    assert headers["Cache-Control"] == "no-store"
    assert {"HX-Request", "Cookie"} <= {name.strip() for name in headers["Vary"].split(",")}
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "Server" not in headers or "Werkzeug" not in headers["Server"]


@pytest.mark.parametrize("path", PAGES)
def test_only_scripts_of_ours_run(alice: Person, path: str) -> None:
    policy = _policy(alice.get(path))
    assert policy["default-src"] == "'none'"
    assert re.fullmatch(r"'nonce-[\w-]{20,}'", policy["script-src"])
    assert policy["style-src"] == f"'self' {STYLE_SOURCE}"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["form-action"] == "'self'"
    assert "unsafe" not in "".join(policy.values())


def test_each_answer_has_a_nonce_of_its_own_and_carries_it(alice: Person) -> None:
    nonces = set()
    for _ in range(3):
        response = alice.get("/resources")
        nonce = _policy(response)["script-src"].removeprefix("'nonce-").removesuffix("'")
        nonces.add(nonce)
        scripts = re.findall(r"<script[^>]*>", response.text)
        assert scripts
        assert all(f'nonce="{nonce}"' in script for script in scripts)
    assert len(nonces) == 3


@pytest.mark.parametrize("path", ["/resources", "/admin", "/profile", "/admin/settings/mail", "/admin/audit"])
def test_no_page_holds_inline_style_or_handlers(alice: Person, path: str) -> None:
    text = alice.get(path).text
    assert not re.search(r"<[^>]*\s(style|on[a-z]+)=", text)
    assert "<style" not in text


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(client: FlaskClient) -> None:
    cookie = client.get("/sign-in").headers["Set-Cookie"]
    assert cookie.startswith("keypost=")
    for attribute in ("HttpOnly", "SameSite=Lax", "Path=/"):
        assert attribute in cookie
    assert "Domain" not in cookie
    assert "Secure" not in cookie


def test_over_https_the_cookie_belongs_to_this_host_alone(client: FlaskClient) -> None:
    response = client.get("/sign-in", base_url="https://keypost.example")
    cookie = response.headers["Set-Cookie"]
    assert cookie.startswith("__Host-keypost=")
    assert "Secure" in cookie
    assert response.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"


def test_forwarded_headers_of_strangers_change_nothing(alice: Person, client: FlaskClient) -> None:
    forged = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example", "X-Forwarded-For": "10.9.8.7"}
    response = client.get("/sign-in", headers=forged)
    assert "evil.example" not in response.text + str(response.headers)
    assert response.headers["Set-Cookie"].startswith("keypost=")
    data = {"csrf_token": csrf_token(client), "email": "alice@example.com", "password": "wrong"}
    client.post("/sign-in", data=data, headers=forged)
    assert "10.9.8.7" not in alice.get("/admin/audit").text


def test_static_files_may_be_kept(client: FlaskClient) -> None:
    with client.get("/static/app.css") as response:
        assert response.status_code == 200
        assert response.headers["Cache-Control"] == "public, max-age=3600"
        assert "Set-Cookie" not in response.headers


def test_the_page_about_a_file_that_is_not_there_is_never_kept(alice: Person) -> None:
    for path, headers in (("nothing.js", {}), ("app.css", {"Range": "bytes=9999999-"})):
        answer = alice.client.get(f"/static/{path}", headers=headers)
        assert "Alice Admin" not in answer.text
        assert answer.headers["Cache-Control"] == "no-store"


def test_static_files_ask_nothing_of_the_database(alice: Person, database: Database) -> None:
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        asked.append(statement)

    sa.event.listen(database.engine, "before_cursor_execute", note)
    with alice.client.get("/static/app.css") as response:
        assert response.status_code == 200
    sa.event.remove(database.engine, "before_cursor_execute", note)
    assert asked == []


@pytest.mark.parametrize(
    "path", ["../config.py", "%2e%2e/config.py", "..%2f..%2finstance/master.key", ".git/config", ""]
)
def test_static_files_lead_nowhere_else(client: FlaskClient, path: str) -> None:
    assert client.get(f"/static/{path}").status_code == 404


def test_health_is_told_without_secrets(client: FlaskClient) -> None:
    response = client.get("/healthz")
    assert (response.status_code, response.json) == (200, {"status": "ok", "reasons": []})
