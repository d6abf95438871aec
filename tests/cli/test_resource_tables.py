"""`keypost resources import` and `export`: tables of passwords in scripts and at the terminal."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.cli.test_vault_commands import ROOT, add_user, password_of, printed, run
from tests.support.worker_process import until
from tests.web.test_resource_import import held
from webapp.audit.trail import AuditLine
from webapp.cli import importing
from webapp.cli.resources import opened
from webapp.errors import Conflict
from webapp.installation import Installation
from webapp.keyring import Secret
from webapp.vault.accounts import AccountPassword
from webapp.vault.imports import RESOURCES

CANARY = "c4n4ry-sings-under-ground"
TABLE = f"""folder,favorite,type,name,notes,fields,reprompt,login_uri,login_username,login_password,login_totp
,,login,Mail,box,,0,https://mail.example.test,postmaster,{CANARY}1,
,,login,Mail,,,0,,abuse,{CANARY}2,
,,login,Nobody,,,0,,,{CANARY}3,
"""


@pytest.fixture(autouse=True)
def ada(installation: Installation) -> None:
    add_user(installation, "ada@example.com")


def test_a_table_from_standard_input_is_imported_line_by_line(installation: Installation) -> None:
    result = run(installation, "resources", "import", "-", given=TABLE)
    assert result.exit_code == 1
    assert "line 4: Nobody — : left out: This line has a password and no user name." in result.stdout
    assert result.stdout.endswith("2 added, 1 left out.\n")
    assert held(installation.database) == {("Mail", "postmaster", f"{CANARY}1"), ("Mail", "abuse", f"{CANARY}2")}
    assert CANARY not in result.output


def test_a_dry_run_tells_and_adds_nothing(installation: Installation) -> None:
    result = run(installation, "resources", "import", "-", "--dry-run", given=TABLE)
    assert "Read as UTF-8. Nothing was added." in result.stdout
    assert "line 2: Mail — postmaster: new: with its resource" in result.stdout
    assert held(installation.database) == set()
    assert CANARY not in result.output


def test_one_json_object_holds_each_line(installation: Installation) -> None:
    result = run(installation, "resources", "import", "-", "--json", given=TABLE.rpartition(",,login,Nobody")[0])
    told = printed(result)
    assert told["added"] == 2
    assert [each["result"] for each in told["lines"]] == ["added", "added"]


def test_passwords_are_replaced_only_on_request(installation: Installation) -> None:
    table = "Title,Username,Password\nMail,postmaster,{}\n"
    for password, flags in (("one", []), ("two", []), ("three", ["--replace"])):
        assert run(installation, "resources", "import", "-", *flags, given=table.format(password)).exit_code == 0
        assert password_of(installation, 1) == Secret("three" if flags else "one")


def test_columns_are_named_by_hand(installation: Installation) -> None:
    arguments = ("--column", "resource=Ort", "--column", "username=Wer", "--column", "password=Was")
    table = "Passwort,Ort,Wer,Was,Titel\nx,Mail,postmaster,y,z\n"
    assert run(installation, "resources", "import", "-", *arguments, given=table).exit_code == 0
    assert held(installation.database) == {("Mail", "postmaster", "y")}


def test_a_heading_that_is_none_is_wrong_usage(installation: Installation) -> None:
    result = run(installation, "resources", "import", "-", "--column", "password=Nowhere", given=TABLE)
    assert result.exit_code == 2
    assert "login_password" in result.stderr


def test_a_named_owner_gets_the_new_ones_and_nothing_of_others_is_touched(installation: Installation) -> None:
    add_user(installation, "bob@example.com")
    assert run(installation, "resources", "add", "--name", "Mail", "--owner", "ada@example.com").exit_code == 0
    table = "Title,Username,Password\nMail,postmaster,x\nRouter,admin,y\n"
    for dry in (["--dry-run"], []):
        result = run(installation, "resources", "import", "-", "--owner", "bob@example.com", *dry, given=table)
        assert result.exit_code == 1
        assert "“Mail” belongs to somebody else than the owner named." in result.stdout
    assert held(installation.database) == {("Router", "admin", "y")}


def test_an_export_names_the_place_that_was_altered_in_the_database(installation: Installation) -> None:
    run(installation, "resources", "import", "-", given="Title,Username,Password\nMail,postmaster,x\n")
    with installation.database.transaction() as session:
        session.get_one(AccountPassword, (1, 1)).sealed += b"altered"
    refused = run(installation, "resources", "export", "--yes")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "account_passwords.password of row 1/1 does not open" in refused.stderr


def test_of_an_export_that_fails_no_file_is_left(installation: Installation, tmp_path: Path) -> None:
    run(installation, "resources", "import", "-", given="Title,Username,Password\nMail,postmaster,x\n")
    with installation.database.transaction() as session:
        session.get_one(AccountPassword, (1, 1)).sealed += b"altered"
    file = tmp_path / "export.csv"
    assert run(installation, "resources", "export", str(file), "--yes").exit_code == 1
    assert not file.exists()


def test_a_file_that_the_disk_has_no_room_for_is_told_of_and_not_left(tmp_path: Path) -> None:
    file = tmp_path / "export.csv"
    with pytest.raises(Conflict, match=r"cannot be written \(No space left on device\)"), opened(str(file)):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not file.exists()


def test_an_export_is_imported_again_without_loss(installation: Installation) -> None:
    run(installation, "resources", "import", "-", given="Title,Username,Password\nMail,=1+1,'-x\nEmpty,,\n")
    exported = run(installation, "resources", "export", "--yes")
    assert exported.exit_code == 0
    assert "'=1+1,''-x" in exported.stdout
    before = held(installation.database)
    again = run(installation, "resources", "import", "-", "--replace", given=exported.stdout)
    assert again.stdout.endswith("2 already there.\n")
    assert held(installation.database) == before == {("Mail", "=1+1", "'-x")}


def test_an_export_needs_a_yes_and_leaves_a_line(installation: Installation) -> None:
    run(installation, "resources", "import", "-", given=TABLE)
    refused = run(installation, "resources", "export")
    assert refused.exit_code == 2
    assert CANARY not in refused.output
    assert _exports(installation) == 0
    assert CANARY in run(installation, "resources", "export", "--yes").stdout
    assert _exports(installation) == 1


def test_a_file_is_private_and_none_is_written_over(installation: Installation, tmp_path: Path) -> None:
    run(installation, "resources", "import", "-", given=TABLE)
    file = tmp_path / "export.csv"
    assert run(installation, "resources", "export", str(file), "--yes").exit_code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert CANARY in file.read_text()
    again = run(installation, "resources", "export", str(file), "--yes")
    assert again.exit_code == 1
    assert "nothing was exported" in again.stderr
    assert _exports(installation) == 1


def test_an_export_is_narrowed_by_words_and_by_owner(installation: Installation) -> None:
    add_user(installation, "bob@example.com")
    for owner, name in (("ada@example.com", "Mail"), ("bob@example.com", "Router")):
        table = f"Title,Username,Password\n{name},x,{CANARY}{name}\n"
        run(installation, "resources", "import", "-", "--owner", owner, given=table)
    for flags in (["--search", "rout"], ["--owner", "bob@example.com"]):
        exported = run(installation, "resources", "export", "--yes", *flags).stdout
        assert f"{CANARY}Router" in exported
        assert f"{CANARY}Mail" not in exported


def test_the_password_is_in_no_process_list(installation: Installation) -> None:
    """Nothing of a table is an argument: it comes by standard input or by a file."""
    result = run(installation, "resources", "import", "--help")
    assert "--password" not in result.stdout


def test_an_import_says_how_far_it_is(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "PROGRESS_SECONDS", 0.0)
    table = "Title,Username,Password\n" + "".join(f"Host {n},root,{CANARY}{n}\n" for n in range(12))
    assert "11 of 12 lines …" in run(installation, "resources", "import", "-", given=table).stderr


def test_an_import_killed_in_the_middle_goes_on(installation: Installation, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    count = 600
    table.write_text("Title,Username,Password\n" + "".join(f"Host {n},root,{CANARY}{n}\n" for n in range(count)))
    config = installation.config
    environment = {
        **os.environ,
        "KEYPOST_INSTANCE": str(config.instance),
        "KEYPOST_DATABASE_URL": config.database_url,
    }
    command = [sys.executable, "-m", "webapp.cli", "resources", "import", str(table)]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as killed:
        until(lambda: bool(held(installation.database)))
        killed.kill()
    part = held(installation.database)
    assert 0 < len(part) < count
    while RESOURCES.work(installation.database):
        pass
    assert held(installation.database) == {(f"Host {n}", "root", f"{CANARY}{n}") for n in range(count)}
    with installation.database.reading() as session:
        added = sa.select(sa.func.count()).select_from(AuditLine).where(AuditLine.action == "account:add")
        assert session.scalar(added) == count


def _exports(installation: Installation) -> int:
    with installation.database.reading() as session:
        lines = sa.select(sa.func.count()).select_from(AuditLine).where(AuditLine.action == "resource:export")
        return session.scalar(lines) or 0
