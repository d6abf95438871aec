"""The settings that well-known providers publish, kept as data in presets.toml."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from webapp.i18n import lazy
from webapp.mail.transport import Security, Server

_DATA: Final = Path(__file__).with_name("presets.toml")


@dataclass(frozen=True, slots=True)
class Preset:
    """One provider. domains: of its own addresses; mx: ends of the names its customers' MX records lead to.

    username: what to enter there, in words; note: what people stumble over, both in the reader's language. source: the
    provider's documentation.
    """

    name: str
    domains: tuple[str, ...]
    mx: tuple[str, ...]
    server: Server
    username: str
    note: str
    source: str


@functools.cache
def presets() -> tuple[Preset, ...]:
    """All of them, in the order of the file."""
    with _DATA.open("rb") as file:
        return tuple(
            Preset(
                name=entry["name"],
                domains=tuple(entry["domains"]),
                mx=tuple(entry["mx"]),
                server=Server(entry["server_name"], entry["port"], Security(entry["security"])),
                username=lazy(entry["username"]),
                note=lazy(entry["note"]),
                source=entry["source"],
            )
            for entry in tomllib.load(file)["preset"]
        )


def for_domain(domain: str) -> tuple[Preset, ...]:
    """The providers whose own addresses end with ``@domain`` (lower case)."""
    return tuple(preset for preset in presets() if domain in preset.domains)


def for_mail_exchangers(names: Iterable[str]) -> tuple[Preset, ...]:
    """The providers that take in the mail of a domain whose MX records lead to these names (lower case)."""
    known = tuple(names)
    return tuple(preset for preset in presets() if any(_is_under(name, end) for name in known for end in preset.mx))


def for_server(name: str) -> tuple[Preset, ...]:
    """The providers whose server this is (lower case)."""
    return tuple(preset for preset in presets() if preset.server.name == name)


def named(text: str) -> Preset | None:
    """The provider of this name, however it is capitalised."""
    wanted = text.strip().casefold()
    return next((preset for preset in presets() if preset.name.casefold() == wanted), None)


def _is_under(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")
