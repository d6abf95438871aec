"""`keypost accounts …`, the rotation hook for scripts among them."""

from __future__ import annotations

import json

import click

from webapp.actor import command_line
from webapp.cli.options import as_json, needed_password, password_stdin, resource_named
from webapp.db import Session
from webapp.installation import Installation
from webapp.vault import accounts, uses
from webapp.vault.accounts import Account


@click.group()
def group() -> None:
    """User names and passwords on resources."""


@group.command("add")
@click.option("--resource", "resource", required=True, metavar="NAME", help="The resource's name or number.")
@click.option("--username", required=True)
@click.option("--notes", default="")
@click.option("--owner", metavar="EMAIL", help="Whose resource it must be.")
@password_stdin
@as_json
@click.pass_obj
def add(
    installation: Installation,
    *,
    resource: str,
    username: str,
    notes: str,
    owner: str | None,
    password_stdin: bool,
    as_json: bool,
) -> None:
    """Add an account to a resource."""
    password = needed_password(password_stdin)
    with installation.database.transaction() as session:
        held = resource_named(session, resource, owner)
        account = accounts.add_account(session, command_line(), held.id, username, password, notes=notes)
        shown = _as_dict(session, account)
    click.echo(json.dumps(shown) if as_json else f"“{account.label}” was added as account {account.id}.")


@group.command("set-password")
@click.argument("id", type=int)
@password_stdin
@as_json
@click.pass_obj
def set_password(installation: Installation, id: int, password_stdin: bool, as_json: bool) -> None:
    """Give account ID a new password; what uses it signs in with the new one from now on."""
    password = needed_password(password_stdin)
    with installation.database.transaction() as session:
        account = accounts.set_password(session, command_line(), id, password)
        shown, used_by = _as_dict(session, account), uses.uses_of(session, id)
    if as_json:
        click.echo(json.dumps(shown))
        return
    click.echo(f"“{account.label}” has its password number {account.password_version}.")
    if used_by:
        click.echo(f"From now on it is used by {' and '.join(used_by)}.")


@group.command("list")
@click.option("--search", "q", default="", metavar="WORDS", help="Only those whose label holds every word.")
@as_json
@click.pass_obj
def list_(installation: Installation, q: str, as_json: bool) -> None:
    """Show all accounts, by resource and user name; never a password."""
    with installation.database.reading() as session:
        found = accounts.each_account(session, command_line(), q)
        if as_json:
            click.echo(json.dumps({"accounts": [_as_dict(session, account) for account in found]}))
            return
        account = None
        for account in found:
            used_by = uses.uses_of(session, account.id)
            click.echo(f"{account.id:>6}  {account.label}" + (f" (used by {', '.join(used_by)})" if used_by else ""))
    if account is None:
        click.echo("No account holds these words." if q else "There is no account yet.")


def _as_dict(session: Session, account: Account) -> dict[str, object]:
    return {
        "id": account.id,
        "resource": account.resource.name,
        "resource_id": account.resource_id,
        "username": account.username,
        "label": account.label,
        "password_version": account.password_version,
        "updated_at": account.updated_at.isoformat(),
        "used_by": uses.uses_of(session, account.id),
    }
