"""The log on standard error: each entry begins at the left margin, and nothing that was typed can pretend to be one."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Final, TypeAlias

_FORM: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"
_MARGIN: Final = "    "
_Raised: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class Entries(logging.Formatter):
    """Writes an entry on one line, and where it came from on lines that are set in.

    What moves the cursor, turns the writing or ends a line is written as an escape (OWASP ASVS 5.0, 16.4.1).
    """

    def __init__(self) -> None:
        super().__init__(_FORM)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The entry itself."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: _Raised) -> str:
        """The traceback, set in."""
        return _set_in(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:
        """The stack, set in."""
        return _set_in(super().formatStack(stack_info))


def begin() -> None:
    """Log warnings and worse of everything in this process to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(Entries())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def printable(text: str) -> str:
    """The text with every character that does not print as itself written as an escape such as ``\\x1b``."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def _set_in(lines: str) -> str:
    return "\n".join(_MARGIN + printable(line) for line in lines.split("\n"))
