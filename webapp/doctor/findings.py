"""The list of checks, and what each of them may find.

To add one, write a function that gives a Finding, in a module of this package that examination.py imports:

    @in_database("Worker")
    def heartbeat(session: Session) -> Finding:
        ...
        return failing("The worker has not been heard of for 5 minutes.", "Start it: bin/keypost worker")
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from webapp.config import Config
from webapp.db import Session


class State(enum.StrEnum):
    """How a precondition stands; any that fails makes `doctor` end with exit status 1."""

    OK = "ok"
    WARNING = "warning"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found: a sentence, and unless all is well what to do."""

    state: State
    sentence: str
    remedy: str = ""


MachineCheck = Callable[[Config], Finding]
DatabaseCheck = Callable[[Session], Finding]

MACHINE_CHECKS: Final[dict[str, MachineCheck]] = {}
DATABASE_CHECKS: Final[dict[str, DatabaseCheck]] = {}


def ok(sentence: str) -> Finding:
    return Finding(State.OK, sentence)


def warning(sentence: str, remedy: str) -> Finding:
    return Finding(State.WARNING, sentence, remedy)


def failing(sentence: str, remedy: str) -> Finding:
    return Finding(State.FAILING, sentence, remedy)


def on_machine(name: str) -> Callable[[MachineCheck], MachineCheck]:
    """Add a check of files and surroundings: it runs always, and opens no database."""

    def add(check: MachineCheck) -> MachineCheck:
        MACHINE_CHECKS[name] = check
        return check

    return add


def in_database(name: str) -> Callable[[DatabaseCheck], DatabaseCheck]:
    """Add a check that reads the database: it runs once that has been opened with its own key."""

    def add(check: DatabaseCheck) -> DatabaseCheck:
        DATABASE_CHECKS[name] = check
        return check

    return add
