"""The steps of the main job in a browser: a mailbox in the vault, and mail settings that sign in with it."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.support.browsing import add_account
from tests.support.mail_server import MailServer

FIRST = "first mailbox password"
MAILBOX = "keypost@example.test"


def add_mailbox_account(page: Page, base: str) -> None:
    """Put the mailbox into the vault, as somebody would."""
    add_account(page, base, MAILBOX, FIRST)


def fill_mail_settings(page: Page, base: str, server: MailServer) -> None:
    """Fill in the settings of this server, with the mailbox’s account; the page shows them already."""
    page.get_by_label("Server name").fill("localhost")
    page.get_by_role("radio", name="SSL" if server.security == "ssl" else "TLS").check()
    page.get_by_label("Port").fill(str(server.port))
    page.get_by_label("Sender e-mail address").fill(MAILBOX)
    page.get_by_label("Access URL").fill(base)
    page.get_by_label("Use an account stored in Keypost").check()
    page.get_by_label("Account", exact=True).select_option(label=f"Mail provider — {MAILBOX}")
    retype(page, "Send the test mail to", "bob@example.test")


def fill_relay_settings(page: Page, base: str, relay: MailServer) -> None:
    """Fill in the settings of a server that wants neither encryption nor a login."""
    page.get_by_label("Server name").fill("127.0.0.1")
    page.get_by_role("radio", name="Never").check()
    page.get_by_label("Port").fill(str(relay.port))
    page.get_by_label("Sender e-mail address").fill(MAILBOX)
    page.get_by_label("Access URL").fill(base)
    page.get_by_label("Requires Authentication").uncheck()
    retype(page, "Send the test mail to", "alice@example.test")


def retype(page: Page, label: str, text: str) -> None:
    """Put a text in the place of what an e-mail field holds, to which Playwright adds in Firefox."""
    field = page.get_by_label(label)
    field.evaluate("field => { field.value = ''; }")
    field.fill(text)


def expect_accepted(page: Page) -> None:
    """The test’s result stands there, and every stage is done."""
    result = page.locator("#_test_result")
    expect(result).to_have_attribute("data-outcome", "accepted", timeout=20_000)
    for stage in ("resolve", "connect", "greeting", "hello", "tls", "authentication", "sender", "recipient", "message"):
        expect(result.locator(f'[data-stage="{stage}"]')).to_have_attribute("data-outcome", "done")
