"""Keypost behind real proxies, with the very lines of docs/operations.md; each is skipped where it is not installed."""

from __future__ import annotations

import http.client
import os
import re
import secrets
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from http.cookies import SimpleCookie
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import urlencode

import pytest
import sqlalchemy as sa
import trustme

from tests.support.mail_form import TEST, stages, typed
from tests.support.people import HTMX, PASSWORD
from tests.support.scripted_smtp import ScriptedServer, Talk
from tests.test_architecture import ROOT
from tests.web.test_server import serving
from webapp import create_app
from webapp.audit.trail import AuditLine
from webapp.db import Database
from webapp.identity.setup import offer_setup
from webapp.installation import Installation

NAME = "vault.example.test"
VISITOR = "127.0.0.5"
"""Another address of this machine than the proxy's: Linux answers under the whole of 127.0.0.0/8."""
PATIENCE_SECONDS = 30


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    text: str


@dataclass
class Visitor:
    """A browser without scripts that opens the proxy's address."""

    port: int
    trust: ssl.SSLContext
    cookies: dict[str, str] = field(default_factory=dict)
    set_cookies: list[str] = field(default_factory=list)

    def get(self, path: str, **headers: str) -> Answer:
        return self._ask("GET", path, b"", headers)

    def post(self, path: str, form_page: str, fields: dict[str, str], **headers: str) -> Answer:
        """Send a form with the token that its page carries."""
        body = urlencode({**fields, "csrf_token": self.token(form_page)}).encode()
        return self._ask("POST", path, body, {"Content-Type": "application/x-www-form-urlencoded", **headers})

    def hand_over(self, path: str, table: bytes) -> Answer:
        """Upload a file."""
        token, border = self.token(path), secrets.token_hex(16)
        part = f'--{border}\r\nContent-Disposition: form-data; name="'
        body = f'{part}csrf_token"\r\n\r\n{token}\r\n{part}file"; filename="table.csv"\r\n\r\n'.encode()
        whole = body + table + f"\r\n--{border}--\r\n".encode()
        return self._ask("POST", path, whole, {"Content-Type": f"multipart/form-data; boundary={border}"})

    def token(self, form_page: str) -> str:
        found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', self.get(form_page).text)
        assert found, form_page
        return found[1]

    @contextmanager
    def asking(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> Iterator[http.client.HTTPResponse]:
        """An answer that may still be on its way."""
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, context=self.trust, source_address=(VISITOR, 0), timeout=PATIENCE_SECONDS
        )
        with closing(connection):
            cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            connection.request(method, path, body, {"Host": NAME, "Cookie": cookie, **headers})
            yield connection.getresponse()

    def _ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        with self.asking(method, path, body, headers) as response:
            for each in response.headers.get_all("Set-Cookie", []):
                self.set_cookies.append(each)
                self.cookies |= {name: morsel.value for name, morsel in SimpleCookie(each).items()}
            return Answer(response.status, response.headers, response.read().decode())


def documented(proxy: str) -> str:
    """The lines for a proxy in docs/operations.md: the block that follows its name."""
    text = (ROOT / "docs" / "operations.md").read_text()
    found = re.search(rf"\bFor {proxy},.*?^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE | re.IGNORECASE)
    assert found, f"docs/operations.md has no lines for {proxy}"
    return found[1]


def configure_nginx(folder: Path, lines: str, port: int) -> list[str]:
    """As Debian's nginx.conf has it, with everything in a folder of the test's own."""
    paths = "".join(f"{kind}_temp_path {folder / kind};\n" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        ("user root;\n" if os.geteuid() == 0 else "")
        + f"""
        daemon off;
        worker_processes 1;
        pid {folder}/nginx.pid;
        error_log {folder}/error.log info;
        events {{}}
        http {{
            {paths}
            client_body_temp_path {folder}/body;
            access_log off;
            gzip on;
            server {{
                listen 127.0.0.1:{port} ssl;
                ssl_certificate {folder}/site.pem;
                ssl_certificate_key {folder}/site.pem;
                {lines}
            }}
        }}
        """
    )
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]


def configure_caddy(folder: Path, lines: str, port: int) -> list[str]:
    """With a certificate of our own, since nobody gives one for a name that does not exist."""
    address = f"https://:{port} {{\n\tbind 127.0.0.1\n\ttls {folder}/site.pem {folder}/site.pem\n"
    (folder / "Caddyfile").write_text(
        "{\n\tadmin off\n\tauto_https disable_redirects\n}\n" + lines.replace("vault.example.com {\n", address)
    )
    return ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


PROXIES = {"nginx": configure_nginx, "caddy": configure_caddy}


@pytest.fixture(scope="session")
def site_authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(params=PROXIES)
def proxy(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if shutil.which(name) is None:
        pytest.skip(f"there is no {name} on the PATH")
    return name


@pytest.fixture
def visitor(proxy: str, installation: Installation, tmp_path: Path, site_authority: trustme.CA) -> Iterator[Visitor]:
    """Somebody before the proxy, whom nobody knows yet."""
    folder = tmp_path / "proxy"
    folder.mkdir()
    site_authority.issue_cert("127.0.0.1", NAME).private_key_and_cert_chain_pem.write_to_path(str(folder / "site.pem"))
    trust = ssl.create_default_context(cadata=site_authority.cert_pem.bytes().decode())
    config = replace(installation.config, trusted_proxies=(ip_network("127.0.0.1/32"),))
    app = create_app(replace(installation, config=config))
    with serving(app, request_seconds=60) as (_host, inner), running(proxy, folder, inner) as outer:
        yield Visitor(outer, trust)


@contextmanager
def running(proxy: str, folder: Path, inner: int) -> Iterator[int]:
    """The proxy in front of a port; gives its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    lines = documented(proxy).replace("127.0.0.1:8000", f"127.0.0.1:{inner}")
    command = PROXIES[proxy](folder, lines, port)
    surroundings = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(command, env=surroundings, stdout=said, stderr=said)
    try:
        _await(process, port, folder / "said")
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def _await(process: subprocess.Popen[bytes], port: int, said: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as knocking:
            if knocking.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail(f"the proxy did not start: {said.read_text()}")


@pytest.fixture
def alice(visitor: Visitor, database: Database) -> Visitor:
    """The first administrator, who came by the set-up link."""
    link = f"/setup?token={offer_setup(database)}"
    who = {"name": "Alice Admin", "email": "alice@example.test", "password": PASSWORD}
    answer = visitor.post("/setup", link, {**who, "token": link.partition("=")[2]}, Origin=f"https://{NAME}")
    assert answer.status == 303, answer.text
    return visitor


def test_visitors_are_who_they_are_on_https_and_stay_there(alice: Visitor, database: Database) -> None:
    cookie = next(each for each in alice.set_cookies if each.startswith("__Host-keypost="))
    assert {"Secure", "HttpOnly", "Path=/"} <= set(cookie.split("; "))
    answer = alice.get("/")
    assert answer.status in (302, 303)
    assert not answer.headers["Location"].startswith("http:")
    assert answer.headers["Strict-Transport-Security"].startswith("max-age=31536000")
    with database.reading() as session:
        sources = session.scalars(sa.select(AuditLine.source).where(AuditLine.actor_name == "Alice Admin"))
        assert set(sources) == {VISITOR}


def test_what_a_visitor_says_of_themselves_counts_for_nothing(alice: Visitor, database: Database) -> None:
    lies = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "evil.example"}
    answer = alice.post("/resources/new", "/resources/new", {"name": "Mail", "kind": "Server"}, **lies)
    assert answer.status == 303
    assert "Strict-Transport-Security" in answer.headers
    with database.reading() as session:
        assert session.scalars(sa.select(AuditLine.source).order_by(AuditLine.id.desc())).first() == VISITOR


def test_stages_arrive_while_the_mail_server_still_thinks(alice: Visitor) -> None:
    may_greet, seen_first = threading.Event(), threading.Event()

    def slow(talk: Talk) -> None:
        if may_greet.wait(PATIENCE_SECONDS / 3):
            seen_first.set()
        talk.say("421 4.3.2 go away")

    headers = {**HTMX, "Accept": "text/event-stream", "Content-Type": "application/x-www-form-urlencoded"}
    with ScriptedServer(slow) as server:
        body = urlencode({**typed(server.port), "csrf_token": alice.token("/admin/settings/mail")}).encode()
        with alice.asking("POST", TEST, body, headers) as answer:
            seen = ""
            while 'data-stage="connect" data-outcome="done"' not in seen:
                line = answer.readline().decode()
                assert line, seen
                seen += line
            may_greet.set()
            rest = answer.read().decode()
    assert seen_first.is_set(), "the proxy kept the stages back until the test had ended"
    assert stages(rest)["greeting"] == "failed"


def test_a_table_of_passwords_passes_on_no_disk_and_too_large_a_one_is_refused_in_our_words(
    alice: Visitor, tmp_path: Path
) -> None:
    line = b"Mail,someone,a password,mail.example.test,%s\n" % (b"x" * 900)
    answer = alice.hand_over("/resources/import", b"Title,Username,Password,URL,Notes\n" + line * 1000)
    assert answer.status == 303, answer.text
    log = tmp_path / "proxy" / "error.log"
    assert "temporary file" not in (log.read_text() if log.exists() else "")
    refused = alice.hand_over("/resources/import", line * 1200)
    assert refused.status == 413
    assert "That was more than Keypost takes at once" in refused.text


def test_pages_travel_uncompressed_since_their_length_would_tell_the_token(alice: Visitor) -> None:
    answer = alice.get("/resources", **{"Accept-Encoding": "gzip"})
    assert answer.status == 200
    assert "Content-Encoding" not in answer.headers


def test_once_the_access_url_is_saved_other_names_are_refused(alice: Visitor) -> None:
    fields = typed(25, access_url=f"https://{NAME}", requires_authentication=None)
    assert alice.post("/admin/settings/mail", "/admin/settings/mail", fields).status == 303
    assert alice.get("/resources").status == 200
    refused = alice.get("/resources", Host="other.example.test")
    assert refused.status == 421
    assert "does not answer under the name “other.example.test”" in refused.text


def test_the_figures_are_for_nobody_who_comes_through_the_proxy(visitor: Visitor) -> None:
    assert visitor.get("/metrics").status in (302, 401, 403, 404)
