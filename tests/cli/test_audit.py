"""`keypost audit`: the trail proved, read and exported at the command line."""

from __future__ import annotations

import csv
import io
import json

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from webapp.actor import command_line
from webapp.audit import trail
from webapp.cli import main
from webapp.errors import Invalid
from webapp.identity.sessions import sign_in
from webapp.installation import Installation
from webapp.keyring import Secret


def _run(installation: Installation, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["audit", *arguments], obj=installation)


def _write(installation: Installation, count: int = 3) -> None:
    with installation.database.transaction() as session:
        for number in range(count):
            trail.record(session, command_line(), "resource:add", subject=f"resource:{number}", name="=1+1")


def test_a_sound_trail_is_said_to_be(installation: Installation) -> None:
    _write(installation)
    result = _run(installation, "verify")
    assert result.exit_code == 0
    assert "The trail is sound: 3 lines" in result.stdout


def test_a_tampered_trail_is_named_and_ends_with_status_1(installation: Installation) -> None:
    _write(installation)
    with installation.database.transaction() as session:
        session.execute(sa.text("UPDATE audit_head SET line_id = 2"))
    result = _run(installation, "verify", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["broken_at"] == 4
    assert "not sound" in result.stderr


def test_the_head_that_is_shown_is_the_one_that_verify_takes(installation: Installation) -> None:
    _write(installation)
    head = json.loads(_run(installation, "head", "--json").stdout)["head"]
    assert _run(installation, "head").stdout == f"3 {head}\n"
    assert _run(installation, "verify", "--head", head).exit_code == 0
    assert _run(installation, "verify", "--head", "0" * 63 + "1").exit_code == 1


def test_what_a_stranger_typed_forges_no_line_and_commands_no_terminal(installation: Installation) -> None:
    with pytest.raises(Invalid):
        sign_in(installation.database, "eve\n      9  \x1b[2J\u202eecila", Secret("wrong"), "192.0.2.1")
    listed = CliRunner().invoke(main, ["audit", "list"], obj=installation, color=True).stdout
    assert listed.count("\n") == 1
    assert "eve\\n      9  \\x1b[2J\\u202eecila [192.0.2.1]" in listed


def test_lines_are_listed_in_words_and_filtered(installation: Installation) -> None:
    _write(installation)
    assert "Added a resource  resource 2" in _run(installation, "list").stdout
    found = json.loads(_run(installation, "list", "--subject", "resource:1", "--json").stdout)["lines"]
    assert [line["line"] for line in found] == [2]
    assert _run(installation, "list", "--person", "nobody").stdout == "No line fits.\n"


def test_an_export_is_csv_without_formulas_and_leaves_a_line(installation: Installation) -> None:
    _write(installation)
    rows = list(csv.reader(io.StringIO(_run(installation, "export").stdout)))
    assert [row[5] for row in rows[1:]] == ["resource:add"] * 3 + ["audit:export"]
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@"))]
