"""What the commands that import a table have in common."""

from __future__ import annotations

from typing import Any, Final

import click

from webapp.db import Database
from webapp.importing import Importing, Outcome

PROGRESS_SECONDS: Final = 1.0


def work_on(importing: Importing[Any, Any], database: Database, import_id: int) -> None:
    """Take every line, together with a server that works on it too, and say on standard error how far it is."""
    while importing.work(database, seconds=PROGRESS_SECONDS, only=import_id):
        with database.reading() as session:
            found = importing.get(session, import_id)
        click.echo(f"{found.done} of {found.total} lines …", err=True)


def print_line(number: int, what: str, outcome: Outcome, words: str) -> None:
    """Say what becomes, or became, of one line."""
    click.echo(f"line {number}: {what}: {outcome.label}{f': {words}' if words else ''}")
