"""A backup is consistent while others write, holds no key, shows every change, and comes back whole."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from tests.support.mail_server import NEVER, MailServer
from tests.support.outbox import deliver, enqueue, open_relay, save
from tests.support.postgres import candidates, fresh_database
from webapp.actor import Role, command_line
from webapp.audit import trail
from webapp.backup.archive import BackupRefused, Manifest
from webapp.backup.making import make
from webapp.backup.restoring import Restored, restore
from webapp.cli import main
from webapp.config import Config
from webapp.db import Database
from webapp.errors import CannotStart
from webapp.identity import imports
from webapp.identity.sessions import SignIn, begin_session
from webapp.identity.users import add_user, find_user
from webapp.importing import Stage
from webapp.installation import Installation, open_installation, open_unchanged
from webapp.keyring import Secret
from webapp.keys import rotation
from webapp.outbox import ledger, messages
from webapp.outbox.messages import Kind, Message, State
from webapp.vault import accounts
from webapp.vault.accounts import Account
from webapp.vault.resources import ResourceDetails, add_resource

CANARY = "canary-in-the-coal-mine"


@pytest.fixture(autouse=True)
def tools_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """pg_dump and pg_restore, wherever the tests' PostgreSQL has them."""
    folders = [str(folder) for folder in candidates()]
    monkeypatch.setenv("PATH", os.pathsep.join([*folders, os.environ["PATH"]]))


@pytest.fixture
def filled(installation: Installation) -> Installation:
    """An installation with a user who is signed in, an account, and a message that waits."""
    actor = command_line()
    with installation.database.transaction() as session:
        ada = add_user(session, actor, email="ada@example.com", name="Ada", role=Role.ADMINISTRATOR)
        begin_session(session, ada, "127.0.0.1")
        host = add_resource(session, actor, ResourceDetails(name="Host", kind="Server"), owner_id=ada.id)
        accounts.add_account(session, actor, host.id, "root", Secret(CANARY))
        messages.queue(session, actor, Kind.ROLE_CHANGED, recipient="ada@example.com", user_id=ada.id)
    return installation


@pytest.fixture
def elsewhere(filled: Installation, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Config]:
    """A clean machine to which only the key was brought."""
    folder = tmp_path / "elsewhere"
    folder.mkdir(mode=0o700)
    shutil.copy(filled.config.master_key_file, folder / "master.key")
    with contextlib.ExitStack() as stack:
        url = sa.URL.create("sqlite", database=str(folder / "keypost.db"))
        if not filled.database.is_sqlite:
            url = stack.enter_context(fresh_database(request.getfixturevalue("postgres_server")))
        text = url.render_as_string(hide_password=False)
        yield Config.from_environment({"KEYPOST_INSTANCE": str(folder), "KEYPOST_DATABASE_URL": text})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups" / "monday.backup"


def _back_up(installation: Installation, file: Path) -> Manifest:
    return make(installation, command_line(), file)


def _restore(config: Config, file: Path, **options: bool) -> Restored:
    return restore(config, command_line(), file, **options)


def _password(database: Database) -> str:
    with database.reading() as session:
        account = session.scalars(sa.select(Account)).one()
        return accounts.current_password(session, account).reveal()


def test_on_a_clean_machine_everything_comes_back(filled: Installation, elsewhere: Config, file: Path) -> None:
    _back_up(filled, file)
    done = _restore(elsewhere, file)
    opened = open_installation(elsewhere)
    assert _password(opened.database) == CANARY
    with opened.database.reading() as session:
        assert find_user(session, "ada@example.com") is not None
        assert trail.verify(session).sound
    assert done.secrets >= 2
    opened.close()


def test_what_waited_is_held_and_nobody_stays_signed_in(filled: Installation, elsewhere: Config, file: Path) -> None:
    _back_up(filled, file)
    assert _restore(elsewhere, file).held == 1
    opened = open_installation(elsewhere)
    with opened.database.reading() as session:
        message = session.scalars(sa.select(Message)).one()
        assert (message.state, message.code) == (State.GIVEN_UP, "restored")
        assert session.scalars(sa.select(SignIn)).all() == []
        assert trail.latest(session, limit=1)[0].action == "backup:restore"
    opened.close()


def test_an_import_that_ran_does_not_go_on_by_itself(filled: Installation, elsewhere: Config, file: Path) -> None:
    with filled.database.transaction() as session:
        people = imports.draft(session, command_line(), b"Email,Name\nbob@example.com,Bob\n", title="people.csv")
        imports.start(session, command_line(), people.id, by_mail=True)
    _back_up(filled, file)
    _restore(elsewhere, file)
    opened = open_installation(elsewhere)
    assert not imports.PEOPLE.work(opened.database)
    with opened.database.reading() as session:
        assert imports.get_import(session, people.id).stage == Stage.STOPPED.value
        assert find_user(session, "bob@example.com") is None
    opened.close()


def test_what_was_sent_is_not_sent_again_until_somebody_asks(
    filled: Installation, elsewhere: Config, file: Path
) -> None:
    """Sent before the backup, or after it: neither leaves a second time by itself."""
    with MailServer(NEVER) as relay:
        save(filled.database, open_relay(relay.port))
        with filled.database.transaction() as session:
            ledger.cancel_all(session, command_line(), ledger.Wanted())
        enqueue(filled.database, "carl@example.com")
        deliver(filled.database)
        enqueue(filled.database, "bob@example.com", kind=Kind.ROLE_CHANGED)
        enqueue(filled.database, "eve@example.com")
        _back_up(filled, file)
        deliver(filled.database)
        relay.wait_for_messages(3)
        assert _restore(elsewhere, file).held == 2
        with contextlib.closing(open_installation(elsewhere)) as opened:
            deliver(opened.database)
            assert len(relay.accepted) == 3
            with opened.database.transaction() as session:
                assert ledger.retry_all(session, command_line(), ledger.Wanted(State.GIVEN_UP)) == 1
            deliver(opened.database)
            again = relay.wait_for_messages(4)
    assert [each.recipients for each in again[3:]] == [("bob@example.com",)], "the link to Eve ended with the restore"


def test_a_backup_of_newer_tables_is_refused_before_anything_is_changed(
    filled: Installation, elsewhere: Config, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as later:
        later.setattr("webapp.migrations.head", lambda: "9999")
        _back_up(filled, file)
    with pytest.raises(BackupRefused, match="newer Keypost"):
        _restore(elsewhere, file)
    assert [path.name for path in elsewhere.instance.iterdir()] == ["master.key"]


def test_the_file_is_private_and_holds_neither_key_nor_secret(filled: Installation, file: Path) -> None:
    before = os.umask(0o022)
    _back_up(filled, file)
    os.umask(before)
    content, key = file.read_bytes(), filled.config.master_key_file.read_text().strip()
    told = [key.encode(), bytes.fromhex(key), CANARY.encode(), base64.b64encode(CANARY.encode())[:-2]]
    assert [each for each in told if each in content] == []
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(file.parent) == [file.name]


def test_where_no_file_can_be_made_it_says_why(filled: Installation, file: Path) -> None:
    file.write_text("no folder")
    with pytest.raises(BackupRefused, match=r"cannot be written \(Not a directory\)"):
        make(filled, command_line(), file / "a.backup")


def test_a_backup_made_before_a_rotation_opens_after_it(filled: Installation, elsewhere: Config, file: Path) -> None:
    _back_up(filled, file)
    rotation.begin(filled.database, command_line())
    rotation.finish(filled.database, command_line())
    _restore(elsewhere, file)
    opened = open_installation(elsewhere)
    assert _password(opened.database) == CANARY
    opened.close()


def test_writers_go_on_and_the_copy_is_of_one_moment(filled: Installation, elsewhere: Config, file: Path) -> None:
    """Each transaction adds two lines: the copy must hold both or neither."""
    database, over = filled.database, threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        while not over.is_set():
            with database.transaction() as session:
                for _ in range(2):
                    trail.record(session, command_line(), "resource:edit", subject="resource:77")
            written += 1

    writer = threading.Thread(target=write)
    writer.start()
    _back_up(filled, file)
    over.set()
    writer.join()
    _restore(elsewhere, file)
    opened = open_installation(elsewhere)
    with opened.database.reading() as session:
        lines = [line for line in trail.latest(session, limit=100_000) if line.subject == "resource:77"]
        assert trail.verify(session).sound
    opened.close()
    assert written > 0
    assert len(lines) % 2 == 0


@pytest.mark.parametrize("place", ["manifest", "database", "end"])
def test_a_file_that_was_altered_is_refused(filled: Installation, elsewhere: Config, file: Path, place: str) -> None:
    _back_up(filled, file)
    content = bytearray(file.read_bytes())
    if place == "manifest":
        content = bytearray(bytes(content).replace(b'"audit_line": ', b'"audit_line":1', 1))
    elif place == "database":
        content[len(content) // 2] ^= 1
    else:
        del content[len(content) // 2 :]
    file.write_bytes(content)
    with pytest.raises(BackupRefused):
        _restore(elsewhere, file)
    assert not (elsewhere.instance / "keypost.db").exists()
    assert [path.name for path in elsewhere.instance.iterdir()] == ["master.key"]


@pytest.mark.parametrize("content", [b"", b"no tar", b"\0" * 10_240])
def test_what_is_no_backup_is_refused(filled: Installation, elsewhere: Config, file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(BackupRefused, match="Nothing was changed"):
        _restore(elsewhere, file)


@pytest.mark.parametrize(
    "manifest", ["[" * 60_000, '{"seal": "\\ud800"}', "[]", "{}", "9" * 60_000], ids=["deep", *"1234"]
)
def test_a_manifest_of_any_shape_is_refused_in_words(elsewhere: Config, file: Path, manifest: str) -> None:
    with tarfile.open(file, "w") as tar:
        member = tarfile.TarInfo("manifest.json")
        member.size = len(manifest)
        tar.addfile(member, io.BytesIO(manifest.encode()))
    with pytest.raises(BackupRefused, match="no manifest that can be read"):
        _restore(elsewhere, file)


def test_a_tar_that_names_other_places_writes_nothing_there(elsewhere: Config, file: Path, tmp_path: Path) -> None:
    (tmp_path / "stranger").write_text("{}")
    with tarfile.open(file, "w") as tar:
        tar.add(tmp_path / "stranger", arcname="../../manifest.json")
    with pytest.raises(BackupRefused, match="is no backup"):
        _restore(elsewhere, file)


def test_another_key_is_refused(filled: Installation, elsewhere: Config, file: Path) -> None:
    _back_up(filled, file)
    elsewhere.master_key_file.write_text(os.urandom(32).hex())
    with pytest.raises(BackupRefused, match="opens with the master key"):
        _restore(elsewhere, file)


def test_without_the_key_it_says_so_and_makes_none(filled: Installation, elsewhere: Config, file: Path) -> None:
    _back_up(filled, file)
    elsewhere.master_key_file.unlink()
    with pytest.raises(CannotStart, match="put it back"):
        _restore(elsewhere, file)
    assert list(elsewhere.instance.iterdir()) == []


def test_a_database_that_is_there_is_not_replaced_unasked(filled: Installation, file: Path) -> None:
    _back_up(filled, file)
    with pytest.raises(BackupRefused, match="already"):
        _restore(filled.config, file)
    assert _password(filled.database) == CANARY


def test_a_backup_replaces_nothing_and_never_lies_beside_the_key(filled: Installation, file: Path) -> None:
    file.write_text("precious")
    with pytest.raises(BackupRefused, match="there already"):
        _back_up(filled, file)
    assert file.read_text() == "precious"
    with pytest.raises(BackupRefused, match="the key that opens it"):
        _back_up(filled, filled.config.master_key_file.with_name("monday.backup"))
    with pytest.raises(BackupRefused, match="cannot be written"):
        _back_up(filled, file.parent / "nowhere" / "monday.backup")


@pytest.fixture
def sqlite(filled: Installation) -> Installation:
    if not filled.database.is_sqlite:
        pytest.skip("about SQLite's files")
    return filled


def test_asked_to_it_replaces_the_database_and_keeps_the_one_before(sqlite: Installation, file: Path) -> None:
    _back_up(sqlite, file)
    with sqlite.database.transaction() as session:
        account = session.scalars(sa.select(Account)).one()
        accounts.set_password(session, command_line(), account.id, Secret("later"))
    sqlite.close()
    done = _restore(sqlite.config, file, replacing=True)
    opened = open_installation(sqlite.config)
    assert _password(opened.database) == CANARY
    opened.close()
    assert done.kept is not None
    before = open_installation(replace(sqlite.config, database_url=f"sqlite:///{done.kept}"))
    assert _password(before.database) == "later"
    before.close()


def test_a_database_that_is_in_use_is_not_replaced(sqlite: Installation, file: Path) -> None:
    _back_up(sqlite, file)
    assert _password(sqlite.database) == CANARY
    with pytest.raises(BackupRefused, match="is in use"):
        _restore(sqlite.config, file, replacing=True)
    assert _password(sqlite.database) == CANARY


def test_a_damaged_database_is_replaced_too(sqlite: Installation, file: Path) -> None:
    _back_up(sqlite, file)
    sqlite.close()
    (sqlite.config.instance / "keypost.db").write_bytes(b"This is a letter, not a database.\n" * 100)
    _restore(sqlite.config, file, replacing=True)
    opened = open_installation(sqlite.config)
    assert _password(opened.database) == CANARY
    opened.close()


def test_every_file_is_private_after_start_backup_and_rotation(sqlite: Installation, file: Path) -> None:
    before = os.umask(0o022)
    again = open_installation(sqlite.config)
    _back_up(again, file)
    rotation.begin(again.database, command_line())
    rotation.finish(again.database, command_line())
    os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (*sqlite.config.instance.iterdir(), file)}
    again.close()
    assert {name: mode for name, mode in modes.items() if mode & 0o077} == {}


@pytest.mark.postgresql
def test_without_pg_dump_it_says_what_to_run(
    filled: Installation, file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if filled.database.is_sqlite:
        pytest.skip("about PostgreSQL's tools")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackupRefused, match="pg_dump --format=custom"):
        _back_up(filled, file)
    assert not file.exists()


@pytest.mark.postgresql
def test_a_pg_dump_newer_than_the_server_makes_no_backup(
    filled: Installation, file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if filled.database.is_sqlite:
        pytest.skip("about PostgreSQL's tools")
    tool = tmp_path / "pg_dump"
    tool.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 99.1'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), os.environ["PATH"]]))
    with pytest.raises(BackupRefused, match="pg_dump is of version 99"):
        _back_up(filled, file)
    assert list(file.parent.iterdir()) == []


def _run(installation: Installation | None, config: Config, *arguments: str) -> Result:
    environment = {"KEYPOST_INSTANCE": str(config.instance), "KEYPOST_DATABASE_URL": config.database_url}
    return CliRunner().invoke(main, arguments, obj=installation, env=environment)


def test_the_commands_say_what_they_did(filled: Installation, elsewhere: Config, file: Path) -> None:
    made = json.loads(_run(filled, filled.config, "backup", str(file), "--json").stdout)
    assert (made["outcome"], made["sha256"]) == ("made", made["sha256"])
    result = _run(None, elsewhere, "restore", str(file))
    assert result.exit_code == 0, result.stderr
    assert "1 message is held for review" in result.stdout
    assert _run(None, elsewhere, "restore", str(file)).exit_code == 1


KILLED_AFTER_THE_TABLES_ARE_BACK = """
import os, signal, sys
from pathlib import Path
from webapp.actor import command_line
from webapp.backup import restoring
from webapp.config import Config

restoring._prove = lambda *_arguments: os.kill(os.getpid(), signal.SIGKILL)
restoring.restore(Config.from_environment(), command_line(), Path(sys.argv[1]))
"""


@pytest.mark.postgresql
def test_nobody_starts_on_a_postgresql_whose_restore_was_killed(
    filled: Installation, elsewhere: Config, file: Path
) -> None:
    if filled.database.is_sqlite:
        pytest.skip("an SQLite database takes its place by one rename")
    _back_up(filled, file)
    environment = {
        **os.environ,
        "KEYPOST_INSTANCE": str(elsewhere.instance),
        "KEYPOST_DATABASE_URL": elsewhere.database_url.replace("+psycopg", ""),
    }
    script = [sys.executable, "-c", KILLED_AFTER_THE_TABLES_ARE_BACK, str(file)]
    ended = subprocess.run(script, env=environment, check=False, timeout=120)
    assert ended.returncode == -signal.SIGKILL
    for start in (open_installation, open_unchanged):
        with pytest.raises(CannotStart, match="was interrupted"):
            start(elsewhere)
    with pytest.raises(BackupRefused, match="tables in this database already"):
        _restore(elsewhere, file)
