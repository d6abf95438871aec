"""The outbox in a real browser: it renews itself while something waits, without getting in anybody's way."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.support.browsing import claim
from webapp.actor import command_line
from webapp.db import Database
from webapp.outbox import lease, outcomes, workers
from webapp.outbox.messages import Kind, queue
from webapp.outbox.outcomes import Outcome

pytestmark = pytest.mark.browser
RENEWED = 15_000  # ms; the page asks every five seconds


def add(database: Database, to: str) -> None:
    with database.transaction() as session:
        queue(session, command_line(), Kind.ROLE_CHANGED, recipient=to, recipient_name="Bob", data={"link": "x"})


def deliver(database: Database) -> None:
    with database.transaction() as session:
        taken = lease.claim(session, 100, domain="example.com")
        outcomes.record(session, [Outcome(each, "accepted", reply="250 Ok") for each in taken])


def test_the_list_renews_itself_until_nothing_waits(page: Page, live_server: str, database: Database) -> None:
    claim(page, live_server, database)
    add(database, "bob@example.com")
    page.goto(f"{live_server}/admin/outbox")
    search = page.get_by_label("Search messages")
    search.fill("exam")
    deliver(database)
    expect(page.locator('[data-count="accepted"]')).to_have_text("1", timeout=RENEWED)
    expect(search).to_be_focused()
    expect(search).to_have_value("exam")
    expect(page.locator("#_list")).not_to_have_attribute("hx-trigger", "every 5s")


def test_nothing_moves_under_the_fingers_of_who_goes_through_the_list(
    page: Page, live_server: str, database: Database
) -> None:
    claim(page, live_server, database)
    add(database, "bob@example.com")
    page.goto(f"{live_server}/admin/outbox")
    row = page.get_by_role("link", name="Role changed")
    row.focus()
    deliver(database)
    with page.expect_event("console", lambda message: message.text == "waited", timeout=RENEWED):
        page.evaluate("setTimeout(() => console.log('waited'), 6500)")
    expect(page.locator('[data-count="queued"]')).to_have_text("1")
    row.blur()
    expect(page.locator('[data-count="accepted"]')).to_have_text("1", timeout=RENEWED)


def test_without_javascript_a_message_is_found_cancelled_and_sent_again(
    page_without_javascript: Page, live_server: str, database: Database
) -> None:
    page = page_without_javascript
    claim(page, live_server, database)
    with database.transaction() as session:
        workers.begin(session, workers.new_id())
    add(database, "bob@example.com")
    page.get_by_role("link", name="Outbox").click()
    page.get_by_label("Search messages").fill("BOB")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="Role changed").click()
    page.get_by_role("button", name="Cancel this message").click()
    expect(page.get_by_text("It is cancelled and will not be sent.")).to_be_visible()
    page.get_by_role("button", name="Send again as a new message").click()
    expect(page.get_by_text("It is queued to be sent again, as this new message.")).to_be_visible()
    page.get_by_role("link", name="Message 1").click()
    expect(page.get_by_text("will never be sent")).to_be_visible()
