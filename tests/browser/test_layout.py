"""Nothing runs out of the page, moves without need, or is lost on paper; the address says where one is."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.screenshots import EMPTY, FILLED, fill
from tests.support.browsing import claim
from tests.support.firefox import also_in_firefox
from tests.support.mail_server import MailServer
from tests.support.main_job import fill_relay_settings
from webapp.actor import Role
from webapp.db import Database
from webapp.i18n import LANGUAGES
from webapp.identity.users import add_user, find_user
from webapp.keyring import Secret
from webapp.vault.accounts import add_account
from webapp.vault.resources import ResourceDetails, add_resource

pytestmark = [pytest.mark.browser, pytest.mark.slow]
LONG = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"
# 1280 px at 200 % and at 400 % zoom are as many (WCAG 2.2, 1.4.4 and 1.4.10).
ZOOMED = (640, 320)
OVERFLOW = """() => {
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (wide <= 0) return "";
  const guilty = [...document.querySelectorAll("main *, header *")].filter((each) => each.getBoundingClientRect().right > document.documentElement.clientWidth);
  return `${wide} px: ` + guilty.slice(0, 3).map((each) => each.outerHTML.slice(0, 120)).join(" | ");
}"""  # noqa: E501 - one script

ROWS = """() => [...new Set([...document.querySelectorAll(".top a, .top button")].map((each) => {
  const place = each.getBoundingClientRect();
  return Math.round((place.top + place.bottom) / 20);
}))]"""

ADD_WHAT_MOVES = """() => {
  const [list, item, mark] = ["ol", "li", "span"].map((name) => document.createElement(name));
  [list.className, item.className, mark.className] = ["stages", "waiting", "mark"];
  item.append(mark); list.append(item); document.querySelector("main").append(list);
}"""


def add_long_words(database: Database) -> dict[str, str]:
    """Names without a place to break them; gives the pages that show them."""
    with database.transaction() as session:
        alice = find_user(session, "alice@example.test")
        assert alice is not None
        actor = alice.actor("test")
        resource = add_resource(session, actor, ResourceDetails(LONG, f"{LONG.lower()}.example.com", "Server", LONG))
        account = add_account(session, actor, resource.id, f"{LONG.lower()}@example.com", Secret("x" * 20))
        user = add_user(session, actor, email=f"{LONG[:60]}@example.com", name=LONG, role=Role.PASSWORD_USER)
        return {
            "long resource": f"/resources/{resource.id}",
            "long account": f"/accounts/{account.id}",
            "long sharing": f"/accounts/{account.id}/sharing",
            "long user": f"/admin/users/{user.id}",
            "long words found": f"/go?q={LONG[:20]}",
            "long list": "/resources",
            "long users": "/admin/users",
        }


def alice_reads(database: Database, language: str, *, name: str = "Alice Admin") -> None:
    """Have the administrator read pages in this language, under this name."""
    with database.transaction() as session:
        alice = find_user(session, "alice@example.test")
        assert alice is not None
        alice.name, alice.language = name, language


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_runs_out_of_the_page_however_far_it_is_zoomed(
    page: Page, live_server: str, database: Database, relay: MailServer, language: str
) -> None:
    claim(page, live_server, database)
    alice_reads(database, language)
    found = []
    for paths in (EMPTY, FILLED):
        if paths is FILLED:
            fill(database, relay)
            paths = {**FILLED, **add_long_words(database)}  # noqa: PLW2901 - the words are there from now on
        for name, path in paths.items():
            page.goto(live_server + path)
            expect(page.locator("html")).to_have_attribute("lang", language)
            for width in ZOOMED:
                page.set_viewport_size({"width": width, "height": 800})
                overflow = page.evaluate(OVERFLOW)
                if overflow:
                    found.append(f"{name} at {width}: {overflow}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", ["Alice Admin", LONG])
def test_the_header_of_a_telephone_takes_two_rows(
    page: Page, live_server: str, database: Database, language: str, name: str
) -> None:
    claim(page, live_server, database)
    alice_reads(database, language, name=name)
    for width in (360, 320):
        page.set_viewport_size({"width": width, "height": 800})
        page.goto(f"{live_server}/admin")
        expect(page.locator("html")).to_have_attribute("lang", language)
        assert len(page.evaluate(ROWS)) == 2, width
        assert page.evaluate(OVERFLOW) == "", width


CARDS = """() => [...document.querySelectorAll(".cards")].map((group) => {
  const rows = [...group.children].map((card) => Math.round(card.getBoundingClientRect().top));
  return [...new Set(rows)].map((row) => rows.filter((each) => each === row).length);
})"""


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_card_stands_alone_in_its_row_on_a_wide_screen(
    page: Page, live_server: str, database: Database, language: str
) -> None:
    page.set_viewport_size({"width": 1440, "height": 900})
    claim(page, live_server, database)
    alice_reads(database, language)
    page.goto(f"{live_server}/admin")
    expect(page.locator("html")).to_have_attribute("lang", language)
    assert page.evaluate(CARDS) == [[3], [4]]
    assert page.evaluate(OVERFLOW) == ""


@pytest.mark.parametrize("path", ["/resources/1", "/accounts/1"])
def test_a_long_password_that_is_revealed_stays_in_the_page(
    page: Page, live_server: str, database: Database, path: str
) -> None:
    page.set_viewport_size({"width": 320, "height": 800})
    claim(page, live_server, database)
    with database.transaction() as session:
        alice = find_user(session, "alice@example.test")
        assert alice is not None
        actor = alice.actor("test")
        resource = add_resource(session, actor, ResourceDetails("Mail provider"))
        add_account(session, actor, resource.id, "keypost@example.test", Secret("W" * 200))
    page.goto(live_server + path)
    page.get_by_role("button", name="Reveal").first.click()
    expect(page.locator(".secret")).to_be_visible()
    assert page.evaluate(OVERFLOW) == ""


@pytest.mark.parametrize(("wanted", "moving"), [("no-preference", True), ("reduce", False)])
def test_nothing_moves_for_who_wants_no_motion(
    page: Page, live_server: str, database: Database, wanted: Any, moving: bool
) -> None:
    page.emulate_media(reduced_motion=wanted)
    claim(page, live_server, database)
    page.evaluate(ADD_WHAT_MOVES)
    assert (page.evaluate("() => document.getAnimations().length") > 0) is moving


@pytest.mark.parametrize("path", ["/admin/audit", "/admin/outbox"])
def test_paper_shows_the_record_and_no_buttons(
    page: Page, live_server: str, database: Database, relay: MailServer, path: str
) -> None:
    claim(page, live_server, database)
    fill(database, relay)
    page.goto(live_server + path)
    page.emulate_media(media="print", color_scheme="dark")
    expect(page.get_by_role("table").last).to_be_visible()
    expect(page.get_by_role("navigation", name="Main")).to_be_hidden()
    assert page.locator("button:visible").count() == 0
    colours = page.evaluate(
        "() => [document.body, document.querySelector('main table td')].map((each) => getComputedStyle(each).color)"
    )
    assert colours == ["rgb(0, 0, 0)"] * 2


@also_in_firefox
def test_the_keyboard_is_always_seen(page: Page, live_server: str, database: Database) -> None:
    claim(page, live_server, database)
    page.goto(f"{live_server}/admin")
    for _ in range(14):
        page.keyboard.press("Tab")
        outline = page.evaluate(
            "() => { const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);"
            " return outlineStyle + outlineWidth; }"
        )
        assert outline == "solid2px"


@also_in_firefox
def test_back_and_reload_come_to_the_same_page(page: Page, live_server: str, database: Database) -> None:
    claim(page, live_server, database)
    page.goto(f"{live_server}/admin/users?q=alice&role=administrator")
    page.get_by_role("link", name="Alice Admin").last.click()
    expect(page.get_by_role("heading", name="Alice Admin")).to_be_visible()
    page.go_back()
    expect(page.get_by_label("Search users")).to_have_value("alice")
    page.reload()
    expect(page.get_by_label("Role")).to_have_value("administrator")
    expect(page.get_by_role("row")).to_have_count(2)


@also_in_firefox
def test_the_dialog_changes_neither_address_nor_place(page: Page, live_server: str, database: Database) -> None:
    claim(page, live_server, database)
    page.goto(f"{live_server}/admin")
    link = page.get_by_role("link", name="Mail Server Settings")
    link.scroll_into_view_if_needed()  # Playwright's click does it in Firefox whether there is need or not.
    before = link.bounding_box()
    link.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert page.url == f"{live_server}/admin"
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert link.bounding_box() == before
    page.reload()
    expect(page.get_by_role("heading", name="Admin")).to_be_visible()


@also_in_firefox
def test_a_double_click_on_test_sends_one_mail(
    page: Page, live_server: str, database: Database, relay: MailServer
) -> None:
    claim(page, live_server, database)
    page.get_by_role("link", name="Mail Server Settings").click()
    fill_relay_settings(page, live_server, relay)
    page.get_by_role("button", name="Test").dblclick()
    expect(page.locator("#_test_result")).to_have_attribute("data-outcome", "accepted", timeout=20_000)
    page.get_by_role("dialog").get_by_role("button", name="Save").last.dblclick()
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.locator("#_mail-card")).to_contain_text("verified")
    assert len(relay.accepted) == 1
