"""No regular expression takes long, whatever it is given (ReDoS; OWASP ASVS 5.0, 1.3.12)."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import time
from collections.abc import Iterator
from typing import TypeAlias

import pytest

import webapp
from tests.test_architecture import ROOT

ONES = ("a", "A", "1", ".", "-", " ", "\t", "=", "{", "<", "\\", "ä", '"', "/")
PARTS = (*ONES, "a.", "a-", "a ", "1.", "a@", "::", "%41", "&lt;")
LENGTH = 20_000
BOUNDS = {" *[^ ]+": 998}  # The text of a header, which is judged before.
SECONDS = 0.5


SOURCE = "\n".join(path.read_text() for path in (ROOT / "webapp").rglob("*.py"))
WAYS = ("match", "fullmatch", "search")
Use: TypeAlias = tuple[re.Pattern[str] | re.Pattern[bytes], str]


def kept() -> Iterator[Use]:
    """The expressions that modules keep under a name, each with the ways in which it is used."""
    for module in pkgutil.walk_packages(webapp.__path__, "webapp."):
        if "migrations" in module.name or module.name.endswith("__main__"):
            continue
        for name, each in vars(importlib.import_module(module.name)).items():
            if isinstance(each, re.Pattern):
                for way in re.findall(rf"\b{name}\.(\w+)\(", SOURCE):
                    yield each, way


def written() -> Iterator[Use]:
    """Those that are written where they are used."""
    for node in ast.walk(ast.parse(SOURCE)):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="re"), attr=way), args=[ast.Constant(value=text), *_]):
                if way not in ("escape", "compile") and isinstance(text, str | bytes):
                    yield re.compile(text), way


USES = {(each.pattern, way if way in WAYS else "search"): each for each, way in [*kept(), *written()]}


def test_they_are_found() -> None:
    assert len(USES) > 30


@pytest.mark.parametrize(("use", "expression"), USES.items(), ids=[f"{way} {text!r}" for text, way in USES])
def test_it_answers_at_once(use: tuple[str | bytes, str], expression: re.Pattern[str] | re.Pattern[bytes]) -> None:
    for part in PARTS:
        for end in ("", "!", "\n", "\x00"):
            text = part * (BOUNDS.get(str(use[0]), LENGTH) // len(part)) + end
            began = time.process_time()
            getattr(expression, use[1])(text.encode() if isinstance(expression.pattern, bytes) else text)
            assert time.process_time() - began < SECONDS, (part, end)
