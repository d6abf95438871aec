"""Find settings in a real browser: what answers appears, and one click fills it in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.support.browsing import claim
from tests.support.mail_server import MailServer
from webapp.actor import command_line
from webapp.db import Database
from webapp.mail.settings import current
from webapp.trust.store import import_certificates

pytestmark = pytest.mark.browser


@pytest.fixture
def server(database: Database) -> Iterator[MailServer]:
    with MailServer("ssl", {"user@example.test": "password"}) as running:
        with database.transaction() as session:
            import_certificates(session, command_line(), running.authority_pem(), source="test")
        yield running


def test_what_answers_is_filled_in_and_what_was_typed_stays(
    page: Page, live_server: str, database: Database, server: MailServer
) -> None:
    claim(page, live_server, database)
    page.get_by_role("link", name="Mail Server Settings").click()
    page.get_by_label("Sender e-mail address").fill("keypost@example.test")
    page.get_by_label("Mail address, host or provider").fill(f"localhost:{server.port}")
    page.get_by_label("Mail address, host or provider").press("Enter")
    expect(page.locator("#_found")).to_have_attribute("data-outcome", "found", timeout=15_000)
    expect(page.locator("#_found .tag.good")).to_have_text("certificate valid")
    expect(page.get_by_label("Server name", exact=True)).to_have_value("localhost")
    expect(page.get_by_label("Port")).to_have_value(str(server.port))
    expect(page.get_by_role("radio", name="SSL")).to_be_checked()

    page.get_by_label("Server name", exact=True).fill("other.example.test")
    page.get_by_role("radio", name="TLS").check()
    page.get_by_role("button", name="Use these").first.click()
    expect(page.get_by_label("Server name", exact=True)).to_have_value("localhost")
    expect(page.get_by_label("Server name", exact=True)).to_be_focused()
    expect(page.get_by_label("Port")).to_have_value(str(server.port))
    expect(page.get_by_role("radio", name="SSL")).to_be_checked()
    expect(page.get_by_label("Sender e-mail address")).to_have_value("keypost@example.test")
    with database.reading() as session:
        assert current(session) is None


def test_without_scripts_the_same_choice_can_be_made(
    page_without_javascript: Page, live_server: str, database: Database, server: MailServer
) -> None:
    page = page_without_javascript
    claim(page, live_server, database)
    page.goto(f"{live_server}/admin/settings/mail")
    page.get_by_label("Sender e-mail address").fill("keypost@example.test")
    page.get_by_label("Server name", exact=True).fill("other.example.test")
    page.get_by_label("Mail address, host or provider").fill(f"localhost:{server.port}")
    page.get_by_role("button", name="Find", exact=True).first.click()
    page.get_by_role("button", name="Use these").click()
    expect(page.get_by_label("Server name", exact=True)).to_have_value("localhost")
    expect(page.get_by_label("Sender e-mail address")).to_have_value("keypost@example.test")
