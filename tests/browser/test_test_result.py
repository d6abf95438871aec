"""The test's result as it appears: stage by stage, with one click where the remedy is known, and nothing typed lost."""

from __future__ import annotations

import threading

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_main_job import MAILBOX
from tests.support.browsing import claim
from tests.support.firefox import also_in_firefox
from tests.support.mail_server import MailServer
from tests.support.scripted_smtp import ScriptedServer, Talk
from webapp.actor import command_line
from webapp.db import Database
from webapp.trust.store import import_certificates

pytestmark = pytest.mark.browser


def fill(page: Page, base: str, *, port: int, mode: str) -> None:
    page.goto(f"{base}/admin/settings/mail")
    fill_in(page, base, port=port, mode=mode)


def fill_in(page: Page, base: str, *, port: int, mode: str) -> None:
    page.get_by_label("Server name").fill("localhost")
    page.get_by_role("radio", name=mode).check()
    page.get_by_label("Port").fill(str(port))
    page.get_by_label("Sender e-mail address").fill(MAILBOX)
    page.get_by_label("Access URL").fill(base)


def sign_in_as(page: Page, username: str, password: str) -> None:
    page.get_by_label("Specify a username and password manually").check()
    page.locator("#_auth_manual").get_by_label("Username").fill(username)
    page.locator("#_auth_manual").get_by_label("Password").fill(password)


@also_in_firefox
def test_each_stage_appears_while_the_next_is_still_waited_for(
    page: Page, live_server: str, database: Database
) -> None:
    go_on = threading.Event()

    def slow(talk: Talk) -> None:
        talk.say("220 mail.example.test ESMTP")
        talk.expect("EHLO")
        assert go_on.wait(20)
        talk.say("554 5.3.2 not today")

    claim(page, live_server, database)
    with ScriptedServer(slow) as server:
        fill(page, live_server, port=server.port, mode="Never")
        page.get_by_label("Requires Authentication").uncheck()
        page.get_by_role("button", name="Test").click()
        result = page.locator("#_test_result")
        expect(result.locator('[data-stage="greeting"]')).to_have_attribute("data-outcome", "done")
        expect(result).to_have_attribute("data-outcome", "running")
        go_on.set()
        expect(result).to_have_attribute("data-outcome", "failed")
        expect(result).to_have_attribute("data-diagnosis", "hello-refused")


def test_what_a_test_says_comes_into_view_in_the_dialog(page: Page, live_server: str, database: Database) -> None:
    go_on = threading.Event()

    def slow(talk: Talk) -> None:
        talk.say("220 mail.example.test ESMTP")
        talk.expect("EHLO")
        assert go_on.wait(20)
        talk.say("554 5.3.2 not today")

    claim(page, live_server, database)
    page.set_viewport_size({"width": 900, "height": 700})
    with ScriptedServer(slow) as server:
        page.get_by_role("link", name="Mail Server Settings").click()
        expect(page.get_by_role("dialog")).to_be_visible()
        fill_in(page, live_server, port=server.port, mode="Never")
        page.get_by_label("Requires Authentication").uncheck()
        page.get_by_role("button", name="Test", exact=True).click()
        result = page.locator("#_test_result")
        expect(result.locator('[data-stage="greeting"]')).to_be_in_viewport()
        page.get_by_label("Server name", exact=True).scroll_into_view_if_needed()
        expect(result).not_to_be_in_viewport()
        go_on.set()
        expect(result.locator(".notice")).to_be_in_viewport(ratio=1)
        verdict, bar = (
            found.bounding_box() for found in (result.locator(".notice"), page.locator("#mail-form > .actions"))
        )
        assert verdict is not None
        assert bar is not None
        assert verdict["y"] + verdict["height"] <= bar["y"]


def test_a_mismatch_of_the_mode_is_put_right_by_one_click(page: Page, live_server: str, database: Database) -> None:
    claim(page, live_server, database)
    with MailServer("ssl", users={MAILBOX: "secret words"}) as server:
        with database.transaction() as session:
            import_certificates(session, command_line(), server.authority_pem(), source="authority.pem")
        fill(page, live_server, port=server.port, mode="TLS")
        sign_in_as(page, MAILBOX, "secret words")
        page.get_by_role("button", name="Test", exact=True).click()
        result = page.locator("#_test_result")
        expect(result).to_have_attribute("data-diagnosis", "implicit-tls-expected", timeout=20_000)
        page.get_by_role("button", name="Use SSL").click()
        expect(result).to_have_attribute("data-outcome", "accepted", timeout=20_000)
        expect(page.get_by_role("radio", name="SSL")).to_be_checked()
        expect(page.get_by_label("Port")).to_have_value(str(server.port))


@also_in_firefox
def test_testing_loses_nothing_that_was_typed(page: Page, live_server: str, database: Database) -> None:
    claim(page, live_server, database)
    with MailServer("never") as server:
        fill(page, live_server, port=server.port, mode="TLS")
        sign_in_as(page, MAILBOX, "typed, not saved")
        page.get_by_role("button", name="Test", exact=True).click()
        expect(page.locator("#_test_result")).to_have_attribute(
            "data-diagnosis", "starttls-not-offered", timeout=20_000
        )
        expect(page.locator("#_auth_manual").get_by_label("Password")).to_have_value("typed, not saved")
        expect(page.get_by_label("Server name")).to_have_value("localhost")


@also_in_firefox
def test_gaps_are_named_and_nothing_typed_is_lost(page: Page, live_server: str, database: Database) -> None:
    claim(page, live_server, database)
    page.goto(f"{live_server}/admin/settings/mail")
    sign_in_as(page, MAILBOX, "typed, not saved")
    page.get_by_role("button", name="Test", exact=True).click()
    gaps = page.locator("#_test_invalid")
    expect(gaps).to_contain_text("Server name")
    expect(gaps.get_by_role("link", name="Access URL")).to_be_visible()
    expect(page.locator("#_auth_manual").get_by_label("Password")).to_have_value("typed, not saved")


def test_on_the_page_of_its_own_one_can_save_twice_and_errors_stay_in_the_one_form(
    page: Page, live_server: str, database: Database
) -> None:
    claim(page, live_server, database)
    fill(page, live_server, port=2525, mode="TLS")
    page.get_by_label("Requires Authentication").uncheck()
    page.get_by_role("button", name="Save").last.click()
    expect(page.get_by_role("status").first).to_contain_text("saved")
    page.goto(f"{live_server}/admin/settings/mail")
    page.get_by_label("Sender name").fill("Keypost")
    page.get_by_role("button", name="Save").last.click()
    expect(page.get_by_role("status").first).to_contain_text("saved")
    page.goto(f"{live_server}/admin/settings/mail")
    page.get_by_label("Server name").fill("")
    page.get_by_role("button", name="Save").last.click()
    expect(page.get_by_role("alert")).to_contain_text("Server name")
    expect(page.locator("form#mail-form")).to_have_count(1)
