"""Wakes the delivery at the commit of a message, so that nothing needs to poll for it.

With SQLite each worker listens on a datagram socket in a folder beside the database; with PostgreSQL it LISTENs, and
the NOTIFY belongs to the transaction. Being woken is a hint, never a promise: workers also look by themselves.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, Protocol, cast

import sqlalchemy as sa

from webapp.db import Database, Session

CHANNEL: Final = "keypost_outbox"
RINGING: Final = f" RETURNING pg_notify('{CHANNEL}', '')"
"""Ends an INSERT that wakes the workers at its commit, for PostgreSQL: a message costs no round trip more."""
_LONGEST_PATH: Final = 100  # sun_path has 108 bytes on Linux and 104 elsewhere
_RUNG: Final = "keypost outbox rung"


class Bell(Protocol):
    """What a worker waits at. is_silent: the database went away, and until clear() finds it back nothing rings."""

    @property
    def is_silent(self) -> bool: ...

    def fileno(self) -> int:
        """For select(): readable once somebody has rung."""
        ...

    def clear(self) -> None:
        """Forget that it has rung."""
        ...

    def close(self) -> None: ...


def ring_after_commit(session: Session, *, with_row: bool = False) -> None:
    """Wake all workers once this transaction has committed, however often it asks.

    with_row: a statement that ends with RINGING has done so already where there is PostgreSQL.
    """
    if session.info.get(_RUNG):
        return
    session.info[_RUNG] = True
    bind = session.get_bind()
    if bind.dialect.name == "postgresql":
        if not with_row:
            session.execute(sa.text(f"NOTIFY {CHANNEL}"))
    else:
        path = str(bind.engine.url.database)
        session.after_commit(lambda: _ring(_folder(path)))


def hang_bell(database: Database, name: str) -> Bell:
    """A bell of one's own, which rings at each message that is queued from now on. name: of the worker, unique."""
    if not database.is_sqlite:
        return _Notifications(database)
    return _Datagrams(_folder(str(database.url.database)), name)


def fallen(database: Database) -> list[str]:
    """The names of workers that died: their bells still hang, and nobody listens.

    Known with SQLite alone, where all workers are on this machine. A worker that is merely stopped still listens. Take
    their bells down with bury() once what they held is taken care of.
    """
    if not database.is_sqlite:
        return []
    folder = _folder(str(database.url.database))
    return [name for name in _names(folder) if _send(folder, name) == "dead"]


def bury(database: Database, names: Sequence[str]) -> None:
    """Take down the bells of the dead."""
    for name in names:
        with contextlib.suppress(OSError):
            (_folder(str(database.url.database)) / name).unlink()


def _folder(database: str) -> Path:
    return Path(database + ".wake")


def _ring(folder: Path) -> None:
    """Send a datagram to each worker."""
    for name in _names(folder):
        _send(folder, name)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _send(folder: Path, name: str) -> Literal["rung", "dead", "unknown"]:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, _short(folder / name) as path:
            sock.setblocking(False)
            sock.sendto(b"", path)
    except ConnectionRefusedError:
        return "dead"
    except BlockingIOError:  # Its buffer is full: it is ringing already.
        return "rung"
    except OSError:
        return "unknown"
    return "rung"


@contextlib.contextmanager
def _short(path: Path) -> Any:
    """A path that fits into a socket's address, whatever folder the database lies in."""
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


class _Datagrams:
    is_silent: Final = False

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self._path = folder / name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        with _short(self._path) as path:
            self._socket.bind(path)
        self._path.chmod(stat.S_IRUSR | stat.S_IWUSR)

    def fileno(self) -> int:
        return self._socket.fileno()

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(16)

    def close(self) -> None:
        self._socket.close()
        with contextlib.suppress(OSError):
            self._path.unlink()


class _Notifications:
    """A connection of its own that LISTENs."""

    def __init__(self, database: Database) -> None:
        self._engine = database.engine
        self._error: type[Exception] = cast(Any, database.engine.dialect.loaded_dbapi).Error
        self._connection: Any = None
        # What select() watches while there is no connection: never readable.
        self._silence = socket.socketpair()
        self._listen()

    @property
    def is_silent(self) -> bool:
        return self._connection is None

    def _listen(self) -> None:
        # Past the pool, and so past the errors of SQLAlchemy.
        with contextlib.suppress(self._error, OSError):
            fresh = cast(Any, self._engine.dialect.connect(*self._arguments()[0], **self._arguments()[1]))
            fresh.autocommit = True
            fresh.execute(f"LISTEN {CHANNEL}")
            self._connection = fresh

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        positional, named = self._engine.dialect.create_connect_args(self._engine.url)
        return list(positional), {**named, "connect_timeout": 5}

    def fileno(self) -> int:
        if self._connection is None:
            return self._silence[0].fileno()
        return int(self._connection.fileno())

    def clear(self) -> None:
        if self._connection is None:
            self._listen()
            return
        try:
            for _ in self._connection.notifies(timeout=0):
                pass
        except (self._error, OSError):
            with contextlib.suppress(self._error, OSError):
                self._connection.close()
            self._connection = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        for end in self._silence:
            end.close()
