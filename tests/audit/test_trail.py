"""The chain shows every edit, removal and exchange, and stays one chain however many write."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from webapp.actor import NOBODY, Actor, Role
from webapp.audit import refused, trail, upkeep
from webapp.audit.trail import AuditLine, NotRecorded
from webapp.db import Database, utc_now
from webapp.keyring import Secret

SQLITE = [f"DROP TRIGGER IF EXISTS audit_lines_no_{what}" for what in ("update", "delete")]
POSTGRESQL = [f"DROP TRIGGER IF EXISTS audit_lines_{what} ON audit_lines" for what in ("guard", "no_truncate")]
ADA = Actor(1, "Ada", "127.0.0.1", Role.ADMINISTRATOR)


def _write(database: Database, count: int = 5) -> None:
    with database.transaction() as session:
        for number in range(count):
            trail.record(session, ADA, "resource:add", subject=f"resource:{number}", name=f"Resource {number}")


def _verify(database: Database) -> trail.Verdict:
    with database.reading() as session:
        return trail.verify(session)


def _sql(database: Database, *statements: str) -> None:
    """What somebody does who can write to the database, its triggers included, and has no key."""
    with database.transaction() as session:
        for statement in (*(SQLITE if database.is_sqlite else POSTGRESQL), *statements):
            session.execute(sa.text(statement))


def test_an_empty_trail_is_sound(database: Database) -> None:
    assert _verify(database) == trail.Verdict(0)


def test_a_line_says_who_did_what_to_what_when_and_from_where(database: Database) -> None:
    database.clock = lambda: datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    with database.transaction() as session:
        trail.record(session, ADA, "account:reveal", subject="account:7", version=3, account="root “é”")
    with database.reading() as session:
        (line,) = trail.latest(session)
    assert (line.actor_id, line.actor_name, line.source) == (1, "Ada", "127.0.0.1")
    assert (line.action, line.subject, line.outcome) == ("account:reveal", "account:7", "done")
    assert line.at == datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    assert json.loads(line.details) == {"version": 3, "account": "root “é”"}


def test_lines_in_one_and_in_many_transactions_make_one_sound_chain(database: Database) -> None:
    _write(database)
    _write(database)
    assert _verify(database) == trail.Verdict(10)


def test_a_line_goes_with_its_act(database: Database) -> None:
    def act_and_fail() -> None:
        with database.transaction() as session:
            trail.record(session, ADA, "resource:add")
            raise LookupError

    with pytest.raises(LookupError):
        act_and_fail()
    _write(database, 1)
    assert _verify(database) == trail.Verdict(1)


def test_a_secret_leaves_only_stars(database: Database) -> None:
    with database.transaction() as session:
        trail.record(session, ADA, "account:add", password=Secret("hunter2"))
    with database.reading() as session:
        assert json.loads(trail.latest(session)[0].details) == {"password": "***"}


def test_the_latest_lines_come_first_and_page_by_page(database: Database) -> None:
    _write(database, 5)
    with database.reading() as session:
        assert [line.id for line in trail.latest(session, limit=2)] == [5, 4]
        assert [line.id for line in trail.latest(session, before=4, limit=2)] == [3, 2]


EDITS = {
    "actor_id": "2",
    "actor_name": "'Bob'",
    "source": "'10.0.0.1'",
    "action": "'resource:edit'",
    "subject": "'resource:99'",
    "outcome": "'refused'",
    "details": "'{}'",
    "at": "'2020-01-01 00:00:00.000000'",
    "hash": "'" + "0" * 64 + "'",
}


@pytest.mark.parametrize("column", EDITS)
def test_an_altered_line_is_named(database: Database, column: str) -> None:
    _write(database)
    _sql(database, f"UPDATE audit_lines SET {column} = {EDITS[column]} WHERE id = 3")  # noqa: S608
    verdict = _verify(database)
    assert verdict.broken_at == 3
    assert "altered" in verdict.reason


def test_every_content_of_a_line_is_covered_by_its_hash() -> None:
    assert {column.name for column in AuditLine.__table__.columns} == {*EDITS, "id"}


@pytest.mark.parametrize("line", [1, 3])
def test_a_removed_line_is_named(database: Database, line: int) -> None:
    _write(database)
    _sql(database, f"DELETE FROM audit_lines WHERE id = {line}")  # noqa: S608
    assert _verify(database).broken_at == line


def test_removed_lines_are_seen_though_the_rest_is_numbered_anew(database: Database) -> None:
    _write(database)
    _sql(database, "DELETE FROM audit_lines WHERE id = 3", "UPDATE audit_lines SET id = 3 WHERE id = 4")
    _sql(database, "UPDATE audit_lines SET id = 4 WHERE id = 5", "UPDATE audit_head SET line_id = 4")
    assert _verify(database).broken_at == 3


def test_exchanged_lines_are_seen(database: Database) -> None:
    _write(database)
    _sql(database, *(f"UPDATE audit_lines SET id = {to} WHERE id = {was}" for was, to in ((2, 99), (3, 2), (99, 3))))  # noqa: S608
    assert _verify(database).broken_at == 2


@pytest.mark.parametrize("then", ["SELECT 1", "DELETE FROM audit_head"], ids=["head kept", "head deleted"])
def test_a_cut_tail_is_seen(database: Database, then: str) -> None:
    _write(database)
    _sql(database, "DELETE FROM audit_lines WHERE id > 3", then)
    verdict = _verify(database)
    assert verdict.broken_at == 4
    assert verdict.lines == 3


def test_a_line_of_another_installation_does_not_fit(database: Database) -> None:
    _write(database)
    _sql(
        database,
        "INSERT INTO audit_lines SELECT 6, at, actor_id, actor_name, source, action, subject, outcome, details, hash "
        "FROM audit_lines WHERE id = 5",
    )
    assert _verify(database).broken_at == 6


def test_many_writers_keep_one_chain_from_its_first_line_on(database: Database) -> None:
    _together(6, lambda: [_write(database, 1) for _ in range(5)])
    assert _verify(database) == trail.Verdict(30)


def test_what_cannot_be_recorded_is_not_done(database: Database) -> None:
    _write(database, 1)
    _sql(database, "UPDATE audit_head SET line_id = 0")

    def act() -> None:
        with database.transaction() as session:
            session.execute(sa.text("UPDATE audit_lines SET actor_name = 'Mallory'"))
            trail.record(session, ADA, "resource:add")

    with pytest.raises(NotRecorded, match="so it was not done"):
        act()
    with database.reading() as session:
        assert session.get_one(AuditLine, 1).actor_name == "Ada"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_lines SET actor_name = 'Mallory' WHERE id = 2",
        "DELETE FROM audit_lines WHERE id = 2",
        "DELETE FROM audit_lines",
    ],
)
def test_the_database_itself_refuses_changes(database: Database, statement: str) -> None:
    _write(database, 3)

    def change() -> None:
        with database.transaction() as session:
            session.execute(sa.text(statement))

    with pytest.raises(DBAPIError, match="never"):
        change()
    assert _verify(database) == trail.Verdict(3)


def test_a_copy_of_the_head_shows_that_the_tail_was_cut_and_the_head_set_back(database: Database) -> None:
    _write(database, 3)
    with database.reading() as session:
        early = trail.head(session)
    _write(database, 3)
    with database.reading() as session:
        late = trail.head(session)
        assert trail.verify(session, early.hash).sound
        assert trail.verify(session, late.hash).sound
    _sql(
        database,
        "DELETE FROM audit_lines WHERE id > 4",
        "UPDATE audit_head SET line_id = 4, hash = (SELECT hash FROM audit_lines WHERE id = 4)",
    )
    with database.reading() as session:
        assert trail.verify(session).sound
        assert trail.verify(session, early.hash).sound
        verdict = trail.verify(session, late.hash)
    assert verdict.broken_at == 5
    assert "cut off" in verdict.reason


def _prune(database: Database, days: int, **options: int) -> int:
    with database.transaction() as session:
        return trail.prune(session, ADA, session.now() - timedelta(days=days), **options)


def test_old_lines_go_from_the_front_and_the_rest_stays_a_sound_chain(database: Database) -> None:
    database.clock = lambda: datetime.now(UTC) - timedelta(days=400)
    _write(database, 6)
    database.clock = utc_now
    _write(database, 2)
    assert _prune(database, 365, limit=4) == 4
    assert _prune(database, 365, limit=4) == 2
    assert _prune(database, 365) == 0
    with database.reading() as session:
        assert [line.id for line in trail.latest(session)] == [10, 9, 8, 7]
    assert _verify(database) == trail.Verdict(4)


def test_what_is_younger_stays(database: Database) -> None:
    _write(database, 3)
    assert _prune(database, 365) == 0
    assert upkeep.prune(database) == 0


@pytest.mark.parametrize(
    "forged",
    [
        "UPDATE audit_checkpoint SET line_id = 3, hash = (SELECT hash FROM audit_lines WHERE id = 3)",
        "DELETE FROM audit_checkpoint",
    ],
)
def test_a_forged_checkpoint_is_seen(database: Database, forged: str) -> None:
    database.clock = lambda: datetime.now(UTC) - timedelta(days=400)
    _write(database, 2)
    database.clock = utc_now
    _write(database, 3)
    _prune(database, 365)
    _sql(database, forged, "DELETE FROM audit_lines WHERE id <= 3")
    assert not _verify(database).sound


def test_the_head_is_written_to_the_log(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    _write(database, 2)
    with caplog.at_level("INFO", "keypost.audit"):
        upkeep.note_head(database)
    with database.reading() as session:
        assert caplog.messages == [f"audit head: line 2, {trail.head(session).hash}"]


def test_refusals_leave_few_lines(database: Database) -> None:
    for _ in range(30):
        with database.transaction() as session:
            refused.record(session, ADA, "GET /admin")
    with database.reading() as session:
        lines = trail.latest(session)
    assert len(lines) == refused.MOST
    assert "left out" in lines[0].details


def test_strangers_from_ever_new_addresses_leave_few_lines_too(database: Database) -> None:
    with database.transaction() as session:
        for number in range(refused.MOST_OF_STRANGERS + 10):
            stranger = Actor(None, NOBODY, f"2001:db8::{number:x}", Role.PASSWORD_USER)
            refused.record(session, stranger, "GET /welcome")
        refused.record(session, ADA, "GET /admin")
    with database.reading() as session:
        lines = trail.latest(session, limit=1000)
    assert len(lines) == refused.MOST_OF_STRANGERS + 1
    assert lines[0].actor_id == ADA.id
    assert "left out" in lines[1].details


@pytest.mark.benchmark
def test_a_million_lines_are_verified_within_a_minute(database: Database) -> None:
    """Measured with five thousand, in seconds of this process's own work."""
    _write(database, 5_000)
    began = time.process_time()
    assert _verify(database) == trail.Verdict(5_000)
    assert time.process_time() - began < 60 / 200


def _together(count: int, act: Callable[[], object]) -> None:
    gate, faults = threading.Barrier(count), []

    def run() -> None:
        gate.wait(30)
        try:
            act()
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
