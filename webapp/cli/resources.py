"""`keypost resources …`."""

from __future__ import annotations

import json

import click

from webapp.actor import command_line
from webapp.cli.options import as_json, owner_named
from webapp.identity.users import get_user
from webapp.installation import Installation
from webapp.vault.resources import KINDS, ResourceDetails, add_resource


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
