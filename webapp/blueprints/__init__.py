"""The pages: one blueprint for each noun."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from flask import Response, current_app, request
from werkzeug.routing import IntegerConverter

if TYPE_CHECKING:
    from webapp.db import Database
    from webapp.installation import Installation
    from webapp.trust.store import TrustStore

LARGEST_ID = 2**31 - 1
_PIECE = 64 * 1024


class IdConverter(IntegerConverter):
    """A row's number, as far as both databases can count; anything larger is simply not found."""

    regex = r"[0-9]{1,10}"

    def __init__(self, url_map: object) -> None:
        super().__init__(url_map, min=1, max=LARGEST_ID)  # type: ignore[arg-type]


def installation() -> Installation:
    return cast("Installation", current_app.extensions["installation"])


def database() -> Database:
    return installation().database


def trust() -> TrustStore:
    return cast("TrustStore", current_app.extensions["trust"])


def page_number() -> int:
    """The page that the address asks for."""
    return min(request.args.get("page", 1, type=int), LARGEST_ID)


def only_wrong() -> bool:
    """Whether the address asks for what has an error alone."""
    return request.args.get("show") == "wrong"


def as_table(text: str, filename: str) -> Response:
    """A table as a file to keep, handed over piece by piece so that it is held in memory alone."""
    pieces = (text[begin : begin + _PIECE] for begin in range(0, len(text), _PIECE))
    response = Response(pieces, content_type="text/csv; charset=utf-8")
    response.headers["Content-Disposition"] = f'attachment; filename="{filename}"'
    return response
