"""Connections to PostgreSQL that do not wait without an end for a server that says nothing.

A server that went away is told by the network; one that stopped, with its connections open, never tells.
"""

from __future__ import annotations

import time
from typing import Any, Final

import psycopg
from psycopg.abc import RV, PQGen

SECONDS: Final = 10.0
"""So long may a server be silent in the middle of a statement, or somebody hold what it waits for."""
_LOOK_EVERY: Final = 0.1  # seconds


class ImpatientConnection(psycopg.Connection[Any]):
    """Gives up a statement of which nothing was heard for SECONDS, and itself with it."""

    def wait(self, gen: PQGen[RV], interval: float = _LOOK_EVERY, timeout: float | None = None) -> RV:
        """Have a statement answered. Raises OperationalError for silence; what was asked may have been done."""
        try:
            return super().wait(_while_heard(gen), interval=interval, timeout=timeout)
        except _Silent:
            self.pgconn.finish()
            raise psycopg.OperationalError(f"the database said nothing for {SECONDS:.0f} seconds") from None


class _Silent(Exception):
    """Nothing was heard for too long."""


def _while_heard(gen: PQGen[RV]) -> PQGen[RV]:
    """Hand on what psycopg's generator waits for, and what comes of it, as long as something comes."""
    heard = time.monotonic()
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if ready:
                heard = time.monotonic()
            elif time.monotonic() - heard > SECONDS:
                raise _Silent
            wanted = gen.send(ready)
    except StopIteration as end:
        result: RV = end.value
        return result
