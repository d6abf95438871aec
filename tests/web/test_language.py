"""In which language and time zone pages are read: the user's choice, or else the browser's."""

from __future__ import annotations

import html
import re

import pytest
from babel.messages.pofile import read_po
from flask import Flask
from flask.testing import FlaskClient

from tests.support.people import Person, csrf_token
from webapp import i18n
from webapp.actor import Role
from webapp.db import Database
from webapp.i18n import Reader
from webapp.identity.languages import reader_of
from webapp.identity.users import find_user

GERMAN = {"Accept-Language": "de-AT,de;q=0.9,en;q=0.5"}
PAGES = (
    "/resources",
    "/resources/new",
    "/profile",
    "/profile/mails",
    "/profile/language",
    "/profile/keyboard",
    "/profile/second-factor",
    "/admin",
    "/admin/settings/mail",
    "/admin/users",
    "/admin/users/new",
    "/admin/users/import",
    "/admin/users/1",
    "/admin/certificates",
    "/admin/outbox",
    "/admin/outbox/settings",
    "/admin/audit",
    "/admin/mail-texts",
    "/admin/mail-texts/account-created",
    "/admin/sign-in",
)


@pytest.fixture
def browser(app: Flask) -> FlaskClient:
    return app.test_client()


def english_sentences() -> list[str]:
    """Every English sentence of several words that is another one in German."""
    with (i18n.TRANSLATIONS / "de" / "LC_MESSAGES" / "messages.po").open("rb") as opened:
        catalogue = read_po(opened, locale="de")
    plain = [message.id for message in catalogue if isinstance(message.id, str) and message.id != message.string]
    return [each for each in plain if len(each.split()) > 2 and "%(" not in each and "{" not in each]


def words_of(page: str) -> str:
    """What a page says, tags and scripts aside."""
    text = re.sub(r"(?s)<(script|style)\b.*?</\1>", " ", page)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


def test_pages_before_signing_in_follow_the_browser(browser: FlaskClient) -> None:
    page = browser.get("/sign-in", headers=GERMAN)
    assert '<html lang="de">' in page.text
    assert "Passwort vergessen?" in page.text
    assert page.headers["Content-Language"] == "de"
    assert "Accept-Language" in page.vary


def test_a_language_that_is_not_there_is_answered_in_english(browser: FlaskClient) -> None:
    assert '<html lang="en">' in browser.get("/sign-in", headers={"Accept-Language": "ja"}).text


def test_a_visitor_can_switch_the_language(browser: FlaskClient) -> None:
    fields = {"csrf_token": csrf_token(browser), "language": "de", "next": "/forgotten-password"}
    response = browser.post("/language", data=fields)
    assert (response.status_code, response.location) == (303, "/forgotten-password")
    assert '<html lang="de">' in browser.get("/sign-in", headers={"Accept-Language": "en"}).text


def test_the_switch_leads_to_pages_of_ours_alone(browser: FlaskClient) -> None:
    fields = {"csrf_token": csrf_token(browser), "language": "de", "next": "//elsewhere.example"}
    assert browser.post("/language", data=fields).location == "/sign-in"


def test_a_refusal_is_told_in_the_visitors_language(browser: FlaskClient) -> None:
    assert "Hier ist nichts" in browser.get("/nowhere", headers=GERMAN).text


def test_a_users_choice_beats_the_browser(alice: Person) -> None:
    assert alice.post("/profile/language", {"language": "de", "time_zone": "Europe/Berlin"}).status_code == 303
    page = alice.client.get("/profile", headers={"Accept-Language": "en"})
    assert '<html lang="de">' in page.text
    assert re.search(r"\d{4}, \d\d:\d\d ME(S)?Z</time>", page.text)


def test_the_choice_holds_at_once(alice: Person) -> None:
    alice.post("/profile/language", {"language": "de", "time_zone": ""})
    assert "Ihre Sprache und Zeitzone wurden gespeichert." in alice.get("/profile/language").text


@pytest.mark.parametrize("fields", [{"language": "xx"}, {"time_zone": "Mars/Olympus"}, {"time_zone": "/etc/passwd"}])
def test_what_is_not_offered_is_refused_at_its_field(alice: Person, fields: dict[str, str]) -> None:
    response = alice.post("/profile/language", {"language": "", "time_zone": "", **fields})
    assert response.status_code == 422
    assert f'id="{next(iter(fields))}-error"' in response.text


def test_the_zone_that_the_browser_says_is_used_and_remembered(database: Database, alice: Person) -> None:
    alice.client.set_cookie("keypost-zone", "Asia/Tokyo")
    assert "JST</time>" in alice.get("/profile").text
    with database.reading() as session:
        alice_now = find_user(session, "alice@example.com")
        assert alice_now is not None
        assert reader_of(alice_now) == Reader("en", "Asia/Tokyo")


def test_mails_follow_the_language_that_the_browser_said_last(database: Database, alice: Person) -> None:
    alice.client.get("/profile", headers=GERMAN)
    with database.reading() as session:
        alice_now = find_user(session, "alice@example.com")
        assert alice_now is not None
        assert reader_of(alice_now).language == "de"


def test_somebody_new_is_written_to_as_who_added_them_reads(database: Database, alice: Person) -> None:
    alice.post("/profile/language", {"language": "de", "time_zone": "Europe/Vienna"})
    fields = {"email": "ben@example.com", "name": "Ben", "role": Role.PASSWORD_USER.value}
    alice.post("/admin/users/new", fields)
    with database.reading() as session:
        ben = find_user(session, "ben@example.com")
        assert ben is not None
        assert reader_of(ben) == Reader("de", "Europe/Vienna")


def test_no_request_is_answered_in_the_language_of_the_one_before(browser: FlaskClient) -> None:
    browser.get("/sign-in", headers=GERMAN)
    assert i18n.reader() == Reader()


@pytest.mark.parametrize("path", PAGES)
def test_a_german_page_has_no_english_sentence(alice: Person, path: str) -> None:
    alice.post("/profile/language", {"language": "de", "time_zone": ""})
    page = alice.get(path)
    assert page.status_code == 200
    said = words_of(page.text)
    assert [sentence for sentence in ENGLISH if sentence in said] == []


ENGLISH = english_sentences()
