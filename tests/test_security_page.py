"""The pages about security and operation name tests that exist, and every threat."""

from __future__ import annotations

import ast
import re

import pytest

from tests.test_architecture import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text()
ROWS_BY_ROW = (ROOT / "docs" / "asvs.md").read_text()
BOTH = PAGE + (ROOT / "docs" / "operations.md").read_text()
NAMED = sorted(set(re.findall(r"(tests/[\w/]+\.py)::(\w+)", BOTH)))


@pytest.mark.parametrize("file", sorted({file for file, _test in NAMED}))
def test_every_test_that_is_named_exists(file: str) -> None:
    tree = ast.parse((ROOT / file).read_bytes())
    there = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert {test for named, test in NAMED if named == file} <= there


def test_no_threat_is_left_out_and_each_says_what_proves_it() -> None:
    rows = re.findall(r"^\| (\d+) \|.*\| ([^|]*) \|$", PAGE, re.MULTILINE)
    assert [int(number) for number, _proof in rows] == list(range(1, 86))
    assert all("::test_" in proof or "*Open*" in proof or proof == "does not apply" for _number, proof in rows)


ASVS = re.findall(r"^\| (\d+\.\d+\.\d+) \| ([12]) \| ([^|]+) \| ([^|]+) \|$", ROWS_BY_ROW, re.MULTILINE)


def test_no_requirement_of_asvs_5_is_left_out() -> None:
    """Its version 5.0.0 has 70 of level 1, and 183 more of level 2."""
    ids = [tuple(map(int, each.split("."))) for each, *_rest in ASVS]
    assert ids == sorted(set(ids))
    assert [sum(level == wanted for _id, level, *_rest in ASVS) for wanted in "12"] == [70, 183]


def test_what_each_requirement_names_is_there() -> None:
    named = set(re.findall(r"`((?:tests|docs|requirements|systemd|webapp|\.ci)/[\w./-]*)`", ROWS_BY_ROW))
    assert len(named) > 30
    assert not [path for path in named if not (ROOT / path).exists() and not (ROOT / "docs" / path).exists()]
    threats = {
        int(number) for each in re.findall(r"threats? ([\d, to]+)", ROWS_BY_ROW) for number in re.findall(r"\d+", each)
    }
    assert threats <= set(range(1, 86))
    assert len(threats) > 50


def test_pages_lead_to_pages_that_are_there() -> None:
    for page in [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "SECURITY.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
