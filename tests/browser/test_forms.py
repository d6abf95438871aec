"""Forms lose nothing: what is typed and not sent, what a session outlived, what the network swallowed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from playwright.sync_api import Dialog, Page, Response, Route, expect

from tests.support.browsing import claim
from tests.support.firefox import also_in_firefox
from tests.support.people import PASSWORD
from webapp.db import Database
from webapp.identity.sessions import SignIn
from webapp.identity.setup import offer_setup

pytestmark = pytest.mark.browser


@pytest.fixture
def asked(page: Page) -> list[str]:
    """The questions that the browser put; each is answered with no."""
    questions: list[str] = []

    def refuse(dialog: Dialog) -> None:
        questions.append(dialog.type)
        dialog.dismiss()

    page.on("dialog", refuse)
    return questions


def open_mail_settings(page: Page, base: str) -> None:
    page.goto(f"{base}/admin")
    page.get_by_role("link", name="Mail Server Settings").click()
    expect(page.get_by_role("dialog")).to_be_visible()


def end_every_session(database: Database) -> None:
    with database.transaction() as session:
        session.execute(sa.delete(SignIn))


def sign_in_in_another_tab(page: Page, link: str = "Sign in in another tab") -> None:
    with page.expect_popup() as opened:
        page.get_by_role("link", name=link).click()
    tab = opened.value
    tab.get_by_label("E-mail address").fill("alice@example.test")
    tab.get_by_label("Password", exact=True).fill(PASSWORD)
    tab.get_by_role("button", name="Sign in").first.click()
    expect(tab.get_by_role("heading", name="Resources")).to_be_visible()
    tab.close()


@also_in_firefox
def test_escape_never_closes_a_dialog_with_something_typed_unasked(
    page: Page, live_server: str, database: Database, asked: list[str]
) -> None:
    claim(page, live_server, database)
    open_mail_settings(page, live_server)
    page.get_by_label("Server name").fill("smtp.example.com")
    for _ in range(3):
        page.keyboard.press("Escape")
    page.get_by_role("button", name="Close").first.click()
    expect(page.get_by_label("Server name")).to_have_value("smtp.example.com")
    assert asked == ["confirm"] * 4


def test_escape_closes_an_untouched_dialog_and_gives_the_focus_back(
    page: Page, live_server: str, database: Database
) -> None:
    claim(page, live_server, database)
    open_mail_settings(page, live_server)
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("link", name="Mail Server Settings")).to_be_focused()


@also_in_firefox
def test_leaving_a_page_with_something_typed_is_asked_about(
    page: Page, live_server: str, database: Database, asked: list[str]
) -> None:
    claim(page, live_server, database)
    page.goto(f"{live_server}/resources/new")
    page.get_by_label("Name").fill("Printer")
    page.get_by_role("link", name="Admin", exact=True).click()
    expect(page.get_by_label("Name")).to_have_value("Printer")
    assert asked == ["beforeunload"]
    page.get_by_role("button", name="Add resource").click()
    expect(page.get_by_role("heading", name="Printer")).to_be_visible()
    assert asked == ["beforeunload"]


def test_cancel_means_it(page: Page, live_server: str, database: Database, asked: list[str]) -> None:
    claim(page, live_server, database)
    page.goto(f"{live_server}/resources/new")
    page.get_by_label("Name").fill("Printer")
    page.get_by_role("link", name="Cancel").click()
    expect(page.get_by_role("heading", name="Resources")).to_be_visible()
    assert asked == []


def save_once_the_session_has_ended(page: Page, base: str, database: Database) -> None:
    """Fill in a server's name, press Save, and be told that the session has ended."""
    claim(page, base, database)
    open_mail_settings(page, base)
    page.get_by_label("Server name").fill("mail.example.com")
    end_every_session(database)
    page.get_by_role("dialog").get_by_role("button", name="Save").last.click()
    expect(page.get_by_role("heading", name="Your session has ended")).to_be_visible()


def test_a_dialog_whose_session_ended_goes_on_after_signing_in(
    page: Page, live_server: str, database: Database
) -> None:
    save_once_the_session_has_ended(page, live_server, database)
    sign_in_in_another_tab(page)
    page.get_by_role("button", name="I have signed in").click()
    expect(page.get_by_role("alert")).to_contain_text("need your attention")
    expect(page.get_by_label("Server name")).to_have_value("mail.example.com")


def proves_while_asking(page: Page, base: str, paths: list[str], *, times: int = 1) -> None:
    """Give the session a new token; who asks for one of ``paths`` next does so with the one from before."""
    former = "; ".join(f"{each['name']}={each['value']}" for each in page.context.cookies())
    token = page.locator("[name=csrf_token]").first.input_value()
    proof = {"csrf_token": token, "proof_password": PASSWORD}
    assert page.request.post(f"{base}/confirm", form=proof, headers={"Origin": base}, max_redirects=0).status == 303

    def as_before() -> Callable[[Route], None]:
        turns = iter(range(times))

        def ask(route: Route) -> None:
            if next(turns, None) is None:
                route.continue_()
            else:
                route.fulfill(response=route.fetch(headers={**route.request.headers, "cookie": former}))

        return ask

    # The route stays: to take it away while the page asks again would be a race of Playwright's own.
    for path in paths:
        page.route(f"**{path}*", as_before())


def is_card(status: int) -> Callable[[Response], bool]:
    """Whether an answer is that of the Admin page's card about mail, and has this status."""
    return lambda answer: answer.url.endswith("/admin/_mail-card") and answer.status == status


@pytest.mark.parametrize("paths", [["/admin/_mail-card"], ["/admin/_mail-card", "/sign-in/_token"]])
def test_what_asked_with_the_token_from_before_asks_again_without_a_word(
    page: Page, live_server: str, database: Database, paths: list[str]
) -> None:
    claim(page, live_server, database)
    proves_while_asking(page, live_server, paths)
    with page.expect_response(is_card(200)), page.expect_response(is_card(401)):
        page.evaluate("document.body.dispatchEvent(new Event('dialog-acted'))")
    expect(page.get_by_role("heading", name="Your session has ended")).to_be_hidden()


def test_what_is_refused_again_at_once_is_not_asked_for_without_end(
    page: Page, live_server: str, database: Database
) -> None:
    claim(page, live_server, database)
    proves_while_asking(page, live_server, ["/admin/_mail-card"], times=5)
    refused: list[str] = []
    page.on("response", lambda answer: refused.append(answer.url) if is_card(401)(answer) else None)
    page.evaluate("document.body.dispatchEvent(new Event('dialog-acted'))")
    expect(page.get_by_role("heading", name="Your session has ended")).to_be_visible()
    assert len(refused) == 2


def test_what_is_pressed_with_the_token_from_before_is_done(page: Page, live_server: str, database: Database) -> None:
    claim(page, live_server, database)
    proves_while_asking(page, live_server, ["/admin/settings/mail"])
    page.get_by_role("link", name="Mail Server Settings").click()
    expect(page.get_by_label("Server name")).to_be_visible()
    expect(page.get_by_role("heading", name="Your session has ended")).to_be_hidden()


def test_a_search_with_the_token_from_before_finds_all_the_same(
    page: Page, live_server: str, database: Database
) -> None:
    claim(page, live_server, database)
    page.keyboard.press("Control+k")
    search = page.get_by_role("combobox")
    expect(page.get_by_role("option", name="Outbox")).to_be_visible()
    proves_while_asking(page, live_server, ["/go"])
    search.fill("certif")
    expect(page.get_by_role("option", name="Outbox")).to_be_hidden()
    expect(page.get_by_role("option", name="Certificates")).to_be_visible()
    expect(page.get_by_role("heading", name="Your session has ended")).to_be_hidden()


def test_what_asks_by_itself_says_that_the_session_has_ended(page: Page, live_server: str, database: Database) -> None:
    claim(page, live_server, database)
    end_every_session(database)
    page.evaluate("document.body.dispatchEvent(new Event('dialog-acted'))")
    expect(page.get_by_role("heading", name="Your session has ended")).to_be_visible(timeout=30_000)


@also_in_firefox
def test_a_page_whose_session_ended_is_sent_again_after_signing_in(
    page_without_javascript: Page, live_server: str, database: Database
) -> None:
    page = page_without_javascript
    claim(page, live_server, database)
    page.goto(f"{live_server}/resources/new")
    page.get_by_label("Name").fill("Printer")
    end_every_session(database)
    page.get_by_role("button", name="Add resource").click()
    expect(page.get_by_role("heading", name="Your session has ended")).to_be_visible()
    sign_in_in_another_tab(page)
    page.get_by_role("button", name="Send it again").click()
    page.get_by_role("button", name="Send it again").click()
    expect(page.get_by_role("heading", name="Printer")).to_be_visible()


@also_in_firefox
def test_a_lost_connection_is_told_and_loses_nothing(page: Page, live_server: str, database: Database) -> None:
    claim(page, live_server, database)
    open_mail_settings(page, live_server)
    page.get_by_label("Server name").fill("mail.example.com")
    page.context.set_offline(True)
    page.get_by_role("dialog").get_by_role("button", name="Save").last.click()
    expect(page.locator("#said")).to_contain_text("did not answer")
    expect(page.get_by_label("Server name")).to_have_value("mail.example.com")
    page.context.set_offline(False)
    page.get_by_role("dialog").get_by_role("button", name="Save").last.click()
    expect(page.get_by_role("alert")).to_contain_text("attention")


@also_in_firefox
def test_an_answer_that_does_not_come_in_time_is_told_and_loses_nothing(
    page: Page, live_server: str, database: Database
) -> None:
    page.clock.install()
    claim(page, live_server, database)
    open_mail_settings(page, live_server)
    page.get_by_label("Server name").fill("mail.example.com")
    held: list[Route] = []
    page.route("**/admin/settings/mail", lambda route: held.append(route))  # noqa: PLW0108 - it takes no method of a list
    with page.expect_request("**/admin/settings/mail"):
        page.get_by_role("dialog").get_by_role("button", name="Save").last.click()
    page.clock.fast_forward(31_000)
    expect(page.locator("#said")).to_contain_text("did not answer")
    expect(page.get_by_label("Server name")).to_have_value("mail.example.com")
    page.unroute_all()
    page.get_by_role("dialog").get_by_role("button", name="Save").last.click()
    expect(page.get_by_role("alert")).to_contain_text("attention")


@also_in_firefox
def test_a_form_is_not_sent_into_the_void(page: Page, live_server: str, database: Database) -> None:
    claim(page, live_server, database)
    page.goto(f"{live_server}/resources/new")
    page.get_by_label("Name").fill("Printer")
    page.context.set_offline(True)
    page.get_by_role("button", name="Add resource").click()
    expect(page.locator("#said")).to_contain_text("offline")
    page.context.set_offline(False)
    page.get_by_role("button", name="Add resource").click()
    expect(page.get_by_role("heading", name="Printer")).to_be_visible()


def test_a_browser_without_a_network_reaches_keypost_on_its_own_machine(
    page: Page, live_server: str, database: Database
) -> None:
    page.add_init_script("Object.defineProperty(Navigator.prototype, 'onLine', { get: () => false })")
    claim(page, live_server, database)
    page.goto(f"{live_server}/resources/new")
    page.get_by_label("Name").fill("Printer")
    page.get_by_role("button", name="Add resource").click()
    expect(page.get_by_role("heading", name="Printer")).to_be_visible()


@also_in_firefox
def test_enter_in_a_field_does_what_the_main_button_does(page: Page, live_server: str, database: Database) -> None:
    claim(page, live_server, database)
    page.goto(f"{live_server}/resources/new")
    page.get_by_label("Name").fill("Printer")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Add account").click()
    page.get_by_label("User name").fill("root")
    page.get_by_label("Password", exact=True).fill("a password of a printer")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="root")).to_be_visible()


@also_in_firefox
def test_a_generated_password_is_a_page_where_no_script_runs(
    page_without_javascript: Page, live_server: str, database: Database
) -> None:
    page = page_without_javascript
    claim(page, live_server, database)
    page.goto(f"{live_server}/resources/new")
    page.get_by_label("Name").fill("Printer")
    page.get_by_role("button", name="Add resource").click()
    page.get_by_role("link", name="Add account").click()
    with page.expect_popup() as opened:
        page.get_by_role("button", name="Generate a password").click()
    expect(opened.value.locator("#generated-text")).to_be_visible()
    expect(opened.value.get_by_role("button", name="Copy")).to_be_hidden()
    expect(page.get_by_role("heading", name="Add account")).to_be_visible()


def test_a_password_is_shown_while_one_types_it_and_sent_hidden(
    page: Page, live_server: str, database: Database
) -> None:
    page.goto(f"{live_server}/setup?token={offer_setup(database)}")
    page.get_by_label("Your name").fill("Alice Admin")
    page.get_by_label("E-mail address").fill("alice@example.test")
    password = page.get_by_label("Password", exact=True)
    password.fill("short")
    page.get_by_role("button", name="Show").click()
    expect(password).to_have_attribute("type", "text")
    expect(password).to_have_value("short")
    page.get_by_role("button", name="Hide").click()
    expect(password).to_have_attribute("type", "password")
    page.get_by_role("button", name="Show").click()
    types = page.evaluate(
        """() => new Promise((done) => {
          addEventListener("submit", (event) => { event.preventDefault(); done(event.target.elements.password.type); });
          document.querySelector("form.card").requestSubmit();
        })"""
    )
    assert types == "password"


@also_in_firefox
def test_where_no_script_runs_no_button_promises_to_show_a_password(
    page_without_javascript: Page, live_server: str, database: Database
) -> None:
    page_without_javascript.goto(f"{live_server}/setup?token={offer_setup(database)}")
    expect(page_without_javascript.get_by_role("button", name="Show")).to_be_hidden()
