"""A migration that dies at any statement leaves the old database whole, and the next start ends it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command

from webapp import migrations
from webapp.config import Config, prepare_instance
from webapp.db import make_engine
from webapp.installation import open_installation
from webapp.keyring import make_key_file, read_key_file

ROOT = Path(__file__).resolve().parents[2]

# One process makes a database of the first version, and a child for each statement that dies before it.
DRIVER = """
import os, signal, sys
import sqlalchemy as sa
from alembic import command
from webapp import migrations, models
from webapp.config import Config, prepare_instance
from webapp.db import make_engine
from webapp.installation import open_installation
from webapp.keyring import make_key_file, read_key_file

config = Config.from_environment()
step = int(sys.argv[1])
prepare_instance(config.instance)
make_key_file(config.master_key_file)
keyring = read_key_file(config.master_key_file)


def tables():
    engine = make_engine(config.database_url)
    with engine.connect() as connection:
        revision = migrations.current_revision(connection)
        found = {name for name in sa.inspect(connection).get_table_names()}
        kept = connection.execute(sa.text("SELECT identifier FROM installation")).scalar()
    engine.dispose()
    return revision, frozenset(found), kept


engine = make_engine(config.database_url)
alembic = migrations.alembic_config()
with engine.execution_options(keypost_writes=True).begin() as connection:
    alembic.attributes["connection"] = connection
    command.upgrade(alembic, "0001")
    connection.execute(
        sa.text(
            "INSERT INTO installation (id, identifier, key_check, created_at) "
            "VALUES (1, 'the old one', :check, '2026-01-01 00:00:00')"
        ),
        {"check": keyring.digest("key check")},
    )
engine.dispose()
old = tables()
assert old[0] == "0001"
fatal = 0
while True:
    child = os.fork()
    if child == 0:
        seen = 0

        def die(connection, cursor, statement, *_rest):
            global seen
            seen += 1
            if seen > fatal:
                os.kill(os.getpid(), signal.SIGKILL)

        sa.event.listen(sa.Engine, "before_cursor_execute", die)
        open_installation(config).close()
        os._exit(0)
    _pid, status = os.waitpid(child, 0)
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
    # The last statement is the commit of what is whole.
    now = tables()
    assert now == old or (now[0] == migrations.head() and now[2] == "the old one"), now
    fatal += step
print(fatal, tables()[0])
"""


def _run(environment: dict[str, str], step: int) -> tuple[int, str]:
    ended = subprocess.run(
        [sys.executable, "-c", DRIVER, str(step)],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    statements, revision = ended.stdout.split()
    return int(statements), revision


STEP = int(os.environ.get("KEYPOST_MIGRATION_STEP", "7"))
"""How many statements further each next kill is; 1 kills before every one."""


def test_killed_at_any_statement_sqlite_is_as_it_was(tmp_path: Path) -> None:
    environment = {"KEYPOST_INSTANCE": str(tmp_path / "instance")}
    killed, revision = _run(environment, STEP)
    assert killed >= 5 * STEP
    assert revision != "0001"
    kept = tmp_path / "instance" / "before-migration" / "keypost-0001.db"
    assert kept.stat().st_mode & 0o777 == 0o600
    engine = sa.create_engine(f"sqlite:///{kept}")
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT identifier FROM installation")) == "the old one"
    engine.dispose()


@pytest.mark.postgresql
def test_killed_at_any_statement_postgresql_is_as_it_was(tmp_path: Path, postgres_url: str) -> None:
    environment = {"KEYPOST_INSTANCE": str(tmp_path / "instance"), "KEYPOST_DATABASE_URL": postgres_url}
    killed, revision = _run(environment, STEP)
    assert killed >= 5 * STEP
    assert revision != "0001"


def test_a_start_that_migrates_nothing_copies_nothing(tmp_path: Path) -> None:
    config = Config.from_environment({"KEYPOST_INSTANCE": str(tmp_path / "instance")})
    for _ in range(2):
        open_installation(config).close()
    assert not (config.instance / "before-migration").exists()


def test_the_last_three_copies_are_kept(tmp_path: Path) -> None:
    config = Config.from_environment({"KEYPOST_INSTANCE": str(tmp_path / "instance")})
    _make_first_version(config)
    folder = config.instance / "before-migration"
    folder.mkdir(mode=0o700)
    for age in range(1, 5):
        earlier = folder / f"keypost-old{age}.db"
        earlier.touch(0o600)
        os.utime(earlier, (1_000_000_000 - age, 1_000_000_000 - age))
    open_installation(config).close()
    assert {path.name for path in folder.iterdir()} == {"keypost-0001.db", "keypost-old1.db", "keypost-old2.db"}


def _make_first_version(config: Config) -> None:
    prepare_instance(config.instance)
    make_key_file(config.master_key_file)
    check = read_key_file(config.master_key_file).digest("key check")
    engine, alembic = make_engine(config.database_url), migrations.alembic_config()
    with engine.execution_options(keypost_writes=True).begin() as connection:
        alembic.attributes["connection"] = connection
        command.upgrade(alembic, "0001")
        connection.execute(
            sa.text(
                "INSERT INTO installation (id, identifier, key_check, created_at) "
                "VALUES (1, 'the old one', :check, '2026-01-01 00:00:00')"
            ),
            {"check": check},
        )
    engine.dispose()
