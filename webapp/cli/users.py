"""`keypost users …`."""

from __future__ import annotations

import json

import click

from webapp.actor import Role, command_line
from webapp.cli.options import as_json, password_stdin, read_password
from webapp.db import Session
from webapp.errors import NotFound
from webapp.identity.links import make_link
from webapp.identity.users import User, add_user, find_user, users_by_name
from webapp.installation import Installation
from webapp.keyring import Secret
from webapp.mail import settings


@click.group()
def group() -> None:
    """The people who can sign in."""


def _role(_ctx: click.Context, _option: click.Parameter, text: str) -> Role:
    try:
        return Role.from_text(text)
    except ValueError:
        raise click.BadParameter(f"“{text}” is no role. Choose one of: {', '.join(Role)}.") from None


@group.command("add")
@click.option("--email", required=True, help="What the person signs in with.")
@click.option("--name", required=True)
@click.option("--role", required=True, callback=_role, metavar="ROLE", help=f"One of: {', '.join(Role)}.")
@password_stdin
@as_json
@click.pass_obj
def add(installation: Installation, *, email: str, name: str, role: Role, password_stdin: bool, as_json: bool) -> None:
    """Add a user."""
    password = read_password() if password_stdin else None
    with installation.database.transaction() as session:
        user = add_user(session, command_line(), email=email, name=name, role=role, password=password)
        link = None if password_stdin else _link(session, installation, make_link(session, command_line(), user))
    if as_json:
        click.echo(json.dumps(_as_dict(user) | {"link": link}))
        return
    click.echo(f"{user.name} <{user.email}> was added as {role.label}.")
    if link is not None:
        click.echo(f"Hand over this link, with which the password is set once, within three days: {link}")


@group.command("link")
@click.argument("email")
@as_json
@click.pass_obj
def link(installation: Installation, *, email: str, as_json: bool) -> None:
    """Make a one-time link with which a user sets a new password; an earlier one ends."""
    with installation.database.transaction() as session:
        user = find_user(session, email)
        if user is None:
            raise NotFound(f"No user has the address {email}. List them with: bin/keypost users list")
        made = _link(session, installation, make_link(session, command_line(), user))
    click.echo(json.dumps({"email": user.email, "link": made}) if as_json else made)


def _link(session: Session, installation: Installation, token: Secret) -> str:
    saved, config = settings.current(session), installation.config
    base = saved.access_url if saved else f"http://{config.host}:{config.port}"
    return f"{base}/welcome?token={token.reveal()}"


@group.command("list")
@as_json
@click.pass_obj
def list_(installation: Installation, as_json: bool) -> None:
    """Show all users, by name."""
    with installation.database.reading() as session:
        users = users_by_name(session)
    if as_json:
        click.echo(json.dumps({"users": [_as_dict(user) for user in users]}))
        return
    for user in users:
        state = "" if user.active else ", disabled"
        state += "" if user.password_hash else ", without a password"
        click.echo(f"{user.id:>4}  {user.name} <{user.email}>, {Role(user.role).label}{state}")
    if not users:
        click.echo("There is no user yet. Start bin/serve and open the set-up link it prints.")


def _as_dict(user: User) -> dict[str, object]:
    return {
        "id": user.id,
        "email": user.email,
        "name": user.name,
        "role": user.role,
        "active": user.active,
        "has_password": user.password_hash is not None,
    }
