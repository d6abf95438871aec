"""What only Firefox shows, or shows otherwise; what else is tried in it is marked with `also_in_firefox`."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.test_forms import save_once_the_session_has_ended, sign_in_in_another_tab
from tests.browser.test_layout import ADD_WHAT_MOVES, OVERFLOW
from tests.support.browsing import claim
from tests.support.chromium import open_page
from tests.support.mail_server import STARTTLS, MailServer
from tests.support.main_job import FIRST, MAILBOX, add_mailbox_account, expect_accepted, fill_mail_settings
from webapp.actor import command_line
from webapp.db import Database
from webapp.trust.store import import_certificates

pytestmark = [
    pytest.mark.browser,
    pytest.mark.parametrize(("browser", "installation"), [("firefox", "sqlite")], indirect=True),
]


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

    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_whoever_comes_back_from_signing_in_finds_the_button_pressed_once_more(
    page: Page, live_server: str, database: Database
) -> None:
    """A Chromium without a window never calls a page hidden, so it does not tell that somebody came back to it."""
    save_once_the_session_has_ended(page, live_server, database)
    sign_in_in_another_tab(page)
    expect(page.get_by_role("alert")).to_contain_text("need your attention")
    expect(page.get_by_role("heading", name="Your session has ended")).to_be_hidden()
    expect(page.get_by_label("Server name")).to_have_value("mail.example.com")


def test_pages_are_dark_and_still_for_whose_firefox_asks_for_it(
    page: Page, live_server: str, database: Database
) -> None:
    claim(page, live_server, database)
    page.evaluate(ADD_WHAT_MOVES)
    ground, text = page.evaluate(
        "() => { const { backgroundColor, color } = getComputedStyle(document.body); return [backgroundColor, color]; }"
    )
    assert max(map(int, re.findall(r"\d+", ground))) < 60
    assert min(map(int, re.findall(r"\d+", text))) > 200
    assert page.evaluate("() => document.getAnimations().length") == 0


def test_who_reads_german_gets_pages_dialogs_and_errors_in_german(
    page: Page, live_server: str, database: Database
) -> None:
    claim(page, live_server, database)
    page.goto(f"{live_server}/profile/language")
    page.get_by_label("Language").select_option(label="Deutsch")
    page.get_by_role("button", name="Save").click()
    page.set_viewport_size({"width": 360, "height": 800})
    page.goto(f"{live_server}/admin")
    expect(page.locator("html")).to_have_attribute("lang", "de")
    assert page.evaluate(OVERFLOW) == ""
    page.get_by_role("link", name="Mailserver-Einstellungen").click()
    dialog = page.get_by_role("dialog", name="Mailserver-Einstellungen")
    dialog.get_by_role("button", name="Speichern").last.click()
    expect(dialog.get_by_role("alert")).to_contain_text("Servername")
    expect(dialog.get_by_role("alert")).to_be_focused()
    expect(dialog.get_by_label("Servername")).to_have_attribute("aria-invalid", "true")


def test_what_the_policy_forbids_fails_a_test_in_firefox_too(browser: Browser, live_server: str) -> None:
    with pytest.raises(AssertionError, match="img-src"), open_page(browser) as page:  # noqa: PT012
        page.goto(f"{live_server}/sign-in")
        with page.expect_console_message():
            page.evaluate("() => { new Image().src = 'http://elsewhere.example/'; }")
