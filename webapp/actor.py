"""Who does something, and from where: the subject of every right and of every audit line."""

from __future__ import annotations

import enum
import getpass
import os
import re
from dataclasses import dataclass
from typing import Final

from webapp.i18n import N_
from webapp.i18n import gettext as _


class Role(enum.StrEnum):
    """What a user may do before anything is shared with them; the value is stored."""

    ADMINISTRATOR = "administrator"
    PASSWORD_ADMINISTRATOR = "password-administrator"  # noqa: S105 - a role, not a password
    PASSWORD_AUDITOR = "password-auditor"  # noqa: S105 - a role, not a password
    PASSWORD_USER = "password-user"  # noqa: S105 - a role, not a password

    @property
    def label(self) -> str:
        """The role's name in the reader's language."""
        return _(_LABELS[self])

    @property
    def written(self) -> str:
        """The role's name as tables carry it, whatever the reader's language; from_text() reads it."""
        return _LABELS[self]

    @classmethod
    def from_text(cls, text: str) -> Role:
        """Read a role from its value or its label, in any case. Raises ValueError for anything else."""
        return cls(text.strip().lower().replace(" ", "-").replace("_", "-"))


def role_in_words(written: str) -> str:
    """A role as a table carries it, in the reader's language; what is none stays."""
    try:
        return Role.from_text(written).label
    except ValueError:
        return written


_LABELS = {
    Role.ADMINISTRATOR: N_("Administrator"),
    Role.PASSWORD_ADMINISTRATOR: N_("Password Administrator"),
    Role.PASSWORD_AUDITOR: N_("Password Auditor"),
    Role.PASSWORD_USER: N_("Password User"),
}


@dataclass(frozen=True, slots=True)
class Actor:
    """A user in a session, the command line, or the program itself.

    ``everything`` is true for the command line alone: who can read the master key can read all.
    """

    id: int | None
    name: str
    source: str
    role: Role
    everything: bool = False

    @property
    def is_administrator(self) -> bool:
        return self.role is Role.ADMINISTRATOR

    @property
    def adds_resources(self) -> bool:
        return self.role in (Role.ADMINISTRATOR, Role.PASSWORD_ADMINISTRATOR)


NOBODY: Final = "nobody"
"""The name of who is not signed in."""
COMMAND_LINE: Final = "command line"
"""How the names of who acts at the command line begin."""
_BY_COMMAND: Final = re.compile(rf"{COMMAND_LINE} \((?P<user>.*)\)")
_SOURCES: Final = {COMMAND_LINE: N_("command line"), "background": N_("background")}


def name_in_words(name: str) -> str:
    """An actor's name as a reader is told it: people's stay, and the command line is called that in any language."""
    if name == NOBODY:
        return _("nobody")
    found = _BY_COMMAND.fullmatch(name)
    return _("command line (%(user)s)", user=found["user"]) if found else name


def source_in_words(source: str) -> str:
    """Where somebody acted from, in the reader's language: an address stays."""
    return _(_SOURCES[source]) if source in _SOURCES else source


def command_line() -> Actor:
    """The person at this machine's command line, named after the operating system's user."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"uid {os.getuid()}"
    return Actor(None, f"{COMMAND_LINE} ({name})", COMMAND_LINE, Role.ADMINISTRATOR, everything=True)


def program() -> Actor:
    """Keypost acting by itself: background checks, delivery, housekeeping."""
    return Actor(None, "Keypost", "background", Role.PASSWORD_USER)
