"""transaction() commits all or nothing, on both engines alike."""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError, OperationalError

from webapp.db import BUSY_TIMEOUT_SECONDS, SQLITE_CONNECTIONS, Database
from webapp.identity.throttle import SignInFailure

AT = datetime(2026, 3, 29, 1, 30, 0, 123456, tzinfo=UTC)


def _row(key: str = "k", at: datetime = AT) -> SignInFailure:
    return SignInFailure(key=key, count=1, last_at=at)


def _count(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(SignInFailure)) or 0


def test_a_block_that_ends_is_committed(database: Database) -> None:
    with database.transaction() as session:
        session.add(_row())
    assert _count(database) == 1


def test_a_block_that_fails_leaves_nothing(database: Database) -> None:
    def fail() -> None:
        with database.transaction() as session:
            session.add(_row())
            session.flush()
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert _count(database) == 0


def test_reading_never_writes(database: Database) -> None:
    with database.reading() as session:
        session.add(_row())
    assert _count(database) == 0


def test_what_waits_for_the_commit_runs_after_it(database: Database) -> None:
    seen: list[int] = []
    with database.transaction() as session:
        session.add(_row())
        session.after_commit(lambda: seen.append(_count(database)))
        assert seen == []
    assert seen == [1]


def test_what_waits_for_the_commit_never_runs_without_it(database: Database) -> None:
    seen: list[str] = []

    def fail() -> None:
        with database.transaction() as session:
            session.after_commit(lambda: seen.append("ran"))
            session.add_all([_row(), _row()])

    with pytest.raises(IntegrityError):
        fail()
    assert seen == []


def test_an_instant_comes_back_as_the_same_instant_in_utc(database: Database) -> None:
    with database.transaction() as session:
        session.add(_row(at=AT.astimezone(timezone(timedelta(hours=2)))))
    with database.reading() as session:
        read = session.get_one(SignInFailure, "k").last_at
    assert read == AT
    assert read.tzinfo is UTC


def test_the_clock_can_be_moved(database: Database) -> None:
    database.clock = lambda: AT
    with database.reading() as session:
        assert session.now() == AT


def test_a_reader_sees_one_state_to_its_end(database: Database) -> None:
    with database.reading() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(SignInFailure)) == 0
        with database.transaction() as writer:
            writer.add(_row())
        assert session.scalar(sa.select(sa.func.count()).select_from(SignInFailure)) == 0


def test_a_row_is_added_unless_it_is_there(database: Database) -> None:
    with database.transaction() as session:
        for count in (1, 2):
            session.add_unless_there(SignInFailure, key="k", count=count, last_at=AT)
    with database.reading() as session:
        assert session.get_one(SignInFailure, "k").count == 1


def test_writers_who_read_first_wait_for_each_other(database: Database) -> None:
    """Each adds one to what it has read; none is lost, and none fails because another was faster."""
    with database.transaction() as session:
        session.add(_row())

    def add() -> None:
        for _ in range(10):
            with database.transaction() as session:
                session.get_one(SignInFailure, "k", with_for_update=True).count += 1

    writers = [threading.Thread(target=add) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    with database.reading() as session:
        assert session.get_one(SignInFailure, "k").count == 41


def test_a_failing_statement_does_not_tell_its_parameters(database: Database) -> None:
    def collide() -> None:
        with database.transaction() as session:
            for _ in range(2):
                values = {"key": "hunter2", "count": 1, "last_at": AT}
                session.execute(sa.insert(SignInFailure).values(**values))

    with pytest.raises(IntegrityError) as failed:
        collide()
    assert "hunter2" not in str(failed.value).replace("Key (key)=(hunter2)", "")


@pytest.fixture
def sqlite(database: Database) -> Database:
    if not database.is_sqlite:
        pytest.skip("about SQLite alone")
    return database


def test_sqlite_loses_nothing_that_was_acknowledged(sqlite: Database) -> None:
    expected = {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "secure_delete": 1,
        "busy_timeout": BUSY_TIMEOUT_SECONDS * 1000,
    }
    with sqlite.engine.connect() as connection:
        found = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in expected}
    assert found == expected


def test_connections_to_sqlite_are_kept_after_a_moment_with_many(sqlite: Database) -> None:
    opened: list[object] = []
    event.listen(sqlite.engine, "connect", lambda connection, _record: opened.append(connection))
    for _ in range(2):
        with ExitStack() as at_once:
            for _ in range(SQLITE_CONNECTIONS):
                at_once.enter_context(sqlite.reading()).execute(sa.select(1))
    assert len(opened) <= SQLITE_CONNECTIONS


def test_what_connections_to_sqlite_remember_of_a_large_file_is_little_in_all(sqlite: Database) -> None:
    with sqlite.reading() as session:
        kibibytes = -(session.scalar(sa.text("PRAGMA cache_size")) or 0)
    assert 0 < kibibytes * SQLITE_CONNECTIONS <= 8 * 1024


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system does not show which files are open")
def test_sqlite_sorts_without_a_file(sqlite: Database) -> None:
    sort = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) "
        "SELECT hex(randomblob(30)) AS key FROM n ORDER BY key"
    )
    with sqlite.reading() as session:
        sorting = session.execute(sa.text(sort))
        assert sorting.fetchone() is not None
        assert [file for file in map(_target, os.listdir("/proc/self/fd")) if "etilqs" in file] == []


def _target(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:  # It was listdir's own.
        return ""


def test_what_is_deleted_is_wiped_from_the_sqlite_file(sqlite: Database) -> None:
    with sqlite.transaction() as session:
        session.add(_row("canary-in-the-coal-mine"))
    with sqlite.transaction() as session:
        session.execute(sa.delete(SignInFailure))
    sqlite.empty_log()
    assert sqlite.url.database is not None
    for name in (sqlite.url.database, f"{sqlite.url.database}-wal"):
        assert b"canary-in-the-coal-mine" not in Path(name).read_bytes()


def test_emptying_the_log_keeps_nobody_waiting_for_one_who_reads_for_long(sqlite: Database) -> None:
    with sqlite.transaction() as session:
        session.add(_row())
    with sqlite.reading() as reader:
        reader.scalar(sa.select(sa.func.count()).select_from(SignInFailure))
        with sqlite.transaction() as session:
            session.add(_row("other"))
        began = time.monotonic()
        sqlite.empty_log(wait_seconds=0.05)
        assert time.monotonic() - began < 2
    with sqlite.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 5000


def test_a_writer_who_waits_too_long_is_told(sqlite: Database) -> None:
    sa.event.listen(sqlite.engine, "connect", lambda connection, _record: connection.execute("PRAGMA busy_timeout=1"))

    def write() -> None:
        with sqlite.transaction() as session:
            session.add(_row())

    with sqlite.transaction() as session:
        session.add(_row("other"))
        session.flush()
        with pytest.raises(OperationalError, match="locked"):
            write()


def test_adding_a_row_unless_it_is_there_tells_whether_it_was(database: Database) -> None:
    row = {"key": "k", "count": 1, "last_at": AT}
    with database.transaction() as session:
        assert [session.add_unless_there(SignInFailure, **row) for _ in range(2)] == [True, False]


def test_a_commit_that_fails_leaves_no_transaction_to_whoever_comes_next(database: Database) -> None:
    if not database.is_sqlite:
        pytest.skip("PostgreSQL ends a transaction whose COMMIT fails")

    def break_a_promise() -> None:
        with database.transaction() as session:
            session.add(_row("of the failed one"))
            session.execute(sa.text("PRAGMA defer_foreign_keys=ON"))
            session.execute(sa.text("INSERT INTO switched_off_mails VALUES (99, 'x')"))

    with pytest.raises(IntegrityError):
        break_a_promise()
    assert _count(database) == 0
    with database.transaction() as session:
        session.add(_row())
    assert _count(database) == 1


def test_what_may_be_left_out_is_written_when_nobody_is_in_the_way(database: Database) -> None:
    assert database.note(lambda session: session.add(_row()))
    assert _count(database) == 1


def test_what_may_be_left_out_waits_for_nobody(database: Database) -> None:
    with database.transaction() as writer:
        writer.add(_row())
    with database.transaction() as writer:
        writer.get_one(SignInFailure, "k", with_for_update=True).count = 5
        writer.flush()
        began = time.monotonic()
        assert not database.note(lambda session: session.execute(sa.update(SignInFailure).values(count=9)))
        assert time.monotonic() - began < BUSY_TIMEOUT_SECONDS
    with database.reading() as session:
        assert session.get_one(SignInFailure, "k").count == 5


def test_who_writes_after_what_may_be_left_out_is_as_patient_as_ever(database: Database) -> None:
    if not database.is_sqlite:
        pytest.skip("about SQLite's own patience")
    for _ in range(3):
        database.note(lambda session: session.add(_row()))
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 1000 * BUSY_TIMEOUT_SECONDS
