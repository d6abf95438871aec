"""Whatever is sent, the answer is a page with a sentence, and never a failure of ours."""

from __future__ import annotations

import io
import os
import random
import re
import time
from collections import Counter

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from tests.support.people import HTMX, PASSWORD, Person, csrf_token
from webapp.audit import trail
from webapp.db import Database
from webapp.vault.accounts import AccountPassword

ODD = (
    "\x00",
    "a\x00b",
    "\ufffd",
    "\u202e",
    "\u2028",
    "\r\nSet-Cookie: a=b",
    "'; DROP TABLE users; --",
    "{{ 7 * 7 }}",
    "%s%n{0.__class__}",
    "-1",
    "0",
    "9" * 30,
    "9" * 5000,
    "1e999",
    "NaN",
    "٣",
    "../../etc/passwd",
    "\U0010ffff" * 300,
    "ΐ" * 5000,
    "a" * 60_000,
    "[]",
    "true",
    "",
)

SHORT = tuple(text for text in ODD if len(text) < 1000)

FIELDS = (
    *("name", "email", "password", "current", "username", "notes", "kind", "address", "version", "page", "q", "before"),
    *("account_id", "port", "security", "server_name", "sender_address", "sender_name", "access_url", "active"),
    *("credential_source", "test_recipient", "token", "next", "role", "requires_authentication", "sha256"),
)


def _addresses(app: Flask) -> list[tuple[str, str]]:
    found = []
    for rule in app.url_map.iter_rules():
        if rule.endpoint in ("session.sign_out", "static"):
            continue
        values = {name: "0" * 64 if name == "sha256" else 1 for name in rule.arguments}
        path = app.url_map.bind("localhost").build(rule.endpoint, values)
        found += [(path, method) for method in sorted((rule.methods or set()) & {"GET", "POST"})]
    return found


@pytest.fixture
def everything(alice: Person) -> Person:
    """Alice, with resource 1 and account 1."""
    alice.post("/resources/new", {"name": "Mail host", "kind": "Server"})
    alice.post("/resources/1/accounts/new", {"username": "root", "password": "canary"})
    return alice


def _names(client: FlaskClient, paths: list[str]) -> list[str]:
    """The fields of every form there is."""
    pages = [client.get(path).text for path in paths]
    found = {name for page in pages for name in re.findall(r'\sname="([\w-]+)"', page)}
    return sorted((found | set(FIELDS)) - {"csrf_token"})


def test_no_odd_value_makes_any_view_fail(app: Flask, everything: Person) -> None:
    """KEYPOST_FUZZ_REQUESTS=9000 sends as many requests, each with odd values in every field of every form."""
    client, chance = everything.client, random.Random(1)
    left_out = ("/end", "/delete", "/mail/find", "/healthz")  # The last says 503 when mail waits for too long.
    addresses = [pair for pair in _addresses(app) if not pair[0].endswith(left_out)]
    names = _names(client, [path for path, method in addresses if method == "GET"])
    token = csrf_token(client)
    wanted = max(int(os.environ.get("KEYPOST_FUZZ_REQUESTS", "500")), len(addresses))
    slowest, answers = 0.0, Counter[int]()
    for number in range(wanted):
        path, method = addresses[number % len(addresses)]
        odd = ODD if chance.random() < 0.2 else SHORT
        fields = {name: chance.choice(odd) for name in names}
        if chance.random() < 0.7:  # Else the first odd character hides all the rest.
            fields = {name: "".join(sign for sign in text if sign not in "\x00\ufffd") for name, text in fields.items()}
        if chance.random() < 0.5:  # And some fields are left out, so that what is judged later is reached.
            fields = {name: text for name, text in fields.items() if chance.random() < 0.5}
        headers = HTMX if chance.random() < 0.5 else {}
        began = time.monotonic()
        if method == "GET":
            fields = {name: text[:1000] for name, text in fields.items()}
            response = client.get(path, query_string=fields, headers=headers)
        else:
            response = client.post(path, data={**fields, "csrf_token": token}, headers=headers)
        assert response.status_code < 500, (number, method, path, {name: text[:50] for name, text in fields.items()})
        answers[response.status_code] += 1
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < 8
    assert sum(answers[status] for status in (200, 303, 404, 409, 422)) > wanted / 2, answers
    assert everything.get("/profile").status_code == 200  # Still signed in: it was the views that answered.


@pytest.mark.parametrize("query", ["q=%00", "%00=1", "q=%ef%bf%bd"])
def test_what_is_no_text_is_refused(alice: Person, query: str) -> None:
    assert alice.get(f"/resources?{query}").status_code == 400


@pytest.mark.parametrize("query", ["q=%ff", "q=%ed%a0%80", "q=%c0%af", "%f8%88%80%80%80=1", "page=%ff"])
def test_bytes_of_no_encoding_stay_as_they_were_written(alice: Person, query: str) -> None:
    response = alice.get(f"/resources?{query}")
    assert response.status_code == 200
    assert "\ufffd" not in response.text


@pytest.mark.parametrize("path", ["/%00", "/resources/%00", "/%ff", "/%ed%a0%80"])
def test_a_path_that_is_no_text_is_refused(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 400


def test_a_body_that_is_no_text_is_refused(alice: Person) -> None:
    for body in (b"name=%ff", b"name=\xff", b"name=%ed%a0%80", b"name=a%00b"):
        response = alice.client.post("/resources/new", data=body, content_type="application/x-www-form-urlencoded")
        assert response.status_code == 400


@pytest.mark.parametrize("path", ["/resources/import", "/admin/users/import", "/admin/certificates"])
def test_a_file_whose_name_is_no_text_is_refused(alice: Person, path: str) -> None:
    for name in ("a\x00b.csv", "a\ufffdb.csv"):
        assert alice.post(path, {"file": (io.BytesIO(b"Resource,Email\na,b@c.example\n"), name)}).status_code == 400


@pytest.mark.parametrize("path", ["/resources/import", "/admin/users/import"])
@pytest.mark.parametrize(
    "content", [b"Resource,Email\na\0,b@c.example\n", b"\xff\xfe\0\0a", b"Email\n\xed\xa0\x80@c\n"], ids=len
)
def test_a_table_that_is_no_text_makes_nothing_fail(alice: Person, path: str, content: bytes) -> None:
    assert alice.post(path, {"file": (io.BytesIO(content), "a.csv")}).status_code in (303, 422)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"&".join(b"f%d=1" % number for number in range(10_000)), "application/x-www-form-urlencoded"),
        (b"name=" + b"a" * 2_000_000, "application/x-www-form-urlencoded"),
        (
            b"--b\r\nContent-Disposition: form-data; name=n\r\n\r\n" + b"a" * 2_000_000,
            "multipart/form-data; boundary=b",
        ),
        (
            b"--b\r\nContent-Disposition: form-data; name=n\r\n\r\nx\r\n" * 5000 + b"--b--",
            "multipart/form-data; boundary=b",
        ),
    ],
    ids=["10 000 fields", "big field", "big part", "5 000 parts"],
)
def test_too_much_is_refused_in_words(alice: Person, body: bytes, kind: str) -> None:
    response = alice.client.post("/resources/new", data=body, content_type=kind)
    assert response.status_code == 413
    assert "five hundred fields" in response.text


@pytest.mark.parametrize(
    "kind", ["application/json", "text/plain", "multipart/form-data", "multipart/form-data; boundary=\x01", "", "x"]
)
def test_another_kind_of_body_is_refused_in_words(alice: Person, kind: str) -> None:
    response = alice.client.post("/resources/new", data=b'{"name": [[[[]]]]}', content_type=kind)
    assert response.status_code in (400, 413)
    assert "<h1>" in response.text


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "BREW", "POST"])
def test_another_method_is_refused_in_words(alice: Person, method: str) -> None:
    response = alice.client.open("/resources", method=method, data={"csrf_token": csrf_token(alice.client)})
    assert response.status_code == 405
    assert "own buttons" in response.text


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_form_of_another_site_is_refused_whatever_it_carries(alice: Person, site: str) -> None:
    data = {"csrf_token": csrf_token(alice.client), "name": "Planted", "kind": "Server"}
    response = alice.client.post("/resources/new", data=data, headers={"Sec-Fetch-Site": site})
    assert response.status_code == 400
    assert "Planted" not in alice.get("/resources").text


@pytest.mark.parametrize("token", [None, "", "x", "." * 100, "eyJ.x.y"])
def test_a_form_without_its_token_changes_nothing(alice: Person, token: str | None) -> None:
    data = {"name": "Planted", "kind": "Server"} | ({} if token is None else {"csrf_token": token})
    response = alice.client.post("/resources/new", data=data)
    assert response.status_code == 400
    assert "out of date" in response.text
    assert "Planted" not in alice.get("/resources").text


def test_htmx_has_its_refusals_said_on_the_page(alice: Person) -> None:
    response = alice.get("/resources/4711", htmx=True)
    assert response.status_code == 404
    assert "keypost:say" in response.headers["HX-Trigger"]
    assert "<html" not in response.text


@pytest.mark.parametrize(
    "header", ["HX-Request", "HX-Target", "HX-Current-URL", "HX-Trigger", "HX-History-Restore-Request"]
)
def test_odd_headers_of_htmx_do_no_harm(alice: Person, header: str) -> None:
    for value in ("true", "false", "", "x" * 10_000, "ÿ", "<script>"):
        assert alice.client.get("/resources", headers={header: value}).status_code == 200


def test_a_locked_database_asks_for_patience(app: Flask, alice: Person, database: Database) -> None:
    if not database.is_sqlite:
        pytest.skip("about SQLite alone")
    token = csrf_token(alice.client)
    sa.event.listen(database.engine, "checkout", _impatient)
    with database.transaction() as session:
        session.execute(sa.text("UPDATE users SET name = name"))
        response = alice.client.post("/resources/new", data={"csrf_token": token, "name": "Late", "kind": "Server"})
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "5"
    assert "Nothing was changed" in response.text
    assert "Late" not in alice.get("/resources").text


def _impatient(connection: sa.engine.interfaces.DBAPIConnection, *_: object) -> None:
    connection.cursor().execute("PRAGMA busy_timeout=1")


@pytest.mark.parametrize(
    ("path", "fields"), [("/accounts/1/reveal", {}), ("/resources/export", {"proof_password": PASSWORD})]
)
def test_a_seal_that_was_altered_is_told_and_its_place_is_in_the_trail(
    everything: Person, database: Database, path: str, fields: dict[str, str]
) -> None:
    with database.transaction() as session:
        session.get_one(AccountPassword, (1, 1)).sealed += b"altered"
    response = everything.post(path, fields)
    assert response.status_code == 500
    assert "altered or moved in the database" in response.text
    with database.reading() as session:
        (line,) = trail.latest(session, limit=1)
    assert (line.action, line.outcome) == ("access:refuse", "refused")
    assert f"POST {path} (account_passwords.password of row 1/1 does not open" in line.details


def test_what_nobody_expected_gives_a_reference_and_no_details(
    app: Flask, alice: Person, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with database.transaction() as session:
        session.execute(sa.text("UPDATE users SET role = 'canary'"))
    response = alice.get("/resources")
    assert response.status_code == 500
    assert "Reference:" in response.text
    for hidden in ("Traceback", "canary", "webapp/"):
        assert hidden not in response.text
    assert "canary" not in caplog.text
    assert "unexpected ValueError" in caplog.text
