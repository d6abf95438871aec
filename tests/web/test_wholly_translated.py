"""Pages are wholly in their reader's language: read in a pseudo-language, nothing stands outside of its marks."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urljoin

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.screenshots import EMPTY, FILLED, fill, pause
from tests.support.mail_form import TEST, at, typed
from tests.support.mail_server import NEVER, MailServer
from tests.support.outbox import deliver, open_relay, save
from tests.support.people import Person, add_person, claim, csrf_token
from tests.support.pseudo_language import speak, unmarked
from webapp.actor import Role, command_line
from webapp.db import Database
from webapp.identity.imports import PEOPLE
from webapp.mail.discovery import FIELD
from webapp.trust.store import import_certificates

pytestmark = pytest.mark.parametrize("installation", ["sqlite"], indirect=True)
GERMAN: Final = {"Accept-Language": "de"}
BEFORE: Final = (
    "/sign-in",
    "/forgotten",
    "/forgotten/asked",
    "/setup?token=x",
    "/welcome?token=x",
    "/nowhere",
)
PLAIN: Final = {"/healthz", "/healthz/live", "/healthz/ready", "/identity-check", "/metrics"}

TYPED: Final = (
    "Alice Admin", "Bob Builder", "Bob", "bob", "king", "Gordon Gone", "Lata Later",
    "Wilhelmina Featherstonehaugh-Cholmondeley", "Carol", "Mail provider", "Core switch", "Customer database",
    "Zoë’s database", "Backup store", "Robin Berger",
    "A-resource-whose-name-is-one-very-long-word-as-machines-like-to-make-them", "a password of a mailbox",
    "Example Company Mail 2024", "Example Company Root", "keypost", "reporting", "abuse", "root", "Read only",
    "no such thing", "nobody at all", "no name at all", "Proton Mail (Bridge)", "from-keepass", "from-a-spreadsheet",
    "Alex Meyer", "Build server 3",
)  # fmt: skip
"""What people typed, and what examples are called; longer names first where one begins with another."""
ALLOWED: Final = {
    r"[\w.+-]+@[\w.-]+": "an address",
    r"\b[\w-]+(\.[\w-]+)*\.(test|example|com|local|csv|pem)\b": "a host or a file",
    r"\blocalhost\b": "a host",
    r"https?://\S+": "an address on the web",
    r"\bKeypost\b": "the product’s name",
    r"\bUTC\b": "a time zone’s name",
    r"\b(SSL|TLS|STARTTLS|SMTP|CSV|SHA-256|PEM|DER|QR)\b": "a standard’s name",
    r"\b(English|Deutsch)\b": "each language has its own name",
    r"\bms\b": "a unit",
    r"\b[A-Z]\w+/[A-Z][\w/ -]*": "a time zone’s name",
    r"\b(GET|POST) /[\w/.-]*": "a request",
    r"\b[a-z-]+:[a-z-]+\b": "an act’s code, as filters and exports carry it",
    r"\b(UTF-8|Windows-1252)\b": "an encoding’s name",
    r"-----BEGIN CERTIFICATE-----": "how a certificate begins",
    r"220 \S+ ESMTP Keypost test server": "a mail server’s words",
    r"(OU|CN)=[^⟦]*|\bEC P-256\b": "a certificate’s subject",
    r"\{\{ \w+ \}\}|\w+(?=⟦ einfügen⟧)": "a placeholder of a mail’s text",
    r"\b[A-Z2-7]{32}\b": "an authenticator app’s secret",
    r"\b(PLAIN|8BITMIME|SMTPUTF8|PIPELINING|ENHANCEDSTATUSCODES|SIZE|HELP|TLSv1\.\d|TLS_\w+)\b": "a protocol’s word",
    r"\b([0-9A-Fa-f]{2}:?){32}\b": "a fingerprint",
    r"\bMB\b": "a unit",
    r"\d{3} \d\.\d\.\d [^⟦]*": "a mail server’s words",
}  # fmt: skip
"""What stands in pages as it is, in every language, and why."""
DATA: Final = re.compile("|".join([*ALLOWED, *(rf"\b{re.escape(each)}(?!\w)" for each in TYPED)]))
COLUMNS: Final = re.compile(
    rf"{DATA.pattern}|\b(Password User|Name|E-mail|Role|Title|Username|Password|URL|Notes|TOTP)\b"
)
"""The same, where a table’s own headings are shown."""


PEOPLE_TABLE: Final = (
    "Name,E-mail,Role\nCarol,carol@example.test,Password Auditor\nBob,bob,Password User\n,lata@example.test,\n"
    "Gordon Gone,gone@example.test,king\nCarol,carol@example.test,\nAlice Admin,alice@example.test,Administrator\n"
)


@dataclass
class Reading:
    """Somebody who reads pages, and what they found that is not in their language."""

    client: FlaskClient
    found: dict[str, list[str]] = field(default_factory=dict)
    forms: dict[str, dict[str, str]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    def look(self, path: str) -> None:
        self.seen.add(path)
        self._note(path, self.client.get(path, headers=GERMAN, follow_redirects=True))

    def send(self, path: str, fields: dict[str, str]) -> None:
        token = {"csrf_token": csrf_token(self.client)}
        page = self.client.post(path, data=token | fields, headers=GERMAN, follow_redirects=True)
        self._note(f"POST {path}", page)

    def send_every_form(self, *, but: tuple[str, ...]) -> None:
        """Each form that was seen, as it was, with nothing filled in."""
        for action, fields in list(self.forms.items()):
            if action not in but:
                self.send(action, fields)

    def wander(self) -> None:
        """Look at what the pages seen link to, one of each shape of address, and go on from there."""
        while unseen := [path for path in self.links.values() if path not in self.seen]:
            for path in unseen:
                self.look(path)

    def _note(self, place: str, answer: TestResponse) -> None:
        if answer.mimetype != "text/html":
            return
        page = answer.text
        left = unmarked(page, COLUMNS if "/import" in place else DATA)
        if left:
            self.found[place] = left
        for link in re.findall(r'href="(/[^"#]*)', page):
            path = html.unescape(link)
            if not path.startswith("/static/"):
                self.links.setdefault(re.sub(r"[0-9a-f]{64}|\d+|(?<==)[^&]*", "·", path), path)
        for form in re.finditer(r'(?s)<form\b[^>]*method="post"[^>]*action="([^"]+)"[^>]*>(.*?)</form>', page):
            hidden = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form[2])
            action = urljoin(place.removeprefix("POST "), html.unescape(form[1]))
            self.forms[action] = {name: html.unescape(value) for name, value in hidden if name != "csrf_token"}


@pytest.fixture
def administrator(app: Flask, database: Database, monkeypatch: pytest.MonkeyPatch) -> Person:
    """An administrator who reads the pseudo-language."""
    alice = claim(app, database, email="alice@example.test")
    speak(monkeypatch)
    alice.post("/profile/language", {"language": "de", "time_zone": "UTC"})
    return alice


@pytest.fixture
def relay() -> Iterator[MailServer]:
    with MailServer(NEVER) as server:
        yield server


def addresses(app: Flask) -> list[str]:
    """Every page that has an address of its own."""
    pages = (rule for rule in app.url_map.iter_rules() if "GET" in (rule.methods or ()) and not rule.arguments)
    return sorted({rule.rule for rule in pages} - PLAIN)


def said(found: dict[str, list[str]]) -> str:
    return "\n".join(f"{place}: {texts}" for place, texts in found.items())


def test_the_way_in_is_wholly_translated(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    speak(monkeypatch)
    reading = Reading(app.test_client())
    for path in BEFORE:
        reading.look(path)
    reading.send_every_form(but=("/language",))
    assert not reading.found, said(reading.found)


def test_empty_pages_are_wholly_translated(app: Flask, administrator: Person) -> None:
    reading = Reading(administrator.client)
    for path in [*EMPTY.values(), *addresses(app)]:
        reading.look(path)
    assert not reading.found, said(reading.found)


def test_filled_pages_and_answers_are_wholly_translated(
    app: Flask, administrator: Person, database: Database, relay: MailServer
) -> None:
    fill(database, relay)
    reading = Reading(administrator.client)
    for path in [*FILLED.values(), *addresses(app)]:
        reading.look(path)
    reading.send_every_form(but=("/sign-out", "/language"))
    for path in [*FILLED.values(), *addresses(app)]:
        reading.look(path)
    assert not reading.found, said(reading.found)


def test_everything_that_pages_lead_to_is_wholly_translated(
    administrator: Person, database: Database, relay: MailServer
) -> None:
    fill(database, relay)
    reading = Reading(administrator.client)
    reading.look("/admin")
    reading.wander()
    assert len(reading.seen) > 50
    assert not reading.found, said(reading.found)


def test_why_attempts_failed_is_wholly_translated(administrator: Person, database: Database) -> None:
    fields = {"email": "dora@example.test", "name": "Carol", "role": Role.PASSWORD_USER.value}
    with MailServer(NEVER, size_limit=100) as server:
        save(database, open_relay(server.port))
        administrator.post("/admin/users/new", fields)
        deliver(database)
    reading = Reading(administrator.client)
    for path in ("/admin/outbox", "/admin/outbox/1", "/admin/users", "/admin/users/2"):
        reading.look(path)
    assert "⟦Die Nachricht ist größer" in administrator.get("/admin/outbox/1").text
    assert not reading.found, said(reading.found)


def test_an_import_of_users_is_wholly_translated(administrator: Person, database: Database) -> None:
    reading = Reading(administrator.client)
    for table in ("", "Name", PEOPLE_TABLE):
        reading.send("/admin/users/import", {"text": table})
    reading.send("/admin/users/import/1/start", {"by_mail": "y"})
    PEOPLE.work(database)
    reading.look("/admin/users/import/1")
    reading.look("/admin/users/import")
    assert not reading.found, said(reading.found)


def test_finding_settings_is_wholly_translated(administrator: Person) -> None:
    reading = Reading(administrator.client)
    for wanted in ("", "no name at all", "Proton Mail (Bridge)"):
        reading.send("/admin/settings/mail/find", {FIELD: wanted})
    assert not reading.found, said(reading.found)


def test_a_paused_outbox_is_wholly_translated(administrator: Person, database: Database, relay: MailServer) -> None:
    fill(database, relay)
    pause(database)
    reading = Reading(administrator.client)
    for path in ("/admin", "/admin/outbox", "/admin/outbox?state=queued", "/admin/outbox/1", "/admin/settings/mail"):
        reading.look(path)
    assert not reading.found, said(reading.found)


def test_the_results_of_tests_are_wholly_translated(
    administrator: Person, database: Database, mail_server_starttls: MailServer
) -> None:
    reading = Reading(administrator.client)
    reading.send(TEST, typed(9))
    reading.send(TEST, at(mail_server_starttls))
    with database.transaction() as session:
        import_certificates(session, command_line(), mail_server_starttls.authority_pem(), source="authority.pem")
    reading.send(TEST, at(mail_server_starttls))
    reading.look("/admin/certificates")
    reading.look("/admin/audit")
    assert not reading.found, said(reading.found)


@pytest.mark.parametrize("role", [each for each in Role if each is not Role.ADMINISTRATOR])
def test_what_others_see_is_wholly_translated(
    app: Flask, administrator: Person, database: Database, relay: MailServer, role: Role
) -> None:
    fill(database, relay)
    reading = Reading(add_person(app, database, email="dora@example.test", name="Carol", role=role).client)
    for path in [*FILLED.values(), *addresses(app)]:
        reading.look(path)
    assert not reading.found, said(reading.found)
