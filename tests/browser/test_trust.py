"""From a refused certificate to an accepted test in a real browser: compare, tick, trust."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.support.browsing import claim
from tests.support.mail_certificates import Issued
from tests.support.scripted_smtp import ScriptedServer, replying
from webapp.db import Database
from webapp.mail import settings
from webapp.trust import store
from webapp.trust.certificates import sha256, with_colons

pytestmark = pytest.mark.browser


@pytest.fixture
def own() -> Issued:
    """A certificate that vouches for itself."""
    return Issued()


@pytest.fixture
def server(own: Issued) -> Iterator[ScriptedServer]:
    with ScriptedServer(replying(own.server_context(), at_once=True)) as running:
        yield running


def fail_a_test(page: Page, base: str, server: ScriptedServer) -> None:
    page.get_by_label("Server name", exact=True).fill("localhost")
    page.get_by_role("radio", name="SSL").check()
    page.get_by_label("Port", exact=True).fill(str(server.port))
    page.get_by_label("Sender e-mail address").fill("keypost@example.test")
    page.get_by_label("Access URL").fill(base)
    page.get_by_label("Requires Authentication").uncheck()
    page.get_by_label("Send the test mail to").fill("bob@example.test")
    page.get_by_role("button", name="Test", exact=True).click()
    expect(page.locator("#_test_result")).to_have_attribute("data-diagnosis", "certificate-self-signed", timeout=20_000)


def trusted(database: Database) -> list[str]:
    with database.reading() as session:
        assert settings.current(session) is None
        return [each.sha256 for each in store.trusted(session)]


def test_a_compared_certificate_is_trusted_and_the_test_passes(
    page: Page, live_server: str, database: Database, server: ScriptedServer, own: Issued
) -> None:
    claim(page, live_server, database)
    page.get_by_role("link", name="Mail Server Settings").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    fail_a_test(page, live_server, server)
    expect(page.locator("#compare")).to_have_text(with_colons(sha256(own.certificate)))
    trust = page.get_by_role("button", name="Trust this certificate")
    trust.click()
    expect(page.get_by_role("checkbox", name="I compared")).to_be_focused()
    expect(page.get_by_text("Tick this first")).to_be_visible()
    assert trusted(database) == []
    page.get_by_role("checkbox", name="I compared").check()
    trust.click()
    expect(page.locator("#_test_result")).to_have_attribute("data-outcome", "accepted", timeout=20_000)
    expect(page.get_by_role("dialog")).to_be_visible()
    assert trusted(database) == [sha256(own.certificate)]
    page.once("dialog", lambda question: question.accept())
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    expect(page.locator("#_certificates-card")).to_contain_text("1 certificate trusted")
    expect(page.locator("#_expiry")).to_contain_text("ends in 30 days")
    expect(page.get_by_role("region", name="First steps")).to_contain_text("1 of 4 done")
    expect(page.locator("#_mail-card").get_by_role("link", name="Mail Server Settings")).to_be_focused()


def test_the_same_is_done_without_javascript(
    page_without_javascript: Page, live_server: str, database: Database, server: ScriptedServer, own: Issued
) -> None:
    page = page_without_javascript
    claim(page, live_server, database)
    page.get_by_role("link", name="Mail Server Settings").click()
    fail_a_test(page, live_server, server)
    page.get_by_role("button", name="Trust this certificate").click()
    expect(page.get_by_text("Nothing was trusted yet")).to_be_visible()
    page.get_by_role("checkbox", name="I compared").check()
    page.get_by_role("button", name="Trust this certificate").click()
    expect(page.locator("#_test_result")).to_have_attribute("data-outcome", "accepted", timeout=20_000)
    assert trusted(database) == [sha256(own.certificate)]
