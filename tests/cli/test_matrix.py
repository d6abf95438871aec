"""The matrix of the command line: whoever can read the master key may do everything, and nobody else anything.

Roles and shares belong to people who sign in; the command line is above them, and `--owner` narrows it down again. A
command without a line here fails, so that nobody adds one without deciding what it needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests.cli.test_vault_commands import add_account, add_user, run
from tests.mail.test_codes import AUTHORITY
from webapp.actor import command_line
from webapp.cli import main
from webapp.config import Config
from webapp.identity.users import find_user
from webapp.installation import Installation, open_installation
from webapp.vault import shares
from webapp.vault.rights import Right

CANARY = "c4n4ry-sings-under-ground"
# What each command is given, so that only the key can be what keeps it from its work.
NEEDS_THE_KEY = {
    "accounts add": "--resource 1 --username x --password-stdin",
    "accounts list": "",
    "accounts set-password": "1 --password-stdin",
    "audit export": "",
    "audit head": "",
    "audit list": "",
    "audit verify": "",
    "backup": "{pem}.backup",
    "certificates import": "{pem}",
    "certificates list": "",
    "certificates remove": "00",
    "keys rotate": "",
    "keys show": "",
    "mail check-access-url": "",
    "mail find": "example.test",
    "mail probe": "--server localhost --port 1 --security never --sender a@example.test",
    "mail set": "--server-name localhost",
    "mail show": "",
    "mail test": "--to a@example.test",
    "outbox again": "1",
    "outbox ask-now": "",
    "outbox cancel": "1",
    "outbox deliver": "",
    "outbox list": "",
    "outbox retry": "1",
    "outbox show": "1",
    "outbox state": "",
    "resources add": "--name Printer",
    "resources export": "--yes",
    "resources import": "{pem}",
    "resources transfer": "1 --to bob@example.com",
    "restore": "{pem} --replace",
    "serve": "--port 0",
    "shares add": "--resource 1 --user bob@example.com --right view",
    "shares list": "--resource 1",
    "shares remove": "--resource 1 --user bob@example.com",
    "users add": "--email a@example.com --name A --role administrator",
    "users import": "{pem}",
    "users link": "bob@example.com",
    "users list": "",
    "users resend": "bob@example.com",
    "users reset-second-factor": "bob@example.com",
    "users unlock": "bob@example.com",
    "worker": "",
}
NEEDS_NOTHING = {"doctor", "mail codes"}


def commands(group: click.Command = main, name: str = "") -> Iterator[str]:
    if not isinstance(group, click.Group):
        yield name
        return
    context = click.Context(group)
    for each in group.list_commands(context):
        command = group.get_command(context, each)
        assert command is not None
        yield from commands(command, f"{name} {each}".strip())


@pytest.fixture(scope="module")
def without_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instance folder that holds something, and whose key is gone."""
    folder = tmp_path_factory.mktemp("locked") / "instance"
    opened = open_installation(Config.from_environment({"KEYPOST_INSTANCE": str(folder)}))
    for email in ("ada@example.com", "bob@example.com"):
        add_user(opened, email, "password-administrator")
    assert run(opened, "resources", "add", "--name", CANARY, "--owner", "ada@example.com").exit_code == 0
    opened.close()
    (folder / "master.key").unlink()
    return folder


def test_every_command_has_a_line_in_the_matrix() -> None:
    assert set(commands()) == set(NEEDS_THE_KEY) | NEEDS_NOTHING


@pytest.mark.parametrize("command", NEEDS_THE_KEY)
def test_nothing_is_done_or_told_without_the_key(without_key: Path, command: str) -> None:
    pem = without_key.parent / "authority.pem"
    AUTHORITY.cert_pem.write_to_path(str(pem))
    arguments = [*command.split(), *NEEDS_THE_KEY[command].format(pem=pem).split()]
    result = CliRunner().invoke(main, arguments, input="x\n", env={"KEYPOST_INSTANCE": str(without_key)})
    assert result.exit_code == 1, result.output
    assert "master key" in result.stderr
    assert CANARY not in result.output


@pytest.mark.parametrize("command", sorted(NEEDS_NOTHING))
def test_what_needs_no_key_tells_nothing_of_what_is_kept(without_key: Path, command: str) -> None:
    result = CliRunner().invoke(main, command.split(), env={"KEYPOST_INSTANCE": str(without_key)})
    assert result.exit_code in (0, 1)
    assert CANARY not in result.output


@pytest.mark.parametrize("role", ["administrator", "password-administrator"])
def test_the_command_line_acts_on_what_anybody_owns(installation: Installation, role: str) -> None:
    for email in ("ada@example.com", "bob@example.com"):
        add_user(installation, email, role)
    assert run(installation, "resources", "add", "--name", "Mail host", "--owner", "ada@example.com").exit_code == 0
    add_account(installation)
    for command in (
        "accounts set-password", "shares add", "shares list", "shares remove", "accounts add", "resources transfer",
    ):  # fmt: skip
        result = run(installation, *command.split(), *NEEDS_THE_KEY[command].split(), given="x\n")
        assert result.exit_code == 0, (command, result.stderr)


@pytest.mark.parametrize("right", [None, Right.VIEW, Right.MODIFY, Right.MANAGE, Right.OWN])
def test_a_named_owner_must_own_it_and_no_share_will_do(installation: Installation, right: Right | None) -> None:
    for email in ("ada@example.com", "eve@example.com"):
        add_user(installation, email, "password-administrator")
    owner = "eve@example.com" if right is Right.OWN else "ada@example.com"
    assert run(installation, "resources", "add", "--name", "Mail host", "--owner", owner).exit_code == 0
    with installation.database.transaction() as session:
        eve = find_user(session, "eve@example.com")
        assert eve is not None
        if right not in (None, Right.OWN):
            shares.share_resource(session, command_line(), 1, eve.id, right)
    for name in ("Mail host", "1"):
        arguments = ("accounts", "add", "--resource", name, "--username", f"for {name}", "--password-stdin")
        result = run(installation, *arguments, "--owner", "eve@example.com", given="x\n")
        assert result.exit_code == (0 if right is Right.OWN else 1), result.stderr
