"""Passkeys and the confirmation dialog in a real Chromium, with its own virtual authenticator."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest
from playwright.sync_api import CDPSession, Page, expect

from tests.support.browsing import add_account, claim
from tests.support.people import PASSWORD
from webapp.db import Database, utc_now
from webapp.identity.passkeys import Passkey

pytestmark = pytest.mark.browser


@dataclass
class Device:
    """A device that holds passkeys, as Chromium plays it."""

    session: CDPSession
    id: str

    def verifies_its_owner(self, verifies: bool) -> None:
        self.session.send("WebAuthn.setUserVerified", {"authenticatorId": self.id, "isUserVerified": verifies})

    def credentials(self) -> list[dict[str, object]]:
        return list(self.session.send("WebAuthn.getCredentials", {"authenticatorId": self.id})["credentials"])

    def count_back(self) -> None:
        """Put the same key in again with a counter that starts anew, as a copy of it would have."""
        (credential,) = self.credentials()
        self.session.send(
            "WebAuthn.removeCredential", {"authenticatorId": self.id, "credentialId": credential["credentialId"]}
        )
        self.session.send(
            "WebAuthn.addCredential", {"authenticatorId": self.id, "credential": credential | {"signCount": 0}}
        )


@pytest.fixture
def base(live_server: str) -> str:
    """The address by a name: a browser makes no passkey for an IP address."""
    return live_server.replace("127.0.0.1", "localhost")


@pytest.fixture
def device(page: Page) -> Device:
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    return Device(session, session.send("WebAuthn.addVirtualAuthenticator", {"options": options})["authenticatorId"])


@pytest.fixture
def registered(page: Page, base: str, database: Database, device: Device) -> Device:
    """Alice has added a passkey and signed out again."""
    claim(page, base, database)
    add_passkey(page, base, "My laptop")
    expect(page.get_by_role("heading", name="Keep your recovery codes")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    return device


def add_passkey(page: Page, base: str, name: str) -> None:
    page.goto(f"{base}/profile/second-factor")
    page.get_by_label("Name optional").fill(name)
    page.get_by_role("button", name="Add a passkey").click()


def give_password(page: Page) -> None:
    page.get_by_label("E-mail address").fill("alice@example.test")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()


def test_a_passkey_signs_in_without_name_and_password(page: Page, registered: Device) -> None:
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_role("heading", name="Resources")).to_be_visible()


def test_a_passkey_is_the_second_step_after_the_password(page: Page, registered: Device) -> None:
    registered.verifies_its_owner(False)
    give_password(page)
    expect(page.get_by_role("heading", name="One more step")).to_be_visible()
    registered.verifies_its_owner(True)
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_role("heading", name="Resources")).to_be_visible()


def test_a_passkey_is_listed_with_its_last_use_and_removed(page: Page, base: str, registered: Device) -> None:
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_role("heading", name="Resources")).to_be_visible()
    page.goto(f"{base}/profile/second-factor")
    row = page.get_by_role("row", name="My laptop")
    expect(row).to_contain_text("UTC")
    expect(row).not_to_contain_text("not yet")
    page.get_by_role("button", name="Remove My laptop").click()
    expect(page.get_by_text("The passkey was removed.")).to_be_visible()
    expect(page.get_by_role("row", name="My laptop")).to_have_count(0)


def test_a_removed_passkey_opens_nothing(page: Page, registered: Device, database: Database) -> None:
    with database.transaction() as session:
        for passkey in session.query(Passkey):
            session.delete(passkey)
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_text("does not open an account here")).to_be_visible()


def test_a_copied_key_whose_counter_falls_back_opens_nothing(page: Page, base: str, registered: Device) -> None:
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_role("heading", name="Resources")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    registered.count_back()
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_text("does not open an account here")).to_be_visible()


def test_one_device_holds_one_passkey_of_a_user(page: Page, base: str, registered: Device) -> None:
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_role("heading", name="Resources")).to_be_visible()
    add_passkey(page, base, "Again")
    expect(page.get_by_text("holds a passkey for you already")).to_be_visible()


def test_an_answer_is_good_once(page: Page, base: str, registered: Device, database: Database) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.post_data or "") if "/sign-in/passkey" in request.url else 0)
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_role("heading", name="Resources")).to_be_visible()
    used = next(body for body in sent if "credential=" in body and len(body) > 200)
    page.get_by_role("button", name="Sign out").click()
    token = page.locator("input[name=csrf_token]").first.input_value()
    body = used.replace(used.split("csrf_token=")[1].split("&")[0], token)
    answer = page.request.post(
        f"{base}/sign-in/passkey",
        data=body,
        headers={"Content-Type": "application/x-www-form-urlencoded", "Origin": base},
    )
    assert answer.status == 422


def test_revealing_asks_in_a_dialog_and_goes_on_by_itself(page: Page, live_server: str, database: Database) -> None:
    claim(page, live_server, database)
    add_account(page, live_server, "root", "the secret itself")
    start = utc_now()
    database.clock = lambda: start + timedelta(minutes=6)
    page.get_by_role("link", name="root").click()
    page.get_by_role("button", name="Reveal").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading", name="Confirm that it is you")).to_be_visible()
    dialog.get_by_label("Your password").fill("wrong")
    dialog.get_by_role("button", name="Confirm").click()
    expect(dialog.get_by_text("That is not your password.")).to_be_visible()
    dialog.get_by_label("Your password").fill(PASSWORD)
    dialog.get_by_role("button", name="Confirm").click()
    expect(dialog).to_be_hidden()
    expect(page.get_by_text("the secret itself")).to_be_visible()


def test_what_was_typed_in_a_dialog_is_kept_while_one_confirms(
    page: Page, live_server: str, database: Database
) -> None:
    claim(page, live_server, database)
    page.get_by_role("link", name="Mail Server Settings").click()
    page.get_by_label("Server name").fill("relay.example.test")
    page.get_by_label("Sender e-mail address").fill("keypost@example.test")
    page.get_by_label("Access URL").fill(live_server)
    page.get_by_label("Specify a username and password manually").check()
    page.get_by_label("Username", exact=True).fill("keypost")
    page.get_by_label("Password", exact=True).fill("typed once")
    start = utc_now()
    database.clock = lambda: start + timedelta(minutes=6)
    page.locator("#dialog").get_by_role("button", name="Save").last.click()
    proof = page.locator("#proof")
    proof.get_by_label("Your password").fill(PASSWORD)
    proof.get_by_role("button", name="Confirm").click()
    expect(page.locator("#dialog")).to_be_hidden()
    expect(page.locator("#_mail-card")).to_contain_text("relay.example.test")


def test_the_same_is_done_without_javascript(
    page_without_javascript: Page, live_server: str, database: Database
) -> None:
    page = page_without_javascript
    claim(page, live_server, database)
    start = utc_now()
    database.clock = lambda: start + timedelta(minutes=6)
    page.goto(f"{live_server}/profile/second-factor")
    page.get_by_role("button", name="Set up an app").click()
    page.get_by_label("Your password").fill(PASSWORD)
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_role("img", name="QR code for your authenticator app")).to_be_visible()
    expect(page.get_by_role("heading", name="Set up an authenticator app")).to_be_visible()


@pytest.fixture
def signed_in(page: Page, base: str, registered: Device, database: Database) -> Page:
    """Alice, signed in by her passkey six minutes ago, with an account of her own."""
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_role("heading", name="Resources")).to_be_visible()
    add_account(page, base, "root", "the secret itself")
    start = utc_now()
    database.clock = lambda: start + timedelta(minutes=6)
    return page


def test_a_passkey_confirms_who_one_is(signed_in: Page) -> None:
    signed_in.get_by_role("link", name="root").click()
    signed_in.get_by_role("button", name="Reveal").first.click()
    signed_in.get_by_role("dialog").get_by_role("button", name="Use a passkey instead").click()
    expect(signed_in.get_by_text("the secret itself")).to_be_visible()


def test_a_passkey_that_does_not_know_its_owner_confirms_nothing(signed_in: Page, registered: Device) -> None:
    registered.verifies_its_owner(False)
    signed_in.get_by_role("link", name="root").click()
    signed_in.get_by_role("button", name="Reveal").first.click()
    dialog = signed_in.get_by_role("dialog")
    dialog.get_by_role("button", name="Use a passkey instead").click()
    expect(dialog.get_by_text("did not finish it")).to_be_visible()
    expect(signed_in.get_by_text("the secret itself")).to_have_count(0)


def test_a_passkey_confirms_on_a_page_of_its_own_too(signed_in: Page, base: str) -> None:
    signed_in.goto(f"{base}/profile/second-factor")
    signed_in.get_by_role("button", name="Set up an app").click()
    signed_in.get_by_role("button", name="Use a passkey instead").click()
    expect(signed_in.get_by_role("heading", name="Set up an authenticator app")).to_be_visible()


def test_a_passkey_is_renamed(signed_in: Page, base: str) -> None:
    signed_in.goto(f"{base}/profile/second-factor")
    row = signed_in.get_by_role("row", name="My laptop")
    row.get_by_text("Rename").first.click()
    row.get_by_label("Another name for My laptop").fill("The grey one")
    row.get_by_role("button", name="Rename").click()
    expect(signed_in.get_by_text("The passkey is now called The grey one.")).to_be_visible()
    expect(signed_in.get_by_role("row", name="The grey one")).to_be_visible()
