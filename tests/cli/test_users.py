"""`keypost users`: adding, telling again, and importing people without the pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.test_vault_commands import printed, run
from tests.support.outbox import open_relay, save
from webapp.installation import Installation

TABLE = "E-mail,Name,Role\nbob@example.com,Bob,\nbroken,Carol,\n"
ADD = ("users", "add", "--email", "ada@example.com", "--name", "Ada", "--role", "Password User")


@pytest.fixture
def table(tmp_path: Path) -> str:
    file = tmp_path / "people.csv"
    file.write_text(TABLE)
    return str(file)


def users(installation: Installation) -> list[str]:
    return [each["email"] for each in printed(run(installation, "users", "list", "--json"))["users"]]


def test_until_mail_is_set_up_adding_prints_the_link_to_hand_over(installation: Installation) -> None:
    assert "/welcome?token=" in printed(run(installation, *ADD, "--json"))["link"]


def test_with_mail_set_up_adding_queues_it_and_prints_no_link(installation: Installation) -> None:
    save(installation.database, open_relay(25))
    said = run(installation, *ADD).stdout
    assert "A mail to ada@example.com with a one-time link is queued" in said
    assert "token=" not in said


def test_a_mail_is_sent_again_up_to_three_times_an_hour(installation: Installation) -> None:
    run(installation, *ADD)
    results = [run(installation, "users", "resend", "ADA@example.com") for _ in range(4)]
    assert [result.exit_code == 0 for result in results] == [True, True, True, False]
    assert "three mails within the hour" in results[-1].stderr


def test_sending_again_to_an_unknown_address_says_how_to_list_users(installation: Installation) -> None:
    result = run(installation, "users", "resend", "nobody@example.com")
    assert result.exit_code != 0
    assert "bin/keypost users list" in result.stderr


def test_a_dry_run_says_what_would_be_and_adds_nobody(installation: Installation, table: str) -> None:
    result = run(installation, "users", "import", table, "--dry-run")
    assert result.exit_code == 1
    assert "Nobody was added." in result.stdout
    assert "line 3: broken: left out: " in result.stdout
    assert users(installation) == []


def test_an_import_adds_what_it_can_and_exits_with_one_for_a_wrong_line(installation: Installation, table: str) -> None:
    result = run(installation, "users", "import", table)
    assert result.exit_code == 1
    assert "1 added, 0 already there, 1 with an error." in result.stdout
    assert users(installation) == ["bob@example.com"]


def test_an_import_from_standard_input_is_told_as_json(installation: Installation) -> None:
    given = "E-mail,Name\nbob@example.com,Bob\n"
    first = printed(run(installation, "users", "import", "-", "--json", given=given))
    again = printed(run(installation, "users", "import", "-", "--json", given=given))
    assert (first["added"], again["added"], again["there"]) == (1, 0, 1)
    assert [line["result"] for line in first["lines"]] == ["added"]


def test_what_is_no_table_is_refused_in_words(installation: Installation) -> None:
    result = run(installation, "users", "import", "-", given=b"PK\x03\x04")
    assert result.exit_code != 0
    assert "This is a workbook" in result.stderr
