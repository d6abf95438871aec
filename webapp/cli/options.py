"""What several commands ask for, and the things they name by it."""

from __future__ import annotations

import contextlib
import sys

import click

from webapp.actor import Actor, command_line
from webapp.config import Config
from webapp.db import Session
from webapp.errors import Invalid, NotFound
from webapp.identity.users import User, find_user
from webapp.keyring import Secret
from webapp.vault import resources
from webapp.vault.resources import Resource
from webapp.vault.rights import Right

# The longest password in the longest encoding, and more, so that an oversized one is refused and not cut.
MOST_BYTES = 10_000
_ADDRESS_FILE = "address"

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
password_stdin = click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")


def read_password() -> Secret:
    """Standard input without the line end that echo and files add. Raises Invalid."""
    given: bytes = sys.stdin.buffer.read(MOST_BYTES)
    try:
        text = given.decode("utf-8")
    except UnicodeDecodeError:
        raise Invalid("The password on standard input is not UTF-8. Convert it, then try again.") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise Invalid("Standard input holds no password. Pipe it in: echo PASSWORD | bin/keypost …")
    return Secret(text)


def needed_password(password_stdin: bool) -> Secret:
    """The password of a command that cannot do without."""
    if not password_stdin:
        raise click.UsageError("Give the password on standard input, and say so with --password-stdin.")
    return read_password()


def keep_address(config: Config, base: str) -> None:
    """Note where the server listens, for last_address(); a folder that cannot be written to must not stop it."""
    with contextlib.suppress(OSError):
        (config.instance / _ADDRESS_FILE).write_text(base)


def last_address(config: Config) -> str:
    """Where the server listened last, as ``http://host:port``; where it would listen if it never has."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        kept = (config.instance / _ADDRESS_FILE).read_text().strip()
        if kept.startswith("http://"):
            return kept
    return f"http://{config.host}:{config.port}"


def owner_named(session: Session, email: str) -> User:
    """The user with this address. Raises NotFound."""
    user = find_user(session, email)
    if user is None:
        raise NotFound(f"There is no user with the address {email}. See who there is with: bin/keypost users list")
    return user


def resource_named(session: Session, text: str, owner: str | None) -> Resource:
    """The resource of this name, or else of this number; with ``owner``, among theirs alone.

    Raises NotFound, and Refused when somebody else owns it and shares it with ``owner``.
    """
    actor: Actor = owner_named(session, owner).actor("command line") if owner else command_line()
    found = resources.find_resource(session, actor, text)
    if found is not None:
        return resources.get_resource(session, actor, found.id, Right.OWN)
    if text.isascii() and text.isdigit() and len(text) <= 10:
        return resources.get_resource(session, actor, int(text), Right.OWN)
    whose = f" of {owner}" if owner else ""
    raise NotFound(
        f"There is no resource{whose} named “{text}”. Add it first with: bin/keypost resources add --name NAME"
    )
