"""Takes pictures of the running product, page by page and state by state, light and dark, wide and narrow.

    .venv/bin/python -m tests.screenshots FOLDER

Of them mail-server-settings.png stands in docs/, at the top of the README, and what docs/pictures/ holds comes from
FOLDER/pictures.

A real installation, a real mail server and a real Chromium; nothing is drawn by hand.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support import chromium
from tests.support.browsing import claim
from tests.support.mail_server import NEVER, STARTTLS, MailServer
from tests.support.mail_settings import join
from tests.support.main_job import FIRST, MAILBOX, add_mailbox_account, expect_accepted, fill_mail_settings
from tests.support.outbox import deliver, enqueue, open_relay, save
from tests.trust.authorities import issue
from webapp import create_app
from webapp.actor import Actor, Role, command_line
from webapp.cli.serve import answer
from webapp.config import Config
from webapp.db import Database
from webapp.identity import invitations
from webapp.identity.sessions import SignIn
from webapp.identity.users import find_user
from webapp.installation import open_installation
from webapp.keyring import Secret
from webapp.outbox import workers
from webapp.outbox.messages import Kind
from webapp.server import make_server
from webapp.trust.store import import_certificates
from webapp.vault import imports, shares
from webapp.vault.accounts import add_account
from webapp.vault.imports import RESOURCES
from webapp.vault.resources import ResourceDetails, add_resource
from webapp.vault.rights import Right

WIDTHS = (1440, 360)
SCHEMES = ("light", "dark")
WORKER = "screenshots"


@contextmanager
def running() -> Iterator[tuple[str, Database]]:
    """An installation of its own; gives its address and its database."""
    with tempfile.TemporaryDirectory() as folder:
        opened = open_installation(Config.from_environment({"KEYPOST_INSTANCE": f"{folder}/instance"}))
        server = make_server(create_app(opened), socket.create_server(("127.0.0.1", 0)))
        ended = threading.Event()
        threading.Thread(target=answer, args=(server, ended), daemon=True).start()
        yield f"http://127.0.0.1:{server.effective_port}", opened.database
        ended.set()
        server.close()
        opened.close()


class Camera:
    """Takes each picture in both schemes and both widths; meanwhile a worker says that it lives."""

    def __init__(self, page: Page, base: str, folder: Path, database: Database) -> None:
        self._page, self._base, self._folder, self._database = page, base, folder, database

    def take(self, name: str, path: str, act: Callable[[Page], None] | None = None, *, delivers: bool = True) -> None:
        self._worker_lives(delivers)
        for scheme in SCHEMES:
            for width in WIDTHS:
                self._page.set_viewport_size({"width": width, "height": 900})
                self._page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
                self._page.goto(self._base + path)
                if act is not None:
                    act(self._page)
                file = self._folder / f"{name}-{scheme}-{width}.png"
                self._page.screenshot(path=file, full_page=act is None)

    def take_for_docs(self, name: str, path: str, act: Callable[[Page], None] | None = None) -> None:
        """One picture, as wide as a text is."""
        self._worker_lives(True)
        self._page.set_viewport_size({"width": 1000, "height": 1000})
        self._page.emulate_media(color_scheme="light")
        self._page.goto(self._base + path)
        if act is not None:
            act(self._page)
        (self._folder / "pictures").mkdir(exist_ok=True)
        self._page.screenshot(path=self._folder / "pictures" / f"{name}.png")

    def _worker_lives(self, lives: bool) -> None:
        with self._database.transaction() as session:
            workers.end(session, WORKER)
            if lives:
                workers.begin(session, WORKER)


def fill(database: Database, relay: MailServer) -> None:
    """People, things and mails in every state."""
    save(database, open_relay(relay.port))
    with database.reading() as session:
        alice = find_user(session, "alice@example.test")
    assert alice is not None
    actor = alice.actor("192.0.2.7")
    relay.refuse["gone@example.test"] = "550 5.1.1 <gone@example.test>: Recipient address rejected: User unknown"
    relay.refuse["later@example.test"] = "451 4.7.1 Greylisting in action, please come back later"
    with database.transaction() as session:
        for email, name, role in (
            ("bob@example.test", "Bob Builder", Role.PASSWORD_USER),
            ("gone@example.test", "Gordon Gone", Role.PASSWORD_ADMINISTRATOR),
            ("later@example.test", "Lata Later", Role.PASSWORD_AUDITOR),
            ("a-very-long-address-of-somebody@subdomain.example.test", "Wilhelmina Featherstonehaugh-Cholmondeley",
             Role.PASSWORD_USER),
        ):  # fmt: skip
            invitations.invite(session, actor, email=email, name=name, role=role)
    carol = join(database, "Carol", Role.PASSWORD_USER)
    with database.transaction() as session:
        provider = add_resource(session, actor, ResourceDetails("Mail provider", "mail.example.com", "Mail service"))
        account = add_account(session, actor, provider.id, "keypost@example.test", Secret("a password of a mailbox"))
        add_resource(session, actor, ResourceDetails("Core switch", "192.0.2.1", "Network device"))
        shares.share_account(session, actor, account.id, carol.id or 0, Right.VIEW)
        for name, days in (("Example Company Root", 3000), ("Example Company Mail 2024", 12)):
            found = issue(name, authority=True, days=(-700, days)).pem
            import_certificates(session, actor, found, source="authority.pem")
    import_resources(database, actor)
    deliver(database)
    enqueue(database, "dora@example.test", kind=Kind.ROLE_CHANGED)


TABLE = (
    "Title,Username,Password,URL,Notes,TOTP\nMail provider,keypost@example.test,x,,,\nMail provider,abuse,x,,,\n"
    "Customer database,reporting,x,db.example.test,Read only,\nCustomer database,,x,,,\nBackup store,,,,,\n"
    "A-resource-whose-name-is-one-very-long-word-as-machines-like-to-make-them.subdomain.example.test,root,x,,,\n"
)


def import_resources(database: Database, actor: Actor) -> None:
    """An import that is done, one that is under way, and one that is looked at."""
    with database.transaction() as session:
        sign_in_id = session.scalar(sa.select(sa.func.max(SignIn.id)).where(SignIn.user_id == actor.id))
        made = [
            imports.draft(session, actor, table.encode("cp1252"), title=f"{title}.csv", sign_in_id=own)
            for title, table, own in (
                ("from-keepass", TABLE, None),
                ("more", TABLE, None),
                ("from-a-spreadsheet", TABLE.replace("Customer", "Zoë’s"), sign_in_id),
            )
        ]
        for each in made[:2]:
            imports.start(session, actor, each)
    RESOURCES.work(database, only=made[0].id)
    RESOURCES.go_on(database, made[1].id)


EMPTY = {
    "admin-empty": "/admin",
    "resources-empty": "/resources",
    "users-one": "/admin/users",
    "user-new-without-mail": "/admin/users/new",
    "outbox-empty": "/admin/outbox",
    "mail-settings-empty": "/admin/settings/mail",
    "certificates-empty": "/admin/certificates",
}
FILLED = {
    "admin": "/admin",
    "resources": "/resources",
    "resources-found-nothing": "/resources?q=no+such+thing",
    "resource": "/resources/1",
    "resource-new": "/resources/new",
    "go-to": "/go?q=mail",
    "resource-edit": "/resources/1/edit",
    "resource-sharing": "/resources/1/sharing",
    "resource-transfer": "/resources/1/transfer",
    "resources-import": "/resources/import",
    "resources-import-done": "/resources/import/1",
    "resources-import-running": "/resources/import/2",
    "resources-import-preview": "/resources/import/3",
    "resources-export": "/resources/export",
    "account": "/accounts/1",
    "account-new": "/resources/1/accounts/new",
    "account-password": "/accounts/1/password",
    "account-sharing": "/accounts/1/sharing",
    "users": "/admin/users",
    "user": "/admin/users/3",
    "user-new": "/admin/users/new",
    "users-import": "/admin/users/import",
    "outbox": "/admin/outbox",
    "outbox-refused": "/admin/outbox?state=refused",
    "outbox-cancel-all": "/admin/outbox/cancel-all",
    "outbox-settings": "/admin/outbox/settings",
    "message-refused": "/admin/outbox/2",
    "mail-settings": "/admin/settings/mail",
    "mail-settings-confirm": "/admin/settings/mail/confirm",
    "mail-texts": "/admin/mail-texts",
    "mail-text": "/admin/mail-texts/account-created",
    "certificates": "/admin/certificates",
    "audit": "/admin/audit",
    "audit-found-nothing": "/admin/audit?person=nobody+at+all",
    "profile": "/profile",
    "profile-mails": "/profile/mails",
    "profile-language": "/profile/language",
    "profile-keyboard": "/profile/keyboard",
    "second-factor": "/profile/second-factor",
    "sign-in-policy": "/admin/sign-in",
    "not-found": "/nowhere",
}


def open_mail_settings(page: Page) -> None:
    page.locator("main a[hx-target='#dialog']").last.click()
    expect(page.get_by_role("dialog")).to_be_visible()


def save_what_is_wrong(page: Page) -> None:
    open_mail_settings(page)
    page.get_by_label("Server name").fill("no host/at all")
    page.get_by_label("Sender e-mail address").fill("nobody")
    page.get_by_role("dialog").get_by_role("button", name="Save").last.click()
    expect(page.get_by_role("alert")).to_be_focused()


def fail_a_test(page: Page) -> None:
    open_mail_settings(page)
    page.get_by_label("Port").fill("9")
    page.get_by_role("button", name="Test").click()
    expect(page.locator("#_test_result")).to_have_attribute("data-outcome", "failed", timeout=30_000)


def open_palette(page: Page) -> None:
    page.keyboard.press("Control+k")
    page.keyboard.type("mail")
    expect(page.get_by_role("option", name="Resources Page", exact=True)).to_be_hidden()


def open_keys(page: Page) -> None:
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()


def speak_german(page: Page, base: str, language: str = "de") -> None:
    page.goto(f"{base}/profile/language")
    page.locator("select[name=language]").select_option(language)
    page.locator("main form:has(select[name=language]) button").first.click()
    expect(page.locator("html")).to_have_attribute("lang", language)


def pause(database: Database) -> None:
    """Let delivery meet a server that is not there, so that the queue pauses."""
    save(database, open_relay(9))
    deliver(database)


def take_all(browser: Browser, folder: Path) -> None:
    with MailServer(NEVER) as relay, running() as (base, database):
        page = browser.new_context().new_page()
        camera = Camera(page, base, folder, database)
        camera.take("sign-in", "/sign-in")
        camera.take("forgotten", "/forgotten")
        claim(page, base, database)
        for name, path in EMPTY.items():
            camera.take(name, path)
        fill(database, relay)
        for name, path in FILLED.items():
            camera.take(name, path)
        camera.take("dialog", "/admin", open_mail_settings)
        camera.take("dialog-invalid", "/admin", save_what_is_wrong)
        camera.take("dialog-failed", "/admin", fail_a_test)
        camera.take("palette", "/admin", open_palette)
        camera.take("keys", "/admin", open_keys)
        camera.take_for_docs("failed-test", "/admin", fail_a_test)
        camera.take_for_docs("outbox", "/admin/outbox")
        camera.take_for_docs("resource", "/resources/1")
        camera.take_for_docs("users", "/admin/users")
        camera.take("nobody-delivers", "/admin", delivers=False)
        speak_german(page, base)
        for name, path in FILLED.items():
            camera.take(f"{name}-de", path)
        camera.take("dialog-de", "/admin", open_mail_settings)
        pause(database)
        camera.take("outbox-paused-de", "/admin/outbox")
        speak_german(page, base, "en")
        camera.take("outbox-paused", "/admin/outbox")
        camera.take("admin-paused", "/admin")
    page.context.close()


def take_the_first_picture(browser: Browser, folder: Path) -> None:
    """The one at the top of the README: a test that was accepted, with an account of the vault."""
    with MailServer(STARTTLS, users={MAILBOX: FIRST}) as server, running() as (base, database):
        with database.transaction() as session:
            import_certificates(session, command_line(), server.authority_pem(), source="authority.pem")
        page = browser.new_context(viewport={"width": 1000, "height": 1500}).new_page()
        claim(page, base, database)
        add_mailbox_account(page, base)
        page.goto(f"{base}/admin")
        open_mail_settings(page)
        fill_mail_settings(page, base, server)
        page.get_by_role("button", name="Test").click()
        expect_accepted(page)
        page.get_by_label("Use an account stored in Keypost").evaluate("(choice) => choice.scrollIntoView()")
        page.screenshot(path=folder / "mail-server-settings.png")
        page.context.close()


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("PLAYWRIGHT_NODEJS_PATH", str(chromium.node()))
    with sync_playwright() as playwright:
        browser = chromium.start_a_browser(playwright)
        take_the_first_picture(browser, folder)
        take_all(browser, folder)
        browser.close()


if __name__ == "__main__":
    main()
