"""The page with the settings dialog is light, and asks nobody else for anything."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from tests.support.browsing import claim
from tests.support.chromium import open_page
from tests.support.firefox import also_in_firefox
from webapp.db import Database

pytestmark = pytest.mark.browser
BUDGET = 60_000  # bytes on the line, bodies and headers


@pytest.fixture
def cold(browser: Browser, page: Page, live_server: str, database: Database) -> Iterator[Page]:
    """A page of the administrator in a browser that has nothing of Keypost's in its cache."""
    claim(page, live_server, database)
    with open_page(browser) as fresh:
        fresh.context.add_cookies(page.context.cookies())
        yield fresh


@also_in_firefox
def test_the_settings_dialog_loads_from_a_cold_cache_within_the_budget(cold: Page, live_server: str) -> None:
    page = cold
    finished: list[Request] = []
    page.on("requestfinished", lambda request: finished.append(request))  # noqa: PLW0108 - playwright marks what it is given
    page.goto(f"{live_server}/admin")
    page.get_by_role("link", name="Mail Server Settings").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.wait_for_load_state("networkidle")
    sizes = {request.url: request.sizes() for request in finished}
    assert {url.removeprefix(live_server).partition("/")[0] for url in sizes} == {""}, "asked somebody else"
    assert any(url.endswith("/static/app.js") for url in sizes)
    total = sum(size["responseBodySize"] + size["responseHeadersSize"] for size in sizes.values())
    weights = {url.removeprefix(live_server): size["responseBodySize"] for url, size in sizes.items()}
    print(f"{total} bytes", weights)
    assert total < BUDGET, weights
