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
