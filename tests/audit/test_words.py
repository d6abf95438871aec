"""What the program writes down has words in every language: acts, their details, and the codes of attempts."""

from __future__ import annotations

import ast
from pathlib import Path

from webapp.audit import words
from webapp.mail.explanations import CODES
from webapp.mail.retrospect import meaning_of
from webapp.outbox import codes

WEBAPP = Path(__file__).resolve().parents[2] / "webapp"
OF_EVERY_LINE = {"subject", "outcome"}
# The values of a save have the names of its fields, and those of a search the names of its filters.
IN_THEIR_OWN_NAMES = {"values", "wanted"}


def recorded() -> list[ast.Call]:
    """Each call that leaves a line in the trail."""
    return [
        node
        for path in WEBAPP.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "trail.record"
    ]


def test_each_detail_has_words() -> None:
    names = {each.arg.replace("_", " ") for call in recorded() for each in call.keywords if each.arg}
    assert len(names) > 30
    assert names - OF_EVERY_LINE - IN_THEIR_OWN_NAMES - words._DETAILS.keys() == set()


def test_each_act_has_words() -> None:
    literal = {call.args[2].value for call in recorded() if isinstance(call.args[2], ast.Constant)}
    assert len(literal) > 30
    assert literal - words.ACTIONS.keys() == set()


def test_each_code_of_an_attempt_has_words() -> None:
    ours = ("expired", "worker-died", "restored", "unreadable", "port-closed", "login-missing")
    assert all(meaning_of(code, server="", recipient="") for code in ours)
    assert {code.replace("-", " ") for code in (*CODES, *ours)} - codes._NAMES == set()
