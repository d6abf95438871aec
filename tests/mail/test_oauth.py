"""XOAUTH2 with client credentials: a real token endpoint, a scripted mail server, and no secret in the record."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest
import trustme
from click.testing import CliRunner

from tests.support.mail_certificates import Trusting, server_context
from tests.support.scripted_smtp import ScriptedServer, Talk
from webapp.actor import command_line
from webapp.cli import main
from webapp.db import Database
from webapp.errors import Invalid
from webapp.installation import Installation
from webapp.keyring import Secret
from webapp.mail.fetch import ANSWER_LIMIT
from webapp.mail.oauth import ClientCredentials, valid_token_url
from webapp.mail.probe import Result, login_check, outcome_of
from webapp.mail.transport import Login, Security, Server, Trust
from webapp.trust.store import TrustStore, import_certificates

MAILBOX, TOKEN, SECRET = "alerts@example.test", "eyJ0eXAi.bearer-token.of_this-run", "client secret/+ö of this run"
AUTHORITY = trustme.CA()
GOOD = {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3599}
Answer = tuple[int, dict[str, str], bytes]


def answering(status: int, body: object, **headers: str) -> Answer:
    return status, headers, body if isinstance(body, bytes) else json.dumps(body).encode()


class TokenEndpoint:
    """A token endpoint that gives one answer. asked: the Authorization header and the form of each request."""

    def __init__(self, answer: Answer, context: ssl.SSLContext | None = None, drip: bool = False) -> None:
        self.asked: list[tuple[str, dict[str, list[str]]]] = []
        stopping = self._stopping = threading.Event()
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                asked.append((self.headers["Authorization"], parse_qs(form)))
                status, headers, body = answer
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if drip:
                    stopping.wait(30)
                self.wfile.write(body)

            def log_message(self, *ignored: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *ignored: object) -> None:
                pass  # a client that hangs up is what some tests are about

        self._server = Quiet(("127.0.0.1", 0), Handler)
        if context:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' if context else ''}://localhost:{self._server.server_port}/tenant/token?v=2"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> TokenEndpoint:
        self._thread.start()
        return self

    def __exit__(self, *ignored: object) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def mail_server(talk: Talk) -> None:
    """Accepts exactly our token, and refuses another as Google and Microsoft do."""
    talk.say("220 ready")
    talk.expect("EHLO")
    talk.say("250-mail", "250 AUTH PLAIN XOAUTH2")
    given = base64.b64decode(talk.expect("AUTH XOAUTH2 ").split(" ")[2]).decode()
    if given == f"user={MAILBOX}\x01auth=Bearer {TOKEN}\x01\x01":
        talk.say("235 2.7.0 welcome")
    else:
        talk.say("334 " + base64.b64encode(b'{"status":"400","schemes":"Bearer"}').decode())
        assert talk.hear() == ""
        talk.say(f"535 5.7.8 not with {given.split('Bearer ')[1][:-2]}")
    talk.expect("QUIT")


def sign_in(url: str, script: Callable[[Talk], None] = mail_server, trust: Trust | None = None) -> Result:
    with ScriptedServer(script) as server:
        login = Login(MAILBOX, Secret(SECRET), ClientCredentials(url, "client:1", "smtp/.default"))
        place = Server("localhost", server.port, Security.NEVER, "keypost.example.test")
        result = outcome_of(login_check(place, login, timeout=3), trust or Trusting(AUTHORITY))
    assert [error for error in server.errors if not isinstance(error, OSError)] == []
    shown = json.dumps(result.as_dict(), ensure_ascii=False)
    basic = base64.b64encode(b"client%3A1:client+secret%2F%2B%C3%B6+of+this+run").decode()
    for secret in (SECRET, TOKEN, basic, "client+secret", base64.b64encode(TOKEN.encode()).decode()[4:-4]):
        assert secret not in shown
    return result


def failed(result: Result, code: str) -> str:
    assert result.diagnosis is not None
    assert (result.diagnosis.code, result.diagnosis.stage) == (code, "authentication")
    return result.diagnosis.cause


def https() -> ssl.SSLContext:
    return server_context(AUTHORITY.issue_cert("localhost"))


def test_it_signs_in_with_a_token_from_an_endpoint_of_a_private_authority() -> None:
    with TokenEndpoint(answering(200, GOOD), https()) as endpoint:
        result = sign_in(endpoint.url)
    assert (result.outcome, result.negotiated.mechanism) == ("accepted", "XOAUTH2")
    authorization, form = endpoint.asked[0]
    assert base64.b64decode(authorization.removeprefix("Basic ")).decode() == (
        "client%3A1:client+secret%2F%2B%C3%B6+of+this+run"
    )
    assert form == {"grant_type": ["client_credentials"], "scope": ["smtp/.default"]}


def test_a_token_is_asked_for_each_time() -> None:
    with TokenEndpoint(answering(200, GOOD)) as endpoint:
        assert [sign_in(endpoint.url).outcome for _ in range(2)] == ["accepted", "accepted"]
    assert len(endpoint.asked) == 2


def test_a_refused_token_is_one_failed_login_and_explained() -> None:
    with TokenEndpoint(answering(200, {**GOOD, "access_token": "another-bearer-token"})) as endpoint:
        result = sign_in(endpoint.url)
    assert "refused the token" in failed(result, "credentials-refused")
    assert "another-bearer-token" not in str(result.as_dict())
    assert len([line for line in result.transcript if line.startswith("C: AUTH")]) == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (answering(401, {"error": "invalid_client", "error_description": "AADSTS7000215: no"}), "invalid_client: AADS"),
        (answering(400, {"error": "invalid_scope", "error_description": f"not {SECRET}, no"}), "invalid_scope: not "),
        (answering(400, {"error": "x" * 5000}), "HTTP status 400, xxx"),
        (answering(403, b"<html>"), "HTTP status 403"),
        (answering(302, b"", Location="https://evil.example.test/"), "sends on to another address"),
        (answering(200, {**GOOD, "token_type": "mac"}), "no bearer token"),
        (answering(200, {**GOOD, "access_token": "a b\r\n"}), "no bearer token"),
        (answering(200, b"[" * 50_000), "no bearer token"),
        (answering(200, [1]), "no bearer token"),
    ],
)
def test_a_refusal_is_told_in_the_words_of_the_endpoint(answer: Answer, words: str) -> None:
    with TokenEndpoint(answer) as endpoint:
        cause = failed(sign_in(endpoint.url), "oauth-token-refused")
    assert words in cause
    assert len(cause) < 500
    assert len(endpoint.asked) == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (answering(503, b"busy"), "HTTP status 503"),
        (answering(429, {"error": "slow_down"}), "slow_down"),
        (answering(200, b" " * (ANSWER_LIMIT + 1)), "not sound HTTP"),
    ],
)
def test_an_endpoint_that_is_busy_or_broken_is_unreachable(answer: Answer, words: str) -> None:
    with TokenEndpoint(answer) as endpoint:
        assert words in failed(sign_in(endpoint.url), "oauth-token-unreachable")


def test_an_endpoint_that_hangs_is_not_waited_for() -> None:
    with TokenEndpoint(answering(200, GOOD), drip=True) as endpoint:
        assert "no answer in time" in failed(sign_in(endpoint.url), "oauth-token-unreachable")


def test_an_endpoint_whose_certificate_is_not_trusted_is_sent_nothing() -> None:
    with TokenEndpoint(answering(200, GOOD), https()) as endpoint:
        cause = failed(sign_in(endpoint.url, trust=Trusting(trustme.CA())), "oauth-token-unreachable")
    assert "certificate is not trusted" in cause
    assert endpoint.asked == []


def test_an_authority_imported_for_mail_vouches_for_no_token_endpoint(database: Database) -> None:
    with database.transaction() as session:
        import_certificates(session, command_line(), AUTHORITY.cert_pem.bytes(), source="test")
    with TokenEndpoint(answering(200, GOOD), server_context(AUTHORITY.issue_cert("localhost"))) as endpoint:
        failed(sign_in(endpoint.url, trust=TrustStore(database)), "oauth-token-unreachable")
    assert endpoint.asked == []


def test_a_closed_port_is_told() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    cause = failed(sign_in(f"http://127.0.0.1:{port}/"), "oauth-token-unreachable")
    assert "refused" in cause


def test_no_token_is_asked_for_a_server_that_takes_none() -> None:
    def passwords_only(talk: Talk) -> None:
        talk.say("220 ready")
        talk.expect("EHLO")
        talk.say("250-mail", "250 AUTH PLAIN LOGIN")
        talk.hold()

    with TokenEndpoint(answering(200, GOOD)) as endpoint:
        cause = failed(sign_in(endpoint.url, passwords_only), "mechanism-unsupported")
    assert "XOAUTH2" in cause
    assert endpoint.asked == []


@pytest.mark.parametrize(
    "wrong",
    ["", "login.example.test", "http://login.example.test/", "https://u:p@x.test/", "https://x.test/#a", "ftp://x.test",
     "https://x.test/a b", "https://x.test:99999/", "http://169.254.169.254/token", "https://x.test/\r\nHost: y"],
)  # fmt: skip
def test_the_secret_goes_only_to_a_sound_encrypted_address(wrong: str) -> None:
    with pytest.raises(Invalid):
        valid_token_url(wrong)


def test_the_command_line_tries_it(installation: Installation) -> None:
    with TokenEndpoint(answering(200, GOOD)) as endpoint, ScriptedServer(mail_server) as server:
        done = CliRunner().invoke(
            main,
            ["mail", "probe", "--server", "localhost", "--port", str(server.port), "--security", "never", "--sender",
             MAILBOX, "--username", MAILBOX, "--password-stdin", "--oauth-token-url", endpoint.url,
             "--oauth-client-id", "client:1", "--json"],
            input=SECRET + "\n", obj=installation,
        )  # fmt: skip
    stages = {stage["name"]: stage["outcome"] for stage in json.loads(done.stdout)["stages"]}
    assert stages["authentication"] == "done"
    assert SECRET not in done.output
    assert TOKEN not in done.output


@pytest.mark.parametrize(
    "more", [["--oauth-client-id", "x"], ["--oauth-token-url", "http://x.test", "--oauth-client-id", "x"]]
)
def test_half_of_it_is_wrong_usage(installation: Installation, more: list[str]) -> None:
    given = ["mail", "probe", "--server", "x.test", "--port", "25", "--security", "tls", "--sender", "a@b.test"]
    login = ["--username", "u", "--password-stdin"]
    assert CliRunner().invoke(main, [*given, *login, *more], input="x", obj=installation).exit_code == 2
