"""docs/failures.md says what the program says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from webapp.cli.mail import group
from webapp.mail.explanations import CODES, VARIANTS, as_markdown, rows

PAGE = Path(__file__).resolve().parents[2] / "docs" / "failures.md"


def test_the_page_is_what_the_program_writes() -> None:
    written = CliRunner().invoke(group, ["codes", "--markdown"])
    assert written.exit_code == 0
    assert PAGE.read_text(encoding="utf-8") == written.stdout, (
        "docs/failures.md is out of date; write it anew with: bin/keypost mail codes --markdown > docs/failures.md"
    )


def test_the_page_has_a_line_for_every_code_and_every_special_case() -> None:
    lines = re.findall(r"^\| `([a-z-]+)`(?: \(([a-z ]+)\))? \|", as_markdown(), re.MULTILINE)
    named = [f"{code}/{case.replace(' ', '-')}" if case else code for code, case in lines]
    assert sorted(named) == sorted([*CODES, *VARIANTS])


def test_every_line_of_the_table_has_its_four_cells() -> None:
    table = [line for line in as_markdown().splitlines() if line.startswith("|")]
    assert {len(re.split(r"(?<!\\)\|", line)) for line in table} == {6}


@pytest.mark.parametrize("row", list(rows()), ids=lambda row: f"{row.code}/{row.case}" if row.case else row.code)
def test_every_explanation_is_whole_sentences(row: tuple[str, ...]) -> None:
    for text in (row[2], row[3]):
        assert re.match(r"[A-Z“{]", text)
        assert text.endswith(".")


def test_the_command_line_lists_them_too() -> None:
    listed = json.loads(CliRunner().invoke(group, ["codes", "--json"]).stdout)["codes"]
    assert {each["code"] for each in listed} == set(CODES)
    assert all(each["cause"] and each["remedy"] for each in listed)
    plain = CliRunner().invoke(group, ["codes"]).stdout
    assert all(re.search(rf"^{code}$", plain, re.MULTILINE) for code in CODES)
    assert CliRunner().invoke(group, ["codes", "--json", "--markdown"]).exit_code == 2
