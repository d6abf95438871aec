"""The main job once more in the Firefox of this machine; skipped where there is none."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Error, Page, Playwright, expect

from tests.support import firefox
from tests.support.browsing import claim
from tests.support.chromium import open_page
from tests.support.mail_server import STARTTLS, MailServer
from tests.support.main_job import (
    FIRST,
    MAILBOX,
    add_mailbox_account,
    expect_accepted,
    fill_mail_settings,
    fill_relay_settings,
)
from tests.support.scripted_smtp import ScriptedServer, Talk
from webapp.actor import command_line
from webapp.db import Database
from webapp.trust.store import import_certificates

pytestmark = pytest.mark.browser

PATIENCE_SECONDS = 30


@pytest.fixture(scope="module")
def started(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    path = firefox.firefox_on_the_path()
    if path is None:
        pytest.skip("there is no Firefox on the PATH")
    try:
        browser = firefox.launch(playwright, path, tmp_path_factory.mktemp("firefox"))
    except Error as problem:
        pytest.skip(f"Playwright cannot speak to {path}: {problem.message[:300]}")
    yield browser
    browser.close()


@pytest.fixture
def page(started: Browser) -> Iterator[Page]:
    """A fresh page; as in Chromium the test fails when a script raised on it or the policy was broken."""
    with open_page(started) as fresh:
        fresh.set_default_timeout(PATIENCE_SECONDS * 1000)
        yield fresh


def test_the_main_job_is_done_in_firefox_too(page: Page, live_server: str, database: Database) -> None:
    with MailServer(STARTTLS, users={MAILBOX: FIRST}) as mailbox:
        with database.transaction() as session:
            import_certificates(session, command_line(), mailbox.authority_pem(), source="authority.pem")
        claim(page, live_server, database)
        add_mailbox_account(page, live_server)
        page.goto(f"{live_server}/admin")
        opener = page.get_by_role("link", name="Mail Server Settings")
        opener.click()
        dialog = page.get_by_role("dialog", name="Mail Server Settings")
        expect(dialog).to_be_visible()
        expect(dialog.get_by_label("Server name")).to_be_visible()
        assert dialog.evaluate("dialog => dialog.contains(document.activeElement)")
        fill_mail_settings(page, live_server, mailbox)
        dialog.get_by_role("button", name="Test").click()
        expect_accepted(page)
        assert mailbox.wait_for_message().username == MAILBOX
        dialog.get_by_role("button", name="Save").last.click()
        expect(dialog).to_be_hidden()
        expect(page.locator("#said")).to_contain_text("saved")
        expect(opener).to_be_focused()

    page.keyboard.press("Control+k")
    search = page.get_by_role("combobox", name="Page, resource or account")
    expect(search).to_be_focused()
    page.keyboard.type("provider keypost")
    expect(page.locator("#palette-said")).to_have_text("1 match")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text(MAILBOX)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_stages_appear_in_firefox_while_the_server_still_thinks(
    page: Page, live_server: str, database: Database
) -> None:
    may_greet = threading.Event()

    def slow(talk: Talk) -> None:
        may_greet.wait(PATIENCE_SECONDS)
        talk.say("421 4.3.2 go away")

    claim(page, live_server, database)
    page.get_by_role("link", name="Mail Server Settings").click()
    with ScriptedServer(slow) as server:
        fill_relay_settings(page, live_server, server)
        page.get_by_role("button", name="Test").click()
        result = page.locator("#_test_result")
        expect(result.locator('[data-stage="connect"]')).to_have_attribute("data-outcome", "done")
        assert result.get_attribute("data-outcome") == "running"
        may_greet.set()
        expect(result).to_have_attribute("data-outcome", "failed")
