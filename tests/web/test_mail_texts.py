"""Mail texts: administrators change what mails say, and see it before it is sent."""

from __future__ import annotations

import re

import pytest
from flask import Flask

from tests.support.people import Person, add_person
from webapp.actor import Role
from webapp.db import Database
from webapp.mail import rewording, wording
from webapp.outbox.messages import Kind

PAGE = "/admin/mail-texts/account-created"
SUBJECT = "Welcome, {{ name }}"
TEXT = "Hello {{ name }},\n\nopen this:\n\n{{ link }}\n"


def fields(**changes: str) -> dict[str, str]:
    return {"subject": SUBJECT, "text": TEXT, "version": "0", **changes}


def saved(database: Database) -> wording.Wording:
    with database.reading() as session:
        return rewording.standing(session, Kind.ACCOUNT_CREATED).wording


def test_every_kind_has_its_page(alice: Person) -> None:
    listed = alice.get("/admin/mail-texts").text
    for kind in Kind:
        assert f"/admin/mail-texts/{kind.value}" in listed
        assert alice.get(f"/admin/mail-texts/{kind.value}").status_code == 200


def test_another_text_is_saved_and_used(alice: Person, database: Database) -> None:
    assert alice.post(PAGE, fields()).status_code == 303
    assert saved(database).subject == SUBJECT


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"text": "Hello {{ name }}\n"}, "link"),
        ({"text": TEXT + "{{ pasword }}"}, "pasword"),
        ({"text": TEXT + "{{ name"}, "close the one that is open"),
        ({"subject": ""}, "subject"),
        ({"subject": "Two\nlines {{ name }}"}, "line"),
    ],
)
def test_a_text_that_cannot_work_is_refused_at_its_field(
    alice: Person, database: Database, changes: dict[str, str], sentence: str
) -> None:
    before = saved(database)
    answer = alice.post(PAGE, fields(**changes))
    assert answer.status_code == 422
    assert sentence in answer.text
    assert saved(database) == before


def test_the_preview_shows_what_is_typed_and_saves_nothing(alice: Person, database: Database) -> None:
    before = saved(database)
    answer = alice.post(f"{PAGE}/preview", fields(subject="Ahoy, {{ name }}"), htmx=True)
    assert answer.status_code == 200
    assert "Ahoy, " in answer.text
    assert saved(database) == before


def test_the_preview_works_without_scripts_too(alice: Person) -> None:
    answer = alice.post(f"{PAGE}/preview", fields(subject="Ahoy, {{ name }}"))
    assert "Ahoy, " in answer.text
    assert "<html" in answer.text


def test_what_is_typed_is_shown_as_text_and_never_as_markup(alice: Person) -> None:
    answer = alice.post(f"{PAGE}/preview", fields(text=TEXT + "<script>alert(1)</script>"), htmx=True)
    assert "<script>alert" not in answer.text


def test_the_default_can_be_had_back(alice: Person, database: Database) -> None:
    alice.post(PAGE, fields())
    assert alice.post(f"{PAGE}/restore", {"version": "1"}).status_code == 303
    assert saved(database) == wording.default(Kind.ACCOUNT_CREATED)


def test_of_two_who_save_the_second_sees_what_the_first_saved(alice: Person) -> None:
    alice.post(PAGE, fields())
    answer = alice.post(PAGE, fields(subject="Hello {{ name }}"))
    assert answer.status_code == 409
    assert SUBJECT in answer.text


def test_there_is_no_page_for_a_mail_that_is_not_sent(alice: Person) -> None:
    assert alice.get("/admin/mail-texts/newsletter").status_code == 404


def test_a_person_chooses_which_mails_to_get(alice: Person) -> None:
    alice.post("/profile/mails", {"wanted": "role-changed"})
    page = alice.get("/profile/mails").text
    ticked = re.findall(r'<input type="checkbox"[^>]*value="([a-z-]+)"[^>]* checked', page)
    assert [kind for kind in ticked if not Kind(kind).is_essential] == ["role-changed"]


def test_who_is_no_administrator_is_not_asked_about_administrators_mails(app: Flask, database: Database) -> None:
    bob = add_person(app, database, email="bob@example.com", name="Bob", role=Role.PASSWORD_USER)
    page = bob.get("/profile/mails").text
    assert "mail-settings-changed" not in page
    assert "role-changed" in page


def test_the_settings_show_the_mail_that_people_get(alice: Person) -> None:
    typed = {
        "server_name": "mail.example.test",
        "port": "587",
        "security": "tls",
        "sender_address": "vault@example.test",
        "sender_name": "The Vault",
        "access_url": "https://vault.example.test",
        "credential_source": "manual",
        "version": "0",
    }
    answer = alice.post("/admin/settings/mail/preview", typed, htmx=True)
    assert answer.status_code == 200
    assert "https://vault.example.test/welcome?token=" in answer.text
    assert "vault@example.test" in answer.text
