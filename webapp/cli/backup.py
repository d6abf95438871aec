"""`keypost backup` and `keypost restore`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from webapp.actor import command_line
from webapp.backup.making import make
from webapp.backup.restoring import Restored
from webapp.backup.restoring import restore as put_back
from webapp.cli.options import as_json
from webapp.config import Config
from webapp.installation import Installation

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("file", type=_FILE)
@as_json
@click.pass_obj
def backup(installation: Installation, file: Path, as_json: bool) -> None:
    """Write the whole database to a new FILE while Keypost goes on; the master key is never in it.

    FILE may not lie beside the key. Keep it on another machine, and a copy of the key in another place.
    """
    manifest = make(installation, command_line(), file)
    if as_json:
        click.echo(json.dumps({"outcome": "made", "file": str(file.absolute()), **asdict(manifest)}))
        return
    click.echo(f"{file} holds the database as it is ({_size(manifest.size)}), and no key.")
    click.echo(f"It opens with the master key {manifest.master_key} alone: keep a copy of that elsewhere.")


@click.command()
@click.argument("file", type=_FILE)
@click.option("--replace", "replacing", is_flag=True, help="Take the place of the SQLite database that is there.")
@as_json
def restore(file: Path, replacing: bool, as_json: bool) -> None:
    """Prove the backup in FILE and put it in place; Keypost must not run.

    The master key must be there. Everybody has to sign in again, one-time links end, imports that ran are stopped, and
    messages that waited when the backup was made are held for review: they may have been sent since.
    """
    done = put_back(Config.from_environment(), command_line(), file, replacing=replacing)
    click.echo(json.dumps(_as_dict(done)) if as_json else _in_words(done))


def _in_words(done: Restored) -> str:
    said = [
        f"The database of {done.manifest.made_at} is back: its audit trail is sound ({done.lines:,} lines), and "
        f"{done.secrets} secrets picked at random open.",
    ]
    if done.held:
        number = "1 message is" if done.held == 1 else f"{done.held:,} messages are"
        said.append(f"{number} held for review: bin/keypost outbox list, or Admin → Outbox.")
    if done.kept is not None:
        said.append(f"The database that was there before is kept as {done.kept}.")
    return "\n".join([*said, "Start Keypost, and look at: bin/keypost doctor"])


def _as_dict(done: Restored) -> dict[str, object]:
    return {
        "outcome": "restored",
        "made_at": done.manifest.made_at,
        "audit_lines": done.lines,
        "secrets_opened": done.secrets,
        "messages_held": done.held,
        "kept": str(done.kept) if done.kept else None,
    }


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
