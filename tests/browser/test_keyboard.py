"""By keyboard alone: the palette, the pickers, the keys, and where the focus goes."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, Route, expect

from tests.support.browsing import claim
from tests.support.firefox import also_in_firefox
from webapp.actor import command_line
from webapp.db import Database
from webapp.keyring import Secret
from webapp.vault import accounts
from webapp.vault.resources import ResourceDetails, add_resource

pytestmark = pytest.mark.browser


def fill_vault(database: Database) -> list[int]:
    """Three accounts on a provider; gives their ids."""
    with database.transaction() as session:
        provider = add_resource(session, command_line(), ResourceDetails("Mail provider"))
        names = ("ann@example.test", "ben@example.test", "cleo@example.test")
        return [accounts.add_account(session, command_line(), provider.id, name, Secret("x" * 20)).id for name in names]


def active(page: Page, search: str) -> str:
    """The words of the option that a screen reader is told of."""
    id = page.locator(search).get_attribute("aria-activedescendant")
    return page.locator(f'[id="{id}"]').inner_text()


@also_in_firefox
def test_the_palette_leads_to_an_account_without_a_mouse(page: Page, live_server: str, database: Database) -> None:
    claim(page, live_server, database)
    vault = fill_vault(database)
    page.keyboard.press("Control+k")
    search = page.get_by_role("combobox", name="Page, resource or account")
    expect(search).to_be_focused()
    expect(page.get_by_role("option", name="Mail Server Settings")).to_be_visible()
    page.keyboard.type("PROVIDER ben")
    expect(page.locator("#palette-said")).to_have_text("1 match")
    page.keyboard.press("ArrowDown")
    assert "ben@example.test" in active(page, "#palette-words")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{live_server}/accounts/{vault[1]}")


def test_escape_closes_the_palette_and_gives_the_focus_back(page: Page, live_server: str, database: Database) -> None:
    claim(page, live_server, database)
    page.goto(f"{live_server}/admin")
    link = page.get_by_role("link", name="Mail Server Settings")
    link.focus()
    page.keyboard.press("Control+k")
    expect(page.get_by_role("option").first).to_be_visible()
    page.keyboard.type("something")
    page.keyboard.press("Escape")
    expect(page.locator("#palette")).to_be_hidden()
    expect(link).to_be_focused()


@also_in_firefox
def test_the_question_mark_shows_the_keys_but_not_while_one_types(
    page: Page, live_server: str, database: Database
) -> None:
    claim(page, live_server, database)
    page.goto(f"{live_server}/resources/new")
    page.get_by_label("Name").press_sequentially("Why?")
    expect(page.get_by_label("Name")).to_have_value("Why?")
    expect(page.locator("#keys")).to_be_hidden()
    page.get_by_role("heading", name="Add resource").click()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()


def test_single_keys_can_be_switched_off(page: Page, live_server: str, database: Database) -> None:
    claim(page, live_server, database)
    page.goto(f"{live_server}/resources")
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keyboard").get_by_role("link", name="Profile → Keyboard").click()
    page.get_by_label("Single-key shortcuts").uncheck()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status").first).to_contain_text("saved")
    page.goto(f"{live_server}/admin/users")
    page.keyboard.press("/")
    page.keyboard.press("?")
    expect(page.get_by_label("Search users")).not_to_be_focused()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("Control+k")
    expect(page.get_by_role("combobox", name="Page, resource or account")).to_be_focused()


def test_the_palette_marks_the_place_that_enter_takes(page: Page, live_server: str, database: Database) -> None:
    claim(page, live_server, database)
    vault = fill_vault(database)
    page.keyboard.press("Control+k")
    expect(page.get_by_role("option", name="Resources", exact=False).first).to_have_attribute("aria-selected", "true")
    page.keyboard.type("cleo")
    expect(page.locator("#palette-said")).to_have_text("1 match")
    expect(page.get_by_role("option", selected=True)).to_contain_text("cleo@example.test")
    assert "cleo@example.test" in active(page, "#palette-words")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{live_server}/accounts/{vault[2]}")


@also_in_firefox
def test_enter_takes_what_was_typed_and_not_what_the_list_showed_before(
    page: Page, live_server: str, database: Database
) -> None:
    claim(page, live_server, database)
    vault = fill_vault(database)
    page.keyboard.press("Control+k")
    expect(page.get_by_role("option").first).to_be_visible()
    held: list[Route] = []
    page.route("**/go?q=cleo", lambda route: held.append(route))  # noqa: PLW0108 - it takes no method of a list
    with page.expect_request("**/go?q=cleo"):
        page.keyboard.type("cleo")
        page.keyboard.press("Enter")
    expect(page.locator("#palette")).to_be_visible()
    held[0].continue_()
    expect(page).to_have_url(f"{live_server}/accounts/{vault[2]}")


@also_in_firefox
def test_the_account_picker_is_a_combobox(page: Page, live_server: str, database: Database) -> None:
    claim(page, live_server, database)
    vault = fill_vault(database)
    page.get_by_role("link", name="Mail Server Settings").click()
    search = page.get_by_role("combobox", name="Find an account")
    search.press_sequentially("example")
    expect(page.locator("#account_id-said")).to_have_text("3 matches")
    search.press("ArrowDown")
    search.press("ArrowDown")
    assert "ben@example.test" in active(page, "#q")
    search.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(page.get_by_label("Account", exact=True)).to_have_value(str(vault[1]))
    expect(search).to_be_focused()


@also_in_firefox
def test_where_no_script_runs_go_to_is_a_page(
    page_without_javascript: Page, live_server: str, database: Database
) -> None:
    page = page_without_javascript
    claim(page, live_server, database)
    vault = fill_vault(database)
    page.get_by_role("link", name=re.compile("^Go to")).click()
    page.get_by_role("searchbox").fill("cleo")
    page.keyboard.press("Enter")
    page.get_by_role("link", name=re.compile("cleo")).click()
    expect(page).to_have_url(f"{live_server}/accounts/{vault[2]}")
