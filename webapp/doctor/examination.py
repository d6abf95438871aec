"""One round over all checks; it repairs nothing, makes nothing and migrates nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from webapp import models
from webapp.config import Config
from webapp.db import Session
from webapp.doctor import machine, mail, tables
from webapp.doctor.findings import DATABASE_CHECKS, MACHINE_CHECKS, Finding, State, failing, ok
from webapp.errors import CannotStart
from webapp.installation import open_unchanged

__all__ = ["Examined", "examine", "machine", "mail", "models", "tables"]


@dataclass(frozen=True, slots=True)
class Examined:
    """A check by its name, and what it found."""

    name: str
    finding: Finding

    @property
    def fails(self) -> bool:
        return self.finding.state is State.FAILING


def examine(config: Config) -> list[Examined]:
    """Run every check. What lies in the database is looked at only once that opens."""
    found = [Examined(name, check(config)) for name, check in MACHINE_CHECKS.items()]
    try:
        with _session(config) as session:
            found.append(Examined("Database", ok("It opens with this master key, and its tables are up to date.")))
            found += [Examined(name, check(session)) for name, check in DATABASE_CHECKS.items()]
    except CannotStart as problem:
        found.append(
            Examined("Database", failing(str(problem), "Mend this first: what lies inside was not looked at."))
        )
    except SQLAlchemyError as error:
        reason = type(getattr(error, "orig", None) or error).__name__
        found.append(
            Examined(
                "Database",
                failing(f"It stopped answering ({reason}).", "Check that it runs, and that its file is whole."),
            )
        )
    return found


@contextlib.contextmanager
def _session(config: Config) -> Iterator[Session]:
    opened = open_unchanged(config)
    try:
        with opened.database.reading() as session:
            yield session
    finally:
        opened.close()
