"""The job Keypost is there for, in a real browser against real mail servers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.support.browsing import claim
from tests.support.mail_server import MailServer
from tests.support.main_job import FIRST, MAILBOX, add_mailbox_account, expect_accepted, fill_mail_settings
from webapp.actor import command_line
from webapp.db import Database
from webapp.keyring import Secret
from webapp.trust.store import import_certificates
from webapp.vault.accounts import add_account
from webapp.vault.resources import ResourceDetails, add_resource

pytestmark = pytest.mark.browser

SECOND = "second mailbox password"


@pytest.fixture(params=["starttls", "ssl"])
def mailbox(request: pytest.FixtureRequest, database: Database) -> Iterator[MailServer]:
    """A mail server with one mailbox; its authority is imported, as bin/importCert would."""
    with MailServer(request.param, users={MAILBOX: FIRST}) as server:
        with database.transaction() as session:
            import_certificates(session, command_line(), server.authority_pem(), source="authority.pem")
        yield server


def rotate(page: Page, base: str, server: MailServer) -> None:
    server.users[MAILBOX] = SECOND
    page.goto(f"{base}/resources")
    page.get_by_role("link", name="Mail provider").click()
    page.get_by_role("link", name=MAILBOX).click()
    page.get_by_role("link", name="Change password").click()
    page.get_by_label("New password").fill(SECOND)
    page.get_by_role("button", name="Change password").click()
    expect(page.get_by_role("status").first).to_contain_text("The password was changed")


def test_an_administrator_sets_up_mail_in_the_dialog_and_rotates_the_password(
    page: Page, live_server: str, database: Database, mailbox: MailServer
) -> None:
    claim(page, live_server, database)
    add_mailbox_account(page, live_server)
    page.goto(f"{live_server}/admin")
    page.get_by_role("link", name="Mail Server Settings").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    fill_mail_settings(page, live_server, mailbox)
    page.get_by_role("button", name="Test").click()
    expect_accepted(page)
    assert mailbox.wait_for_message().username == MAILBOX
    dialog.get_by_role("button", name="Save").last.click()
    expect(dialog).to_be_hidden()
    expect(page.locator("#_mail-card")).to_contain_text("verified")
    expect(page.get_by_role("link", name="Mail Server Settings")).to_be_focused()

    rotate(page, live_server, mailbox)
    page.goto(f"{live_server}/admin")
    expect(page.locator("#_mail-card")).to_contain_text("not verified")
    page.get_by_role("link", name="Mail Server Settings").click()
    page.get_by_role("button", name="Test").click()
    expect_accepted(page)
    mailbox.wait_for_message()
    assert mailbox.passwords[-1] == SECOND


def test_the_same_job_is_done_without_javascript(
    page_without_javascript: Page, live_server: str, database: Database, mailbox: MailServer
) -> None:
    page = page_without_javascript
    claim(page, live_server, database)
    add_mailbox_account(page, live_server)
    page.goto(f"{live_server}/admin")
    page.get_by_role("link", name="Mail Server Settings").click()
    assert urlsplit(page.url).path == "/admin/settings/mail"
    fill_mail_settings(page, live_server, mailbox)
    page.get_by_role("button", name="Test").click()
    expect_accepted(page)
    mailbox.wait_for_message()
    page.get_by_role("button", name="Save").last.click()
    expect(page.get_by_role("status").first).to_contain_text("saved")

    rotate(page, live_server, mailbox)
    page.goto(f"{live_server}/admin/settings/mail")
    page.get_by_role("button", name="Test").click()
    expect_accepted(page)
    mailbox.wait_for_message()
    assert mailbox.passwords[-1] == SECOND


def test_the_port_follows_the_mode_until_somebody_types_one(page: Page, live_server: str, database: Database) -> None:
    claim(page, live_server, database)
    page.goto(f"{live_server}/admin/settings/mail")
    port = page.get_by_label("Port")
    page.get_by_role("radio", name="SSL").check()
    expect(port).to_have_value("465")
    page.get_by_role("radio", name="Never").check()
    expect(port).to_have_value("25")
    port.fill("2525")
    page.get_by_role("radio", name="TLS").check()
    expect(port).to_have_value("2525")


def test_the_way_to_sign_in_swaps_its_fields(page: Page, live_server: str, database: Database) -> None:
    claim(page, live_server, database)
    page.goto(f"{live_server}/admin/settings/mail")
    page.get_by_label("Specify a username and password manually").check()
    expect(page.locator("#_auth_manual")).to_be_visible()
    page.get_by_label("Use an account stored in Keypost").check()
    expect(page.locator("#_auth_account")).to_be_visible()


def test_the_picker_searches_on_the_server_as_one_types(page: Page, live_server: str, database: Database) -> None:
    claim(page, live_server, database)
    add_mailbox_account(page, live_server)
    with database.transaction() as session:
        router = add_resource(session, command_line(), ResourceDetails("Router"))
        add_account(session, command_line(), router.id, "admin", Secret("x" * 20))
    page.goto(f"{live_server}/admin/settings/mail")
    page.get_by_label("Use an account stored in Keypost").check()
    picker = page.get_by_label("Account", exact=True)
    page.get_by_label("Find an account").press_sequentially("nothing like it")
    expect(picker).to_contain_text("No account matches")
    page.get_by_label("Find an account").fill("")
    page.get_by_label("Find an account").press_sequentially("PROVIDER keyp")
    expect(picker).to_contain_text(MAILBOX)


def test_a_revealed_password_hides_again(page: Page, live_server: str, database: Database) -> None:
    page.clock.install()
    claim(page, live_server, database)
    add_mailbox_account(page, live_server)
    page.get_by_role("button", name=re.compile("Reveal")).click()
    expect(page.get_by_text(FIRST)).to_be_visible()
    page.clock.fast_forward(10_500)
    expect(page.get_by_text(FIRST)).to_have_count(0)
