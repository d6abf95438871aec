"""What people do in the browser before a test's own business begins."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.support.people import PASSWORD
from webapp.db import Database
from webapp.identity.setup import offer_setup


def claim(page: Page, base: str, database: Database) -> None:
    """Set up the installation as its first administrator, and end on the Admin page."""
    page.goto(f"{base}/setup?token={offer_setup(database)}")
    page.get_by_label("Your name").fill("Alice Admin")
    page.get_by_label("E-mail address").fill("alice@example.test")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Create administrator").click()
    expect(page.get_by_role("heading", name="Admin")).to_be_visible()


def add_account(page: Page, base: str, username: str, password: str) -> None:
    """Add the resource “Mail provider” with this account, as somebody would, and end where it is listed."""
    page.goto(f"{base}/resources/new")
    fill_account(page, username, password)


def fill_account(page: Page, username: str, password: str) -> None:
    """The same, from the empty form of a resource on."""
    page.get_by_label("Name").fill("Mail provider")
    page.get_by_role("button", name="Add resource").click()
    page.get_by_role("link", name="Add account").click()
    page.get_by_label("User name").fill(username)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Add account").click()
    expect(page.get_by_role("link", name=username)).to_be_visible()
