"""`keypost doctor`: everything that a sound installation needs, looked at in one go."""

from __future__ import annotations

import json
from typing import Final

import click

from webapp.cli.options import as_json
from webapp.config import Config
from webapp.doctor.examination import Examined, examine
from webapp.doctor.findings import State

_MARKS: Final = {State.OK: "✓", State.WARNING: "!", State.FAILING: "✗"}
_COLOURS: Final = {State.OK: "green", State.WARNING: "yellow", State.FAILING: "red"}


@click.command()
@as_json
def doctor(as_json: bool) -> None:
    """Name everything that is not as it should be, and what to do. Exit status 1 when anything fails.

    It changes nothing, and works whether Keypost runs or not.
    """
    found = examine(Config.from_environment())
    if as_json:
        click.echo(json.dumps({"outcome": _outcome(found), "checks": [_as_dict(each) for each in found]}))
    else:
        for each in found:
            _show(each)
    if any(each.fails for each in found):
        raise click.exceptions.Exit(1)


def _show(examined: Examined) -> None:
    finding = examined.finding
    mark = click.style(_MARKS[finding.state], fg=_COLOURS[finding.state], bold=True)
    click.echo(f"{mark} {examined.name}: {finding.sentence}")
    if finding.remedy:
        click.echo(f"    {finding.remedy}")


def _outcome(found: list[Examined]) -> str:
    states = {each.finding.state for each in found}
    return next(state.value for state in (State.FAILING, State.WARNING, State.OK) if state in states)


def _as_dict(examined: Examined) -> dict[str, str]:
    finding = examined.finding
    return {
        "name": examined.name,
        "state": finding.state.value,
        "sentence": finding.sentence,
        "remedy": finding.remedy,
    }
