"""Mail texts in a real browser: the preview follows what is typed, in a frame that can do nothing."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.support.browsing import claim
from webapp.db import Database

pytestmark = pytest.mark.browser
PAGE = "/admin/mail-texts/account-created"


def test_the_preview_follows_what_is_typed(page: Page, live_server: str, database: Database) -> None:
    claim(page, live_server, database)
    page.goto(live_server + PAGE)
    mail = page.frame_locator("#_preview iframe")
    expect(mail.get_by_role("heading", name="Welcome to Keypost")).to_be_visible()
    expect(mail.locator(".button")).to_have_css("border-radius", "8px")

    page.get_by_label("Subject").fill("Ahoy, {{ name }}")
    expect(page.locator("#_preview dd").last).to_have_text("Ahoy, Robin Berger")
    page.get_by_label("Text", exact=True).fill("Come in:\n\n")
    expect(page.locator("#_preview")).to_contain_text("does not work without {{ link }}")
    page.get_by_role("button", name="Insert link").click()
    expect(page.get_by_label("Text", exact=True)).to_have_value("Come in:\n\n{{ link }}")
    expect(mail.get_by_role("link", name="Set your password")).to_be_visible()

    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status").first).to_contain_text("The text was saved")
    page.get_by_role("button", name="Restore the default").click()
    expect(page.get_by_label("Subject")).to_have_value("Your account in Keypost")


def test_no_script_of_a_text_runs_in_the_preview(page: Page, live_server: str, database: Database) -> None:
    claim(page, live_server, database)
    page.goto(live_server + PAGE)
    page.get_by_label("Text", exact=True).fill("<script>top.harm = 1</script><img src=x onerror=top.harm=1> {{ link }}")
    expect(page.frame_locator("#_preview iframe").locator("body")).to_contain_text("<script>top.harm = 1</script>")
    assert page.locator("#_preview iframe").get_attribute("sandbox") == ""
    assert page.evaluate("window.harm") is None


def test_the_preview_can_be_had_without_scripts(
    page_without_javascript: Page, live_server: str, database: Database
) -> None:
    page = page_without_javascript
    claim(page, live_server, database)
    page.goto(live_server + PAGE)
    page.get_by_label("Subject").fill("Ahoy, {{ name }}")
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#_preview dd").last).to_have_text("Ahoy, Robin Berger")
    expect(page.get_by_label("Subject")).to_have_value("Ahoy, {{ name }}")
