"""`keypost users …`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import click

from webapp.actor import Role, command_line
from webapp.cli.importing import print_line, work_on
from webapp.cli.options import as_json, last_address, owner_named, password_stdin, read_password
from webapp.db import Session
from webapp.errors import NotFound
from webapp.identity import imports, invitations, second_factor, throttle
from webapp.identity.imports import PEOPLE, UserImport
from webapp.identity.invitations import Story
from webapp.identity.links import make_link
from webapp.identity.users import User, add_user, find_user, users_by_name
from webapp.importing import Outcome
from webapp.installation import Installation
from webapp.keyring import Secret
from webapp.mail.leaving import Leaving, leaving
from webapp.spreadsheet import MAXIMUM_BYTES

_NO_ADDRESS = "(no address)"


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
    """Add a user, who is told by mail; until mail is set up, the link is printed to be handed over."""
    password = read_password() if password_stdin else None
    link = None
    with installation.database.transaction() as session:
        mail = leaving(session)
        if password is not None:
            user = add_user(session, command_line(), email=email, name=name, role=role, password=password)
        else:
            invited = invitations.invite(session, command_line(), email=email, name=name, role=role)
            user = invited.user
            link = None if mail.is_set_up else _link(installation, mail, invited.token)
    if as_json:
        click.echo(json.dumps(_as_dict(user) | {"link": link, "mail_queued": password is None}))
        return
    click.echo(f"{user.name} <{user.email}> was added as {role.label}.")
    if password is None:
        click.echo(_said_of_mail(user, mail) if link is None else f"{mail.reason} {_handed(link)}")


@group.command("resend")
@click.argument("email")
@as_json
@click.pass_obj
def resend(installation: Installation, email: str, as_json: bool) -> None:
    """Send the mail with a new link to somebody who has no password yet; an earlier link ends."""
    with installation.database.transaction() as session:
        user = invitations.invite_again(session, command_line(), _named(session, email).id).user
        mail = leaving(session)
    click.echo(json.dumps({"email": user.email, "mail_queued": True}) if as_json else _said_of_mail(user, mail))


@group.command("link")
@click.argument("email")
@as_json
@click.pass_obj
def link(installation: Installation, *, email: str, as_json: bool) -> None:
    """Make a one-time link with which a user sets a new password; an earlier one ends."""
    with installation.database.transaction() as session:
        user, mail = _named(session, email), leaving(session)
        made = _link(installation, mail, make_link(session, command_line(), user))
    click.echo(json.dumps({"email": user.email, "link": made}) if as_json else made)


@group.command("unlock")
@click.argument("email")
@click.pass_obj
def unlock(installation: Installation, *, email: str) -> None:
    """Let a user sign in again without waiting for the wrong attempts made with their address."""
    with installation.database.transaction() as session:
        user = owner_named(session, email)
        throttle.unlock(session, command_line(), user.email)
    click.echo(f"{user.name} <{user.email}> can sign in without waiting.")


@group.command("reset-second-factor")
@click.argument("email")
@click.pass_obj
def reset_second_factor(installation: Installation, *, email: str) -> None:
    """Remove the second factors of a user who lost them, and sign them out everywhere."""
    with installation.database.transaction() as session:
        user = owner_named(session, email)
        second_factor.remove_all(session, command_line(), user)
    click.echo(f"{user.name} <{user.email}> signs in with the password alone now, and is signed out everywhere.")


@group.command("list")
@as_json
@click.pass_obj
def list_(installation: Installation, as_json: bool) -> None:
    """Show all users, by name."""
    with installation.database.reading() as session:
        users = users_by_name(session)
        stories = invitations.stories(session, users)
    if as_json:
        click.echo(json.dumps({"users": [_as_dict(user) | _told(stories[user.id]) for user in users]}))
        return
    for user in users:
        state = "" if user.active else ", disabled"
        state += "" if user.password_hash else f", without a password; mail: {_in_words(stories[user.id])}"
        click.echo(f"{user.id:>4}  {user.name} <{user.email}>, {Role(user.role).label}{state}")
    if not users:
        click.echo("There is no user yet. Start bin/serve and open the set-up link it prints.")


@group.command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--dry-run", is_flag=True, help="Say what would become of each line, and add nobody.")
@click.option("--tell-later", is_flag=True, help="Send no mail; Admin → Users does it later with one button.")
@as_json
@click.pass_obj
def import_(installation: Installation, *, file: BinaryIO, dry_run: bool, tell_later: bool, as_json: bool) -> None:
    """Add the people of a table (CSV with a heading: email, name, role). Exit 1 when a line had an error.

    FILE may be - for standard input.
    """
    content, title = file.read(MAXIMUM_BYTES + 1), Path(getattr(file, "name", "") or "").name
    with installation.database.transaction() as session:
        made = imports.draft(session, command_line(), content, title=title)
    if dry_run:
        wrong = _show_preview(installation, made, as_json=as_json)
    else:
        wrong = _run(installation, made.id, by_mail=not tell_later, as_json=as_json)
    if wrong:
        raise click.exceptions.Exit(1)


def _show_preview(installation: Installation, made: UserImport, *, as_json: bool) -> int:
    """Print what would become of each line; gives how many are wrong."""
    with installation.database.transaction() as session:
        verdicts = imports.verdicts(session, made.id)
        imports.discard(session, made.id)
    lines = [
        {
            "line": each.entry.line,
            "email": each.entry.email,
            "name": each.entry.name,
            "role": each.entry.role.value,
            "result": each.outcome.value,
            "why": each.words,
        }
        for each in verdicts
    ]
    wrong = sum(each.outcome is Outcome.WRONG for each in verdicts)
    new = sum(each.outcome is Outcome.NEW for each in verdicts)
    if as_json:
        click.echo(json.dumps({"new": new, "there": len(lines) - new - wrong, "wrong": wrong, "lines": lines}))
        return wrong
    click.echo(f"Read as {made.encoding}. Nobody was added.")
    for each in verdicts:
        print_line(each.entry.line, each.entry.email or _NO_ADDRESS, each.outcome, each.words)
    click.echo(f"{new} new, {len(lines) - new - wrong} already there, {wrong} with an error.")
    return wrong


def _run(installation: Installation, import_id: int, *, by_mail: bool, as_json: bool) -> int:
    """Add the people, together with a server that works on it too; gives how many lines were wrong."""
    database = installation.database
    with database.transaction() as session:
        imports.start(session, command_line(), import_id, by_mail=by_mail, administrators_too=True)
    work_on(PEOPLE, database, import_id)
    with database.reading() as session:
        found, mail = imports.get_import(session, import_id), leaving(session)
        lines = PEOPLE.all_results(session, import_id)
    if as_json:
        click.echo(json.dumps(_results(found, lines)))
        return found.wrong
    for line in lines:
        if line.outcome != Outcome.ADDED.value:
            print_line(line.line, line.email or _NO_ADDRESS, line.result, line.words)
    click.echo(f"{found.added} added, {found.there} already there, {found.wrong} with an error.")
    if found.added and not by_mail:
        click.echo("Nobody was told. Send the mails with the button on Admin → Users.")
    elif found.added:
        click.echo(f"Their mails are queued. {mail.reason}".strip())
    return found.wrong


def _results(found: UserImport, lines: Sequence[imports.ImportedLine]) -> dict[str, object]:
    return {
        "added": found.added,
        "there": found.there,
        "wrong": found.wrong,
        "lines": [
            {
                "line": line.line,
                "email": line.email,
                "name": line.name,
                "role": line.role,
                "result": line.outcome,
                "why": line.words,
            }
            for line in lines
        ],
    }


def _named(session: Session, email: str) -> User:
    user = find_user(session, email)
    if user is None:
        raise NotFound(f"No user has the address {email}. List them with: bin/keypost users list")
    return user


def _said_of_mail(user: User, mail: Leaving) -> str:
    """What becomes of the mail that was queued, honestly."""
    if mail.works:
        return f"A mail to {user.email} with a one-time link is queued; see what becomes of it on Admin → Users."
    return (
        f"A mail to {user.email} with a one-time link waits. {mail.reason} "
        f"To hand over a link instead: bin/keypost users link {user.email}"
    )


def _handed(link: str) -> str:
    return f"Hand over this link, with which the password is set once, within three days: {link}"


def _link(installation: Installation, mail: Leaving, token: Secret) -> str:
    """The link under the Access URL; until there is one, under the address at which Keypost last listened."""
    base = mail.access_url or last_address(installation.config)
    return f"{base}/welcome?token={token.reveal()}"


def _told(story: Story) -> dict[str, object]:
    return {"told": story.is_told, "mail": story.state.value if story.state else None}


def _in_words(story: Story) -> str:
    return f"{story.words}{f' ({story.said})' if story.said else ''}"


def _as_dict(user: User) -> dict[str, object]:
    return {
        "id": user.id,
        "email": user.email,
        "name": user.name,
        "role": user.role,
        "active": user.active,
        "has_password": user.password_hash is not None,
    }
