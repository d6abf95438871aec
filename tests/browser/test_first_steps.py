"""The first steps lead an administrator, are ticked by what is there, and go away."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.support.browsing import claim, fill_account
from tests.support.firefox import also_in_firefox
from tests.support.mail_server import MailServer
from tests.support.main_job import FIRST, MAILBOX, fill_relay_settings
from webapp.db import Database

pytestmark = pytest.mark.browser


@also_in_firefox
def test_each_step_is_ticked_once_it_is_done_and_the_list_goes_away(
    any_page: Page, live_server: str, database: Database, relay: MailServer
) -> None:
    page = any_page
    claim(page, live_server, database)
    steps = page.get_by_role("region", name="First steps")
    expect(steps).to_contain_text("0 of 4 done")
    steps.get_by_role("link", name="Add the mailbox account").click()
    fill_account(page, MAILBOX, FIRST)
    page.goto(f"{live_server}/resources")
    expect(steps).to_contain_text("1 of 4 done")
    steps.get_by_role("link", name="Connect mail").click()
    fill_relay_settings(page, live_server, relay)
    page.get_by_role("button", name="Test").click()
    expect(page.locator("#_test_result")).to_have_attribute("data-outcome", "accepted", timeout=20_000)
    page.get_by_role("button", name="Save").last.click()
    if page.url.endswith("/settings/mail"):
        page.goto(f"{live_server}/resources")
    expect(steps).to_contain_text("3 of 4 done")
    steps.get_by_role("link", name="Add people").click()
    page.get_by_label("Name").fill("Bob Builder")
    page.get_by_label("E-mail address").fill("bob@example.test")
    page.get_by_role("button", name="Add user").click()
    expect(page.get_by_role("heading", name="Bob Builder")).to_be_visible()
    for path in ("/resources", "/admin"):
        page.goto(live_server + path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(steps).to_have_count(0)
