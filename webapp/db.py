"""The database: engine, session, and transaction(), the only place that commits."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, orm
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect, make_url
from sqlalchemy.types import TypeDecorator

from webapp.keyring import Keyring

BUSY_TIMEOUT_SECONDS = 5
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


class Base(orm.DeclarativeBase):
    """What every stored thing inherits."""

    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class UtcDateTime(TypeDecorator[datetime]):
    """An instant: aware UTC in Python, naive UTC in the database, the same on both engines."""

    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and value.replace(tzinfo=UTC)


class Session(orm.Session):
    """A unit of work that knows the keyring and the clock of its installation."""

    def __init__(self, *args: Any, keyring: Keyring, clock: Clock, **options: Any) -> None:
        super().__init__(*args, **options)
        self.keyring = keyring
        self._clock = clock
        self._then: list[Callable[[], None]] = []

    def now(self) -> datetime:
        return self._clock()

    def after_commit(self, action: Callable[[], None]) -> None:
        """Run ``action`` once this transaction has committed, and not at all when it rolls back."""
        self._then.append(action)

    def add_unless_there(self, row: type[Base], **values: Any) -> None:
        """Insert a row unless its key is taken; of two who insert the same key at once, one waits for the other."""
        insert = sqlite.insert if self.get_bind().dialect.name == "sqlite" else postgresql.insert
        self.execute(insert(row).values(**values).on_conflict_do_nothing())

    def run_after_commit(self) -> None:
        """Run what after_commit() collected; for transaction() alone."""
        actions, self._then = self._then, []
        for action in actions:
            action()


class Database:
    """One SQLite file or one PostgreSQL database."""

    def __init__(self, url: str, keyring: Keyring, clock: Clock = utc_now) -> None:
        self.url = make_url(url)
        self.keyring = keyring
        self.clock = clock
        self.engine = make_engine(url)
        self._readers = self._session_factory(self._reading_engine())
        self._writers = self._session_factory(self.engine.execution_options(keypost_writes=True))

    def _session_factory(self, engine: sa.Engine) -> orm.sessionmaker[Session]:
        return orm.sessionmaker(engine, class_=Session, expire_on_commit=False, keyring=self.keyring, clock=self._now)

    def _reading_engine(self) -> sa.Engine:
        if self.is_sqlite:  # A transaction sees one state of its own accord.
            return self.engine
        return self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    def _now(self) -> datetime:
        """The clock as it is at the call: tests move it."""
        return self.clock()

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that sees one consistent state and is thrown away."""
        with self._readers() as session:
            yield session

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session whose work commits when the block ends and vanishes when it raises.

        On SQLite it holds the write lock from its first statement on (BEGIN IMMEDIATE): a deferred
        transaction that reads and then writes fails at once when another has written in between.
        """
        with self._writers() as session:
            yield session
            session.commit()
        session.run_after_commit()

    def dispose(self) -> None:
        self.engine.dispose()


def make_engine(url: str) -> sa.Engine:
    """An engine with the durability that mail and secrets need."""
    if make_url(url).get_backend_name() != "sqlite":
        return sa.create_engine(
            url,
            pool_pre_ping=True,
            pool_size=10,
            max_overflow=10,
            pool_timeout=5,
            hide_parameters=True,
            connect_args={"connect_timeout": 5, "options": "-c timezone=utc"},
        )
    engine = sa.create_engine(url, hide_parameters=True, connect_args={"timeout": BUSY_TIMEOUT_SECONDS})
    event.listen(engine, "connect", _open_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _open_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "secure_delete=ON",
        "cache_size=-16000",  # KiB; the account picker reads an index of some megabytes at each key stroke
        f"busy_timeout={BUSY_TIMEOUT_SECONDS * 1000}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("keypost_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def keep_private(url: str) -> None:
    """Give an SQLite database and its side files the mode 0600."""
    path = make_url(url).database
    if make_url(url).get_backend_name() != "sqlite" or not path or path == ":memory:":
        return
    for name in (path, f"{path}-wal", f"{path}-shm"):
        if os.path.exists(name) and stat.S_IMODE(os.stat(name).st_mode) != 0o600:
            os.chmod(name, 0o600)
