"""Whom a request comes from, under which name, and from which page: proxies, hosts, other sites."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from tests.support.mail_form import PAGE, typed
from tests.support.people import Person, claim, csrf_token
from webapp import create_app
from webapp.audit.trail import AuditLine
from webapp.db import Database
from webapp.ingress import Proxies
from webapp.installation import Installation

PROXY, INNER, VISITOR = "10.1.0.7", "10.1.0.8", "203.0.113.9"
HTTPS = {"X-Forwarded-Proto": "https"}


def application(installation: Installation, **changes: Any) -> Flask:
    return create_app(replace(installation, config=replace(installation.config, **changes)))


def behind(installation: Installation, *, hops: int = 1) -> Flask:
    """The application with its proxies in 10.1.0.0/24."""
    return application(installation, trusted_proxies=(ip_network("10.1.0.0/24"),), proxy_hops=hops)


def visit(*, peer: str = PROXY, hops: int = 1, networks: str = "10.1.0.0/24", **said: str) -> tuple[str, str]:
    """The address and the scheme that the application behind the middleware sees."""
    seen: dict[str, Any] = {}

    def application(environ: dict[str, Any], _start: object) -> list[bytes]:
        seen.update(environ)
        return []

    environ = {f"HTTP_{name.upper()}": value for name, value in said.items()}
    trusted = [ip_network(each) for each in networks.split()]
    Proxies(application, trusted, hops)({**environ, "REMOTE_ADDR": peer, "wsgi.url_scheme": "http"}, _unused)
    assert not [name for name in seen if name.startswith("HTTP_X_FORWARDED")]
    return seen["REMOTE_ADDR"], seen["wsgi.url_scheme"]


def _unused(*_: object) -> Any:
    raise AssertionError("the application of these tests begins no response")


# Proxies


def test_a_listed_proxy_is_believed() -> None:
    said = {"X_Forwarded_For": VISITOR, "X_Forwarded_Proto": "https"}
    assert visit(**said) == (VISITOR, "https")


@pytest.mark.parametrize("peer", ["203.0.113.1", "10.2.0.7", "127.0.0.1", "::1"])
def test_nobody_else_is_believed(peer: str) -> None:
    said = {"X_Forwarded_For": VISITOR, "X_Forwarded_Proto": "https"}
    assert visit(peer=peer, **said) == (peer, "http")


def test_a_proxy_that_was_not_named_is_spoken_of_once(
    installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    client = application(installation).test_client()
    for _ in range(2):
        client.get("/sign-in", headers={"X-Forwarded-For": VISITOR, **HTTPS})
    (entry,) = [each.getMessage() for each in caplog.records if each.name == "webapp.ingress"]
    assert entry.startswith("127.0.0.1 sends X-Forwarded-Proto and is not believed.")
    assert "KEYPOST_TRUSTED_PROXIES" in entry


def test_a_proxy_that_was_named_is_not_spoken_of(installation: Installation, caplog: pytest.LogCaptureFixture) -> None:
    behind(installation).test_client().get(
        "/sign-in", headers={"X-Forwarded-For": VISITOR, **HTTPS}, environ_base={"REMOTE_ADDR": PROXY}
    )
    assert not [each for each in caplog.records if each.name == "webapp.ingress"]


def test_without_configuration_nobody_is_believed() -> None:
    assert visit(networks="", X_Forwarded_For=VISITOR, X_Forwarded_Proto="https") == (PROXY, "http")


def test_what_a_visitor_made_up_before_the_proxy_added_theirs_counts_for_nothing() -> None:
    assert visit(X_Forwarded_For=f"127.0.0.1, {INNER}, {VISITOR}")[0] == VISITOR


@pytest.mark.parametrize(
    ("forwarded_for", "believed"),
    [
        (f"{VISITOR}, {INNER}", VISITOR),
        (f"6.6.6.6, {VISITOR}, {INNER}", VISITOR),
        (f"{INNER}, {VISITOR}", PROXY),  # the inner one was gone around
        (VISITOR, PROXY),
        ("", PROXY),
    ],
)
def test_a_request_has_come_through_every_proxy_or_is_not_believed(forwarded_for: str, believed: str) -> None:
    assert visit(hops=2, X_Forwarded_For=forwarded_for)[0] == believed


@pytest.mark.parametrize(
    ("written", "believed"),
    [
        ("203.0.113.9:51234", "203.0.113.9"),
        ("[2001:db8::5]:443", "2001:db8::5"),
        ("2001:db8::5", "2001:db8::5"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("unknown", PROXY),
        ("<script>", PROXY),
        ("203.0.113.9\t", "203.0.113.9"),
        ("9" * 5000, PROXY),
    ],
)
def test_addresses_are_read_as_proxies_write_them(written: str, believed: str) -> None:
    assert visit(X_Forwarded_For=written)[0] == believed


@pytest.mark.parametrize(
    ("hops", "proto", "scheme"),
    [
        (1, "https", "https"),
        (1, "HTTPS", "https"),
        (1, "https, http", "http"),
        (2, "https, http", "https"),
        (2, "https", "https"),
        (2, "http, https, http", "https"),
        (1, "", "http"),
        (1, "ftp", "http"),
    ],
)
def test_the_outermost_proxy_says_whether_it_was_https(hops: int, proto: str, scheme: str) -> None:
    said = {"X_Forwarded_For": f"{VISITOR}, {INNER}" if hops == 2 else VISITOR, "X_Forwarded_Proto": proto}
    assert visit(hops=hops, **said)[1] == scheme


def test_behind_a_tls_proxy_the_cookie_is_secure_and_https_is_remembered(installation: Installation) -> None:
    answer = (
        behind(installation)
        .test_client()
        .get("/sign-in", headers={"X-Forwarded-For": VISITOR, **HTTPS}, environ_overrides={"REMOTE_ADDR": PROXY})
    )
    assert answer.headers["Set-Cookie"].startswith("__Host-keypost=")
    assert "Secure" in answer.headers["Set-Cookie"]
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"


def test_the_trail_knows_the_visitor_and_not_the_proxy(installation: Installation, database: Database) -> None:
    app = behind(installation)
    claim(app, database)
    client = app.test_client()

    for visitor in (VISITOR, "203.0.113.77"):
        through = {"headers": {"X-Forwarded-For": visitor}, "environ_overrides": {"REMOTE_ADDR": PROXY}}
        found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', client.get("/sign-in", **through).text)
        assert found
        fields = {"csrf_token": found[1], "email": "alice@example.com", "password": "wrong"}
        client.post("/sign-in", data=fields, **through)
    with database.reading() as session:
        sources = set(session.scalars(sa.select(AuditLine.source).where(AuditLine.action == "session:sign-in")))
    assert {VISITOR, "203.0.113.77"} <= sources
    assert PROXY not in sources


# Hosts


@pytest.fixture
def named(alice: Person) -> Person:
    """Alice, once users open https://keypost.example.test."""
    assert alice.post(PAGE, typed(2525)).status_code == 303
    return alice


def open_under(app: Flask, host: str) -> int:
    return int(app.test_client().get("/sign-in", headers={"Host": host}).status_code)


def test_before_an_access_url_is_saved_any_name_will_do(app: Flask, alice: Person) -> None:
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000", "keypost.example.test", "vault", "a.b.c"):
        assert open_under(app, host) == 200, host


def test_it_answers_under_its_own_names(app: Flask, named: Person) -> None:
    for host in ("localhost:8000", "127.0.0.1:1", "127.1.2.3", "[::1]:8000", "KEYPOST.example.TEST.:443"):
        assert open_under(app, host) == 200, host


def test_under_another_name_it_says_how_to_allow_it_and_nothing_else(named: Person) -> None:
    for host in ("evil.example", "keypost.example.test.evil.example", "192.168.1.5", "keypost"):
        for path in ("/sign-in", "/profile", "/nowhere", "/healthz"):
            answer = named.client.get(path, headers={"Host": host})
            assert answer.status_code == 421, (host, path)
            assert "KEYPOST_ALLOWED_HOSTS" in answer.text
            assert "Alice" not in answer.text


def test_a_name_can_be_allowed(installation: Installation, named: Person) -> None:
    app = application(installation, allowed_hosts=frozenset({"vault.example.com"}))
    assert open_under(app, "Vault.example.com:8443") == 200
    assert open_under(app, "example.com") == 421


def test_who_listens_everywhere_answers_under_any_address(installation: Installation, named: Person) -> None:
    app = application(installation, host="0.0.0.0")  # noqa: S104
    assert [open_under(app, host) for host in ("192.168.1.5:8000", "[2001:db8::1]:8000")] == [200, 200]
    assert open_under(app, "rebound.example") == 421
    assert open_under(application(installation, host="192.168.1.5"), "192.168.1.5") == 200


def test_what_is_no_host_is_refused(app: Flask, alice: Person) -> None:
    for host in ("", " ", "a b", "a/b", "a:b", "a:99999", "user@host", "<script>", "[::1", "a\tb", "ÿ"):
        assert open_under(app, host) == 400, host


@pytest.mark.parametrize("host", ["a..b", ".a", "a" * 64, "a" * 300], ids=len)
def test_a_name_that_no_address_can_be_built_under_is_refused_in_words(app: Flask, named: Person, host: str) -> None:
    for path in ("/sign-in", "/nowhere", "/healthz/live", "/static/app.js"):
        answer = app.test_client().get(path, headers={"Host": host})
        assert answer.status_code == 400, path
        assert "Host header is no name" in answer.text


def test_one_time_links_begin_with_the_access_url_whatever_the_host_was(named: Person) -> None:
    fields = {"csrf_token": csrf_token(named.client), "email": "c@example.com", "name": "C", "role": "password-user"}
    named.client.post("/admin/users/new", data=fields, headers={"Host": "localhost:4711"})
    page = named.client.post("/admin/users/2/link", data=fields, headers={"Host": "localhost:4711"})
    assert "https://keypost.example.test/welcome?token=" in page.text
    assert "4711" not in page.text


# Other sites


def plant(person: Person, name: str = "Planted", **headers: str) -> int:
    data = {"csrf_token": csrf_token(person.client), "name": name, "kind": "Server"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return int(person.client.post("/resources/new", data=data, headers=named).status_code)


def test_a_browser_that_says_another_site_sent_it_is_believed(alice: Person) -> None:
    for site in ("cross-site", "same-site", "", "x"):
        assert plant(alice, Sec_Fetch_Site=site, Origin="http://localhost") == 400, site
    assert "Planted" not in alice.get("/resources").text


def test_over_plain_http_the_origin_tells(alice: Person) -> None:
    strangers = ("null", "https://evil.example", "http://localhost.evil.example", "http://localhost:8001")
    for origin in (*strangers, "localhost", "", "x://", "http://[", "http://localhost:x"):
        assert plant(alice, Origin=origin) == 400, origin
    assert "Planted" not in alice.get("/resources").text


def test_what_our_own_pages_send_is_taken(alice: Person) -> None:
    same = {"Sec_Fetch_Site": "same-origin"}
    sent: tuple[dict[str, str], ...] = ({}, same, {"Sec_Fetch_Site": "none"}, {"Origin": "http://localhost"})
    for number, headers in enumerate((*sent, {"Origin": "https://localhost"}, {**same, "Origin": "https://proxied"})):
        assert plant(alice, name=f"Ours {number}", **headers) == 303, headers


def test_pages_under_the_access_url_are_our_own_even_if_the_proxy_changes_the_host(named: Person) -> None:
    assert plant(named, Origin="https://keypost.example.test") == 303


def test_a_header_of_htmx_proves_nothing(alice: Person) -> None:
    assert plant(alice, HX_Request="true", Origin="https://evil.example") == 400


def test_a_stranger_is_refused_as_well(client: FlaskClient, alice: Person) -> None:
    fields = {"csrf_token": csrf_token(client), "email": "alice@example.com", "password": "x"}
    assert client.post("/sign-in", data=fields, headers={"Origin": "https://evil.example"}).status_code == 400
