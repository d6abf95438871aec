"""Confirmed delivery over HTTP: the code goes out by mail and comes back by hand or by link."""

from __future__ import annotations

import html
import re
from datetime import timedelta

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from tests.support.mail_form import PAGE, TEST, at, outcome
from tests.support.mail_server import MailServer
from tests.support.mail_settings import trust_server
from tests.support.people import PASSWORD, Person, add_person, csrf_token
from tests.support.scripted_smtp import HANG_UP, ScriptedServer, replying
from webapp.actor import Role
from webapp.audit.trail import AuditLine
from webapp.db import Database
from webapp.mail.checks import MailCheck
from webapp.mail.confirmation import ALPHABET, LENGTH, LIFETIME, PATH

CODE = re.compile(rf"code on the settings page: ([{ALPHABET}]{{{LENGTH}}})\b")
LINK = re.compile(r"Or open this address: (\S+)")
WRONG = "AAAAAA"


@pytest.fixture
def server(database: Database, mail_server_starttls: MailServer) -> MailServer:
    trust_server(database, mail_server_starttls)
    return mail_server_starttls


def send_test(person: Person, server: MailServer, **changes: str) -> str:
    """Make an accepted test; gives the code out of its mail."""
    assert outcome(person.post(TEST, at(server, **changes)).text) == ("accepted", "")
    return code_in(server)


def code_in(server: MailServer) -> str:
    found = CODE.search(text_of(server))
    assert found
    return found[1]


def text_of(server: MailServer) -> str:
    body = server.wait_for_message().message.get_body(("plain",))
    assert body is not None
    return str(body.get_content())


def words(text: str) -> str:
    """What a page says, without its marks."""
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", text)).split())


def lines(database: Database) -> list[tuple[str, str]]:
    """Who confirmed, and how that went."""
    with database.reading() as session:
        found = sa.select(AuditLine).where(AuditLine.action == "mail:confirm").order_by(AuditLine.id)
        return [(line.actor_name, line.outcome) for line in session.scalars(found)]


def test_the_typed_code_proves_that_the_mail_arrived(alice: Person, database: Database, server: MailServer) -> None:
    code = send_test(alice, server)
    alice.post(PAGE, at(server))
    assert "Verified and arrived" not in words(alice.get(PAGE).text)
    assert "Did it arrive?" in words(alice.get(PAGE).text)
    done = alice.post(PATH, {"confirmation_code": f" {code[:3].lower()}-{code[3:]} "})
    assert (done.status_code, done.headers["Location"]) == (303, PAGE)
    page = words(alice.get(PAGE).text)
    assert re.search("Verified and arrived .* UTC ?, confirmed by Alice Admin, with exactly these settings", page)
    assert "Did it arrive?" not in page
    assert lines(database) == [("Alice Admin", "done")]


def test_the_answer_of_a_test_asks_for_the_code_and_does_not_know_it(alice: Person, server: MailServer) -> None:
    for htmx in (False, True):
        answer = alice.post(TEST, at(server), htmx=htmx).text
        assert 'name="confirmation_code"' in answer
        assert code_in(server) not in answer


def test_a_failed_test_asks_for_no_code(alice: Person, server: MailServer) -> None:
    assert 'name="confirmation_code"' not in alice.post(TEST, at(server, password="wrong"), htmx=True).text


def test_the_link_asks_first_and_then_confirms(alice: Person, database: Database, server: MailServer) -> None:
    alice.post(TEST, at(server))
    link = LINK.search(text_of(server))
    assert link
    assert link[1].startswith(f"https://keypost.example.test{PATH}?code=")
    path = link[1].removeprefix("https://keypost.example.test")
    page = alice.get(path).text
    code = path[-LENGTH:]
    assert f'value="{code}"' in page
    assert lines(database) == []
    assert alice.post(PATH, {"confirmation_code": code}).status_code == 303
    assert "confirmed: it arrived" in words(alice.get(PAGE).text)


def test_the_link_asks_a_stranger_to_sign_in_and_leads_back(
    alice: Person, client: FlaskClient, server: MailServer
) -> None:
    path = f"{PATH}?code={send_test(alice, server)}"
    asked = client.get(path)
    assert asked.status_code == 302
    form = client.get(asked.headers["Location"]).text
    target = re.search('name="next"[^>]*value="([^"]*)"', form)
    assert target
    fields = {"email": alice.user.email, "password": PASSWORD, "next": html.unescape(target[1])}
    done = client.post("/sign-in", data={**fields, "csrf_token": csrf_token(client)})
    assert (done.status_code, done.headers["Location"]) == (303, path)


def test_only_administrators_confirm(
    app: Flask, alice: Person, client: FlaskClient, database: Database, server: MailServer
) -> None:
    code = send_test(alice, server)
    carol = add_person(app, database, email="carol@example.com", name="Carol", role=Role.PASSWORD_ADMINISTRATOR)
    assert carol.get(f"{PATH}?code={code}").status_code == 403
    assert carol.post(PATH, {"confirmation_code": code}).status_code == 403
    fields = {"confirmation_code": code, "csrf_token": csrf_token(client)}
    assert client.post(PATH, data=fields).status_code == 302
    assert lines(database) == []


def test_a_code_without_the_forms_token_is_refused(alice: Person, database: Database, server: MailServer) -> None:
    code = send_test(alice, server)
    assert alice.client.post(PATH, data={"confirmation_code": code}).status_code == 400
    assert lines(database) == []


def test_in_the_dialog_only_the_question_is_answered(alice: Person, server: MailServer) -> None:
    code = send_test(alice, server)
    wrong = alice.post(PATH, {**at(server), "confirmation_code": WRONG}, htmx=True)
    assert wrong.status_code == 422
    assert wrong.text.lstrip().startswith('<div id="_confirm"')
    assert "No test waits for this code" in wrong.text
    right = alice.post(PATH, {**at(server), "confirmation_code": code}, htmx=True)
    assert right.status_code == 200
    assert "Confirmed: arrived." in right.text


def test_without_scripts_nothing_typed_is_lost(alice: Person, server: MailServer) -> None:
    code = send_test(alice, server)
    typed = at(server, sender_name="The Vault", password="only typed")
    for given, status, said in ((WRONG, 422, "No test waits for this code"), (code, 200, "Confirmed: arrived.")):
        page = alice.post(PATH, {**typed, "confirmation_code": given})
        assert page.status_code == status
        assert said in words(page.text)
        assert 'value="The Vault"' in page.text
        assert "only typed" not in page.text


def test_a_code_is_good_once(alice: Person, database: Database, server: MailServer) -> None:
    code = send_test(alice, server)
    assert alice.post(PATH, {"confirmation_code": code}).status_code == 303
    again = alice.post(PATH, {"confirmation_code": code})
    assert again.status_code == 409
    assert "was used already: Alice Admin confirmed on" in words(again.text)
    assert lines(database) == [("Alice Admin", "done")]


def test_a_code_expires(alice: Person, database: Database, server: MailServer) -> None:
    code = send_test(alice, server)
    now = database.clock
    database.clock = lambda: now() + LIFETIME + timedelta(seconds=1)
    again = Person(alice.user, alice.client.application.test_client())
    fields = {"email": alice.user.email, "password": PASSWORD, "csrf_token": csrf_token(again.client)}
    again.client.post("/sign-in", data=fields)
    assert again.post(PATH, {"confirmation_code": code}).status_code == 422
    assert "Did it arrive?" not in words(again.get(PAGE).text)


@pytest.mark.parametrize("malformed", ["", "ABC", "ABCDEFG", "ABCDE1", "ÄÖÜABC", "x" * 500])
def test_what_is_no_code_is_said_and_not_counted(alice: Person, database: Database, malformed: str) -> None:
    answer = alice.post(PATH, {"confirmation_code": malformed})
    assert answer.status_code == 422
    assert lines(database) == []


def test_wrong_codes_are_limited_for_each_administrator(
    app: Flask, alice: Person, database: Database, server: MailServer
) -> None:
    code = send_test(alice, server)
    now = database.clock()
    database.clock = lambda: now
    for _ in range(10):
        assert alice.post(PATH, {"confirmation_code": WRONG}).status_code == 422
    refused = alice.post(PATH, {"confirmation_code": code})
    assert refused.status_code == 429
    assert "10 wrong codes within an hour" in words(refused.text)
    assert lines(database) == [("Alice Admin", "refused")] * 10
    bob = add_person(app, database, email="bob@example.com", name="Bob", role=Role.ADMINISTRATOR)
    assert bob.post(PATH, {"confirmation_code": code}).status_code == 303


def test_each_code_marks_its_own_test(alice: Person, database: Database, server: MailServer) -> None:
    first, second = send_test(alice, server), send_test(alice, server)
    assert first != second
    alice.post(PATH, {"confirmation_code": first})
    with database.reading() as session:
        checks = session.scalars(sa.select(MailCheck).order_by(MailCheck.id)).all()
    assert [check.confirmed_at is not None for check in checks] == [True, False]


def test_a_confirmation_counts_for_what_was_tested_alone(alice: Person, server: MailServer) -> None:
    code = send_test(alice, server)
    alice.post(PATH, {"confirmation_code": code})
    alice.post(PAGE, at(server, sender_address="other@example.test"))
    assert "Not verified" in words(alice.get(PAGE).text)
    alice.post(PAGE, at(server, version="1"))
    assert "Verified and arrived" in words(alice.get(PAGE).text)
    server.users["user@example.test"] = "rotated"
    alice.post(PAGE, at(server, version="2", password="rotated"))
    assert "Verified and arrived" not in words(alice.get(PAGE).text)
    send_test(alice, server, version="3", password="rotated")
    page = words(alice.get(PAGE).text)
    assert "Verified and arrived" not in page
    assert "Verified" in page


def test_what_arrived_was_accepted_even_if_the_server_could_not_say_so(alice: Person, database: Database) -> None:
    kept: list[str] = []

    class Keeping(list[str]):
        def append(self, line: str) -> None:
            kept.append(line)

    with ScriptedServer(replying(message=HANG_UP), heard=Keeping()) as cut_off:
        given = {**at(MailServer("never")), "port": str(cut_off.port)}
        assert outcome(alice.post(TEST, given).text) == ("failed", "conversation-broken")
        alice.post(PAGE, given)
    code = re.search(rf"\(code ([{ALPHABET}]{{6}})\)", "\n".join(kept))
    assert code
    assert "Not verified" in words(alice.get(PAGE).text)
    assert alice.post(PATH, {"confirmation_code": code[1]}).status_code == 303
    assert "Verified and arrived" in words(alice.get(PAGE).text)


def test_the_code_is_nowhere_in_the_database(alice: Person, database: Database, server: MailServer) -> None:
    code = send_test(alice, server)
    with database.engine.connect() as connection:
        for table in sa.inspect(connection).get_table_names():
            rows = connection.execute(sa.text(f'SELECT * FROM "{table}"')).all()  # noqa: S608 - our own tables
            assert code not in str(rows), table
