"""A full disk, a locked database, a server that goes away, a clock that jumps: what people see, and that it ends."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from tests.support.people import Person, claim
from tests.support.tcp_proxy import Proxy
from webapp import create_app, silence
from webapp.config import Config
from webapp.db import BUSY_TIMEOUT_SECONDS, Database, utc_now
from webapp.installation import open_installation

NEW = {"name": "Host", "kind": "Server", "notes": "x" * 1500}


@pytest.fixture
def sqlite(database: Database) -> Database:
    if not database.is_sqlite:
        pytest.skip("about SQLite's files")
    return database


def _pragma(database: Database, text: str) -> None:
    """Set something on every connection from now on."""
    sa.event.listen(database.engine, "connect", lambda handle, _record: handle.execute(f"PRAGMA {text}"))
    database.engine.dispose()


def _fill_disk(database: Database) -> None:
    with database.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    _pragma(database, f"max_page_count={pages}")


def test_on_a_full_disk_nothing_is_saved_reading_goes_on_and_room_ends_it(alice: Person, sqlite: Database) -> None:
    _fill_disk(sqlite)
    statuses = {alice.post("/resources/new", {**NEW, "name": f"Host {number}"}).status_code for number in range(40)}
    assert statuses <= {303, 507}
    refused = alice.post("/resources/new", NEW)
    assert refused.status_code == 507
    assert "disk of this Keypost is full" in refused.text
    assert alice.get("/resources").status_code == 200
    with sqlite.reading() as session:
        assert session.scalars(sa.text("PRAGMA integrity_check")).all() == ["ok"]
    _pragma(sqlite, "max_page_count=1000000")
    assert alice.post("/resources/new", NEW).status_code == 303


@pytest.fixture
def holder(sqlite: Database) -> Iterator[sqlite3.Connection]:
    """Another program's connection, by which it may hold the write lock."""
    connection = sqlite3.connect(str(sqlite.url.database), isolation_level=None, check_same_thread=False)
    yield connection
    connection.close()


def test_while_another_holds_the_database_writers_get_503_and_readers_their_page(
    alice: Person, sqlite: Database, holder: sqlite3.Connection
) -> None:
    _pragma(sqlite, "busy_timeout=50")
    holder.execute("BEGIN IMMEDIATE")
    answer = alice.post("/resources/new", NEW)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert alice.get("/resources").status_code == 200
    holder.execute("ROLLBACK")
    assert alice.post("/resources/new", NEW).status_code == 303


LATER = timedelta(minutes=20)
SOMEWHERE_ELSE = {"Accept-Language": "de"}


@pytest.fixture(params=["held", "full", "read-only"])
def unwritable(request: pytest.FixtureRequest, alice: Person, sqlite: Database) -> Iterator[Callable[[], object]]:
    """A database that can be read alone; gives what ends that."""
    alice.get("/profile")
    connection = sqlite3.connect(str(sqlite.url.database), isolation_level=None, check_same_thread=False)
    if request.param == "held":
        connection.execute("BEGIN IMMEDIATE")
        yield lambda: connection.execute("ROLLBACK")
    elif request.param == "full":
        _fill_disk(sqlite)
        yield lambda: _pragma(sqlite, "max_page_count=1000000")
    else:
        _pragma(sqlite, "query_only=1")
        yield lambda: _pragma(sqlite, "query_only=0")
    connection.close()


def test_where_nothing_can_be_written_pages_are_read_without_waiting(
    alice: Person, sqlite: Database, unwritable: Callable[[], object]
) -> None:
    sqlite.clock = lambda: utc_now() + LATER
    for path in ("/resources", "/profile", "/admin/users", "/admin/audit", "/admin/outbox", "/admin/settings/mail"):
        began = time.monotonic()
        assert alice.client.get(path, headers=SOMEWHERE_ELSE).status_code == 200, path
        assert time.monotonic() - began < BUSY_TIMEOUT_SECONDS, path
    unwritable()
    assert alice.post("/resources/new", NEW).status_code == 303


def test_who_goes_on_reading_is_not_signed_out_though_nothing_can_be_written(
    alice: Person, sqlite: Database, unwritable: Callable[[], object]
) -> None:
    for minutes in (20, 40, 60):
        sqlite.clock = lambda minutes=minutes: utc_now() + timedelta(minutes=minutes)  # type: ignore[misc]
        assert alice.get("/resources").status_code == 200
    sqlite.clock = lambda: utc_now() + timedelta(minutes=91)
    assert alice.get("/resources").status_code == 302
    unwritable()
    assert alice.get("/resources").status_code == 302


def test_a_browser_that_says_something_else_at_each_page_makes_it_write_once_a_minute(
    alice: Person, database: Database
) -> None:
    alice.client.get("/resources", headers={"Accept-Language": "en"})
    begun: list[object] = []
    sa.event.listen(
        database.engine,
        "begin",
        lambda connection: begun.append(1) if connection.get_execution_options().get("keypost_writes") else None,
    )
    for _ in range(3):
        for language in ("de", "en"):
            assert alice.client.get("/resources", headers={"Accept-Language": language}).status_code == 200
    assert len(begun) <= 1


def test_a_writer_waits_for_another_that_ends_in_time(
    alice: Person, sqlite: Database, holder: sqlite3.Connection
) -> None:
    holder.execute("BEGIN IMMEDIATE")
    statuses: list[int] = []
    writer = threading.Thread(target=lambda: statuses.append(alice.post("/resources/new", NEW).status_code))
    writer.start()
    holder.execute("COMMIT")
    writer.join(10)
    assert statuses == [303]


@pytest.mark.parametrize("jump", [timedelta(hours=-1), timedelta(days=-1), timedelta(days=-3650)])
def test_once_the_clock_is_set_back_sessions_do_not_live_on(alice: Person, database: Database, jump: timedelta) -> None:
    database.clock = lambda: utc_now() + jump
    assert alice.get("/resources").status_code == 302
    database.clock = utc_now
    assert alice.get("/resources").status_code == 200


def test_a_clock_a_little_behind_ends_nothing(alice: Person, database: Database) -> None:
    database.clock = lambda: utc_now() - timedelta(minutes=4)
    assert alice.get("/resources").status_code == 200


@pytest.mark.postgresql
def test_while_postgresql_is_away_there_is_a_page_and_once_it_is_back_all_goes_on(
    far_server: tuple[Proxy, str], tmp_path: Path
) -> None:
    network, url = far_server
    environment = {"KEYPOST_INSTANCE": str(tmp_path / "instance"), "KEYPOST_DATABASE_URL": url}
    opened = open_installation(Config.from_environment(environment))
    app = create_app(opened)
    alice = claim(app, opened.database)
    assert alice.get("/resources").status_code == 200
    network.go_away()
    for path in ("/resources", "/admin", "/sign-in", "/healthz", "/profile"):
        began = time.monotonic()
        answer = alice.get(path)
        assert answer.status_code == 503, path
        assert time.monotonic() - began < 5
    assert "database" in alice.get("/resources").text
    network.come_back()
    assert alice.get("/resources").status_code == 200
    assert alice.post("/resources/new", NEW).status_code == 303
    opened.close()


@pytest.mark.postgresql
@pytest.mark.slow
def test_a_postgresql_that_says_nothing_is_waited_for_fifteen_seconds_at_most(
    far_server: tuple[Proxy, str], tmp_path: Path
) -> None:
    network, url = far_server
    environment = {"KEYPOST_INSTANCE": str(tmp_path / "instance"), "KEYPOST_DATABASE_URL": url}
    opened = open_installation(Config.from_environment(environment))
    alice = claim(create_app(opened), opened.database)
    network.stall()
    for path in ("/resources", "/healthz"):
        began = time.monotonic()
        answer = alice.get(path)
        assert answer.status_code == 503, path
        assert time.monotonic() - began < 16
    assert "database" in answer.text
    network.flow()
    assert alice.get("/resources").status_code == 200
    assert alice.post("/resources/new", NEW).status_code == 303
    opened.close()


@pytest.mark.postgresql
@pytest.mark.slow
def test_a_statement_that_takes_long_while_rows_come_is_not_given_up(database: Database) -> None:
    if database.is_sqlite:
        pytest.skip("about PostgreSQL")
    seconds = int(silence.SECONDS) + 3
    slow = sa.text("SELECT repeat('x', 8192), pg_sleep(1) FROM generate_series(1, :seconds)")
    with database.reading() as session:
        assert len(session.execute(slow, {"seconds": seconds}).all()) == seconds
        with pytest.raises(OperationalError, match="said nothing"):
            session.execute(sa.text("SELECT pg_sleep(60)"))


@pytest.mark.postgresql
def test_a_backend_that_is_ended_costs_nobody_an_answer(alice: Person, database: Database) -> None:
    if database.is_sqlite:
        pytest.skip("about PostgreSQL")
    with database.transaction() as session:
        session.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    assert alice.get("/resources").status_code == 200
