"""Folder, key and database are opened together, or the start is refused and nothing is changed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from webapp.config import Config
from webapp.errors import CannotStart
from webapp.installation import Installation, InstallationRow, open_installation
from webapp.keyring import Keyring, Secret, make_key_file

PLACE = {"table": "t", "row": 1, "field": "f"}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config.from_environment({"KEYPOST_INSTANCE": str(tmp_path / "instance")})


def _files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_first_start_makes_everything_private(config: Config) -> None:
    before = os.umask(0o022)
    opened = open_installation(config)
    with opened.database.transaction() as session:
        session.execute(sa.text("UPDATE installation SET identifier = identifier"))
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in config.instance.iterdir()}
    opened.close()
    os.umask(before)
    assert modes == dict.fromkeys(("master.key", "keypost.db", "keypost.db-wal", "keypost.db-shm"), 0o600)
    assert stat.S_IMODE(config.instance.stat().st_mode) == 0o700


def test_no_core_file_would_hold_what_it_knows(config: Config) -> None:
    asked = (
        "import resource; from webapp.config import Config; from webapp.installation import open_installation;"
        "open_installation(Config.from_environment()); print(resource.getrlimit(resource.RLIMIT_CORE)[0])"
    )
    environment = {**os.environ, "KEYPOST_INSTANCE": str(config.instance)}
    done = subprocess.run([sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"


def test_a_database_that_was_open_to_others_is_closed(config: Config) -> None:
    open_installation(config).close()
    (config.instance / "keypost.db").chmod(0o644)
    open_installation(config).close()
    assert stat.S_IMODE((config.instance / "keypost.db").stat().st_mode) == 0o600


def test_what_one_start_sealed_the_next_one_opens(installation: Installation) -> None:
    sealed = installation.keyring.seal(Secret("hunter2"), **PLACE)
    again = open_installation(installation.config)
    assert again.keyring.unseal(sealed, **PLACE).reveal() == "hunter2"
    again.close()


def test_the_database_alone_opens_nothing(installation: Installation) -> None:
    with installation.database.reading() as session:
        row = session.get_one(InstallationRow, 1)
    master = bytes.fromhex(installation.config.master_key_file.read_text())
    assert row.key_check == Keyring(master).digest("key check")
    assert master.hex() not in row.key_check + row.identifier


@pytest.mark.parametrize(
    "content",
    [None, b"", b"00" * 31, b"00" * 33, b"11" * 32, b"\xff" * 64],
    ids=["missing", "empty", "31 bytes", "33 bytes", "another key", "junk"],
)
def test_without_the_right_key_the_start_is_refused_and_nothing_is_changed(
    installation: Installation, content: bytes | None
) -> None:
    installation.close()
    folder, key = installation.config.instance, installation.config.master_key_file
    key.unlink() if content is None else key.write_bytes(content)
    before = _files(folder)
    with pytest.raises(CannotStart) as refused:
        open_installation(installation.config)
    assert str(key) in str(refused.value)
    assert _files(folder) == before


def test_the_right_key_put_back_works_again(installation: Installation) -> None:
    key = installation.config.master_key_file
    kept = key.read_bytes()
    key.unlink()
    with pytest.raises(CannotStart, match="put it back"):
        open_installation(installation.config)
    key.write_bytes(kept)
    key.chmod(0o600)
    open_installation(installation.config).close()


def test_a_start_that_died_after_the_key_begins_again_with_it(config: Config) -> None:
    config.instance.mkdir(mode=0o700)
    make_key_file(config.master_key_file)
    kept = config.master_key_file.read_bytes()
    open_installation(config).close()
    assert config.master_key_file.read_bytes() == kept


def test_a_database_that_lost_its_signature_takes_no_new_key(installation: Installation) -> None:
    with installation.database.transaction() as session:
        session.execute(sa.delete(InstallationRow))
    installation.config.master_key_file.unlink()
    with pytest.raises(CannotStart, match="put it back"):
        open_installation(installation.config)


def test_a_file_that_is_no_database_is_refused(config: Config) -> None:
    config.instance.mkdir(mode=0o700)
    (config.instance / "keypost.db").write_bytes(b"This is a letter, not a database.\n" * 100)
    before = _files(config.instance)
    with pytest.raises(CannotStart, match=r"keypost\.db cannot be opened"):
        open_installation(config)
    assert _files(config.instance) == before


def test_a_database_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    config = Config.from_environment(
        {"KEYPOST_INSTANCE": str(tmp_path), "KEYPOST_DATABASE_URL": f"sqlite:///{tmp_path}/nowhere/keypost.db"}
    )
    with pytest.raises(CannotStart, match="cannot be opened: unable to open database file"):
        open_installation(config)


def test_an_unreachable_postgresql_is_named_without_its_password(tmp_path: Path) -> None:
    config = Config.from_environment(
        {"KEYPOST_INSTANCE": str(tmp_path), "KEYPOST_DATABASE_URL": "postgresql://keypost:hunter2@127.0.0.1:1/keypost"}
    )
    with pytest.raises(CannotStart, match=r"127\.0\.0\.1:1/keypost cannot be opened: .*refused") as refused:
        open_installation(config)
    assert "hunter2" not in str(refused.value)
    assert not config.master_key_file.exists()
