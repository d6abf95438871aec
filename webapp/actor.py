"""Who does something, and from where: the subject of every right and of every audit line."""

from __future__ import annotations

import enum
import getpass
import os
from dataclasses import dataclass

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


def command_line() -> Actor:
    """The person at this machine's command line, named after the operating system's user."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"uid {os.getuid()}"
    return Actor(None, f"command line ({name})", "command line", Role.ADMINISTRATOR, everything=True)


def program() -> Actor:
    """Keypost acting by itself: background checks, delivery, housekeeping."""
    return Actor(None, "Keypost", "background", Role.PASSWORD_USER)
