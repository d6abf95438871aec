"""What one may reveal is taken out in clear: after proof each time, noted, and such that an import takes it back."""

from __future__ import annotations

import csv
import io
import json
import re
from unicodedata import normalize

import pytest
import sqlalchemy as sa
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from tests.support.people import PASSWORD, Person, add_person
from tests.web.test_resource_import import CANARY, draft, finish, make
from webapp.actor import Role, command_line
from webapp.audit.trail import AuditLine
from webapp.db import Database
from webapp.keyring import Secret
from webapp.spreadsheet import plain
from webapp.vault import accounts, resources, shares
from webapp.vault.accounts import Account
from webapp.vault.resources import KINDS, Resource, ResourceDetails
from webapp.vault.rights import Right

PAGE = "/resources/export"
PROOF = {"proof_password": PASSWORD}


def export(person: Person, **fields: str) -> TestResponse:
    return person.post(PAGE, {**PROOF, **fields})


def rows(answer: TestResponse) -> list[dict[str, str]]:
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"), newline="")))


def passwords(answer: TestResponse) -> set[str]:
    return {row["Password"] for row in rows(answer)}


def exports_in_the_trail(database: Database) -> list[dict[str, object]]:
    with database.reading() as session:
        lines = session.scalars(sa.select(AuditLine.details).where(AuditLine.action == "resource:export"))
        return [json.loads(line) for line in lines]


@pytest.fixture
def bob(app: Flask, alice: Person, database: Database) -> Person:
    return add_person(app, database, email="bob@example.test", name="Bob", role=Role.PASSWORD_USER)


def test_the_page_warns_in_words_and_shows_no_password(alice: Person, database: Database) -> None:
    make(database, alice, "Mail", "postmaster", "abuse", password=CANARY)
    page = alice.get(PAGE).text
    assert "the passwords of 2 accounts, in clear" in page
    assert "Whoever gets hold of the file has the passwords" in page
    assert "Delete it once it has served" in page
    assert CANARY not in page


def test_it_is_a_file_to_keep_that_no_cache_stores(alice: Person, database: Database) -> None:
    make(database, alice, "Mail", "postmaster", password=CANARY)
    answer = export(alice)
    assert passwords(answer) == {CANARY}
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="keypost-')
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"


@pytest.mark.parametrize("proof", [{}, {"proof_password": "wrong"}])
def test_it_asks_who_one_is_each_time_also_right_after_signing_in(
    alice: Person, database: Database, proof: dict[str, str]
) -> None:
    make(database, alice, "Mail", "postmaster", password=CANARY)
    assert export(alice).status_code == 200
    answer = alice.post(PAGE, proof)
    assert answer.status_code == 422
    assert "proof_password" in answer.text
    assert CANARY not in answer.text
    assert len(exports_in_the_trail(database)) == 1


def test_a_link_cannot_export(alice: Person, database: Database) -> None:
    make(database, alice, "Mail", "postmaster", password=CANARY)
    assert CANARY not in alice.get(f"{PAGE}?proof_password={PASSWORD}").text


def test_the_trail_says_how_many_and_never_which_password(alice: Person, database: Database) -> None:
    make(database, alice, "Mail", "postmaster", "abuse", password=CANARY)
    export(alice, q="mai")
    [line] = exports_in_the_trail(database)
    assert line == {"accounts": 2, "search": "mai", "whose": "all"}


def test_without_its_line_in_the_trail_nothing_is_given(alice: Person, database: Database) -> None:
    make(database, alice, "Mail", "postmaster", password=CANARY)
    with database.engine.begin() as connection:
        refuse = (
            "CREATE TRIGGER stop_it BEFORE INSERT ON audit_lines WHEN NEW.action = 'resource:export' "
            "BEGIN SELECT RAISE(ABORT, 'no'); END"
            if database.is_sqlite
            else "ALTER TABLE audit_lines ADD CONSTRAINT stop_it CHECK (action <> 'resource:export') NOT VALID"
        )
        connection.execute(sa.text(refuse))
    answer = export(alice)
    assert answer.status_code == 503
    assert CANARY not in answer.text


def test_it_holds_what_matches_the_search(alice: Person, database: Database) -> None:
    make(database, alice, "Mail host", "a", password="one")
    make(database, alice, "Router", "b", password="two")
    assert passwords(export(alice, q="rout")) == {"two"}
    assert passwords(export(alice, whose="shared")) == set()
    assert passwords(export(alice, whose="mine")) == {"one", "two"}


def test_nobody_takes_out_what_they_may_not_reveal(alice: Person, bob: Person, database: Database) -> None:
    owner = alice.user.actor("test")
    whole, _ = make(database, alice, "Whole", "a", password="whole")
    _, [single, _other] = make(database, alice, "Single", "b", "c", password="single")
    make(database, alice, "Hidden", "d", password=CANARY)
    with database.transaction() as session:
        resources.edit_resource(session, owner, 2, ResourceDetails("Single", notes=CANARY), version=1)
        accounts.set_password(session, owner, single, Secret("mine"))
        shares.share_resource(session, owner, whole, bob.user.id, Right.VIEW)
        shares.share_account(session, owner, single, bob.user.id, Right.VIEW)
    answer = export(bob)
    assert passwords(answer) == {"whole", "mine"}
    assert CANARY not in answer.text
    assert exports_in_the_trail(database)[0]["accounts"] == 2


def test_an_administrator_takes_out_no_more_than_is_shared(app: Flask, alice: Person, database: Database) -> None:
    make(database, alice, "Mail", "postmaster", password=CANARY)
    carol = add_person(app, database, email="carol@example.test", name="Carol", role=Role.ADMINISTRATOR)
    assert rows(export(carol)) == []


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "'=1", "＝1"])
def test_no_cell_runs_as_a_formula(alice: Person, database: Database, text: str) -> None:
    make(database, alice, "Mail", "postmaster", password=text)
    (written,) = passwords(export(alice))
    assert written.startswith("'")
    assert plain(written) == text


SIGNS = ["=", "+", "-", "@", "'", "''", '"', ",", ";", "\t", "\n", "\r", "\r\n", " ", "\\", "sep=", "é", "🔑"]
LETTERS = st.one_of(st.sampled_from(SIGNS), st.characters(exclude_characters="\0", exclude_categories=("Cs",)))
PASSWORDS = st.lists(LETTERS, min_size=1, max_size=20).map("".join)
NAMES = st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=30).filter(
    lambda text: text.isprintable() and text.strip() != ""
)
NOTES = st.text(st.characters(exclude_categories=("Cc", "Cs"), include_characters="\n\t"), max_size=60)
HELD = st.lists(
    st.tuples(NAMES, st.sampled_from(KINDS), NOTES, NAMES, PASSWORDS.filter(lambda text: set(text) != {"•"}), NOTES),
    min_size=1,
    max_size=6,
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(kept=HELD)
def test_what_was_taken_out_comes_back_the_same(
    alice: Person, database: Database, kept: list[tuple[str, str, str, str, str, str]]
) -> None:
    _empty_the_vault(database)
    with database.transaction() as session:
        for name, kind, resource_notes, username, password, notes in kept:
            actor = alice.user.actor("test")
            found = resources.find_resource(session, actor, name) or resources.add_resource(
                session, actor, ResourceDetails(name, address=username, kind=kind, notes=resource_notes)
            )
            if accounts.find_account(session, actor, found.id, normalize("NFC", username).strip()) is None:
                accounts.add_account(session, actor, found.id, username, Secret(password), notes=notes)
        resources.find_resource(session, actor, "Without accounts") or resources.add_resource(
            session, actor, ResourceDetails("Without accounts", notes="= nothing")
        )
    before, file = _vault(database), export(alice).get_data()
    _empty_the_vault(database)
    where = draft(alice, file)
    alice.post(f"{where}/start")
    finish(database)
    assert _vault(database) == before


def _empty_the_vault(database: Database) -> None:
    with database.transaction() as session:
        for table in (Account, Resource):
            session.execute(sa.delete(table))


def _vault(database: Database) -> tuple[set[tuple[str, ...]], set[tuple[str, ...]]]:
    with database.reading() as session:
        found = {(each.name, each.address, each.kind, each.notes) for each in session.scalars(sa.select(Resource))}
        held = {
            (each.label, each.username, each.notes, accounts.current_password(session, each).reveal())
            for each in accounts.each_account(session, command_line())
        }
    return found, held


def test_the_list_leads_to_both_and_carries_the_search_along(alice: Person, bob: Person, database: Database) -> None:
    make(database, alice, "Mail", "postmaster")
    page = alice.get("/resources?q=mail&whose=mine").text
    assert re.search(r'href="/resources/export\?q=mail&amp;whose=mine"', page)
    assert 'href="/resources/import"' in page
    assert "/resources/export" not in bob.get("/resources").text
