"""`keypost audit …`: the trail, read, exported and proved."""

from __future__ import annotations

import json
from datetime import datetime

import click

from webapp.actor import command_line
from webapp.audit import search, trail, words
from webapp.audit.search import Wanted
from webapp.audit.trail import AuditLine
from webapp.cli.options import as_json
from webapp.errors import Problem
from webapp.installation import Installation
from webapp.logs import printable
from webapp.spreadsheet import lines


class ChainBroken(Problem):
    """The trail is not what was written."""


_DAY = click.DateTime(["%Y-%m-%d"])


@click.group()
def group() -> None:
    """Who did what, from where, and when."""


@group.command("verify")
@click.option("--head", "copy", metavar="HASH", help="A head noted earlier, which must still be in the chain.")
@as_json
@click.pass_obj
def verify(installation: Installation, copy: str | None, as_json: bool) -> None:
    """Prove that no line was altered, removed, added or exchanged. Exit status 1 when one was."""
    with installation.database.reading() as session:
        verdict = trail.verify(session, copy.lower() if copy else None)
        head = trail.head(session)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "outcome": "sound" if verdict.sound else "broken",
                    "lines": verdict.lines,
                    "broken_at": verdict.broken_at,
                    "reason": verdict.reason,
                    "head": head.hash,
                }
            )
        )
    elif verdict.sound:
        click.echo(
            f"The trail is sound: {verdict.lines:,} lines, the last is {head.line_id} with the hash {head.hash}."
        )
    if not verdict.sound:
        raise ChainBroken(
            f"The trail is not sound: {verdict.reason}. {verdict.lines:,} lines before it are. Keep a copy of the "
            "database as it is, and compare it with your last backup."
        )


@group.command("head")
@as_json
@click.pass_obj
def head(installation: Installation, as_json: bool) -> None:
    """Show the head of the chain, to be kept where who runs the database cannot write."""
    with installation.database.reading() as session:
        now = trail.head(session)
    click.echo(json.dumps({"line": now.line_id, "head": now.hash}) if as_json else f"{now.line_id} {now.hash}")


@group.command("list")
@click.option("--person", default="", help="A part of the name.")
@click.option("--action", default="", help="For example account:reveal.")
@click.option("--subject", default="", help="For example account:7.")
@click.option("--outcome", default="", type=click.Choice(["", *search.OUTCOMES]), metavar="OUTCOME")
@click.option("--from", "since", type=_DAY, help="The first day, in UTC.")
@click.option("--to", "until", type=_DAY, help="The last day, in UTC.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1_000_000))
@as_json
@click.pass_obj
def list_(
    installation: Installation,
    *,
    person: str,
    action: str,
    subject: str,
    outcome: str,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show the newest lines first."""
    wanted = Wanted(person, action, subject, outcome, since and since.date(), until and until.date())
    with installation.database.reading() as session:
        found = search.page(session, wanted, limit=limit)
    if as_json:
        click.echo(json.dumps({"lines": [_as_dict(line) for line in found]}))
        return
    for line in found:
        facts = "; ".join(f"{name} {value}" for name, value in line.facts())
        outcome = "" if line.outcome == "done" else f" ({line.outcome})"
        said = (
            f"{line.id:>7}  {line.at:%Y-%m-%d %H:%M:%S}  {line.actor_name} [{line.source}]  "
            f"{words.action(line.action)}{outcome}  {words.subject(line.subject)}  {facts}"
        )
        click.echo(printable(said.rstrip()))  # A stranger may have typed some of it.
    if not found:
        click.echo("No line fits.")


@group.command("export")
@click.pass_obj
def export(installation: Installation) -> None:
    """Write every line to standard output as CSV, the oldest first; the export leaves a line of its own."""
    with installation.database.transaction() as session:
        trail.record(session, command_line(), "audit:export")
    with installation.database.reading() as session:
        for line in lines(search.rows(session, Wanted())):
            click.echo(line, nl=False)


def _as_dict(line: AuditLine) -> dict[str, object]:
    return {
        "line": line.id,
        "at": line.at.isoformat(),
        "actor_id": line.actor_id,
        "actor": line.actor_name,
        "source": line.source,
        "action": line.action,
        "subject": line.subject,
        "outcome": line.outcome,
        "details": json.loads(line.details),
        "hash": line.hash,
    }
