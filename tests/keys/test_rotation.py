"""Everything is sealed anew while others write, a kill at any moment loses nothing, and the old key ends."""

from __future__ import annotations

import base64
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from tests.support.mail_settings import draft
from webapp import models
from webapp.actor import Role, command_line
from webapp.audit import trail
from webapp.cli import main
from webapp.config import Config
from webapp.db import Database, KeyTerm, sealed_columns
from webapp.identity.users import add_user
from webapp.installation import Installation, open_installation
from webapp.keyring import SealBroken, Secret, key_id_of
from webapp.keys import rotation
from webapp.keys.rotation import Rotation
from webapp.mail import settings
from webapp.vault import accounts
from webapp.vault.accounts import AccountPassword
from webapp.vault.resources import ResourceDetails, add_resource

CANARY = "canary-in-the-coal-mine"
ROOT = Path(__file__).resolve().parents[2]


def _fill(database: Database, count: int = 7) -> list[int]:
    """Accounts with passwords, a typed mail password; gives the accounts' numbers."""
    actor = command_line()
    with database.transaction() as session:
        owner = add_user(session, actor, email="ada@example.com", name="Ada", role=Role.ADMINISTRATOR)
        held = add_resource(session, actor, ResourceDetails(name="Host", kind="Server"), owner_id=owner.id)
        settings.save(session, actor, draft(password=Secret(f"{CANARY}-mail")))
        return [
            accounts.add_account(session, actor, held.id, f"user{number}", Secret(f"{CANARY}-{number}")).id
            for number in range(count)
        ]


def _rotate(database: Database, **options: int) -> Rotation:
    rotation.begin(database, command_line())
    return rotation.finish(database, command_line(), **options)


def _passwords(database: Database, ids: list[int]) -> list[str]:
    with database.transaction() as session:
        return [accounts.reveal(session, command_line(), id).reveal() for id in ids]


def _mail_password(database: Database) -> str:
    with database.reading() as session:
        login = settings.saved_target(session).login
    assert login is not None
    return login.password.reveal()  # type: ignore[union-attr]


def _key_ids(database: Database) -> set[str]:
    with database.reading() as session:
        return {
            key_id_of(sealed).hex()
            for column, _seal in sealed_columns(models.metadata)
            for sealed in session.scalars(sa.select(column).where(column.is_not(None)))
        }


def test_every_binary_column_says_whether_it_holds_secrets() -> None:
    silent = [
        str(column)
        for table in models.metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, sa.LargeBinary) and "seal" not in column.info
    ]
    assert silent == [], (
        "say in the model how each is sealed, mapped_column(info=sealed_as('{id}', field='…')), so that `keys rotate` "
        "seals it anew; or that it holds no secret, mapped_column(info=NO_SECRET)"
    )


def test_a_rotation_seals_everything_anew_and_all_of_it_opens(database: Database) -> None:
    ids = _fill(database)
    before = _key_ids(database)
    done = _rotate(database, batch=3)
    assert (done.sealed, done.destroyed, done.broken) == (8, 1, ())
    assert _key_ids(database) == {done.key_id}
    assert done.key_id not in before
    assert _passwords(database, ids) == [f"{CANARY}-{number}" for number in range(7)]
    assert _mail_password(database) == f"{CANARY}-mail"


def test_the_old_key_is_destroyed_and_what_it_sealed_opens_no_more(installation: Installation) -> None:
    database = installation.database
    (id,) = _fill(database, 1)
    with database.reading() as session:
        old = session.scalar(sa.select(AccountPassword.sealed))
    _rotate(database)
    with database.transaction() as session:
        session.execute(sa.update(AccountPassword).values(sealed=old))
    again = open_installation(installation.config)
    with again.database.reading() as session, pytest.raises(SealBroken, match="another key"):
        accounts.current_password(session, accounts.get_account(session, command_line(), id))
    again.close()


def test_a_running_process_seals_with_the_new_key_at_once(installation: Installation) -> None:
    (id,) = _fill(installation.database, 1)
    running = open_installation(installation.config)
    done = _rotate(installation.database)
    with running.database.transaction() as session:
        accounts.set_password(session, command_line(), id, Secret("fresh"))
    assert _key_ids(installation.database) == {done.key_id}
    assert _passwords(installation.database, [id]) == ["fresh"]
    assert _mail_password(running.database) == f"{CANARY}-mail"
    running.close()


def test_code_without_a_session_opens_what_was_sealed_in_a_later_term(installation: Installation) -> None:
    running = open_installation(installation.config)
    _rotate(installation.database)
    place = {"table": "t", "row": 1, "field": "f"}
    with installation.database.transaction() as session:
        sealed = session.keyring.seal(Secret("late"), **place)
    assert running.keyring.unseal(sealed, **place) == Secret("late")
    running.close()


def test_a_database_from_before_there_were_terms_opens_and_rotates(installation: Installation) -> None:
    database = installation.database
    with database.transaction() as session:
        session.execute(sa.delete(KeyTerm))
    ids = _fill(database)
    assert _key_ids(database) == {installation.keyring.key_id.hex()}
    done = _rotate(database)
    assert _key_ids(database) == {done.key_id}
    assert len(_passwords(database, ids)) == 7


def test_nothing_is_destroyed_while_somebody_still_holds_the_old_key(database: Database) -> None:
    """The writer has sealed with the old key, and commits only after the rotation has met everything else."""
    (id,) = _fill(database, 1)
    sealed, go = threading.Event(), threading.Event()

    def write() -> None:
        with database.transaction() as session:
            accounts.set_password(session, command_line(), id, Secret("in between"))
            sealed.set()
            go.wait(30)

    writer = threading.Thread(target=write)
    writer.start()
    assert sealed.wait(30)
    rotating = threading.Thread(target=lambda: _rotate(database))
    rotating.start()
    go.set()
    rotating.join(30)
    writer.join(30)
    assert len(_key_ids(database)) == 1
    assert _passwords(database, [id]) == ["in between"]


def test_a_secret_that_opens_with_no_key_is_named_and_the_old_key_kept(installation: Installation) -> None:
    database = installation.database
    ids = _fill(database, 3)
    with database.transaction() as session:
        sealed = session.scalar(sa.select(AccountPassword.sealed).where(AccountPassword.account_id == ids[1])) or b""
        session.execute(
            sa.update(AccountPassword).where(AccountPassword.account_id == ids[1]).values(sealed=sealed[:-1] + b"x")
        )
    result = CliRunner().invoke(main, ["keys", "rotate"], obj=installation)
    assert result.exit_code == 1
    assert f"account_passwords.sealed of row {ids[1]}/1" in result.stderr
    assert len(_key_ids(database)) == 2
    with database.transaction() as session:
        assert len(rotation.terms(session)) == 2


def test_the_trail_tells_of_the_new_key_and_of_the_end_of_the_old_one(database: Database) -> None:
    _fill(database, 1)
    _rotate(database)
    with database.reading() as session:
        assert [line.action for line in trail.latest(session, limit=2)] == ["keys:destroy-terms", "keys:begin-term"]
        assert trail.verify(session).sound


KILLED = """
import os, signal, sys
import sqlalchemy as sa
from webapp import models
from webapp.actor import command_line
from webapp.config import Config
from webapp.installation import open_installation
from webapp.keys import rotation

count = int(sys.argv[1])
database = open_installation(Config.from_environment()).database

def die(*_given):
    global count
    count -= 1
    if count < 0:
        os.kill(os.getpid(), signal.SIGKILL)

sa.event.listen(database.engine, sys.argv[2], die)
rotation.begin(database, command_line())
rotation.finish(database, command_line(), batch=2)
"""


@pytest.mark.parametrize("moment", ["commit", "begin"])
def test_a_kill_at_any_moment_loses_nothing_and_the_next_rotation_ends_it(tmp_path: Path, moment: str) -> None:
    """Killed before its first, second, third … commit, until it ends by itself."""
    environment = {"KEYPOST_INSTANCE": str(tmp_path / "instance")}
    opened = open_installation(Config.from_environment(environment))
    ids = _fill(opened.database, 5)
    for count in range(100):
        script = [sys.executable, "-c", KILLED, str(count), moment]
        ended = subprocess.run(script, cwd=ROOT, env={**os.environ, **environment}, check=False, timeout=60)
        assert _passwords(opened.database, ids) == [f"{CANARY}-{number}" for number in range(5)]
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL
    assert count > 4
    with opened.database.transaction() as session:
        (term,) = rotation.terms(session)
    assert _key_ids(opened.database) == {term.key_id}
    opened.close()


def test_keys_show_lists_ids_and_counts_and_no_key(installation: Installation) -> None:
    _fill(installation.database, 3)
    result = CliRunner().invoke(main, ["keys", "show", "--json"], obj=installation)
    printed = json.loads(result.stdout)
    assert [(term["in_force"], term["secrets"]) for term in printed["terms"]] == [(True, 4)]
    assert set(printed) == {"master_key", "terms"}
    assert installation.config.master_key_file.read_text().strip() not in result.stdout


def test_the_command_rotates_and_says_so(installation: Installation) -> None:
    _fill(installation.database, 3)
    result = CliRunner().invoke(main, ["keys", "rotate", "--json"], obj=installation)
    printed = json.loads(result.stdout)
    assert (printed["resumed"], printed["sealed"], printed["destroyed"], printed["broken"]) == (False, 4, 1, [])


@pytest.fixture
def sqlite(database: Database) -> Database:
    if not database.is_sqlite:
        pytest.skip("about SQLite's files")
    return database


def test_it_goes_on_after_somebody_held_the_database_for_long(sqlite: Database) -> None:
    _fill(sqlite)
    holder = sqlite3.connect(str(sqlite.url.database), isolation_level=None)
    sa.event.listen(sqlite.engine, "connect", lambda handle, _record: handle.execute("PRAGMA busy_timeout=1"))
    sqlite.engine.dispose()
    failed = 0

    def release(_context: sa.engine.ExceptionContext) -> None:
        nonlocal failed
        failed += 1
        if failed == 3:
            holder.execute("ROLLBACK")

    sa.event.listen(sqlite.engine, "handle_error", release)
    holder.execute("BEGIN IMMEDIATE")
    assert _rotate(sqlite).destroyed == 1
    assert failed == 3
    holder.close()


def test_no_secret_and_no_old_seal_is_left_in_the_files(sqlite: Database) -> None:
    _fill(sqlite)
    with sqlite.reading() as session:
        old = list(session.scalars(sa.select(AccountPassword.sealed)))
    _rotate(sqlite)
    assert sqlite.url.database is not None
    files = [Path(f"{sqlite.url.database}{end}") for end in ("", "-wal", "-shm")]
    content = b"".join(file.read_bytes() for file in files if file.exists())
    encoded = base64.b64encode(CANARY.encode())[:-2]
    assert [seal for seal in (CANARY.encode(), encoded, *old) if seal in content] == []


def test_seals_exchanged_by_sql_do_not_open(database: Database) -> None:
    one, two = _fill(database, 2)
    with database.transaction() as session:
        sealed = {row.account_id: row.sealed for row in session.scalars(sa.select(AccountPassword))}
        for here, there in ((one, two), (two, one)):
            row = sa.update(AccountPassword).where(AccountPassword.account_id == here)
            session.execute(row.values(sealed=sealed[there]))
    for id in (one, two):
        with database.reading() as session, pytest.raises(SealBroken):
            accounts.current_password(session, accounts.get_account(session, command_line(), id))


FORKED = """
import os
from webapp.keyring import Keyring, Secret

keyring = Keyring(os.urandom(32))
for _child in range(8):
    if os.fork() == 0:
        for _ in range(10_000):
            os.write(1, keyring.seal(Secret("same"), table="t", row=1, field="f")[9:21])
        os._exit(0)
for _child in range(8):
    os.wait()
"""


def test_forked_processes_never_share_a_nonce() -> None:
    said = subprocess.run([sys.executable, "-c", FORKED], cwd=ROOT, capture_output=True, check=True, timeout=120).stdout
    assert len({said[start : start + 12] for start in range(0, len(said), 12)}) == 80_000


@pytest.mark.benchmark
def test_ten_thousand_secrets_are_sealed_anew_within_a_minute(database: Database) -> None:
    (id,) = _fill(database, 1)
    with database.transaction() as session:
        for version in range(2, 10_001):
            place = {"table": "account_passwords", "row": f"{id}/{version}", "field": "password"}
            sealed = session.keyring.seal(Secret(f"{version}"), **place)
            row = {"account_id": id, "version": version, "sealed": sealed, "set_at": session.now(), "set_by_name": ""}
            session.add(AccountPassword(**row))
    began = time.monotonic()
    assert _rotate(database).sealed == 10_001
    assert time.monotonic() - began < 60
