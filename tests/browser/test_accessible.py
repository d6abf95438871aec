"""Every page and state is clean for axe-core: WCAG 2.2, levels A and AA, with contrast checked in both themes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.screenshots import EMPTY, FILLED, fail_a_test, fill, pause
from tests.support.browsing import claim
from tests.support.chromium import open_page
from tests.support.firefox import also_in_firefox
from tests.support.mail_server import MailServer
from webapp.db import Database

pytestmark = [pytest.mark.browser, pytest.mark.slow]
AXE = (Path(__file__).parents[1] / "vendor" / "axe" / "axe.min.js").read_text()
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RUN = "(tags) => axe.run(document, {runOnly: {type: 'tag', values: tags}, resultTypes: ['violations']})"
CONTRAST = "() => axe.run(document, {runOnly: {type: 'rule', values: ['color-contrast']}})"


@pytest.fixture
def seen(browser: Browser) -> Iterator[Page]:
    """A page into which axe may be put although the policy of our pages forbids every foreign script."""
    with open_page(browser, bypass_csp=True) as page:
        yield page


def faults(page: Page, *, place: str) -> list[str]:
    """What axe finds on the page as it is now, in the light theme, and of contrast in the dark one."""
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    page.evaluate(AXE)
    found: list[dict[str, Any]] = page.evaluate(RUN, TAGS)["violations"]
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    found += page.evaluate(CONTRAST)["violations"]
    return [
        f"{place}: {each['id']} at {node['target']}: {node['failureSummary']}"
        for each in found
        for node in each["nodes"]
    ]


def visit(page: Page, base: str, paths: dict[str, str]) -> list[str]:
    found = []
    for name, path in paths.items():
        page.goto(base + path)
        found += faults(page, place=name)
    return found


def test_the_way_in_and_empty_pages_are_accessible(seen: Page, live_server: str, database: Database) -> None:
    found = visit(seen, live_server, {"sign-in": "/sign-in", "forgotten": "/forgotten"})
    claim(seen, live_server, database)
    found += visit(seen, live_server, EMPTY)
    assert not found, "\n".join(found)


def test_filled_pages_are_accessible(seen: Page, live_server: str, database: Database, relay: MailServer) -> None:
    claim(seen, live_server, database)
    fill(database, relay)
    found = visit(seen, live_server, FILLED)
    pause(database)
    found += visit(seen, live_server, {"admin-paused": "/admin", "outbox-paused": "/admin/outbox?state=queued"})
    seen.goto(f"{live_server}/admin")
    fail_a_test(seen)
    found += faults(seen, place="dialog-failed")
    assert not found, "\n".join(found)


@also_in_firefox
def test_dialogs_and_what_went_wrong_are_accessible(seen: Page, live_server: str, database: Database) -> None:
    page = seen
    claim(page, live_server, database)
    page.get_by_role("link", name="Mail Server Settings").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    found = faults(page, place="dialog")
    page.get_by_role("button", name="Save").last.click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_be_focused()
    found += faults(page, place="dialog-invalid")
    page.goto(f"{live_server}/admin")
    page.keyboard.press("Control+k")
    expect(page.get_by_role("option", name="Outbox")).to_be_visible()
    found += faults(page, place="palette")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    found += faults(page, place="keys")
    for path, button in (("/resources/new", "Add resource"), ("/admin/users/new", "Add user")):
        page.goto(live_server + path)
        page.get_by_role("button", name=button).click()
        expect(page.get_by_role("alert")).to_be_focused()
        found += faults(page, place=f"{path}-invalid")
    assert not found, "\n".join(found)
