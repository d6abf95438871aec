"""Sharing in a real browser: one person gives, another uses, and it ends again."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browsing import add_account, claim
from tests.support.chromium import open_page
from tests.support.firefox import also_in_firefox
from tests.support.people import PASSWORD
from webapp.actor import Role, command_line
from webapp.db import Database
from webapp.identity.users import add_user
from webapp.keyring import Secret

pytestmark = pytest.mark.browser

CAROL = "carol@example.test"
SECRET = "shared mailbox password"


def begin(page: Page, base: str, database: Database) -> None:
    """Set up with an administrator, whose account it is, and three password users."""
    claim(page, base, database)
    with database.transaction() as session:
        for name in ("Carol", "Conrad", "Dave"):
            add_user(
                session, command_line(), email=f"{name.lower()}@example.test", name=f"{name} User",
                role=Role.PASSWORD_USER, password=Secret(PASSWORD),
            )  # fmt: skip
    add_account(page, base, "postmaster", SECRET)


def sign_in(page: Page, base: str, email: str) -> None:
    page.goto(f"{base}/sign-in")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("heading", name="Resources")).to_be_visible()


def share(page: Page, right: str, *, find: bool = False) -> None:
    """From the resource's page, share it with Carol. find: press the button that a script makes unnecessary."""
    page.get_by_role("link", name="Share", exact=True).click()
    page.get_by_label("Find a person").press_sequentially("carol EXAMPLE")
    if find:
        page.get_by_role("button", name="Find").click()
    people = page.get_by_label("Person", exact=True)
    expect(people.get_by_role("option")).to_have_count(1)
    people.select_option(label="Carol User, carol@example.test")
    page.get_by_role("radio", name=right).check()
    page.get_by_role("button", name="Share", exact=True).click()
    expect(page.get_by_role("status").first).to_contain_text("The share was saved")
    expect(page.get_by_label("Right of Carol User")).to_have_value(right.lower())


def reveal(page: Page, base: str) -> None:
    page.goto(f"{base}/resources?whose=shared")
    page.get_by_role("link", name="Mail provider").click()
    page.get_by_role("button", name=re.compile("Reveal")).click()
    expect(page.get_by_text(SECRET)).to_be_visible()


def test_what_one_shares_another_reveals_until_it_is_withdrawn(
    browser: Browser, page: Page, live_server: str, database: Database
) -> None:
    begin(page, live_server, database)
    share(page, "View")
    with open_page(browser) as other:
        sign_in(other, live_server, CAROL)
        reveal(other, live_server)
        expect(other.get_by_role("link", name="Edit")).to_have_count(0)
        page.get_by_role("button", name="Withdraw the share of Carol User").click()
        expect(page.get_by_role("status").first).to_contain_text("The share was withdrawn")
        other.goto(f"{live_server}/resources")
        expect(other.get_by_text("Nothing here yet")).to_be_visible()


@also_in_firefox
def test_an_answer_to_the_search_leaves_the_person_chosen_meanwhile(
    page: Page, live_server: str, database: Database
) -> None:
    begin(page, live_server, database)
    page.get_by_role("link", name="Share", exact=True).click()
    people = page.get_by_label("Person", exact=True)
    people.select_option(label="Conrad User, conrad@example.test")
    chosen = people.input_value()
    search = page.get_by_label("Find a person")
    search.press_sequentially("co")
    expect(page.locator("#who-said")).to_have_text("1 match")
    expect(people).to_have_value(chosen)
    search.fill("carol")
    expect(people).to_contain_text("Carol")
    expect(people).to_have_value("")


def test_the_same_is_done_without_javascript(
    page_without_javascript: Page, live_server: str, database: Database
) -> None:
    page = page_without_javascript
    begin(page, live_server, database)
    share(page, "Modify", find=True)
    page.get_by_label("Right of Carol User").select_option("view")
    page.get_by_role("button", name="Change").click()
    expect(page.get_by_label("Right of Carol User")).to_have_value("view")
    page.get_by_role("button", name="Sign out").click()
    sign_in(page, live_server, CAROL)
    reveal(page, live_server)
