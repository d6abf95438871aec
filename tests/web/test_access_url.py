"""The check of the Access URL: does the address lead to this very installation, and if not, why not?"""

from __future__ import annotations

import contextlib
import html
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import sqlalchemy as sa
import trustme
from click.testing import CliRunner
from flask import Flask
from flask.testing import FlaskClient

from tests.support.mail_certificates import Trusting, server_context
from tests.support.mail_form import PAGE, typed
from tests.support.people import Person
from webapp import create_app
from webapp.actor import command_line
from webapp.audit.trail import AuditLine
from webapp.cli import main
from webapp.config import Config
from webapp.db import Database
from webapp.i18n import Reader, reading_as
from webapp.installation import Installation, open_installation
from webapp.mail.access_url import Finding, look, proof
from webapp.mail.dial import Address
from webapp.trust.store import import_certificates

CHECK = f"{PAGE}/check-access-url"
AUTHORITY = trustme.CA()
NONCE = "a-nonce-of-this-test"


@contextlib.contextmanager
def web(status: int, body: bytes = b"", context: ssl.SSLContext | None = None, **headers: str) -> Iterator[int]:
    """A web server that gives one answer; gives its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *ignored: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *ignored: object) -> None:
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def seen(url: str, *, trust: Trusting | None = None, expected: str = "keypost x", seconds: float = 3) -> Finding:
    return look(url, NONCE, expected, (trust or Trusting()).public_context, seconds=seconds)


def found(answer: str) -> str:
    code = re.search(r'data-finding="([^"]*)"', answer)
    assert code, answer
    return code[1]


# The proof


def test_only_this_installation_has_the_proof(app: Flask, client: FlaskClient, database: Database) -> None:
    answer = client.get(f"/identity-check?nonce={NONCE}")
    with database.reading() as session:
        assert answer.text == proof(session, NONCE)
        assert answer.text != proof(session, NONCE + "2")
    assert re.fullmatch(r"keypost [0-9a-f]{64}", answer.text)
    assert answer.mimetype == "text/plain"
    assert "Set-Cookie" not in answer.headers


def test_two_databases_with_one_key_are_two_installations(installation: Installation, tmp_path: Path) -> None:
    environment = {"KEYPOST_INSTANCE": str(tmp_path / "other")}
    environment["KEYPOST_MASTER_KEY_FILE"] = str(installation.config.master_key_file)
    other = open_installation(Config.from_environment(environment))
    with installation.database.reading() as session, other.database.reading() as theirs:
        assert proof(session, NONCE) != proof(theirs, NONCE)
    other.close()


@pytest.mark.parametrize("nonce", ["", "short", "a" * 65, "with blanks in between", "<script>alert(1)</script>"])
def test_what_is_no_nonce_proves_nothing(client: FlaskClient, nonce: str) -> None:
    answer = client.get("/identity-check", query_string={"nonce": nonce})
    assert answer.status_code == 422
    assert "keypost " not in answer.text.split("<main")[1]


# What is found


def test_this_installation_is_recognised(live_server: str, database: Database) -> None:
    with database.reading() as session:
        expected = proof(session, NONCE)
    finding = seen(live_server, expected=expected)
    assert (finding.code, finding.good) == ("this-installation", True)
    assert "they cannot open it" in finding.warnings[0]


def test_plain_http_is_warned_of(database: Database) -> None:
    with database.reading() as session:
        expected = proof(session, NONCE)
    with web(200, expected.encode()) as port:
        resolver = [Address(socket.AF_INET, "127.0.0.1", ("127.0.0.1", port))]
        url = f"http://keypost.example.test:{port}"
        finding = look(url, NONCE, expected, Trusting().public_context, resolver=lambda *_: resolver)
    assert finding.good
    assert "not encrypted" in finding.warnings[0]


def test_another_keypost_is_told_apart() -> None:
    with web(200, b"keypost " + b"0" * 64) as port:
        assert seen(f"http://localhost:{port}").code == "another-keypost"


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (200, b"<h1>It works!</h1>", "another-program"),
        (404, b"keypost " + b"0" * 64, "another-program"),
        (401, b"", "another-program"),
        (502, b"Bad Gateway", "proxy-cannot-reach-keypost"),
        (200, b"x" * 1_000_000, "not-http"),
    ],
)
def test_what_another_program_answers_is_not_shown(status: int, body: bytes, code: str) -> None:
    with web(status, body) as port:
        finding = seen(f"http://localhost:{port}")
    assert finding.code == code
    assert "works" not in finding.said + finding.remedy


def test_a_redirect_is_not_followed_but_offered() -> None:
    location = "https://vault.example.test/identity-check?nonce=x"
    with web(301, Location=location) as port:
        finding = seen(f"http://localhost:{port}")
    assert (finding.code, finding.instead) == ("redirect", "https://vault.example.test")


@pytest.mark.parametrize(
    "location", ["javascript:alert(1)", "/login", "https://u:p@x/identity-check", "//[", "x" * 9000]
)
def test_a_redirect_to_nowhere_sensible_offers_nothing(location: str) -> None:
    with web(302, Location=location) as port:
        finding = seen(f"http://localhost:{port}")
    assert (finding.code, finding.instead) == ("redirect", "")
    assert location not in finding.said


def test_a_name_that_is_not_there() -> None:
    assert seen("https://nosuch.invalid").code in ("name-not-found", "resolver-failed")


def test_a_port_where_nobody_listens() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    finding = seen(f"http://localhost:{port}")
    assert finding.code == "refused"
    assert f"(port {port})" in finding.said


def test_who_never_answers_is_not_waited_for() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        assert seen(f"http://127.0.0.1:{silent.getsockname()[1]}", seconds=0.3).code == "no-answer"


def test_a_certificate_that_browsers_refuse() -> None:
    with web(200, b"", server_context(AUTHORITY.issue_cert("localhost"))) as port:
        finding = seen(f"https://localhost:{port}")
        wrong_name = seen(f"https://127.0.0.1:{port}", trust=Trusting(AUTHORITY))
    assert (finding.code, wrong_name.code) == ("certificate", "certificate")


def test_https_where_there_is_none() -> None:
    with web(200) as port:
        finding = seen(f"https://localhost:{port}")
    assert finding.code == "not-https"
    assert "does not speak TLS" in finding.said
    assert "Set up TLS" in finding.remedy
    assert finding.instead == ""


def test_http_where_there_is_tls() -> None:
    with web(200, b"", server_context(AUTHORITY.issue_cert("localhost"))) as port:
        assert seen(f"http://localhost:{port}").code == "not-http"


@pytest.mark.parametrize("ip", ["169.254.169.254", "fe80::1", "0.0.0.0", "224.0.0.1"])  # noqa: S104
def test_an_address_that_is_out_of_bounds_is_not_asked(ip: str) -> None:
    addresses = [Address(socket.AF_INET, ip, (ip, 80))]
    finding = look("http://meta.example", NONCE, "", Trusting().public_context, resolver=lambda *_: addresses)
    assert finding.code == "address-forbidden"


def test_where_a_redirect_leads_is_told_in_the_readers_language() -> None:
    with web(301, Location="https://vault.example.test/identity-check?nonce=x") as port, reading_as(Reader("de")):
        named = seen(f"http://localhost:{port}").said
    with web(301, Location="/login") as port, reading_as(Reader("de")):
        unnamed = seen(f"http://localhost:{port}").said
    assert "leitet auf https://vault.example.test weiter" in named
    assert "leitet auf eine andere Adresse weiter" in unnamed


# The button


def test_the_button_tells_what_it_found(alice: Person, live_server: str) -> None:
    part = alice.post(CHECK, typed(25, access_url=live_server), htmx=True)
    assert found(part.text) == "this-installation"
    assert "This very installation answers there" in part.text
    assert "<html" not in part.text


def test_without_scripts_the_page_keeps_what_was_typed(alice: Person, live_server: str) -> None:
    page = alice.post(CHECK, typed(2525, access_url=live_server, sender_name="The Vault"))
    assert page.status_code == 200
    assert found(page.text) == "this-installation"
    assert 'value="The Vault"' in page.text


def test_it_checks_what_is_on_the_screen_even_if_another_address_is_saved(alice: Person, live_server: str) -> None:
    assert alice.post(PAGE, typed(2525)).status_code == 303
    assert found(alice.post(CHECK, typed(2525, access_url=live_server), htmx=True).text) == "this-installation"


def test_another_installation_is_not_taken_for_this_one(alice: Person, live_server: str, tmp_path: Path) -> None:
    other = open_installation(Config.from_environment({"KEYPOST_INSTANCE": str(tmp_path / "other")}))
    client = create_app(other).test_client()
    with web(200, client.get(f"/identity-check?nonce={NONCE}").data) as port:
        answer = alice.post(CHECK, typed(25, access_url=f"http://localhost:{port}"), htmx=True)
    assert found(answer.text) == "another-keypost"
    other.close()


def test_the_address_of_a_redirect_is_one_click(alice: Person, live_server: str) -> None:
    with web(308, Location=f"{live_server}/identity-check?nonce=x") as port:
        fields = typed(25, access_url=f"http://localhost:{port}")
        page = html.unescape(alice.post(CHECK, fields).text)
        button = re.search(r'<button name="instead" value="([^"]+)" formaction="([^"]+)"', page)
        assert button
        again = alice.post(button[2], fields | {"instead": button[1]})
    assert found(again.text) == "this-installation"
    assert f'value="{live_server}"' in again.text


@pytest.mark.parametrize("text", ["", "javascript:alert(1)", "https://a b", "<script>", "https://x/?q"])
def test_what_is_no_address_is_refused_in_words(alice: Person, text: str) -> None:
    answer = alice.post(CHECK, typed(25, access_url=text), htmx=True)
    assert answer.status_code == 422
    assert found(answer.text) == "not-checked"
    assert 'role="alert"' in answer.text


def test_checks_are_limited_as_tests_are(alice: Person) -> None:
    fields = typed(25, access_url="http://localhost:1")
    assert [alice.post(CHECK, fields, htmx=True).status_code for _ in range(11)] == [200] * 10 + [429]


def test_a_certificate_imported_for_mail_does_not_count(alice: Person, database: Database) -> None:
    with database.transaction() as session:
        import_certificates(session, command_line(), AUTHORITY.cert_pem.bytes(), source="test")
    with web(200, b"", server_context(AUTHORITY.issue_cert("localhost"))) as port:
        answer = alice.post(CHECK, typed(25, access_url=f"https://localhost:{port}"), htmx=True)
    assert found(answer.text) == "certificate"


def test_each_check_is_audited(alice: Person, database: Database) -> None:
    alice.post(CHECK, typed(25, access_url="http://localhost:1"), htmx=True)
    with database.reading() as session:
        line = session.scalars(sa.select(AuditLine).where(AuditLine.action == "mail:check-access-url")).one()
    assert (line.actor_id, line.outcome) == (alice.user.id, "failed")
    assert json.loads(line.details) == {"url": "http://localhost:1", "code": "refused"}


# The command


def test_the_command_line_checks_it(installation: Installation, live_server: str) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["mail", "check-access-url", *arguments], obj=installation)
        return done.exit_code, done.output

    assert run()[0] == 2
    status, output = run("--url", live_server, "--json")
    assert (status, json.loads(output)["code"]) == (0, "this-installation")
    status, output = run("--url", "http://localhost:1")
    assert status == 1
    assert "Nothing listens at localhost (port 1)" in output
    assert run("--url", "nonsense")[0] == 1


def test_the_form_says_what_the_button_does(alice: Person) -> None:
    assert "whether this very installation answers" in alice.get(PAGE).text
