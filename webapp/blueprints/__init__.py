"""The pages: one blueprint for each noun."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from flask import current_app
from werkzeug.routing import IntegerConverter

if TYPE_CHECKING:
    from webapp.db import Database
    from webapp.installation import Installation
    from webapp.trust.store import TrustStore

LARGEST_ID = 2**31 - 1


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
