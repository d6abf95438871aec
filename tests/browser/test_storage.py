"""Nothing private stays in the browser: no storage of a script, no cache, no copy of a page that was left."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.support.browsing import add_account, claim
from tests.support.firefox import also_in_firefox
from webapp.db import Database

pytestmark = pytest.mark.browser

SECRET = "the secret itself"
STORED = """async () => ({
  local: {...localStorage},
  session: {...sessionStorage},
  databases: (await indexedDB.databases()).map((each) => each.name),
  caches: await caches.keys(),
  workers: (await navigator.serviceWorker.getRegistrations()).length,
  cookies: document.cookie.replace(/keypost-zone=[^;]*/, ''),
})"""
NOTHING = {"local": {}, "session": {}, "databases": [], "caches": [], "workers": 0, "cookies": ""}


@pytest.fixture
def walked(page: Page, live_server: str, database: Database) -> Page:
    """Alice has walked through the pages, in dialogs and parts too, and revealed a password."""
    claim(page, live_server, database)
    page.get_by_role("link", name="Mail Server Settings").click()
    page.get_by_label("Server name").fill("relay.example.test")
    page.get_by_label("Specify a username and password manually").check()
    page.get_by_label("Password", exact=True).fill(SECRET)
    add_account(page, live_server, "root", SECRET)
    page.get_by_role("link", name="root").click()
    page.get_by_role("button", name="Reveal").first.click()
    expect(page.get_by_text(SECRET)).to_be_visible()
    return page


@also_in_firefox
def test_after_a_walk_and_a_reveal_the_browser_has_stored_nothing(walked: Page, live_server: str) -> None:
    assert walked.evaluate(STORED) == NOTHING
    for path in ("/admin", "/admin/users", "/admin/outbox", "/admin/audit", "/profile", "/resources"):
        walked.goto(live_server + path)
        assert walked.evaluate(STORED) == NOTHING


@also_in_firefox
def test_whoever_goes_back_after_signing_out_sees_no_page_of_before(walked: Page, live_server: str) -> None:
    walked.goto(f"{live_server}/resources")
    walked.get_by_role("button", name="Sign out").click()
    expect(walked.get_by_role("heading", name="Sign in")).to_be_visible()
    for _ in range(3):
        walked.go_back()
        expect(walked.get_by_role("heading", name="Sign in")).to_be_visible()
    assert SECRET not in walked.content()
    assert walked.evaluate(STORED) == NOTHING
