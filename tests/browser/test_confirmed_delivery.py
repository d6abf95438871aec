"""Confirmed delivery in a real browser: the code goes in where the test's result stands."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.support.mail_form import SECRET, USER
from tests.support.mail_server import MailServer
from tests.support.mail_settings import trust_server
from tests.support.people import PASSWORD
from webapp.db import Database
from webapp.identity.setup import offer_setup
from webapp.mail import settings

pytestmark = pytest.mark.browser


def open_settings(page: Page, base: str, database: Database, server: MailServer) -> None:
    trust_server(database, server)
    page.goto(f"{base}/setup?token={offer_setup(database)}")
    page.get_by_label("Your name").fill("Alice Admin")
    page.get_by_label("E-mail address").fill("alice@example.test")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Create administrator").click()
    page.get_by_role("link", name="Mail Server Settings").click()


def run_test(page: Page, base: str, server: MailServer) -> str:
    """Fill in the form and test; gives the code of the mail."""
    page.get_by_label("Server name", exact=True).fill("localhost")
    page.get_by_role("radio", name="TLS").check()
    page.get_by_label("Port").fill(str(server.port))
    page.get_by_label("Sender e-mail address").fill("keypost@example.test")
    page.get_by_label("Access URL").fill(base)
    page.get_by_label("Specify a username and password manually").check()
    without_scripts = page.get_by_role("button", name="Show the fields of this choice")
    if without_scripts.count():
        without_scripts.click()
    page.locator("#username").fill(USER)
    page.get_by_label("Password", exact=True).fill(SECRET)
    page.get_by_label("Send the test mail to").fill("bob@example.test")
    page.get_by_role("button", name="Test", exact=True).click()
    expect(page.locator("#_test_result")).to_have_attribute("data-outcome", "accepted", timeout=20_000)
    found = re.search(r"\(code (\w{6})\)", str(server.wait_for_message().message["Subject"]))
    assert found
    return found[1]


@pytest.mark.parametrize("by_key", [True, False])
def test_the_code_is_typed_into_the_result_and_nothing_else_happens(
    page: Page, live_server: str, database: Database, mail_server_starttls: MailServer, by_key: bool
) -> None:
    open_settings(page, live_server, database, mail_server_starttls)
    code = run_test(page, live_server, mail_server_starttls)
    field = page.get_by_label("Code from the test mail")
    field.fill("WRQNGX")
    page.get_by_role("button", name="It arrived").click()
    expect(page.locator("#confirmation_code-error")).to_contain_text("No test waits for this code")
    field.fill(code)
    if by_key:
        field.press("Enter")
    else:
        page.get_by_role("button", name="It arrived").click()
    expect(page.locator("#_confirm")).to_contain_text("Confirmed: arrived.")
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(page.get_by_label("Port")).to_have_value(str(mail_server_starttls.port))
    with database.reading() as session:
        assert settings.current(session) is None
    page.get_by_role("dialog").get_by_role("button", name="Save").last.click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.goto(f"{live_server}/admin/settings/mail")
    expect(page.locator("#_status")).to_contain_text("Verified and arrived")


def test_the_same_is_done_without_javascript(
    page_without_javascript: Page, live_server: str, database: Database, mail_server_starttls: MailServer
) -> None:
    page = page_without_javascript
    open_settings(page, live_server, database, mail_server_starttls)
    code = run_test(page, live_server, mail_server_starttls)
    page.get_by_label("Code from the test mail").fill(code)
    page.get_by_role("button", name="It arrived").click()
    expect(page.locator("#_confirm")).to_contain_text("Confirmed: arrived.")
    expect(page.get_by_label("Port")).to_have_value(str(mail_server_starttls.port))
    with database.reading() as session:
        assert settings.current(session) is None
