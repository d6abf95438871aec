"""`doctor` names each broken precondition, and changes nothing while it looks."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from tests.support.mail_settings import draft
from tests.support.strangers import folder_for_all, shut_out_of
from tests.trust.authorities import issue
from webapp.actor import command_line
from webapp.audit import trail
from webapp.cli import main
from webapp.config import Config
from webapp.db import Database, Session
from webapp.doctor import mail, tables
from webapp.doctor.examination import examine
from webapp.doctor.findings import DATABASE_CHECKS, Finding, State, failing, in_database
from webapp.doctor.machine import environment, key_apart, moment, room, user
from webapp.installation import Installation, open_installation
from webapp.mail import settings
from webapp.mail.transport import Security
from webapp.trust import seen, store

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A fresh installation on SQLite, closed."""
    config = Config.from_environment({"KEYPOST_INSTANCE": str(tmp_path / "instance")})
    open_installation(config).close()
    return config


def _finding(config: Config, name: str) -> Finding:
    return next(each.finding for each in examine(config) if each.name == name)


def _doctor(config: Config, *arguments: str) -> Result:
    environment = {"KEYPOST_INSTANCE": str(config.instance), "KEYPOST_DATABASE_URL": config.database_url}
    return CliRunner().invoke(main, ["doctor", *arguments], env=environment)


def _files(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mode) for path in folder.iterdir()}


def test_a_fresh_installation_fails_in_nothing(config: Config) -> None:
    result = _doctor(config)
    assert result.exit_code == 0, result.output
    assert "✗" not in result.output


def test_it_prints_one_object_for_scripts(config: Config) -> None:
    printed: dict[str, Any] = json.loads(_doctor(config, "--json").stdout)
    assert printed["outcome"] in ("ok", "warning")
    assert {tuple(each) for each in printed["checks"]} == {("name", "state", "sentence", "remedy")}


def test_what_fails_ends_with_status_1_and_says_what_to_do(config: Config) -> None:
    config.instance.chmod(0o755)
    result = _doctor(config)
    assert result.exit_code == 1
    assert "✗ Files" in result.output
    assert "chmod go= " in result.output


def test_before_the_first_start_it_sends_nobody_looking_for_a_key(tmp_path: Path) -> None:
    nowhere = Config.from_environment({"KEYPOST_INSTANCE": str(tmp_path / "nowhere")})
    assert _finding(nowhere, "Master key").remedy == "The first bin/serve makes it."
    assert "give this command the same KEYPOST_INSTANCE" in _finding(nowhere, "Database").sentence


def test_a_user_who_may_not_enter_is_told_to_be_the_one_who_runs_it() -> None:
    with folder_for_all() as folder:
        config = Config.from_environment({"KEYPOST_INSTANCE": str(folder / "instance")})
        open_installation(config).close()
        _doctor(config)
        with shut_out_of(config.instance):
            result = _doctor(config)
            listed = CliRunner(env={"KEYPOST_INSTANCE": str(config.instance)}).invoke(main, ["users", "list"])
    assert "✗ Files: The folder" in result.output
    assert "There is no" not in result.output
    assert "Do this as the user that runs Keypost." in result.output
    assert (listed.exit_code, "Do this as the user that runs Keypost" in listed.stderr) == (1, True)


def test_it_makes_and_changes_nothing(config: Config, tmp_path: Path) -> None:
    before = _files(config.instance)
    _doctor(config)
    assert {name: was for name, was in _files(config.instance).items() if name in before} == before
    nowhere = Config.from_environment({"KEYPOST_INSTANCE": str(tmp_path / "nowhere")})
    assert _doctor(nowhere).exit_code == 1
    assert not nowhere.instance.exists()


@pytest.mark.parametrize("name", ["master.key", "keypost.db", "."])
def test_a_file_that_others_can_reach_is_named(config: Config, name: str) -> None:
    path = config.instance / name
    path.chmod(0o744)
    found = _finding(config, "Files")
    assert found.state is State.FAILING
    assert str(path.resolve()) in found.sentence


def test_a_key_that_is_not_there_is_named(config: Config) -> None:
    config.master_key_file.unlink()
    assert _finding(config, "Master key").state is State.FAILING


def test_a_sample_key_is_named(config: Config) -> None:
    config.master_key_file.write_text("00" * 32)
    assert "sample" in _finding(config, "Master key").sentence


def test_another_databases_key_is_named(config: Config) -> None:
    config.master_key_file.write_text(secrets.token_hex(32))
    assert "is not the one this database was sealed with" in _finding(config, "Database").sentence


def test_a_backup_beside_the_key_is_named(config: Config) -> None:
    (config.instance / "monday.backup").touch(0o600)
    found = key_apart(config)
    assert found.state is State.FAILING
    assert "monday.backup" in found.sentence


def test_a_database_that_is_not_there_is_named(config: Config) -> None:
    (config.instance / "keypost.db").unlink()
    assert "There is no database" in _finding(config, "Database").sentence


def test_a_database_that_cannot_be_reached_is_named(config: Config) -> None:
    away = Config.from_environment(
        {"KEYPOST_INSTANCE": str(config.instance), "KEYPOST_DATABASE_URL": "postgresql://keypost:hunter2@127.0.0.1:1/k"}
    )
    found = _finding(away, "Database")
    assert found.state is State.FAILING
    assert "hunter2" not in found.sentence


def test_tables_of_another_version_are_named(installation: Installation) -> None:
    with installation.database.transaction() as session:
        session.execute(sa.text("UPDATE alembic_version SET version_num = '0000'"))
    assert "tables are of version 0000" in _finding(installation.config, "Database").sentence


def test_a_disk_with_less_than_a_tenth_free_is_named() -> None:
    assert room(Path("/data"), 9, 100).state is State.FAILING
    assert room(Path("/data"), 10, 100).state is State.OK


def test_running_as_root_is_warned_of() -> None:
    assert user(0).state is State.WARNING
    assert user(1000).state is State.OK


def test_a_debugging_switch_is_named() -> None:
    assert "FLASK_DEBUG" in environment({"FLASK_DEBUG": "1"}).sentence
    assert environment({"FLASK_DEBUG": "0"}).state is State.OK


def test_a_clock_before_this_program_was_made_is_named() -> None:
    assert moment(datetime(1970, 1, 1, tzinfo=UTC)).state is State.FAILING
    assert moment(NOW).state is State.OK


def test_an_entry_from_the_future_is_named(database: Database) -> None:
    with database.transaction() as session:
        trail.record(session, command_line(), "resource:add")
    database.clock = lambda: datetime.now(UTC) - timedelta(days=1)
    with database.reading() as session:
        assert tables.latest_times(session).state is State.FAILING


def test_two_clocks_may_lie_a_little_apart() -> None:
    assert tables.in_order(NOW + timedelta(minutes=4), NOW).state is State.OK
    assert tables.in_order(None, NOW).state is State.OK


@pytest.fixture
def sqlite_session(config: Config) -> Iterator[Session]:
    opened = open_installation(config)
    with opened.database.reading() as session:
        yield session
    opened.close()


@pytest.mark.parametrize("pragma", ["synchronous=NORMAL", "journal_mode=DELETE", "secure_delete=OFF"])
def test_a_pragma_that_loses_what_was_saved_is_named(config: Config, pragma: str) -> None:
    opened = open_installation(config)
    sa.event.listen(opened.database.engine, "connect", lambda handle, _record: handle.execute(f"PRAGMA {pragma}"))
    with opened.database.reading() as session:
        found = tables.durability(session)
    opened.close()
    assert found.state is State.FAILING
    assert pragma.partition("=")[0] in found.sentence


@pytest.mark.postgresql
def test_a_postgresql_that_does_not_sync_is_named(postgres_url: str, tmp_path: Path) -> None:
    environment = {"KEYPOST_INSTANCE": str(tmp_path / "instance"), "KEYPOST_DATABASE_URL": postgres_url}
    opened = open_installation(Config.from_environment(environment))
    with opened.database.reading() as session:
        session.execute(sa.text("SET LOCAL synchronous_commit = off"))
        assert "synchronous_commit is off" in tables.durability(session).sentence
    opened.close()


def test_a_damaged_file_is_named(config: Config) -> None:
    path = config.instance / "keypost.db"
    content = bytearray(path.read_bytes())
    for start in range(4096 * 3, len(content), 4096):
        content[start + 8 : start + 64] = b"\xff" * 56
    path.write_bytes(content)
    found = [each for each in examine(config) if each.fails]
    assert {each.name for each in found} & {"Database", "Integrity"}


@pytest.mark.parametrize(
    ("url", "state"),
    [
        ("https://keypost.example.test", State.OK),
        ("http://keypost.example.test", State.FAILING),
        ("http://localhost:8000", State.WARNING),
    ],
)
def test_an_access_url_without_encryption_is_named(database: Database, url: str, state: State) -> None:
    with database.transaction() as session:
        settings.save(session, command_line(), draft(access_url=url))
    with database.reading() as session:
        assert mail.access_url(session).state is state


def test_settings_that_nothing_proves_are_named(database: Database) -> None:
    with database.transaction() as session:
        settings.save(session, command_line(), draft())
    with database.reading() as session:
        found = mail.mail_settings(session)
    assert found.state is State.FAILING
    assert "mail test" in found.remedy


def test_a_certificate_that_ends_soon_is_warned_of(database: Database) -> None:
    soon = datetime.now(UTC) + timedelta(days=9)
    with database.transaction() as session:
        store.import_certificates(
            session, command_line(), issue("Company CA", authority=True, days=(-1, 9)).pem, source="ca.pem"
        )
    with database.reading() as session:
        found = mail.certificates(session)
    assert found.state is State.WARNING
    assert f"{soon:%Y-%m-%d}" in found.sentence
    assert "certificates remove" in found.remedy


@pytest.mark.parametrize(("security", "state"), [(Security.TLS, State.WARNING), (Security.NEVER, State.OK)])
def test_the_mail_server_s_own_certificate_is_to_be_renewed_there_where_one_is_used(
    database: Database, security: Security, state: State
) -> None:
    own = issue("mail.example.test", "mail.example.test", days=(-1, 9))
    with database.transaction() as session:
        settings.save(session, command_line(), draft(security=security, unencrypted_login_allowed=True))
        seen.note(session, "mail.example.test", 587, [own.der])
    with database.reading() as session:
        found = mail.certificates(session)
    assert found.state is state
    assert ("renewed on the mail server" in found.remedy) == (state is State.WARNING)


def test_mail_that_is_not_set_up_is_warned_of(sqlite_session: Session) -> None:
    assert mail.mail_settings(sqlite_session).state is State.WARNING
    assert mail.access_url(sqlite_session).state is State.WARNING


def test_a_check_is_added_by_one_function(config: Config) -> None:
    @in_database("Weather")
    def weather(session: Session) -> Finding:
        return failing("It rains.", "Wait.")

    try:
        assert _finding(config, "Weather") == Finding(State.FAILING, "It rains.", "Wait.")
    finally:
        del DATABASE_CHECKS["Weather"]
