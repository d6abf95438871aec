"""What the trail needs each day: its head written to the log, and lines of more than a year removed."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Final

from webapp.actor import program
from webapp.audit import trail
from webapp.db import Database

KEPT: Final = timedelta(days=365)
STEP: Final = 1000
"""How many lines one transaction removes."""

_log = logging.getLogger("keypost.audit")
_log.setLevel(logging.INFO)


def note_head(database: Database) -> None:
    """Write the head to the log, from which it reaches places that who writes to the database does not."""
    with database.reading() as session:
        head = trail.head(session)
    _log.info("audit head: line %d, %s", head.line_id, head.hash)


def prune(database: Database) -> int:
    """Remove what is older than a year, step by step; gives how many lines."""
    removed = 0
    while True:
        with database.transaction() as session:
            step = trail.prune(session, program(), session.now() - KEPT, limit=STEP)
        removed += step
        if step < STEP:
            return removed
