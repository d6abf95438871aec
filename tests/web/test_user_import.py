"""People from a table: looked at first, added after, with a result for each line."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DataError, IntegrityError, OperationalError
from werkzeug.test import TestResponse

from tests.support.people import Person, csrf_token
from webapp.actor import Actor
from webapp.audit.trail import NotRecorded
from webapp.db import Database, Session
from webapp.identity.imports import PEOPLE, ImportedLine, UserImport
from webapp.identity.users import User
from webapp.importing import Outcome
from webapp.outbox.messages import Message

PAGE = "/admin/users/import"
TABLE = """name,email,role
Bob User,bob@example.test,Password User
Carol Admin,carol@example.test,administrator
Nobody,no-address,Password User
Alice again,alice@example.com,
Dora Odd,dora@example.test,Emperor
Bob twice,BOB@example.test,Password User
"""


def paste(alice: Person, text: str) -> TestResponse:
    return alice.post(PAGE, {"text": text})


def draft(alice: Person, text: str = TABLE) -> str:
    """Paste a table; gives the address of its preview."""
    answer = paste(alice, text)
    assert answer.status_code == 303, answer.text
    return str(answer.headers["Location"])


def emails(database: Database) -> list[str]:
    with database.reading() as session:
        return list(session.scalars(sa.select(User.email).order_by(User.id)))


def finish(database: Database) -> None:
    while PEOPLE.work(database):
        pass


def test_nobody_is_added_before_it_is_confirmed(alice: Person, database: Database) -> None:
    page = alice.get(draft(alice)).text
    assert "Nobody has been added yet" in page
    assert emails(database) == ["alice@example.com"]


def test_each_line_has_its_verdict(alice: Person) -> None:
    page = alice.get(draft(alice)).text
    outcomes = re.findall(r'<tr data-outcome="([a-z-]+)">', page)
    assert outcomes.count("new") == 2
    assert "no-address" in page
    assert "Emperor" in page
    assert len(outcomes) == 6


def test_those_without_an_error_are_added_and_told(alice: Person, database: Database) -> None:
    where = draft(alice)
    assert alice.post(f"{where}/start", {"by_mail": "y"}).status_code == 303
    finish(database)
    assert emails(database) == ["alice@example.com", "bob@example.test", "carol@example.test"]
    with database.reading() as session:
        told = list(session.scalars(sa.select(Message.recipient).order_by(Message.id)))
    assert told == ["bob@example.test", "carol@example.test"]


def test_a_reader_of_german_adds_the_same_people(alice: Person, database: Database) -> None:
    alice.client.set_cookie("keypost-language", "de")
    where = draft(alice)
    assert alice.post(f"{where}/start", {"by_mail": "y"}).status_code == 303
    finish(database)
    assert emails(database) == ["alice@example.com", "bob@example.test", "carol@example.test"]


def test_a_german_table_is_understood_by_a_reader_of_german(alice: Person, database: Database) -> None:
    alice.post("/profile/language", {"language": "de", "time_zone": ""})
    where = draft(alice, "Name;E-Mail;Rolle\nBea;bea@example.test;Passwort-Prüfer\n")
    alice.post(f"{where}/start", {"by_mail": "y"})
    finish(database)
    with database.reading() as session:
        role = session.scalar(sa.select(User.role).where(User.email == "bea@example.test"))
    assert role == "password-auditor"


def test_the_example_shows_a_line_below_its_headings(alice: Person) -> None:
    assert 'placeholder="Name;E-mail;Role\nAnn Example;' in alice.get("/admin/users/import").text


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("name,email\n,bob@example.test\n", "This line has no name."),
        ("name,email\nBob,\n", "This line has no e-mail address."),
        ("email\nbob@example.test\n", "No column of names is chosen"),
    ],
)
def test_what_a_line_lacks_is_named_with_what_to_do(alice: Person, table: str, problem: str) -> None:
    assert problem in alice.get(draft(alice, table)).text


def test_without_the_tick_nobody_is_told_yet(alice: Person, database: Database) -> None:
    alice.post(f"{draft(alice)}/start", {})
    finish(database)
    with database.reading() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Message)) == 0
    assert "2 people have not been told" in alice.get("/admin").text


def test_a_second_click_adds_nobody_twice(alice: Person, database: Database) -> None:
    where = draft(alice)
    for _ in range(2):
        assert alice.post(f"{where}/start", {"by_mail": "y"}).status_code == 303
        finish(database)
    assert len(emails(database)) == 3


def test_the_result_of_each_line_can_be_taken_away_and_runs_no_formula(alice: Person, database: Database) -> None:
    where = draft(alice, TABLE + '"=HYPERLINK(""x"")",eve@example.test,\n')
    alice.post(f"{where}/start", {})
    finish(database)
    answer = alice.get(f"{where}/results.csv")
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert "'=HYPERLINK" in answer.text
    assert answer.text.count("\n") == 8


def test_the_page_shows_how_far_it_is(alice: Person, database: Database) -> None:
    where = draft(alice, "name,email\n" + "".join(f"User {n},user{n}@example.test\n" for n in range(120)))
    alice.post(f"{where}/start", {})
    assert '<progress max="120" value="0"' in alice.get(where).text
    finish(database)
    assert '<progress max="120" value="120"' in alice.get(f"{where}/_progress").text
    assert len(emails(database)) == 121


def test_what_was_begun_goes_on_after_the_process_died(alice: Person, database: Database) -> None:
    where = draft(alice, "name,email\n" + "".join(f"User {n},user{n}@example.test\n" for n in range(120)))
    alice.post(f"{where}/start", {})
    PEOPLE.go_on(database, int(where.rpartition("/")[2]))
    assert 1 < len(emails(database)) < 121
    finish(database)
    assert len(emails(database)) == len(set(emails(database))) == 121


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"PK\x03\x04workbook", "workbook"),
        (b"%PDF-1.7", "PDF"),
        (b"name,email\n\0", "no text"),
        (b"", "no line"),
        (b"name,email\n", "only the line with the headings"),
        (b"name,email\n" + b"A,a@example.test\n" * 5001, "more than 5000 lines"),
    ],
)
def test_what_is_no_table_is_refused_with_the_remedy(alice: Person, content: bytes, sentence: str) -> None:
    data: dict[str, Any] = {
        "csrf_token": csrf_token(alice.client),
        "file": (io.BytesIO(content), "people.csv"),
    }
    answer = alice.client.post(PAGE, data=data, content_type="multipart/form-data")
    assert answer.status_code == 422
    assert sentence in answer.text


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_may_be_parted_by_any_usual_sign(alice: Person, database: Database, delimiter: str) -> None:
    text = f"E-mail{delimiter}Name\nzoe@example.test{delimiter}Zoë Ünïcode\n".encode("windows-1252")
    data: dict[str, Any] = {"csrf_token": csrf_token(alice.client), "file": (io.BytesIO(text), "people.csv")}
    answer = alice.client.post(PAGE, data=data, content_type="multipart/form-data")
    assert answer.status_code == 303, answer.text
    where = str(answer.headers["Location"])
    assert "Windows-1252" in alice.get(where).text
    alice.post(f"{where}/start", {})
    finish(database)
    with database.reading() as session:
        assert "Zoë Ünïcode" in set(session.scalars(sa.select(User.name)))


def test_columns_can_be_chosen_by_hand(alice: Person, database: Database) -> None:
    where = draft(alice, "x,y\nbob@example.test,Bob\n")
    assert alice.post(f"{where}/columns", {"email": "0", "name": "1", "role": "-1"}).status_code == 303
    alice.post(f"{where}/start", {})
    finish(database)
    assert "bob@example.test" in emails(database)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("\ufeffName;E-mail\nJürgen;j@example.test\n".encode(), "read as UTF-8, parted by semicolons"),
        ("Jürgen,j@example.test\n".encode(), "The first line was not taken as headings."),
    ],
)
def test_a_table_with_a_byte_order_mark_or_without_headings_is_understood(
    alice: Person, content: bytes, said: str
) -> None:
    answer = alice.post(PAGE, {"file": (io.BytesIO(content), "people.csv")})
    page = alice.get(str(answer.headers["Location"])).text
    assert said in page
    assert "Jürgen" in page
    assert 'data-outcome="new"' in page


def test_more_than_a_megabyte_is_refused(alice: Person) -> None:
    answer = alice.post(PAGE, {"file": (io.BytesIO(b"x" * 1_000_001), "people.csv")})
    # The test client keeps the body of a large upload in a temporary file that it leaves open.
    answer.request.environ["wsgi.input"].close()
    assert answer.status_code == 422
    assert "more than one megabyte" in answer.text


def test_lines_with_an_error_are_shown_alone(alice: Person) -> None:
    page = alice.get(f"{draft(alice)}?show=wrong").text
    assert 'data-outcome="wrong"' in page
    assert 'data-outcome="new"' not in page
    assert "Line 2 has the same address." in page
    assert "“Emperor” is no role." in page


def test_without_a_column_of_addresses_the_choice_is_refused(alice: Person) -> None:
    answer = alice.post(f"{draft(alice)}/columns", {"email": "-1", "name": "1", "role": "-1"})
    assert answer.status_code == 422
    assert "Choose the column with the e-mail addresses" in answer.text


def test_a_stopped_import_adds_no_more(alice: Person, database: Database) -> None:
    where = draft(alice, "E-mail,Name\n" + "".join(f"p{number}@example.test,P\n" for number in range(60)))
    alice.post(f"{where}/start", {"by_mail": "y"})
    PEOPLE.go_on(database, int(where.rpartition("/")[2]))
    assert "25 of 60 lines" in alice.get(where).text
    assert alice.post(f"{where}/stop").status_code == 303
    finish(database)
    assert len(emails(database)) == 26
    assert "<strong>Stopped.</strong>" in alice.get(where).text


def with_a_line_that(error: Exception, database: Database) -> None:
    """Go on with what was started; the line of Bob meets the error, after it has begun to write."""

    def take(session: Session, actor: Actor, found: UserImport, line: ImportedLine) -> Outcome:
        outcome = PEOPLE.take(session, actor, found, line)
        if line.email == "bob@example.test":
            session.flush()
            raise error
        return outcome

    importing = replace(PEOPLE, take=take)
    while importing.work(database):
        pass


@pytest.mark.parametrize(
    "error",
    [KeyError("canary"), RecursionError(), DataError("INSERT", {}, ValueError()), IntegrityError("", {}, ValueError())],
    ids=lambda error: type(error).__name__,
)
def test_a_line_that_meets_what_nobody_thought_of_fails_alone(
    alice: Person, database: Database, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    where = draft(alice)
    alice.post(f"{where}/start", {"by_mail": "y"})
    with_a_line_that(error, database)
    assert emails(database) == ["alice@example.com", "carol@example.test"]
    page = alice.get(where).text
    assert "It could not be taken in, and nothing of it was. Add it by hand." in page
    assert "canary" not in page + caplog.text
    assert f"a line of an import could not be taken: {type(error).__name__}" in caplog.messages


@pytest.mark.parametrize(
    "error",
    [OperationalError("INSERT", {}, ValueError()), NotRecorded("The trail is full.")],
    ids=lambda error: type(error).__name__,
)
def test_no_line_fails_for_what_is_no_fault_of_its_own(alice: Person, database: Database, error: Exception) -> None:
    alice.post(f"{draft(alice)}/start", {})
    with pytest.raises(type(error)):
        with_a_line_that(error, database)
    finish(database)
    assert emails(database) == ["alice@example.com", "bob@example.test", "carol@example.test"]
