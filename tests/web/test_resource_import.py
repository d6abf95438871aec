"""Resources and accounts from a table: looked at first, added after, with a result for each line and no secret seen."""

from __future__ import annotations

import io
import re
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask
from werkzeug.test import TestResponse

from tests.support.people import Person, add_person, csrf_token, sign_in
from webapp.actor import Role, command_line
from webapp.audit.trail import AuditLine
from webapp.db import Database
from webapp.errors import NotFound
from webapp.identity import users
from webapp.installation import Installation
from webapp.keyring import Secret
from webapp.keys import rotation
from webapp.models import metadata
from webapp.outbox.messages import Message
from webapp.vault import accounts, resources, shares
from webapp.vault.accounts import Account
from webapp.vault.imports import RESOURCES, ResourceImport, ResourceImportLine
from webapp.vault.resources import Resource, ResourceDetails
from webapp.vault.rights import Right

PAGE = "/resources/import"
CANARY = "c4n4ry-sings-under-ground"
TABLE = f"""Title,Username,Password,URL,Notes
Mail,postmaster,{CANARY}1,mail.example.test,Main mailbox
Mail,abuse,{CANARY}2,,
Router,admin,{CANARY}3,10.0.0.1,
Router,,{CANARY}4,,
Empty,,,,
mail,postmaster,{CANARY}5,,
"""


def hand_over(person: Person, content: str | bytes, name: str = "export.csv") -> TestResponse:
    body = content.encode() if isinstance(content, str) else content
    answer = person.post(PAGE, {"file": (io.BytesIO(body), name)})
    # The test client keeps the body of a large upload in a temporary file that it leaves open.
    answer.request.environ["wsgi.input"].close()
    return answer


def draft(person: Person, content: str | bytes = TABLE) -> str:
    """Hand a table over; gives the address of its preview."""
    answer = hand_over(person, content)
    assert answer.status_code == 303, answer.text
    return str(answer.headers["Location"])


def finish(database: Database) -> None:
    while RESOURCES.work(database):
        pass


def held(database: Database) -> set[tuple[str, str, str]]:
    """Every account with its password."""
    with database.reading() as session:
        return {
            (each.resource.name, each.username, accounts.current_password(session, each).reveal())
            for each in accounts.each_account(session, command_line())
        }


def outcomes(page: str) -> list[str]:
    return re.findall(r'<tr data-outcome="([a-z-]+)">', page)


def make(database: Database, owner: Person, name: str, *usernames: str, password: str = "old") -> tuple[int, list[int]]:
    """A resource with accounts; gives their numbers."""
    actor = owner.user.actor("127.0.0.1")
    with database.transaction() as session:
        resource = resources.add_resource(session, actor, ResourceDetails(name))
        ids = [accounts.add_account(session, actor, resource.id, each, Secret(password)).id for each in usernames]
    return resource.id, ids


@pytest.fixture
def bob(app: Flask, alice: Person, database: Database) -> Person:
    """Somebody who adds no resources."""
    return add_person(app, database, email="bob@example.test", name="Bob", role=Role.PASSWORD_USER)


def test_nothing_is_added_before_it_is_confirmed(alice: Person, database: Database) -> None:
    page = alice.get(draft(alice)).text
    assert "Nothing has been added yet" in page
    assert held(database) == set()


def test_each_line_has_its_verdict_and_no_password_is_in_the_page(alice: Person) -> None:
    page = alice.get(draft(alice)).text
    assert outcomes(page) == ["new", "new", "new", "wrong", "new", "wrong"]
    assert "This line has a password and no user name." in page
    assert "Line 2 names the same account" in page
    assert CANARY not in page
    assert "••••••••" in page


def test_what_was_confirmed_is_added_and_each_line_has_its_result(alice: Person, database: Database) -> None:
    where = draft(alice)
    assert alice.post(f"{where}/start").status_code == 303
    finish(database)
    assert held(database) == {
        ("Mail", "postmaster", f"{CANARY}1"),
        ("Mail", "abuse", f"{CANARY}2"),
        ("Router", "admin", f"{CANARY}3"),
    }
    page = alice.get(where).text
    assert outcomes(page) == ["added", "added", "added", "wrong", "added", "wrong"]
    assert CANARY not in page
    with database.reading() as session:
        mail = session.scalars(sa.select(Resource).where(Resource.name == "Mail")).one()
        note = session.scalars(sa.select(Account.notes).where(Account.username == "postmaster")).one()
    assert (mail.address, mail.owner_id, note) == ("mail.example.test", alice.user.id, "Main mailbox")


def test_the_results_can_be_taken_away_without_a_password_or_a_formula(alice: Person, database: Database) -> None:
    where = draft(alice, TABLE + f"=HYPERLINK(1),x,{CANARY}6,,\n")
    alice.post(f"{where}/start")
    finish(database)
    answer = alice.get(f"{where}/results.csv")
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert "'=HYPERLINK" in answer.text
    assert answer.text.count("\n") == 8
    assert CANARY not in answer.text


def test_no_password_is_in_clear_in_the_database_the_log_or_the_trail(
    alice: Person, database: Database, installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    where = draft(alice)
    waiting = _everything(database)
    alice.post(f"{where}/start")
    begun = _everything(database)
    RESOURCES.go_on(database, int(where.rpartition("/")[2]))
    finish(database)
    for seen in (waiting, begun, _everything(database), caplog.text):
        assert CANARY not in seen
    if database.is_sqlite:
        for file in installation.config.instance.glob("keypost.db*"):
            assert CANARY.encode() not in file.read_bytes()


def _everything(database: Database) -> str:
    """Every value of every table, as text."""
    with database.engine.connect() as connection:
        return "".join(str(row) for table in metadata.sorted_tables for row in connection.execute(sa.select(table)))


def test_what_is_done_keeps_no_password_beside_the_vault(alice: Person, database: Database) -> None:
    where = draft(alice)
    alice.post(f"{where}/start")
    finish(database)
    with database.reading() as session:
        assert session.scalars(sa.select(ResourceImport.sealed)).all() == [None]
        assert set(session.scalars(sa.select(ResourceImportLine.content))) == {None}


def test_a_stopped_import_adds_no_more_and_keeps_no_password(alice: Person, database: Database) -> None:
    where = draft(alice)
    alice.post(f"{where}/start")
    RESOURCES.go_on(database, int(where.rpartition("/")[2]))
    assert alice.post(f"{where}/stop").status_code == 303
    finish(database)
    assert len(held(database)) == 1
    assert "<strong>Stopped.</strong>" in alice.get(where).text
    with database.reading() as session:
        assert set(session.scalars(sa.select(ResourceImportLine.content))) == {None}


def test_a_second_click_adds_nothing_twice(alice: Person, database: Database) -> None:
    where = draft(alice)
    for _ in range(2):
        assert alice.post(f"{where}/start").status_code == 303
        finish(database)
    assert len(held(database)) == 3


def test_an_upload_is_kept_in_memory_and_no_file_sees_it(
    alice: Person, database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content = TABLE + "".join(f"Large {number},x,{CANARY},,{'n' * 3000}\n" for number in range(250))
    token = csrf_token(alice.client)
    boundary = "----keypost"
    parts = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="csrf_token"\r\n\r\n{token}\r\n--{boundary}\r\n'
        'Content-Disposition: form-data; name="file"; filename="a.csv"\r\nContent-Type: text/csv\r\n\r\n'
    ).encode() + content.encode() + f"\r\n--{boundary}--\r\n".encode()  # fmt: skip
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))  # Whoever makes a file there fails.
    answer = alice.client.post(PAGE, data=parts, content_type=f"multipart/form-data; boundary={boundary}")
    assert answer.status_code == 303, answer.text


def test_what_was_begun_goes_on_after_the_process_died(alice: Person, database: Database) -> None:
    lines = "".join(f"Host {number},root,{CANARY}{number}\n" for number in range(12))
    where = draft(alice, f"Resource name,User account,Password\n{lines}")
    alice.post(f"{where}/start")
    assert '<progress max="12" value="0"' in alice.get(where).text
    for _ in range(5):
        RESOURCES.go_on(database, int(where.rpartition("/")[2]))
    assert len(held(database)) == 5
    assert '<progress max="12" value="5"' in alice.get(f"{where}/_progress").text
    finish(database)
    assert len(held(database)) == 12
    assert "<strong>Done.</strong>" in alice.get(where).text


def test_a_line_is_done_wholly_or_not_at_all(alice: Person, database: Database) -> None:
    where = draft(alice, f"Title,Username,Password\nFresh,root,{CANARY}\n")
    alice.post(f"{where}/start")
    with database.engine.begin() as connection:
        if database.is_sqlite:
            connection.execute(
                sa.text(
                    "CREATE TRIGGER stop_it BEFORE INSERT ON account_passwords BEGIN SELECT RAISE(ABORT, 'no'); END"
                )
            )
        else:
            connection.execute(sa.text("ALTER TABLE account_passwords ADD CONSTRAINT stop_it CHECK (version < 0)"))
    finish(database)
    assert outcomes(alice.get(where).text) == ["wrong"]
    with database.reading() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Resource)) == 0
        assert "Fresh" not in "".join(session.scalars(sa.select(AuditLine.details)))


def test_accounts_that_are_there_stay_as_they_are(alice: Person, database: Database) -> None:
    make(database, alice, "Mail", "postmaster")
    where = draft(alice)
    assert outcomes(alice.get(where).text)[0] == "there"
    alice.post(f"{where}/start")
    finish(database)
    assert ("Mail", "postmaster", "old") in held(database)
    assert outcomes(alice.get(where).text)[0] == "there"


COLUMNS = {
    "resource": "0", "username": "1", "password": "2", "address": "3", "notes": "4", "kind": "-1",
    "resource_notes": "-1", "has_heading": "y",
}  # fmt: skip


def test_accounts_that_are_there_get_the_new_password_on_request(alice: Person, database: Database) -> None:
    _, [postmaster, abuse] = make(database, alice, "Mail", "postmaster", "abuse")
    where = draft(alice, f"Title,Username,Password,URL,Notes\nMAIL,postmaster,{CANARY}1,,\nMail,abuse,old,,\n")
    assert alice.post(f"{where}/columns", {**COLUMNS, "there": "replace"}).status_code == 303
    assert outcomes(alice.get(where).text) == ["replaces", "replaces"]
    alice.post(f"{where}/start")
    finish(database)
    assert outcomes(alice.get(where).text) == ["replaced", "there"]
    assert held(database) == {("Mail", "postmaster", f"{CANARY}1"), ("Mail", "abuse", "old")}
    with database.reading() as session:
        versions = [len(accounts.history(session, command_line(), id)) for id in (postmaster, abuse)]
    assert versions == [2, 1]


def test_each_line_leaves_its_own_line_in_the_trail(alice: Person, database: Database) -> None:
    where = draft(alice)
    alice.post(f"{where}/start")
    finish(database)
    with database.reading() as session:
        lines = session.scalars(sa.select(AuditLine.action).where(AuditLine.actor_name == alice.user.name)).all()
    assert [lines.count(each) for each in ("resource:add", "account:add")] == [3, 3]
    assert [lines.count(f"resource-import:{verb}") for verb in ("start", "end")] == [1, 1]


def test_nobody_is_mailed_about_new_things_of_ones_own(alice: Person, database: Database) -> None:
    alice.post(f"{draft(alice)}/start")
    finish(database)
    with database.reading() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Message)) == 0


# Who may what -------------------------------------------------------------------------------------------------------


def test_a_password_user_imports_into_what_they_may_modify_alone(
    alice: Person, bob: Person, database: Database
) -> None:
    shared, _ = make(database, alice, "Shared", "root")
    seen, _ = make(database, alice, "Seen", "root")
    make(database, alice, "Hidden", "root")
    with database.transaction() as session:
        for id, right in ((shared, Right.MODIFY), (seen, Right.VIEW)):
            shares.share_resource(session, alice.user.actor("test"), id, bob.user.id, right)
    table = "Title,Username,Password\nShared,new,x\nSeen,new,x\nSeen,root,x\nHidden,root,x\nFresh,new,x\n"
    where = draft(bob, table)
    page = bob.get(where).text
    assert outcomes(page) == ["new", "wrong", "there", "wrong", "wrong"]
    assert "this needs the right to modify it" in page
    assert page.count("Only Administrators and Password Administrators add resources") == 2
    bob.post(f"{where}/start")
    finish(database)
    assert outcomes(bob.get(where).text) == ["added", "wrong", "there", "wrong", "wrong"]
    assert ("Shared", "new", "x") in held(database)
    assert len(held(database)) == 4


RIGHTS = [None, *((whole, single) for whole in (None, Right.VIEW, Right.MODIFY, Right.MANAGE)
                  for single in (None, Right.VIEW, Right.MODIFY) if whole or single)]  # fmt: skip


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("role", [Role.PASSWORD_USER, Role.PASSWORD_ADMINISTRATOR])
def test_whatever_is_shared_the_result_is_the_one_that_was_foretold(
    app: Flask, alice: Person, database: Database, role: Role, replace: bool
) -> None:
    person = add_person(app, database, email="eve@example.test", name="Eve", role=role)
    owner, table = alice.user.actor("test"), "Title,Username,Password,URL,Notes\n"
    for number, rights in enumerate(RIGHTS):
        id, [first, _] = make(database, alice, f"Host {number}", "root", "other")
        whole, single = rights or (None, None)
        if whole is Right.MANAGE and role is Role.PASSWORD_USER:
            whole = Right.MODIFY
        with database.transaction() as session:
            if whole:
                shares.share_resource(session, owner, id, person.user.id, whole)
            if single:
                shares.share_account(session, owner, first, person.user.id, single)
        table += "".join(f"Host {number},{name},x,,\n" for name in ("root", "other", "new", ""))
    table += "Fresh,root,x,,\nFresh,,,,\nAlone,,,,\n"
    where = draft(person, table)
    person.post(f"{where}/columns", {**COLUMNS, "there": "replace" if replace else "skip"})
    foretold = _both_pages(person, where)
    person.post(f"{where}/start")
    finish(database)
    assert _both_pages(person, where) == [{"new": "added", "replaces": "replaced"}.get(each, each) for each in foretold]
    assert len(foretold) == len(RIGHTS) * 4 + 3


def _both_pages(person: Person, where: str) -> list[str]:
    return [each for page in (1, 2) for each in outcomes(person.get(f"{where}?page={page}").text)]


def test_rights_are_those_of_the_moment_in_which_a_line_is_taken(
    alice: Person, bob: Person, database: Database
) -> None:
    shared, _ = make(database, alice, "Shared")
    with database.transaction() as session:
        shares.share_resource(session, alice.user.actor("test"), shared, bob.user.id, Right.MODIFY)
    where = draft(bob, "Title,Username,Password\nShared,new,x\n")
    bob.post(f"{where}/start")
    with database.transaction() as session:
        shares.withdraw_resource(session, alice.user.actor("test"), shared, bob.user.id)
    finish(database)
    assert outcomes(bob.get(where).text) == ["wrong"]
    assert held(database) == set()


def test_who_was_disabled_meanwhile_imports_no_more(alice: Person, bob: Person, database: Database) -> None:
    where = draft(bob, "Title,Username,Password\nShared,new,x\n")
    bob.post(f"{where}/start")
    with database.transaction() as session:
        users.get_user(session, bob.user.id).active = False
    finish(database)
    with database.reading() as session:
        assert session.scalars(sa.select(ResourceImport.stage)).all() == ["stopped"]


@pytest.mark.parametrize("begun", [False, True])
def test_an_import_of_somebody_else_is_not_there(app: Flask, alice: Person, database: Database, begun: bool) -> None:
    where = draft(alice)
    if begun:
        alice.post(f"{where}/start")
    carol = add_person(app, database, email="carol@example.test", name="Carol", role=Role.ADMINISTRATOR)
    for part in ("", "/_progress", "/results.csv"):
        assert carol.get(where + part).status_code == 404
    for verb in ("columns", "start", "stop"):
        assert carol.post(f"{where}/{verb}", COLUMNS).status_code == 404
    assert "Earlier imports" not in carol.get(PAGE).text
    finish(database)
    assert len(held(database)) == (3 if begun else 0)


def test_a_draft_is_there_for_the_session_that_made_it_alone(app: Flask, alice: Person) -> None:
    where = draft(alice)
    elsewhere = sign_in(app, alice.user)
    assert elsewhere.get(where).status_code == 404
    assert elsewhere.post(f"{where}/start").status_code == 404
    assert alice.get(where).status_code == 200


def test_a_draft_ends_with_its_session(alice: Person, database: Database) -> None:
    draft(alice)
    alice.post("/sign-out")
    assert _drafts(database) == 0


def test_a_draft_is_forgotten_after_an_hour(alice: Person, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    draft(alice)
    now = database.clock()
    monkeypatch.setattr(database, "clock", lambda: now + timedelta(minutes=61))
    with database.transaction() as session:
        found = session.scalars(sa.select(ResourceImport)).one()
        with pytest.raises(NotFound):
            RESOURCES.get(session, found.id)
        RESOURCES.forget_old(session)
    assert _drafts(database) == 0


def test_the_next_table_takes_the_place_of_the_one_before(alice: Person, database: Database) -> None:
    draft(alice)
    draft(alice)
    assert _drafts(database) == 1


def test_what_was_started_goes_on_after_signing_out(alice: Person, database: Database) -> None:
    alice.post(f"{draft(alice)}/start")
    alice.post("/sign-out")
    finish(database)
    assert len(held(database)) == 3


def _drafts(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(ResourceImport)) or 0


# What was handed over -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"PK\x03\x04workbook", "workbook"),
        (b"%PDF-1.7", "PDF"),
        (b"Title,Password\n\0", "no text"),
        (b"", "no line"),
        (b"Title,Username,Password\n", "only the line with the headings"),
        (b"Title,Username,Password\n" + b"A,a,x\n" * 5001, "more than 5000 lines"),
        (b"x" * 1_000_001, "more than one megabyte"),
    ],
)
def test_what_is_no_table_is_refused_with_the_remedy(alice: Person, content: bytes, sentence: str) -> None:
    answer = hand_over(alice, content)
    assert answer.status_code == 422
    assert sentence in answer.text


def test_a_table_without_known_headings_shows_nothing_until_columns_are_chosen(
    alice: Person, database: Database
) -> None:
    where = draft(alice, f"Ort,Wer,Was\nMail,postmaster,{CANARY}\n")
    page = alice.get(where).text
    assert "Choose the columns first" in page
    assert CANARY not in page
    fields = {**COLUMNS, "address": "-1", "notes": "-1"}
    assert alice.post(f"{where}/columns", fields).status_code == 303
    alice.post(f"{where}/start")
    finish(database)
    assert held(database) == {("Mail", "postmaster", CANARY)}


def test_the_column_of_passwords_is_nothing_else_too(alice: Person) -> None:
    where = draft(alice)
    answer = alice.post(f"{where}/columns", {**COLUMNS, "username": "2"})
    assert answer.status_code == 422
    assert "The passwords’ column cannot be another thing too" in answer.text
    assert CANARY not in answer.text
    assert CANARY not in alice.get(where).text


def test_columns_stay_as_they_are_once_it_was_started(alice: Person) -> None:
    where = draft(alice)
    alice.post(f"{where}/start")
    assert alice.post(f"{where}/columns", COLUMNS).status_code == 409


def test_without_a_column_of_resources_it_does_not_start(alice: Person) -> None:
    where = draft(alice, f"Ort,Wer,Was\nMail,postmaster,{CANARY}\n")
    answer = alice.post(f"{where}/start")
    assert answer.status_code == 422
    assert "Choose the column with the names" in answer.text


def test_another_encoding_is_said_plainly(alice: Person, database: Database) -> None:
    where = draft(alice, "Title;Username;Password\nZoë;root;pässwörd\n".encode("windows-1252"))
    assert "It was read as Windows-1252" in alice.get(where).text
    alice.post(f"{where}/start")
    finish(database)
    assert held(database) == {("Zoë", "root", "pässwörd")}


def test_a_line_that_was_altered_in_the_database_is_left_out(alice: Person, database: Database) -> None:
    where = draft(alice, f"Title,Username,Password\nOne,a,{CANARY}1\nTwo,b,{CANARY}2\n")
    alice.post(f"{where}/start")
    with database.transaction() as session:
        one, two = session.scalars(sa.select(ResourceImportLine).order_by(ResourceImportLine.line)).all()
        one.content, two.content = two.content, one.content
    finish(database)
    assert held(database) == set()
    assert alice.get(where).text.count("was altered in the database") == 2


def test_secrets_of_an_import_are_sealed_anew_by_a_rotation(alice: Person, database: Database) -> None:
    waiting, started = draft(alice), ""
    alice.post(f"{waiting}/start")
    started, waiting = waiting, draft(alice)
    rotation.begin(database, command_line())
    rotation.finish(database, command_line())
    assert outcomes(alice.get(waiting).text)[0] == "new"
    finish(database)
    assert len(held(database)) == 3
    assert outcomes(alice.get(started).text)[0] == "added"
