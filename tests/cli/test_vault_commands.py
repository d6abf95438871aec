"""`keypost users`, `resources` and `accounts`: what scripts and administrators type."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from webapp.actor import command_line
from webapp.cli import COMMANDS, main
from webapp.identity.sessions import sign_in
from webapp.installation import Installation
from webapp.keyring import Secret
from webapp.vault import accounts

ROOT = Path(__file__).resolve().parents[2]
PASSPHRASE = "correct horse battery staple"


def run(installation: Installation, *arguments: str, given: str | bytes | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=given, obj=installation)


def printed(result: Result) -> Any:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def add_user(installation: Installation, email: str, role: str = "Administrator") -> None:
    result = run(installation, "users", "add", "--email", email, "--name", email.partition("@")[0], "--role", role)
    assert result.exit_code == 0, result.stderr


def add_account(installation: Installation, username: str = "postmaster", password: str = "old") -> Any:
    return printed(
        run(
            installation, "accounts", "add", "--resource", "mail host", "--username", username,
            "--password-stdin", "--json", given=f"{password}\n",
        )
    )  # fmt: skip


@pytest.fixture
def mail_host(installation: Installation) -> int:
    """The number of a resource that belongs to the only administrator."""
    add_user(installation, "ada@example.com")
    return int(printed(run(installation, "resources", "add", "--name", "Mail host", "--json"))["id"])


def password_of(installation: Installation, account_id: int) -> Secret:
    with installation.database.transaction() as session:
        return accounts.reveal(session, command_line(), account_id)


def test_an_added_user_signs_in_with_the_password_of_standard_input(installation: Installation) -> None:
    result = run(
        installation, "users", "add", "--email", "bob@example.com", "--name", "Bob", "--role", "password-user",
        "--password-stdin", given=f"{PASSPHRASE}\n",
    )  # fmt: skip
    assert result.exit_code == 0
    assert PASSPHRASE not in result.output
    _token, user = sign_in(installation.database, "bob@example.com", Secret(PASSPHRASE), "127.0.0.1")
    assert user.role == "password-user"


def test_a_user_without_a_password_comes_with_a_link(installation: Installation) -> None:
    result = run(
        installation, "users", "add", "--email", "b@example.com", "--name", "B", "--role", "Password Auditor", "--json"
    )
    assert "/welcome?token=" in json.loads(result.stdout)["link"]
    assert printed(result)["has_password"] is False


def test_a_link_for_a_new_password_is_made_at_the_command_line(installation: Installation) -> None:
    add_user(installation, "bob@example.com")
    assert "/welcome?token=" in run(installation, "users", "link", "bob@example.com").stdout


def test_a_link_for_nobody_is_refused(installation: Installation) -> None:
    result = run(installation, "users", "link", "nobody@example.com")
    assert result.exit_code == 1
    assert "No user has the address" in result.stderr


def test_users_are_listed(installation: Installation) -> None:
    assert "no user yet" in run(installation, "users", "list").stdout
    add_user(installation, "bob@example.com")
    add_user(installation, "ada@example.com", "password_user")
    assert "ada <ada@example.com>, Password User, without a password" in run(installation, "users", "list").stdout
    listed = printed(run(installation, "users", "list", "--json"))["users"]
    assert [user["email"] for user in listed] == ["ada@example.com", "bob@example.com"]


def test_a_role_that_is_none_is_wrong_usage(installation: Installation) -> None:
    result = run(installation, "users", "add", "--email", "b@example.com", "--name", "B", "--role", "king")
    assert result.exit_code == 2
    assert "Choose one of" in result.stderr


def test_a_problem_is_one_sentence_and_exit_1(installation: Installation) -> None:
    add_user(installation, "ada@example.com")
    result = run(installation, "users", "add", "--email", "ADA@example.com", "--name", "Ada", "--role", "password-user")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "There is already a user with the address ADA@example.com.\n"


def test_a_resource_belongs_to_the_only_administrator(installation: Installation, mail_host: int) -> None:
    result = run(installation, "resources", "add", "--name", "Printer", "--type", "network device")
    assert result.stdout.endswith("it belongs to ada@example.com.\n")


def test_a_resource_belongs_to_the_owner_named(installation: Installation) -> None:
    for email in ("ada@example.com", "bob@example.com"):
        add_user(installation, email)
    without = run(installation, "resources", "add", "--name", "Printer")
    assert without.exit_code == 1
    assert "--owner" in without.stderr
    named = run(installation, "resources", "add", "--name", "Printer", "--owner", "Bob@example.com", "--json")
    assert printed(named)["owner"] == "bob@example.com"


def test_an_owner_nobody_knows_is_told(installation: Installation) -> None:
    result = run(installation, "resources", "add", "--name", "Printer", "--owner", "eve@example.com")
    assert result.exit_code == 1
    assert "users list" in result.stderr


def test_an_account_is_added_listed_and_rotated(installation: Installation, mail_host: int) -> None:
    account = add_account(installation)
    assert (account["label"], account["password_version"]) == ("Mail host — postmaster", 1)
    assert password_of(installation, account["id"]) == Secret("old")
    rotated = run(installation, "accounts", "set-password", str(account["id"]), "--password-stdin", given="new \r\n")
    assert (rotated.exit_code, "new" in rotated.output) == (0, False)
    assert password_of(installation, account["id"]) == Secret("new ")
    [listed] = printed(run(installation, "accounts", "list", "--json"))["accounts"]
    assert (listed["id"], listed["resource"], listed["password_version"]) == (account["id"], "Mail host", 2)
    assert "Mail host — postmaster" in run(installation, "accounts", "list").stdout


def test_accounts_are_listed_by_the_words_they_hold(installation: Installation, mail_host: int) -> None:
    for username in ("postmaster", "abuse"):
        add_account(installation, username)
    listed = printed(run(installation, "accounts", "list", "--search", "HOST ab", "--json"))["accounts"]
    assert [account["username"] for account in listed] == ["abuse"]
    assert run(installation, "accounts", "list", "--search", "nothing").stdout == "No account holds these words.\n"


def test_a_resource_can_be_named_by_its_number(installation: Installation, mail_host: int) -> None:
    result = run(
        installation, "accounts", "add", "--resource", str(mail_host), "--username", "root", "--password-stdin",
        given="x",
    )  # fmt: skip
    assert "Mail host — root" in result.stdout


def test_an_account_goes_only_to_a_resource_of_the_owner_named(installation: Installation, mail_host: int) -> None:
    add_user(installation, "bob@example.com")
    arguments = ("accounts", "add", "--resource", "Mail host", "--username", "root", "--password-stdin", "--owner")
    assert run(installation, *arguments, "bob@example.com", given="x").exit_code == 1
    assert run(installation, *arguments, "ada@example.com", given="x").exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    ["users unlock \udcff", "audit list --person \udcff", "resources import \udcff.csv", "backup \udcff"],
    ids=ascii,
)
def test_an_argument_that_is_no_text_is_wrong_usage(installation: Installation, arguments: str) -> None:
    refused = run(installation, *arguments.split())
    assert refused.exit_code == 2
    assert "is no text in UTF-8" in refused.stderr


@pytest.mark.parametrize("given", ["", "\n", b"\xff\xfe\n", "x" * 1025, "a\0b", "••••••••\n"])
def test_it_refuses_what_is_no_password(installation: Installation, mail_host: int, given: str | bytes) -> None:
    account = add_account(installation)
    result = run(installation, "accounts", "set-password", str(account["id"]), "--password-stdin", given=given)
    assert (result.exit_code, result.stdout) == (1, "")
    assert password_of(installation, account["id"]) == Secret("old")


def test_a_password_comes_by_standard_input_alone(installation: Installation, mail_host: int) -> None:
    result = run(installation, "accounts", "set-password", "1")
    assert result.exit_code == 2
    assert "--password-stdin" in result.stderr


@pytest.mark.parametrize("id", ["77", "0", "99999999999999999999"])
def test_an_account_that_is_none_is_not_found(installation: Installation, id: str) -> None:
    result = run(installation, "accounts", "set-password", id, "--password-stdin", given="x")
    assert result.exit_code == 1
    assert "no such account" in result.stderr


def test_an_unknown_command_is_wrong_usage(installation: Installation) -> None:
    assert run(installation, "fly").exit_code == 2


def test_help_names_every_command_and_opens_nothing(tmp_path: Path) -> None:
    result = start(tmp_path, "--help")
    assert (result.returncode, [name for name in COMMANDS if name not in result.stdout]) == (0, [])
    assert not (tmp_path / "instance").exists()


def test_a_fresh_installation_is_made_by_the_first_command(tmp_path: Path) -> None:
    result = start(tmp_path, "users", "list", "--json")
    assert (result.returncode, json.loads(result.stdout)) == (0, {"users": []})


def test_a_start_that_cannot_work_says_why(tmp_path: Path) -> None:
    result = start(tmp_path, "users", "list", KEYPOST_PORT="many")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("KEYPOST_PORT is “many”")


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "webapp.cli", *arguments],
        cwd=ROOT,
        env={**os.environ, "KEYPOST_INSTANCE": str(folder / "instance"), "PYTHONUTF8": "1", **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def test_a_command_that_finds_no_vault_says_that_it_made_an_empty_one(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    runner = CliRunner(env={"KEYPOST_INSTANCE": str(folder)})
    first, second = (runner.invoke(main, ["accounts", "list", "--json"]) for _ in range(2))
    assert f"There was no vault in {folder}, so an empty one was made there." in first.stderr
    assert printed(first) == printed(second)
    assert second.stderr == ""
