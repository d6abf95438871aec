"""The database: engine, session, and transaction(), the only place that commits."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event, orm
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from webapp import i18n
from webapp.keyring import Keyring, Secret, key_id_of

BUSY_TIMEOUT_SECONDS = 5
SQLITE_CONNECTIONS: Final = 15
"""So many a process may use at once."""
_WAIT_HARDLY: Final = sa.text("SET LOCAL lock_timeout = '20ms'")
_log = logging.getLogger("keypost.db")
Clock = Callable[[], datetime]
CLOCK_TOLERANCE: Final = timedelta(minutes=5)
"""How far two machines' clocks may lie apart; what lies further in the future was written by a wrong clock."""


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


class Told(TypeDecorator[str]):
    """A sentence, stored by what it was made of and read in the language of whoever reads it."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return value and i18n.keep(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return value and i18n.told(value)


@dataclass(frozen=True, slots=True)
class Seal:
    """How a column's secrets are sealed: what ``keys rotate`` needs to seal them anew.

    row: the row's name in the seal, with the row's columns in braces: "{account_id}/{version}".
    """

    row: str
    field: str

    def place(self, table: sa.Table, values: dict[str, Any]) -> dict[str, Any]:
        """The arguments that seal() was given for the row that holds ``values``."""
        return {"table": table.name, "row": self.row.format_map(values), "field": self.field}


def sealed_as(row: str, *, field: str) -> dict[str, Any]:
    """What a model says of a column with secrets: ``mapped_column(info=sealed_as("{id}", field="password"))``."""
    return {"seal": Seal(row, field)}


NO_SECRET: Final[dict[str, Any]] = {"seal": None}
"""What a model says of a binary column that holds nothing sealed: ``mapped_column(info=NO_SECRET)``."""


def sealed_columns(metadata: sa.MetaData) -> Iterator[tuple[sa.Column[Any], Seal]]:
    """Every column that holds sealed secrets, in the order of the tables' names."""
    for _name, table in sorted(metadata.tables.items()):
        yield from ((column, column.info["seal"]) for column in table.columns if column.info.get("seal") is not None)


class KeyTerm(Base):
    """A data key, wrapped by the master key. The latest one is in force; earlier ones go once nothing needs them."""

    __tablename__ = "key_terms"

    id: Mapped[int] = mapped_column(primary_key=True)
    key_id: Mapped[str] = mapped_column(sa.String(16), unique=True)
    wrapped: Mapped[bytes] = mapped_column(info=NO_SECRET)
    made_at: Mapped[datetime] = mapped_column(UtcDateTime)


class SessionKeyring:
    """The keyring as one session sees it: it seals with the term that is in force in the database at that moment."""

    def __init__(self, session: Session, keyring: Keyring) -> None:
        self._session = session
        self._keyring = keyring
        self._in_force: bytes | None = None
        self.key_id = keyring.key_id
        self.derive = keyring.derive
        self.digest = keyring.digest
        self.new_term = keyring.new_term

    def seal(self, secret: Secret, *, table: str, row: str | int, field: str) -> bytes:
        """Seal a secret for one place in the database."""
        return self._keyring.seal(secret, table=table, row=row, field=field, term=self.term())

    def unseal(self, sealed: bytes, *, table: str, row: str | int, field: str) -> Secret:
        """Open what seal() made for the same place, under whichever term. Raises SealBroken."""
        self.learn_for(sealed)
        return self._keyring.unseal(sealed, table=table, row=row, field=field)

    def learn_for(self, sealed: bytes) -> None:
        """See to it that the keyring itself can open this later, without a session."""
        key_id = key_id_of(sealed)
        if not self._keyring.knows(key_id):
            wrapped = wrapped_term(self._session, key_id)
            if wrapped is not None:
                self._keyring.learn(key_id, wrapped)

    def term(self) -> bytes:
        """The id of the data key in force. It is held until this transaction ends, so that none is destroyed while
        something sealed with it is on its way."""
        if self._in_force is None:
            self._in_force = self._latest()
        return self._in_force

    def _latest(self) -> bytes:
        self._session.flush()
        # PostgreSQL gives no row when the one it found was deleted while it waited for it; then there is a later one.
        term = self._ask_latest() or self._ask_latest()
        if term is None:
            return self._keyring.key_id
        key_id = bytes.fromhex(term.key_id)
        if not self._keyring.knows(key_id):
            self._keyring.learn(key_id, term.wrapped)
        return key_id

    def _ask_latest(self) -> sa.Row[Any] | None:
        """Asked in each transaction that seals something, so it goes past the work of the ORM and the compiler."""
        connection = self._session.connection()
        held = "" if connection.dialect.name == "sqlite" else " FOR SHARE"
        return connection.exec_driver_sql(_LATEST_TERM + held).one_or_none()


_LATEST_TERM: Final = "SELECT key_id, wrapped FROM key_terms ORDER BY id DESC LIMIT 1"


def wrapped_term(session: Session, key_id: bytes) -> bytes | None:
    """A data key by its id, wrapped, when the database holds it."""
    return session.scalar(sa.select(KeyTerm.wrapped).where(KeyTerm.key_id == key_id.hex()))


class Session(orm.Session):
    """A unit of work that knows the keyring and the clock of its installation.

    mail_ports: the only ports that mail connections may go to; None for all.
    """

    def __init__(
        self, *args: Any, keyring: Keyring, clock: Clock, mail_ports: frozenset[int] | None = None, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.mail_ports = mail_ports
        self.keyring = SessionKeyring(self, keyring)
        self._clock = clock
        self._then: list[Callable[[], None]] = []

    def now(self) -> datetime:
        return self._clock()

    def after_commit(self, action: Callable[[], None]) -> None:
        """Run ``action`` once this transaction has committed, and not at all when it rolls back."""
        self._then.append(action)

    def add_unless_there(self, row: type[Base], **values: Any) -> bool:
        """Insert a row unless its key is taken; gives whether it was inserted.

        Of two who insert the same key at once, one waits for the other.
        """
        insert = sqlite.insert if self.get_bind().dialect.name == "sqlite" else postgresql.insert
        adding = insert(row).values(**values).on_conflict_do_nothing()
        # Of an INSERT the count is kept only on request; without it PostgreSQL's is lost.
        return self.connection().execute(adding, execution_options={"preserve_rowcount": True}).rowcount == 1

    def run_after_commit(self) -> None:
        """Run what after_commit() collected; for transaction() alone."""
        actions, self._then = self._then, []
        for action in actions:
            action()


class Written:
    """A statement written out, with ``?`` for each parameter: for what runs thousands of times a second.

    Compiled statements treat every parameter of every row in Python; this one passes them on as they are.
    on_postgresql: what follows the statement there.
    """

    def __init__(self, text: str, *, on_postgresql: str = "") -> None:
        self._texts = {"qmark": text, "pyformat": text.replace("?", "%s") + on_postgresql}

    def run(self, connection: sa.Connection, *rows: Sequence[Any]) -> None:
        """Execute it once for each row of parameters; each instant among them spelled by spell()."""
        connection.exec_driver_sql(self._texts[connection.dialect.paramstyle], list(rows))


def spell(connection: sa.Connection, instant: datetime) -> str | datetime:
    """An aware instant in UTC as UtcDateTime stores it in this database."""
    bare = instant.replace(tzinfo=None)
    return bare.isoformat(sep=" ", timespec="microseconds") if connection.dialect.name == "sqlite" else bare


class Database:
    """One SQLite file or one PostgreSQL database."""

    def __init__(
        self, url: str, keyring: Keyring, clock: Clock = utc_now, *, mail_ports: frozenset[int] | None = None
    ) -> None:
        self.url = make_url(url)
        self.mail_ports = mail_ports
        self.keyring = keyring
        self.keyring.find = self._find_term
        self.clock = clock
        self.engine = make_engine(url)
        self._readers = self._session_factory(self._reading_engine())
        self._writers = self._session_factory(self.engine.execution_options(keypost_writes=True))
        self._impatient = self._session_factory(self.engine.execution_options(keypost_writes=True, keypost_waits=False))

    def _session_factory(self, engine: sa.Engine) -> orm.sessionmaker[Session]:
        return orm.sessionmaker(
            engine,
            class_=Session,
            expire_on_commit=False,
            keyring=self.keyring,
            clock=self._now,
            mail_ports=self.mail_ports,
        )

    def _reading_engine(self) -> sa.Engine:
        if self.is_sqlite:  # A transaction sees one state of its own accord.
            return self.engine
        return self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    def _now(self) -> datetime:
        """The clock as it is at the call: tests move it."""
        return self.clock()

    def _find_term(self, key_id: bytes) -> bytes | None:
        with self.reading() as session:
            return wrapped_term(session, key_id)

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

    def note(self, action: Callable[[Session], object]) -> bool:
        """Write what may as well be left out, without waiting for anybody; tells whether it was written.

        For what reading a page notes by the way: no page fails or is late because the database is busy, full or may
        only be read.
        """
        try:
            with self._impatient() as session:
                if not self.is_sqlite:
                    session.execute(_WAIT_HARDLY)
                action(session)
                session.commit()
        except SQLAlchemyError as error:
            _log.debug("something that could be left out was not written: %s", type(error).__name__)
            return False
        return True

    def empty_log(self, *, wait_seconds: float = BUSY_TIMEOUT_SECONDS) -> None:
        """Move SQLite's log of recent writes into its file and empty it, so that nothing deleted stays there.

        wait_seconds: so long somebody who reads may keep it from that; nobody can write meanwhile.
        """
        if self.is_sqlite:
            with self.engine.connect() as connection:
                connection.exec_driver_sql("ROLLBACK")
                connection.exec_driver_sql(f"PRAGMA busy_timeout={1000 * wait_seconds:.0f}")
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
                connection.exec_driver_sql(f"PRAGMA busy_timeout={BUSY_TIMEOUT_SECONDS * 1000}")
                connection.exec_driver_sql("BEGIN")

    def dispose(self) -> None:
        self.engine.dispose()


def make_engine(url: str, *, patient: bool = False) -> sa.Engine:
    """An engine with the durability that mail and secrets need.

    patient: PostgreSQL may take as long as it likes for a statement, as a migration of a large table does.
    """
    if make_url(url).get_backend_name() != "sqlite":
        engine = sa.create_engine(
            url,
            pool_pre_ping=True,
            pool_size=10,
            max_overflow=10,
            pool_timeout=5,
            hide_parameters=True,
            connect_args={
                "connect_timeout": 5,
                "options": "-c timezone=utc",
                # A server that went away without a word is given up within some ten seconds.
                "keepalives_idle": 5,
                "keepalives_interval": 2,
                "keepalives_count": 3,
                "tcp_user_timeout": 10_000,
            },
        )
        if not patient:
            event.listen(engine, "do_connect", _connect_impatiently)
        return engine
    engine = sa.create_engine(
        url,
        # All are kept: to open and close one for each moment with many requests fragments the memory of every thread,
        # which grows by that. The last one used goes first, so that the pages it remembers are of use.
        pool_size=SQLITE_CONNECTIONS,
        max_overflow=0,
        pool_use_lifo=True,
        hide_parameters=True,
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS},
    )
    event.listen(engine, "connect", _open_sqlite)
    event.listen(engine, "checkin", _leave_nothing_open)
    turns = _Turns()
    event.listen(engine, "begin", turns.begin)
    event.listen(engine, "commit", turns.end)
    event.listen(engine, "rollback", turns.end)
    return engine


def _connect_impatiently(_dialect: Dialect, _record: object, arguments: Sequence[Any], named: dict[str, Any]) -> object:
    from webapp.silence import ImpatientConnection  # noqa: PLC0415 - who uses SQLite needs no driver of PostgreSQL

    return ImpatientConnection.connect(*arguments, **named)


def _open_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "secure_delete=ON",
        "cache_size=-500",  # KiB; what each connection keeps grows with the file up to this: the system keeps the rest
        "temp_store=MEMORY",  # a long sort would go to a file in /var/tmp otherwise
        f"busy_timeout={BUSY_TIMEOUT_SECONDS * 1000}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _leave_nothing_open(connection: sqlite3.Connection | None, _record: object) -> None:
    """End what a COMMIT that failed left open: SQLAlchemy takes that transaction for ended, and its connection is the
    next one's."""
    if connection is not None and connection.in_transaction:
        connection.rollback()


class _Turns:
    """Writers of one process, one after the other.

    SQLite has each that waits look again after longer and longer pauses, and whoever happens to look first goes on: of
    many, some would wait in vain. Other processes' writers are waited for by SQLite itself.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._with_turn: sa.Connection | None = None

    def begin(self, connection: sa.Connection) -> None:
        if not connection.get_execution_options().get("keypost_writes"):
            connection.exec_driver_sql("BEGIN")
            return
        if not connection.get_execution_options().get("keypost_waits", True):
            self._begin_at_once(connection)
            return
        # Who waits in vain for its turn asks SQLite all the same, which knows best whether somebody writes.
        if self._turn.acquire(timeout=BUSY_TIMEOUT_SECONDS):
            self._with_turn = connection
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        except BaseException:
            self.end(connection)
            raise

    @staticmethod
    def _begin_at_once(connection: sa.Connection) -> None:
        patience = connection.exec_driver_sql("PRAGMA busy_timeout").scalar()
        connection.exec_driver_sql("PRAGMA busy_timeout=0")
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        finally:
            connection.exec_driver_sql(f"PRAGMA busy_timeout={patience}")

    def end(self, connection: sa.Connection) -> None:
        if self._with_turn is connection:
            self._with_turn = None
            self._turn.release()


def is_full(error: Exception) -> bool:
    """Whether a statement failed because the disk is full, on either engine."""
    cause = getattr(error, "orig", None)
    return getattr(cause, "sqlite_errorname", "") == "SQLITE_FULL" or getattr(cause, "sqlstate", "") == "53100"


def copy_sqlite(source: str, target: Path) -> None:
    """Copy an SQLite database to a new file, 0600, as it is at one moment; others read and write meanwhile.

    Raises OSError, for SQLite's own reasons too.
    """
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with closing(sqlite3.connect(source)) as ours, closing(sqlite3.connect(target)) as copy:
            ours.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        raise OSError(0, str(error)) from None


def keep_private(url: str) -> None:
    """Give an SQLite database and its side files the mode 0600."""
    path = make_url(url).database
    if make_url(url).get_backend_name() != "sqlite" or not path or path == ":memory:":
        return
    for name in (path, f"{path}-wal", f"{path}-shm"):
        if os.path.exists(name) and stat.S_IMODE(os.stat(name).st_mode) != 0o600:
            os.chmod(name, 0o600)
