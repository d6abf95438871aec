"""`keypost shares …`: who may use what of somebody else."""

from __future__ import annotations

import json

import click

from webapp.actor import command_line
from webapp.cli.options import as_json, owner_named, resource_named
from webapp.db import Session
from webapp.installation import Installation
from webapp.vault import accounts, shares
from webapp.vault.rights import ON_RESOURCE, Right
from webapp.vault.shares import Holder

_resource = click.option("--resource", metavar="NAME", help="The resource's name or number.")
_account = click.option("--account", type=int, metavar="ID", help="One account, by its number.")
_user = click.option("--user", "email", required=True, metavar="EMAIL", help="Whose share it is.")


@click.group()
def group() -> None:
    """Who may use what of somebody else."""


@group.command("list")
@_resource
@_account
@as_json
@click.pass_obj
def list_(installation: Installation, *, resource: str | None, account: int | None, as_json: bool) -> None:
    """Show who has a right on a resource or an account, the owner first."""
    with installation.database.reading() as session:
        noun, id, label = _thing(session, resource, account)
        if noun == "account":
            holders = shares.holders_of_account(session, command_line(), id)
        else:
            holders = shares.holders_of_resource(session, command_line(), id)
    if as_json:
        click.echo(json.dumps({noun: {"id": id, "name": label}, "holders": [_as_dict(each) for each in holders]}))
        return
    for each in holders:
        state = "" if each.user.active else ", disabled"
        click.echo(f"{each.right.word:>7}  {each.user.name} <{each.user.email}>{state}")


@group.command("add")
@_resource
@_account
@_user
@click.option(
    "--right", "word", required=True, type=click.Choice([right.word for right in ON_RESOURCE]),
    help="view: see it and reveal passwords; modify: also edit it and set passwords; manage: also share and delete it.",
)  # fmt: skip
@as_json
@click.pass_obj
def add(
    installation: Installation, *, resource: str | None, account: int | None, email: str, word: str, as_json: bool
) -> None:
    """Give somebody a right, or another one than they had."""
    with installation.database.transaction() as session:
        noun, id, label = _thing(session, resource, account)
        user = owner_named(session, email)
        give = shares.share_account if noun == "account" else shares.share_resource
        give(session, command_line(), id, user.id, Right.from_word(word))
    if as_json:
        click.echo(json.dumps({noun: {"id": id, "name": label}, "user": user.email, "right": word}))
    else:
        click.echo(f"{user.name} may {word} “{label}”.")


@group.command("remove")
@_resource
@_account
@_user
@click.option("--although-used", is_flag=True, help="Also when mail signs in with an account that this person chose.")
@as_json
@click.pass_obj
def remove(
    installation: Installation,
    *,
    resource: str | None,
    account: int | None,
    email: str,
    although_used: bool,
    as_json: bool,
) -> None:
    """Withdraw a share."""
    with installation.database.transaction() as session:
        noun, id, label = _thing(session, resource, account)
        user = owner_named(session, email)
        take = shares.withdraw_account if noun == "account" else shares.withdraw_resource
        take(session, command_line(), id, user.id, although_used=although_used)
    if as_json:
        click.echo(json.dumps({noun: {"id": id, "name": label}, "user": user.email, "right": None}))
    else:
        click.echo(f"“{label}” is no longer shared with {user.name} by this share.")


def _thing(session: Session, resource: str | None, account: int | None) -> tuple[str, int, str]:
    """What is meant: its noun, number and name. Raises UsageError unless exactly one is named."""
    if (resource is None) == (account is None):
        raise click.UsageError("Name either a resource with --resource or an account with --account.")
    if account is not None:
        found = accounts.get_account(session, command_line(), account)
        return "account", found.id, found.label
    held = resource_named(session, resource or "", None)
    return "resource", held.id, held.name


def _as_dict(holder: Holder) -> dict[str, object]:
    return {
        "email": holder.user.email,
        "name": holder.user.name,
        "active": holder.user.active,
        "right": holder.right.word,
        "on_resource": holder.on_resource.word if holder.on_resource else None,
        "on_account": holder.on_account.word if holder.on_account else None,
    }
