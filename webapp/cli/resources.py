"""`keypost resources …`."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from webapp.actor import command_line
from webapp.cli.importing import print_line, work_on
from webapp.cli.options import as_json, owner_named, resource_named
from webapp.db import Session
from webapp.errors import Conflict
from webapp.identity.users import get_user
from webapp.importing import Outcome
from webapp.installation import Installation
from webapp.spreadsheet import MAXIMUM_BYTES, Sheet, heading
from webapp.vault import exports, imports, shares
from webapp.vault.accounts import label
from webapp.vault.exports import Wanted
from webapp.vault.imports import RESOURCES, ResourceImport, Result
from webapp.vault.inventory import Columns
from webapp.vault.resources import KINDS, ResourceDetails, add_resource
from webapp.vault.rights import ON_RESOURCE, Right


@click.group()
def group() -> None:
    """What holds accounts: servers, applications, devices, services."""


@group.command("add")
@click.option("--name", required=True)
@click.option("--address", default="", help="Host name, address or URL.")
@click.option("--type", "kind", type=click.Choice(KINDS, case_sensitive=False), default=KINDS[0], show_default=True)
@click.option("--notes", default="")
@click.option("--owner", metavar="EMAIL", help="Whose it is; the only administrator's unless named.")
@as_json
@click.pass_obj
def add(
    installation: Installation, *, name: str, address: str, kind: str, notes: str, owner: str | None, as_json: bool
) -> None:
    """Add a resource."""
    details = ResourceDetails(name=name, address=address, kind=kind, notes=notes)
    with installation.database.transaction() as session:
        owner_id = owner_named(session, owner).id if owner else None
        resource = add_resource(session, command_line(), details, owner_id=owner_id)
        email = get_user(session, resource.owner_id).email
    if as_json:
        click.echo(json.dumps({"id": resource.id, "name": resource.name, "type": resource.kind, "owner": email}))
    else:
        click.echo(f"“{resource.name}” was added as resource {resource.id}; it belongs to {email}.")


@group.command("transfer")
@click.argument("resource", metavar="NAME")
@click.option("--to", "email", required=True, metavar="EMAIL", help="Who owns it from now on.")
@click.option(
    "--keep", type=click.Choice([right.word for right in ON_RESOURCE]), help="What the owner until now may still do."
)
@click.option("--although-used", is_flag=True, help="Also when mail signs in with an account that the owner chose.")
@as_json
@click.pass_obj
def transfer(
    installation: Installation, *, resource: str, email: str, keep: str | None, although_used: bool, as_json: bool
) -> None:
    """Make somebody else the owner of the resource with this name or number."""
    with installation.database.transaction() as session:
        held, heir = resource_named(session, resource, None), owner_named(session, email)
        kept = Right.from_word(keep) if keep else None
        shares.transfer(session, command_line(), held.id, heir.id, keep=kept, although_used=although_used)
    if as_json:
        click.echo(json.dumps({"id": held.id, "name": held.name, "owner": heir.email, "kept": keep}))
    else:
        click.echo(f"“{held.name}” belongs to {heir.name} <{heir.email}> now.")


@group.command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--owner", metavar="EMAIL", help="Whose the resources are; the only administrator's unless named.")
@click.option("--replace", is_flag=True, help="Give accounts that are there already the password of the table.")
@click.option(
    "--column", "named", multiple=True, metavar="FIELD=HEADING",
    help=f"Which column holds what, where the headings do not tell. FIELD: one of {', '.join(Columns._fields)}.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would become of each line, and add nothing.")
@as_json
@click.pass_obj
def import_(
    installation: Installation,
    *,
    file: BinaryIO,
    owner: str | None,
    replace: bool,
    named: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Add the resources and accounts of a table (CSV, as password managers export it). Exit 1 when a line had an error.

    FILE may be - for standard input. Each line is added wholly or not at all; passwords are never printed.
    """
    content, title = file.read(MAXIMUM_BYTES + 1), Path(getattr(file, "name", "") or "").name
    with installation.database.transaction() as session:
        owner_id = owner_named(session, owner).id if owner else None
        made = imports.draft(session, command_line(), content, title=title, owner_id=owner_id)
        sheet = imports.sheet_of(session, made)
        columns = made.columns._replace(**_columns(named, sheet))
        has_heading = sheet.has_heading or bool(named)
        imports.choose(session, made, columns, has_heading=has_heading, replace=replace)
        results = _foretold(session, made) if dry_run else []
        if dry_run:
            imports.discard(session, made)
        else:
            imports.start(session, command_line(), made)
    if not dry_run:
        work_on(RESOURCES, installation.database, made.id)
        with installation.database.reading() as session:
            results = imports.named(session, RESOURCES.all_results(session, made.id))
    _print_results(results, made.encoding, dry_run=dry_run, as_json=as_json)
    if any(each.outcome is Outcome.WRONG for each in results):
        raise click.exceptions.Exit(1)


@group.command("export")
@click.argument("file", default="-", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--owner", metavar="EMAIL", help="Whose resources; everybody's unless named.")
@click.option("--search", "q", default="", metavar="WORDS", help="Only those whose name or address holds every word.")
@click.option("--yes", is_flag=True, help="Do not ask; for scripts.")
@click.pass_obj
def export(installation: Installation, *, file: str, owner: str | None, q: str, yes: bool) -> None:
    """Write resources, accounts and PASSWORDS IN CLEAR as CSV, which `resources import` takes back.

    To standard output, or to a new FILE that you alone can read. The audit trail notes it.
    """
    with installation.database.reading() as session:
        wanted = Wanted(q, owner_id=owner_named(session, owner).id if owner else None)
        passwords = exports.count(session, command_line(), wanted)
    _ask(passwords, yes=yes)
    with opened(file) as out:
        made = exports.export(installation.database, command_line(), wanted)
        out.write(made.text.encode())
    number = "1 password was" if made.accounts == 1 else f"{made.accounts:,} passwords were"
    click.echo(f"{number} written in clear. Delete the table as soon as it has served.", err=True)


def _ask(passwords: int, *, yes: bool) -> None:
    """Have somebody at the terminal confirm, or the script that calls by --yes."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("This writes passwords in clear. Confirm it at a terminal, or with --yes.")
    click.confirm(f"This writes {passwords} passwords in clear. Go on?", abort=True, err=True)


@contextmanager
def opened(file: str) -> Iterator[BinaryIO]:
    """Standard output, or a new file with the mode 0600, of which nothing stays when it is not finished.

    Raises Conflict for a file that is there, or that cannot be written.
    """
    if file == "-":
        yield sys.stdout.buffer
        return
    try:
        out = os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except OSError as error:
        raise Conflict(
            f"{file} cannot be made ({error.strerror}), and nothing was exported. Name another file."
        ) from None
    try:
        with out:
            yield out
    except BaseException as error:
        Path(file).unlink()
        if isinstance(error, OSError):
            raise Conflict(
                f"{file} cannot be written ({error.strerror}), and nothing of it was left there. Name another file."
            ) from None
        raise


def _columns(named: tuple[str, ...], sheet: Sheet) -> dict[str, int]:
    """The columns that were named by hand. Raises BadParameter."""
    with_heading = [heading(column) for column in sheet.columns]
    found = {}
    for each in named:
        field, _, name = each.partition("=")
        if field not in Columns._fields or heading(name) not in with_heading:
            there = ", ".join(sheet.columns) if sheet.has_heading else "none that is known"
            raise click.BadParameter(f"“{each}” is no field with a heading. The headings are: {there}.")
        found[field] = with_heading.index(heading(name))
    return found


def _foretold(session: Session, made: ResourceImport) -> list[Result]:
    return [
        Result(each.entry.line, each.entry.details.name, each.entry.username, each.outcome, each.words, None)
        for each in imports.verdicts(session, command_line(), made)
    ]


def _print_results(results: Sequence[Result], encoding: str, *, dry_run: bool, as_json: bool) -> None:
    counts = Counter(each.outcome for each in results)
    if as_json:
        lines = [
            {
                "line": each.line,
                "resource": each.resource,
                "username": each.username,
                "result": each.outcome.value,
                "why": each.words,
            }
            for each in results
        ]
        click.echo(json.dumps({**{outcome.value: count for outcome, count in counts.items()}, "lines": lines}))
        return
    if dry_run:
        click.echo(f"Read as {encoding}. Nothing was added.")
    for each in results:
        if dry_run or each.outcome is not Outcome.ADDED:
            print_line(each.line, label(each.resource, each.username), each.outcome, each.words)
    click.echo(", ".join(f"{count} {outcome.label}" for outcome, count in counts.items()) + ".")
