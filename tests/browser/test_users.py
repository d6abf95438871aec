"""Looking after people in a real browser, with scripts and without."""

from __future__ import annotations

from datetime import timedelta

import pytest
from playwright.sync_api import Page, expect

from tests.support.browsing import claim
from tests.support.mail_server import MailServer
from tests.support.outbox import deliver, open_relay, save
from webapp.db import Database
from webapp.identity.imports import PEOPLE

pytestmark = pytest.mark.browser


def test_somebody_is_added_told_told_again_and_disabled(
    any_page: Page, live_server: str, database: Database, relay: MailServer
) -> None:
    page = any_page
    claim(page, live_server, database)
    save(database, open_relay(relay.port))
    relay.refuse["bob@example.test"] = "550 5.1.1 no such mailbox"
    page.goto(f"{live_server}/admin/users/new")
    page.get_by_label("Name").fill("Bob Builder")
    page.get_by_label("E-mail address").fill("bob@example.test")
    page.get_by_role("button", name="Add user").click()
    expect(page.get_by_text("Bob Builder").first).to_be_visible()
    deliver(database)
    page.goto(f"{live_server}/admin/users")
    row = page.get_by_role("row").filter(has_text="Bob Builder")
    expect(row).to_contain_text("refused")
    expect(row).to_contain_text("no such mailbox")
    relay.refuse.clear()
    row.get_by_role("link", name="Bob Builder").click()
    page.get_by_role("button", name="Send again").click()
    deliver(database)
    page.goto(f"{live_server}/admin/users")
    expect(row).to_contain_text("accepted by the server")
    row.get_by_role("link", name="Bob Builder").click()
    page.get_by_label("May sign in").uncheck()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("row").filter(has_text="Bob Builder")).to_contain_text("disabled")


def test_many_are_imported_from_a_pasted_table(any_page: Page, live_server: str, database: Database) -> None:
    page = any_page
    claim(page, live_server, database)
    page.goto(f"{live_server}/admin/users/import")
    page.get_by_label("Or paste it as text").fill(
        "name;email\nBob;bob@example.test\nCarol;carol@example.test\nNobody;not-an-address\n"
    )
    page.get_by_role("button", name="Look at it").click()
    expect(page.get_by_role("row").filter(has_text="not-an-address")).to_contain_text("That is not an e-mail address")
    page.get_by_role("button", name="Add 2 people").click()
    expect(page.get_by_role("progressbar")).to_be_visible()
    while PEOPLE.work(database):
        pass
    page.reload()
    expect(page.get_by_role("row").filter(has_text="carol@example.test")).to_contain_text("added")


def test_only_who_makes_an_administrator_is_asked_who_they_are(
    any_page: Page, live_server: str, database: Database
) -> None:
    page = any_page
    claim(page, live_server, database)
    start = database.clock()
    database.clock = lambda: start + timedelta(minutes=6)
    page.goto(f"{live_server}/admin/users/new")
    page.get_by_label("Name").fill("Bob Builder")
    page.get_by_label("E-mail address").fill("bob@example.test")
    expect(page.get_by_label("Your password")).to_be_hidden()
    page.get_by_label("Role").select_option("Administrator")
    expect(page.get_by_label("Your password")).to_be_visible()
    page.get_by_label("Role").select_option("Password User")
    page.get_by_role("button", name="Add user").click()
    expect(page.get_by_role("heading", name="Link for Bob Builder")).to_be_visible()
