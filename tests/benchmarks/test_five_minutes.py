"""From a fresh start to an accepted test mail: the clicks, the typing, and the seconds that Keypost itself takes.

    bin/test tests/benchmarks/test_five_minutes.py -s

A real `keypost serve` on an empty folder, a real Chromium, a real mail server with STARTTLS and a mailbox's login. The
script types without thinking, so the seconds are the program's; a person's are mostly those of typing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.support.figures import Figures
from tests.support.mail_server import MailServer
from tests.support.people import PASSWORD

pytestmark = [pytest.mark.browser, pytest.mark.benchmark]
MAILBOX, SECRET = "keypost@example.test", "the mailbox's own password"
SUBJECT = "Fresh start to accepted test mail"
MOST_CLICKS, MOST_SECONDS = 15, 60
COUNT = """() => addEventListener("click", (event) => { if (event.isTrusted && event.detail) noteClick(); }, true)"""


class Counted:
    """A person who counts what they do."""

    def __init__(self, page: Page) -> None:
        self.page, self.clicks, self.fields, self.letters = page, 0, 0, 0
        page.expose_function("noteClick", self._clicked)
        page.add_init_script(f"({COUNT})()")

    def _clicked(self) -> None:
        self.clicks += 1

    def type(self, label: str, text: str) -> None:
        self.page.get_by_label(label, exact=True).fill(text)
        self.fields, self.letters = self.fields + 1, self.letters + len(text)

    def press(self, name: str, *, link: bool = False) -> None:
        self.page.get_by_role("link" if link else "button", name=name, exact=True).last.click()


@pytest.fixture
def mailbox() -> Iterator[MailServer]:
    with MailServer("starttls", users={MAILBOX: SECRET}) as server:
        yield server


def test_mail_is_set_up_from_nothing_within_minutes(
    page: Page, tmp_path: Path, mailbox: MailServer, figures: Figures
) -> None:
    environment = {**os.environ, "KEYPOST_INSTANCE": str(tmp_path / "instance"), "PYTHONUNBUFFERED": "1"}
    (tmp_path / "authority.pem").write_bytes(mailbox.authority_pem())
    began = time.monotonic()
    serving = subprocess.Popen(
        [sys.executable, "-m", "webapp.cli", "serve", "--port", "0"], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert serving.stdout is not None
    try:
        base = serving.stdout.readline().rsplit(maxsplit=1)[-1]
        link = serving.stdout.readline().rsplit(maxsplit=1)[-1]
        started = time.monotonic()
        # A provider's certificate is known to every machine; that of this test's server is made known beforehand.
        trusting = [sys.executable, "-m", "webapp.cli", "certificates", "import", str(tmp_path / "authority.pem")]
        subprocess.run(trusting, env=environment, check=True, capture_output=True)
        opened = time.monotonic()
        person = Counted(page)
        set_up(person, base, link, mailbox)
        accepted = time.monotonic()
    finally:
        serving.terminate()
        serving.wait(30)
        serving.stdout.close()
    figures(SUBJECT, "clicks", person.clicks, f"(at most {MOST_CLICKS})")
    figures(SUBJECT, "fields typed into", person.fields, f"with {person.letters} letters")
    figures(SUBJECT, "from the command to the first page", started - began, "s")
    figures(SUBJECT, "from the set-up link to “accepted”, without thinking", accepted - opened, "s")
    assert person.clicks <= MOST_CLICKS
    assert accepted - opened < MOST_SECONDS


def set_up(person: Counted, base: str, link: str, mailbox: MailServer) -> None:
    page = person.page
    page.goto(link)
    person.type("Your name", "Alice Admin")
    person.type("E-mail address", "alice@example.test")
    person.type("Password", PASSWORD)
    person.press("Create administrator")
    person.press("Add the mailbox account", link=True)
    person.type("Name", "Mail provider")
    person.press("Add resource")
    person.press("Add account", link=True)
    person.type("User name", MAILBOX)
    person.type("Password", SECRET)
    person.press("Add account")
    person.press("Admin", link=True)
    person.press("Connect mail", link=True)
    person.type("Server name", "localhost")
    person.type("Port", str(mailbox.port))
    person.type("Sender e-mail address", MAILBOX)
    person.type("Access URL", base)
    page.get_by_role("option", name=MAILBOX).click()
    person.press("Test")
    expect(page.locator("#_test_result")).to_have_attribute("data-outcome", "accepted", timeout=30_000)
    assert mailbox.wait_for_message().username == MAILBOX
