"""Guessing over HTTP: slowed down, counted through restarts, and never a way to lock somebody out."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterable
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.support.people import PASSWORD, Person, csrf_token
from webapp.cli import main
from webapp.installation import Installation


def knock(client: FlaskClient, source: str, password: str = "wrong", email: str = "alice@example.com") -> str:
    """Try to sign in from an address; gives what the page says, or where it leads."""
    fields = {"csrf_token": csrf_token(client), "email": email, "password": password}
    answer = client.post("/sign-in", data=fields, environ_base={"REMOTE_ADDR": source})
    return answer.headers.get("Location") or answer.text


def besiege(app: Flask) -> None:
    """Guess at Alice's account from 25 places at one moment: the first wait is shorter than a busy machine takes."""
    database = app.extensions["installation"].database
    now, client = database.clock(), app.test_client()
    database.clock = lambda: now
    for number in range(25):
        assert "do not match" in knock(client, f"192.0.2.{number}")
    assert "Somebody has tried many wrong passwords" in knock(client, "198.51.100.1", PASSWORD)


def test_alice_signs_in_from_her_own_browser_while_others_guess(app: Flask, alice: Person) -> None:
    alice.get("/resources")
    alice.post("/sign-out")
    besiege(app)
    assert knock(alice.client, "203.0.113.9", PASSWORD) == "/resources"


def test_the_mark_of_a_known_browser_is_hidden_from_scripts_and_cannot_be_forged(app: Flask, alice: Person) -> None:
    set_cookies = alice.client.get("/resources").headers.getlist("Set-Cookie")
    alice.client.delete_cookie("keypost-browser")
    marks = [line for line in alice.client.get("/resources").headers.getlist("Set-Cookie") if "keypost-browser" in line]
    assert set_cookies is not None
    assert len(marks) == 1
    assert "HttpOnly" in marks[0]
    assert "SameSite=Lax" in marks[0]
    besiege(app)
    forger = app.test_client()
    for value in ('{"id":"x","users":[1]}', "eyJpZCI6IngiLCJ1c2VycyI6WzFdfQ.x.y", "", "." * 50):
        forger.set_cookie("keypost-browser", value)
        assert "Wait" in knock(forger, "203.0.113.9", PASSWORD)


def test_the_command_line_ends_the_waiting(
    app: Flask, alice: Person, installation: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    besiege(app)
    main(["users", "unlock", "alice@example.com"], obj=installation, standalone_mode=False)
    assert "without waiting" in capsys.readouterr().out
    assert knock(app.test_client(), "203.0.113.9", PASSWORD) == "/resources"


def test_no_answer_tells_whether_an_address_is_known(app: Flask, alice: Person) -> None:
    def said(email: str, source: str) -> str:
        return knock(app.test_client(), source, email=email).split("<form")[1].split("</div>")[0]

    assert said("alice@example.com", "192.0.2.1") == said("nobody@example.com", "192.0.2.2")


def test_no_time_tells_whether_an_address_is_known(app: Flask, alice: Person) -> None:
    def seconds(email: str, sources: Iterable[str]) -> float:
        client, taken = app.test_client(), []
        for source in sources:
            fields = {"csrf_token": csrf_token(client), "email": email, "password": "wrong"}
            began = time.monotonic()
            client.post("/sign-in", data=fields, environ_base={"REMOTE_ADDR": source})
            taken.append(time.monotonic() - began)
        return statistics.median(taken)

    knock(app.test_client(), "192.0.2.99", email="warm@example.com")
    known = seconds("alice@example.com", (f"192.0.2.{number}" for number in range(7)))
    unknown = seconds("nobody@example.com", (f"198.51.100.{number}" for number in range(7)))
    assert 1 / 3 < known / unknown < 3


def test_a_flood_of_sign_ins_leaves_the_other_pages_answering(app: Flask, alice: Person, live_server: str) -> None:
    app.wsgi_app = from_everywhere(app.wsgi_app)  # type: ignore[method-assign]
    host = urlsplit(live_server).netloc
    cookie, token = visit(host)
    statuses: list[int] = []
    flood = [threading.Thread(target=lambda n=n: statuses.append(post(host, cookie, token, n))) for n in range(200)]
    for thread in flood:
        thread.start()
    waits = []
    while any(thread.is_alive() for thread in flood):
        began = time.monotonic()
        assert ask(host, "/sign-in") == 200
        waits.append(time.monotonic() - began)
    for thread in flood:
        thread.join()
    assert set(statuses) <= {422, 503}
    assert statistics.median(waits) < 1


def from_everywhere(inner: Any) -> Any:
    """Have each request come from the address that it names itself."""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        environ["REMOTE_ADDR"] = environ.get("HTTP_X_TEST_SOURCE", environ["REMOTE_ADDR"])
        return inner(environ, start_response)

    return application


def visit(host: str) -> tuple[str, str]:
    """A stranger's cookie and form token."""
    connection = HTTPConnection(host, timeout=30)
    connection.request("GET", "/sign-in")
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return (answer.getheader("Set-Cookie") or "").split(";")[0], text.split('name="csrf_token" value="')[1].split('"')[
        0
    ]


def post(host: str, cookie: str, token: str, number: int) -> int:
    connection = HTTPConnection(host, timeout=120)
    body = urlencode({"csrf_token": token, "email": f"user{number}@example.com", "password": "wrong password"})
    headers = {
        "Cookie": cookie,
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Test-Source": f"10.9.{number // 100}.{number % 100}",
    }
    connection.request("POST", "/sign-in", body, headers)
    status = connection.getresponse().status
    connection.close()
    return status


def ask(host: str, path: str) -> int:
    connection = HTTPConnection(host, timeout=30)
    connection.request("GET", path)
    status = connection.getresponse().status
    connection.close()
    return status
