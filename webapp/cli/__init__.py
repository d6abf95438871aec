"""`bin/keypost …`: the command line. Each command is imported when it is asked for, so that all start fast."""

from __future__ import annotations

import importlib
import os
from functools import cached_property
from typing import TYPE_CHECKING, Final

import click

from webapp.errors import Problem
from webapp.logs import printable

if TYPE_CHECKING:
    from webapp.config import Config
    from webapp.db import Database
    from webapp.installation import Installation
    from webapp.keyring import Keyring

# Each command's module under webapp.cli, and its name there.
COMMANDS: Final = {
    "accounts": ("accounts", "group"),
    "audit": ("audit", "group"),
    "backup": ("backup", "backup"),
    "certificates": ("certificates", "group"),
    "doctor": ("doctor", "doctor"),
    "keys": ("keys", "group"),
    "mail": ("mail", "group"),
    "outbox": ("outbox", "group"),
    "resources": ("resources", "group"),
    "restore": ("backup", "restore"),
    "serve": ("serve", "serve"),
    "shares": ("shares", "group"),
    "users": ("users", "group"),
    "worker": ("worker", "worker"),
}


class OpenedLate:
    """The installation that the environment names, opened by the first command that touches it: help needs none."""

    @cached_property
    def _opened(self) -> Installation:
        import webapp.models  # noqa: F401, PLC0415 - all tables, and with them all that uses accounts
        from webapp.config import Config  # noqa: PLC0415 - usage and help come without waiting for the database
        from webapp.installation import open_installation  # noqa: PLC0415

        config = Config.from_environment()
        is_new = not os.path.exists(config.master_key_file)
        opened = open_installation(config)
        if is_new:
            click.echo(
                f"There was no vault in {config.instance}, so an empty one was made there. If yours is elsewhere, give "
                "this command the same KEYPOST_INSTANCE, and other KEYPOST_… variables, as bin/serve has.",
                err=True,
            )
        return opened

    @property
    def config(self) -> Config:
        return self._opened.config

    @property
    def keyring(self) -> Keyring:
        return self._opened.keyring

    @property
    def database(self) -> Database:
        return self._opened.database

    def close(self) -> None:
        if "_opened" in self.__dict__:
            self._opened.close()


class _Commands(click.Group):
    """The commands above. A Problem becomes its sentence on standard error and exit status 1."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for each in args:
            if any("\ud800" <= sign <= "\udfff" for sign in each):  # How Python keeps bytes that are not UTF-8.
                raise click.UsageError(
                    f"“{printable(each)}” is no text in UTF-8. Type it again; a file of such a name needs another one."
                )
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(f"webapp.cli.{module}"), name)
        assert isinstance(command, click.Command)  # noqa: S101 - tells mypy what the table above says
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except Problem as problem:
            sentence = str(problem)
        except _database_errors() as error:
            sentence = (
                f"The database did not answer as it should ({_first_line(error)}), and nothing was changed. "
                "Try again; if it happens again, check the database."
            )
        except _broken_seals() as broken:
            sentence = f"This was not done: {broken}. A backup may hold it as it was."
        click.echo(sentence, err=True)
        raise click.exceptions.Exit(1)


def _database_errors() -> type[Exception]:
    from sqlalchemy.exc import OperationalError  # noqa: PLC0415 - only when something went wrong

    return OperationalError


def _broken_seals() -> type[Exception]:
    from webapp.keyring import SealBroken  # noqa: PLC0415 - as above

    return SealBroken


def _first_line(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def main(ctx: click.Context) -> None:
    """Keypost: a password vault whose mail settings sign in with an account kept in it."""
    if ctx.obj is None:
        ctx.obj = OpenedLate()
        ctx.call_on_close(ctx.obj.close)
