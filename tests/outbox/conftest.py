"""A clock that stands still until a test moves it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from webapp.db import Database


@pytest.fixture(autouse=True)
def still_clock(database: Database) -> None:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    database.clock = lambda: now
