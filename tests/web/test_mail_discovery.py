"""Find settings over HTTP: as htmx asks for it, as a stream, and from a browser without scripts."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from urllib.parse import parse_qs

import pytest
import sqlalchemy as sa
from flask import Flask

from tests.support.mail_server import MailServer
from tests.support.people import HTMX, Person, add_person, csrf_token
from webapp.actor import Role, command_line
from webapp.audit.trail import AuditLine
from webapp.db import Database
from webapp.mail.checks import MailCheck
from webapp.mail.settings import current
from webapp.trust.store import import_certificates

FIND = "/admin/settings/mail/find"


@pytest.fixture
def server(database: Database) -> Iterator[MailServer]:
    """A trusted server for SSL on some port of this machine."""
    with MailServer("ssl", {"user@example.test": "password"}) as running:
        with database.transaction() as session:
            import_certificates(session, command_line(), running.authority_pem(), source="test")
        yield running


def look_for(person: Person, text: str, *, htmx: bool = True, **typed: str) -> str:
    return html.unescape(person.post(FIND, {"find_from": text, **typed}, htmx=htmx).text)


def test_it_shows_what_answers_and_fills_in_the_safest(alice: Person, server: MailServer) -> None:
    shown = look_for(alice, f"localhost:{server.port}")
    assert 'data-outcome="found"' in shown
    assert "certificate valid" in shown
    filled = re.search(r'data-fill-now="([^"]+)"', shown)
    assert filled
    assert parse_qs(filled[1]) == {"server_name": ["localhost"], "security": ["ssl"], "port": [str(server.port)]}


def test_it_leaves_a_server_name_that_was_typed(alice: Person, server: MailServer) -> None:
    shown = look_for(alice, f"localhost:{server.port}", server_name="mine.example.test")
    assert "data-fill-now" not in shown
    assert "Use these" in shown


def test_a_refused_certificate_is_shown_with_its_reason(alice: Person) -> None:
    with MailServer("starttls") as stranger:
        shown = look_for(alice, f"localhost:{stranger.port}")
    assert "certificate refused" in shown
    assert "data-fill-now" not in shown
    assert "Use these" in shown


def test_a_server_without_encryption_is_never_filled_in_by_itself(alice: Person) -> None:
    with MailServer("never") as plain:
        shown = look_for(alice, f"localhost:{plain.port}")
    assert "no encryption" in shown
    assert "data-fill-now" not in shown


def test_a_known_provider_comes_with_its_note(alice: Person) -> None:
    shown = look_for(alice, "Postmark")
    assert "Server API token" in shown
    assert "smtp.postmarkapp.com" in shown
    assert "https://postmarkapp.com/" in shown


def test_results_arrive_one_by_one(alice: Person, server: MailServer) -> None:
    response = alice.client.post(
        FIND,
        data={"csrf_token": csrf_token(alice.client), "find_from": f"localhost:{server.port}"},
        headers={**HTMX, "Accept": "text/html, text/event-stream"},
    )
    assert response.mimetype == "text/event-stream"
    events = response.text.strip().split("\n\n")
    assert len(events) > 2
    assert 'data-outcome="running"' in events[0]
    assert 'data-outcome="found"' in events[-1]


def test_without_scripts_the_page_keeps_what_was_typed_and_has_the_settings_filled_in(
    alice: Person, server: MailServer
) -> None:
    page = look_for(
        alice, f"localhost:{server.port}", htmx=False, sender_address="keypost@example.test", sender_name="Vault"
    )
    assert "<html" in page
    for value in ("localhost", str(server.port), "keypost@example.test", "Vault", f"localhost:{server.port}"):
        assert f'value="{value}"' in page
    assert re.search(r'id="security-ssl"[^>]* checked', page)


def test_without_scripts_use_these_puts_the_choice_into_the_form_and_saves_nothing(
    alice: Person, server: MailServer, database: Database
) -> None:
    page = look_for(alice, f"localhost:{server.port}", htmx=False, server_name="other.example.test")
    choice = re.search(r'name="fill" value="([^"]+)" formaction="([^"]+)"', page)
    assert choice
    again = alice.post(
        choice[2], {"fill": choice[1], "server_name": "other.example.test", "sender_address": "me@example.test"}
    ).text
    assert 'value="localhost"' in again
    assert f'value="{server.port}"' in again
    assert 'value="me@example.test"' in again
    with database.reading() as session:
        assert current(session) is None


def test_a_forged_choice_cannot_reach_other_fields(alice: Person) -> None:
    page = alice.post("/admin/settings/mail/form", {"fill": "access_url=https://evil.test&password=x&version=7"}).text
    assert "evil.test" not in page


@pytest.mark.parametrize("text", ["", "smtp://example.test", "a@b@c", "<script>alert(1)</script>"])
def test_what_makes_no_sense_is_refused_in_words(alice: Person, text: str) -> None:
    response = alice.post(FIND, {"find_from": text}, htmx=True)
    assert response.status_code == 422
    assert 'role="alert"' in response.text
    assert "<script>alert" not in response.text


def test_what_was_typed_never_reaches_an_attribute_of_htmx(alice: Person) -> None:
    page = alice.post(FIND, {"find_from": "evil'\"><b>x"}).text
    assert "<b>x" not in page
    assert not any("evil" in attribute for attribute in re.findall(r'\shx-[^=]+="([^"]*)"', page))


def test_only_administrators_may_search(app: Flask, alice: Person, database: Database) -> None:
    bob = add_person(app, database, email="bob@example.com", name="Bob", role=Role.PASSWORD_ADMINISTRATOR)
    assert bob.post(FIND, {"find_from": "localhost:1"}).status_code == 403


def test_each_search_is_audited(alice: Person, database: Database, server: MailServer) -> None:
    look_for(alice, f"localhost:{server.port}")
    with database.reading() as session:
        (line,) = session.scalars(sa.select(AuditLine).where(AuditLine.action == "mail:find"))
    assert (line.actor_id, line.outcome) == (alice.user.id, "found")


def test_searches_count_against_the_limit_of_tests(alice: Person, database: Database) -> None:
    for _ in range(10):
        assert alice.post(FIND, {"find_from": "localhost:1"}, htmx=True).status_code == 200
    refused = alice.post(FIND, {"find_from": "localhost:1"}, htmx=True)
    assert refused.status_code == 429
    assert "limit" in refused.text
    with database.reading() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(MailCheck)) == 10


def test_a_search_proves_nothing_about_the_settings(alice: Person, database: Database, server: MailServer) -> None:
    look_for(alice, f"localhost:{server.port}")
    with database.reading() as session:
        (check,) = session.scalars(sa.select(MailCheck))
    assert (check.kind, check.outcome) == ("search", "accepted")
