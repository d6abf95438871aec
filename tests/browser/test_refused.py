"""What a person sees when a part of a page cannot be had."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.support.browsing import claim
from webapp.actor import command_line
from webapp.db import Database
from webapp.keyring import Secret
from webapp.vault import accounts
from webapp.vault.resources import ResourceDetails, add_resource

pytestmark = pytest.mark.browser


def test_a_refusal_of_a_part_is_said_on_the_page(page: Page, live_server: str, database: Database) -> None:
    claim(page, live_server, database)
    with database.transaction() as session:
        resource = add_resource(session, command_line(), ResourceDetails("Printer"))
        account = accounts.add_account(session, command_line(), resource.id, "root", Secret("a password of a printer"))
    page.goto(f"{live_server}/accounts/{account.id}")
    with database.transaction() as session:
        accounts.delete_account(session, command_line(), account.id)
    page.get_by_role("button", name="Reveal").first.click()
    expect(page.locator("#said")).to_contain_text("There is no such account")
