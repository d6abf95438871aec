"""Administrators add people, who set their own passwords by a one-time link."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.support.people import PASSWORD, Person, add_person, csrf_token
from webapp.actor import Role, command_line
from webapp.db import Database
from webapp.identity.links import make_link

BOB = {"name": "Bob User", "email": "bob@example.com", "role": "password-user"}


def link_in(page: str) -> str:
    found = re.search(r'id="link">http://localhost(/welcome\?token=[\w-]+)<', page)
    assert found, page
    return found[1]


def spend(client: FlaskClient, link: str, password: str = PASSWORD) -> int:
    fields = {"csrf_token": csrf_token(client), "token": link.partition("=")[2], "password": password}
    return client.post("/welcome", data=fields).status_code


def test_a_new_user_sets_a_password_by_the_link_and_is_signed_in(alice: Person, client: FlaskClient) -> None:
    link = link_in(alice.post("/admin/users/new", BOB).text)
    assert "Bob User" in client.get(link).text
    assert spend(client, link) == 303
    assert client.get("/resources").status_code == 200


def test_a_link_works_once(alice: Person, client: FlaskClient, app: Flask) -> None:
    link = link_in(alice.post("/admin/users/new", BOB).text)
    spend(client, link)
    assert spend(app.test_client(), link) == 403


def test_opening_the_link_spends_nothing(alice: Person, client: FlaskClient) -> None:
    link = link_in(alice.post("/admin/users/new", BOB).text)
    client.get(link)
    assert client.get(link).status_code == 200


def test_a_newer_link_ends_the_one_before(alice: Person, client: FlaskClient) -> None:
    first = link_in(alice.post("/admin/users/new", BOB).text)
    second = link_in(alice.post("/admin/users/2/link").text)
    assert client.get(first).status_code == 403
    assert client.get(second).status_code == 200


def test_a_link_expires_after_three_days(alice: Person, client: FlaskClient, database: Database) -> None:
    link = link_in(alice.post("/admin/users/new", BOB).text)
    later = database.clock() + timedelta(hours=73)
    database.clock = lambda: later
    assert client.get(link).status_code == 403


def test_a_short_password_is_refused_and_the_link_stays(alice: Person, client: FlaskClient) -> None:
    link = link_in(alice.post("/admin/users/new", BOB).text)
    assert spend(client, link, "short") == 422
    assert spend(client, link) == 303


def test_setting_a_password_by_link_ends_older_sessions(alice: Person, app: Flask, database: Database) -> None:
    carol = add_person(app, database, email="carol@example.com", name="Carol", role=Role.PASSWORD_USER)
    with database.transaction() as session:
        token = make_link(session, command_line(), carol.user)
    assert spend(app.test_client(), f"/welcome?token={token.reveal()}") == 303
    assert carol.get("/resources").status_code == 302


def test_an_administrator_cannot_replace_the_password_of_somebody_who_has_one(
    alice: Person, app: Flask, database: Database
) -> None:
    carol = add_person(app, database, email="carol@example.com", name="Carol", role=Role.PASSWORD_USER)
    answer = alice.post(f"/admin/users/{carol.user.id}/link")
    assert answer.status_code == 409
    assert "bin/keypost users link carol@example.com" in answer.text


def test_a_disabled_user_is_signed_out_at_once(alice: Person, app: Flask, database: Database) -> None:
    carol = add_person(app, database, email="carol@example.com", name="Carol", role=Role.PASSWORD_USER)
    alice.post(f"/admin/users/{carol.user.id}", {"name": "Carol", "role": "password-user"})
    assert carol.get("/resources").status_code == 302


def test_the_last_administrator_stays(alice: Person) -> None:
    fields = {"name": "Alice Admin", "role": "password-user", "active": "y"}
    answer = alice.post("/admin/users/1", fields)
    assert answer.status_code == 409
    assert "only administrator" in answer.text


def test_the_last_administrator_who_can_sign_in_stays(alice: Person, client: FlaskClient) -> None:
    link = link_in(alice.post("/admin/users/new", BOB | {"role": "administrator"}).text)
    for fields in ({"role": "password-user", "active": "y"}, {"role": "administrator"}):
        answer = alice.post("/admin/users/1", {"name": "Alice Admin", **fields})
        assert answer.status_code == 409
        assert "only administrator who has set a password" in answer.text
    assert spend(client, link) == 303
    assert alice.post("/admin/users/1", {"name": "Alice Admin", "role": "administrator"}).status_code == 303


def test_an_address_is_taken_once(alice: Person) -> None:
    alice.post("/admin/users/new", BOB)
    answer = alice.post("/admin/users/new", BOB | {"email": "BOB@example.com"})
    assert answer.status_code == 422
    assert "already a user" in answer.text


def test_the_token_is_in_no_audit_line(alice: Person) -> None:
    link = link_in(alice.post("/admin/users/new", BOB).text)
    assert link.partition("=")[2] not in alice.get("/admin/audit").text


@pytest.mark.parametrize(
    ("chosen", "there", "other"),
    [
        ("show=not-told", "bob@", "alice@"),
        ("role=administrator", "alice@", "bob@"),
        ("q=BOB", "bob@", "alice@"),
        ("role=boss&show=q&page=9", "bob@", "nobody@"),
    ],
)
def test_the_list_is_narrowed_by_role_standing_and_words(alice: Person, chosen: str, there: str, other: str) -> None:
    alice.post("/admin/users/new", BOB)
    page = alice.get(f"/admin/users?{chosen}").text
    assert f'class="said">{there}' in page
    assert f'class="said">{other}' not in page


def test_a_fourth_mail_within_the_hour_is_refused(alice: Person) -> None:
    alice.post("/admin/users/new", BOB)
    codes = [alice.post("/admin/users/2/tell").status_code for _ in range(4)]
    assert codes == [303, 303, 303, 422]
