"""Searching names the way people type them, and giving out the finds page by page."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

LONGEST_QUERY = 200
LARGEST_ID = 2**31 - 1
_MOST_PER_PAGE = 200
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """One page of what was found: ``total`` counts all finds, ``page`` is counted from 1 to ``pages``."""

    items: Sequence[Item]
    total: int
    page: int
    pages: int
    q: str


def span(total: int, page: int, per_page: int) -> tuple[int, int, int]:
    """The page nearest to the one asked for, the number of pages, and the page's size, each within its bounds."""
    per_page = min(max(per_page, 1), _MOST_PER_PAGE)
    pages = max(1, -(-total // per_page))
    return min(max(page, 1), pages), pages, per_page


def key(text: str) -> str:
    """What two spellings of one name have in common: case and composition aside (Unicode 3.13, caseless matching)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def words(q: str) -> list[str]:
    """The words of a query, as keys; what goes beyond 200 characters is left out."""
    return [word for word in key(q[:LONGEST_QUERY]).replace("\0", " ").split() if word.isprintable()]


def holds_all(column: sa.SQLColumnExpression[str], wanted: Sequence[str]) -> sa.ColumnElement[bool]:
    """The condition that a column of keys contains every word."""
    return sa.and_(sa.true(), *(_Position(column, sa.literal(word)) > 0 for word in wanted))


class _Position(FunctionElement[int]):
    """Where a text begins in another, from 1; 0 when it does not.

    LIKE would take twice as long, and would need its wildcards escaped.
    """

    type = sa.Integer()
    name = "strpos"
    inherit_cache = True


@compiles(_Position)
def _strpos(element: _Position, compiler: SQLCompiler, **options: Any) -> str:
    return f"strpos({compiler.process(element.clauses, **options)})"


@compiles(_Position, "sqlite")
def _instr(element: _Position, compiler: SQLCompiler, **options: Any) -> str:
    return f"instr({compiler.process(element.clauses, **options)})"
