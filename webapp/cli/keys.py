"""`keypost keys …`: the data keys that secrets are sealed with; never a key itself."""

from __future__ import annotations

import json
import time

import click

from webapp.actor import command_line
from webapp.cli.options import as_json
from webapp.errors import Problem
from webapp.installation import Installation
from webapp.keys import rotation
from webapp.keys.rotation import Rotation, Term


class SecretsBroken(Problem):
    """Some secrets open with no key, so the earlier keys are kept."""


@click.group()
def group() -> None:
    """The keys that secrets are sealed with."""


@group.command("show")
@as_json
@click.pass_obj
def show(installation: Installation, as_json: bool) -> None:
    """List the data keys by their ids, and how many secrets each seals; never a key."""
    with installation.database.reading() as session:
        found = rotation.terms(session)
    master = installation.keyring.key_id.hex()
    if as_json:
        click.echo(json.dumps({"master_key": master, "terms": [_as_dict(term) for term in found]}))
        return
    click.echo(f"Master key {master}, in {installation.config.master_key_file}")
    for term in found:
        made = f"made {term.made_at:%Y-%m-%d %H:%M} UTC" if term.made_at else "the master key's own"
        state = "in force" if term.in_force else "ends with the next rotation"
        click.echo(f"{term.number:>4}  {term.key_id}  {made}, {state}: {_secrets(term.secrets)}")


@group.command("rotate")
@click.option("--batch", type=click.IntRange(1, 10_000), default=rotation.BATCH, show_default=True, metavar="N",
              help="How many secrets are sealed in one go.")  # fmt: skip
@as_json
@click.pass_obj
def rotate(installation: Installation, batch: int, as_json: bool) -> None:
    """Make a new data key, seal every secret with it, and destroy the earlier keys.

    Keypost may go on running. Killed half-way, the next `keys rotate` goes on where this one stopped.
    """
    resumed = rotation.begin(installation.database, command_line())
    done = _finish(installation, batch, visible=not as_json)
    if as_json:
        click.echo(json.dumps({"resumed": resumed, **_rotation_dict(done)}))
    else:
        begun = "The rotation that was begun earlier has ended" if resumed else "A new data key is in force"
        click.echo(f"{begun}: {done.key_id}. {_secrets(done.sealed)} sealed anew, {done.destroyed} earlier destroyed.")
    if done.broken:
        raise SecretsBroken(
            f"These secrets were altered in the database and open with no key: {', '.join(done.broken[:20])}. "
            "The earlier keys are kept. Set these secrets anew, then run this again."
        )


def _finish(installation: Installation, batch: int, *, visible: bool) -> Rotation:
    with installation.database.reading() as session:
        total = rotation.remaining(session)
    with click.progressbar(length=total, label="Sealing anew", hidden=not visible, show_pos=True) as bar:
        began = time.monotonic()

        def pause() -> None:
            """Leave the database to others for as long as the last batch held it."""
            nonlocal began
            time.sleep(min(time.monotonic() - began, 0.05))
            began = time.monotonic()

        return rotation.finish(installation.database, command_line(), batch=batch, progress=bar.update, pause=pause)


def _secrets(count: int) -> str:
    return f"{count:,} secret{'' if count == 1 else 's'}"


def _as_dict(term: Term) -> dict[str, object]:
    return {
        "number": term.number,
        "key_id": term.key_id,
        "made_at": term.made_at.isoformat() if term.made_at else None,
        "in_force": term.in_force,
        "secrets": term.secrets,
    }


def _rotation_dict(done: Rotation) -> dict[str, object]:
    return {
        "key_id": done.key_id,
        "sealed": done.sealed,
        "destroyed": done.destroyed,
        "broken": list(done.broken),
    }
