"""`keypost shares` and `keypost resources transfer`: sharing without the pages."""

from __future__ import annotations

import pytest

from tests.cli.test_vault_commands import add_account, add_user, printed, run
from tests.support.mail_settings import bound
from webapp.actor import command_line
from webapp.identity.users import find_user
from webapp.installation import Installation
from webapp.mail import settings
from webapp.vault import accounts


@pytest.fixture
def office(installation: Installation) -> Installation:
    """Ada owns the mail host with account 1; Bob may own things, Dave only uses them."""
    for email, role in (
        ("ada@example.com", "administrator"), ("bob@example.com", "password-administrator"),
        ("dave@example.com", "password-user"),
    ):  # fmt: skip
        add_user(installation, email, role)
    assert run(installation, "resources", "add", "--name", "Mail host").exit_code == 0
    add_account(installation)
    return installation


def holders(office: Installation, *thing: str) -> dict[str, str]:
    listed = printed(run(office, "shares", "list", *thing, "--json"))["holders"]
    return {each["name"]: each["right"] for each in listed}


@pytest.mark.parametrize("thing", [("--resource", "mail host"), ("--resource", "1"), ("--account", "1")])
def test_a_share_is_added_changed_listed_and_removed(office: Installation, thing: tuple[str, str]) -> None:
    dave = ("--user", "DAVE@example.com")
    given = printed(run(office, "shares", "add", *thing, *dave, "--right", "view", "--json"))
    assert (given["user"], given["right"]) == ("dave@example.com", "view")
    assert holders(office, *thing) == {"ada": "own", "dave": "view"}
    assert "dave may modify “Mail host" in run(office, "shares", "add", *thing, *dave, "--right", "modify").stdout
    assert " modify  dave <dave@example.com>" in run(office, "shares", "list", *thing).stdout
    assert printed(run(office, "shares", "remove", *thing, *dave, "--json"))["right"] is None
    assert holders(office, *thing) == {"ada": "own"}
    assert run(office, "shares", "remove", *thing, *dave).exit_code == 1


def test_what_cannot_be_given_is_one_sentence_and_exit_1(office: Installation) -> None:
    for arguments, sentence in (
        (("--resource", "Mail host", "--user", "dave@example.com", "--right", "manage"), "dave is a Password User"),
        (("--account", "1", "--user", "bob@example.com", "--right", "manage"), "Choose one of these rights"),
        (("--account", "7", "--user", "bob@example.com", "--right", "view"), "no such account"),
        (("--resource", "1", "--user", "ada@example.com", "--right", "view"), "ada owns “Mail host”"),
        (("--resource", "1", "--user", "eve@example.com", "--right", "view"), "no user with the address"),
    ):
        result = run(office, "shares", "add", *arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        assert sentence in result.stderr


@pytest.mark.parametrize("thing", [(), ("--resource", "1", "--account", "1")])
def test_one_thing_must_be_named(office: Installation, thing: tuple[str, ...]) -> None:
    assert run(office, "shares", "list", *thing).exit_code == 2


def test_a_resource_is_handed_over(office: Installation) -> None:
    given = printed(
        run(office, "resources", "transfer", "mail host", "--to", "bob@example.com", "--keep", "view", "--json")
    )
    assert (given["owner"], given["kept"]) == ("bob@example.com", "view")
    assert holders(office, "--resource", "1") == {"bob": "own", "ada": "view"}
    assert "belongs to ada" in run(office, "resources", "transfer", "1", "--to", "ada@example.com").stdout
    assert run(office, "resources", "transfer", "1", "--to", "dave@example.com").exit_code == 1


def test_ending_the_access_that_mail_rests_on_is_told_first(office: Installation) -> None:
    with office.database.transaction() as session:
        ada = find_user(session, "ada@example.com")
        assert ada is not None
        settings.save(session, ada.actor("test"), bound(accounts.get_account(session, command_line(), 1)))
    hand_over = ("resources", "transfer", "1", "--to", "bob@example.com")
    told = run(office, *hand_over)
    assert told.exit_code == 1
    assert "used by Mail Server Settings" in told.stderr
    assert run(office, *hand_over, "--although-used").exit_code == 0
