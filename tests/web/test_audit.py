"""Admin → Audit: who may read it, how it is searched, and what an export holds."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from flask import Flask

from tests.support.people import Person, add_person
from webapp.actor import Actor, Role
from webapp.audit import trail, words
from webapp.db import Database
from webapp.identity.users import get_user
from webapp.spreadsheet import plain

ZOE = Actor(9, "Zoe", "10.0.0.9", Role.PASSWORD_USER)


def _record(database: Database, action: str = "account:reveal", *, at: datetime | None = None, **given: str) -> None:
    if at is not None:
        database.clock = lambda: at
    with database.transaction() as session:
        trail.record(session, Actor(9, given.pop("who", "Zoe"), "10.0.0.9", Role.PASSWORD_USER), action, **given)
    database.clock = lambda: datetime.now(UTC)


def _exported(reader: Person, **fields: str) -> list[list[str]]:
    answer = reader.post("/admin/audit/export", fields)
    assert (answer.status_code, answer.mimetype) == (200, "text/csv")
    return list(csv.reader(io.StringIO(answer.text.removeprefix("\ufeff"))))


def test_an_auditor_reads_and_exports_it(app: Flask, database: Database, alice: Person) -> None:
    auditor = add_person(app, database, email="otto@example.com", name="Otto", role=Role.PASSWORD_AUDITOR)
    assert auditor.get("/admin/audit").status_code == 200
    assert len(_exported(auditor)) > 1


def test_a_user_neither_reads_nor_exports_it(app: Flask, database: Database, alice: Person) -> None:
    bob = add_person(app, database, email="bob@example.com", name="Bob", role=Role.PASSWORD_USER)
    assert bob.get("/admin/audit").status_code == 403
    assert bob.post("/admin/audit/export").status_code == 403


def test_what_was_refused_leaves_a_line(app: Flask, database: Database, alice: Person) -> None:
    bob = add_person(app, database, email="bob@example.com", name="Bob", role=Role.PASSWORD_USER)
    bob.get("/admin/users?q=secret")
    with database.reading() as session:
        line = trail.latest(session, limit=1)[0]
    assert (line.actor_name, line.action, line.outcome) == ("Bob", "access:refuse", "refused")
    assert line.facts() == [("asked", "GET /admin/users")]


def test_actions_are_told_in_words(alice: Person, database: Database) -> None:
    _record(database, subject="account:7")
    page = alice.get("/admin/audit").text
    assert "Revealed a password" in page
    assert "account 7" in page
    assert ">account:reveal<" not in page


def test_an_action_without_words_of_its_own_is_spelled_out() -> None:
    assert words.action("second-factor:set-up") == "Second factor: set up"
    assert words.action("weather") == "Weather"


@pytest.mark.parametrize(
    "query",
    [
        "person=zo",
        "action=account:reveal",
        "subject=account+7",
        "subject=account:7",
        "outcome=refused",
        "until=2020-01-02",
    ],
)
def test_each_filter_finds_the_line_and_leaves_the_others_out(alice: Person, database: Database, query: str) -> None:
    _record(database, at=datetime(2020, 1, 2, 23, 59, tzinfo=UTC), subject="account:7", outcome="refused")
    page = alice.get(f"/admin/audit?{query}").text
    assert "10.0.0.9" in page
    assert "Added a user" not in page.split("<tbody>")[1]


def test_days_are_counted_with_their_last_minute(alice: Person, database: Database) -> None:
    _record(database, at=datetime(2020, 1, 2, 23, 59, tzinfo=UTC))
    assert "10.0.0.9" in alice.get("/admin/audit?since=2020-01-02&until=2020-01-02").text
    assert "10.0.0.9" not in alice.get("/admin/audit?until=2020-01-01").text


@pytest.mark.parametrize("query", ["since=tomorrow", "until=2026-13-01", "person=" + "x" * 201, "outcome=great"])
def test_a_filter_that_makes_no_sense_is_told_at_its_field(alice: Person, query: str) -> None:
    answer = alice.get(f"/admin/audit?{query}")
    assert answer.status_code == 422
    assert 'class="error"' in answer.text


@pytest.mark.parametrize(
    "query", ["person=%25", "person=_", "subject=%27;--", "until=9999-12-31&person=nobody", "before=0"]
)
def test_odd_filters_find_nothing_and_break_nothing(alice: Person, query: str) -> None:
    answer = alice.get(f"/admin/audit?{query}")
    assert answer.status_code == 200
    assert "<tbody>" not in answer.text


def test_earlier_pages_keep_the_filter(alice: Person, database: Database) -> None:
    for _ in range(51):
        _record(database)
    first = alice.get("/admin/audit?person=Zoe").text
    assert first.count("<tr id=") == 50
    link = first.split('rel="next"')[0].rsplit('href="', 1)[1].split('"')[0].replace("&amp;", "&")
    assert alice.get(link).text.count("<tr id=") == 1


def test_an_export_holds_what_fits_the_oldest_first(alice: Person, database: Database) -> None:
    _record(database, subject="account:1")
    _record(database, subject="account:2")
    rows = _exported(alice, person="Zoe")
    assert rows[0][:2] == ["Line", "When (UTC)"]
    assert [row[6] for row in rows[1:]] == ["account 1", "account 2"]


def test_an_export_finds_the_same_words_whoever_reads(alice: Person, database: Database) -> None:
    _record(database, subject="account:1")
    in_english = _exported(alice, person="Zoe")
    with database.transaction() as session:
        get_user(session, alice.user.id).language = "de"
    assert '<html lang="de">' in alice.get("/admin/audit").text
    assert _exported(alice, person="Zoe") == in_english


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1"])
def test_no_cell_of_an_export_is_a_formula(alice: Person, database: Database, name: str) -> None:
    _record(database, who=name)
    (row,) = _exported(alice, action="account:reveal")[1:]
    assert row[2].startswith("'")
    assert plain(row[2]) == name


def test_an_export_leaves_a_line(alice: Person, database: Database) -> None:
    _exported(alice, person="Zoe")
    with database.reading() as session:
        line = trail.latest(session, limit=1)[0]
    assert (line.action, line.facts()) == ("audit:export", [("person", "Zoe")])


def test_an_export_by_a_forged_form_is_refused(alice: Person) -> None:
    assert alice.client.post("/admin/audit/export").status_code == 400


def test_an_act_whose_line_cannot_be_written_does_not_happen(alice: Person, database: Database) -> None:
    with database.transaction() as session:
        for statement in FAILING[database.is_sqlite]:
            session.execute(sa.text(statement))
    answer = alice.post("/resources/new", {"name": "Host", "kind": "Server"})
    assert answer.status_code == 503
    assert "so it was not done" in answer.text
    assert "Host" not in alice.get("/resources").text


FAILING = {
    True: ["CREATE TRIGGER broken BEFORE INSERT ON audit_lines BEGIN SELECT RAISE(ABORT, 'no'); END"],
    False: [
        "CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$",
        "CREATE TRIGGER broken BEFORE INSERT ON audit_lines FOR EACH ROW EXECUTE FUNCTION broken()",
    ],
}
