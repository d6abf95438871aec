"""Settings from the environment, typed and checked before anything starts."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from webapp.errors import CannotStart

ROOT = Path(__file__).resolve().parent.parent
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Config:
    """Where this installation lives and what it listens on.

    instance: folder of the database and the master key, mode 0700.
    database_url: an SQLAlchemy URL for SQLite or PostgreSQL.
    """

    instance: Path
    database_url: str
    master_key_file: Path
    host: str = "127.0.0.1"
    port: int = 8000

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Config:
        """Read the KEYPOST_… variables. Raises CannotStart with the variable's name when one cannot be used."""
        instance = Path(environ.get("KEYPOST_INSTANCE") or ROOT / "instance").absolute()
        return cls(
            instance=instance,
            database_url=_database_url(environ.get("KEYPOST_DATABASE_URL") or _sqlite_url(instance / "keypost.db")),
            master_key_file=Path(environ.get("KEYPOST_MASTER_KEY_FILE") or instance / "master.key").absolute(),
            host=environ.get("KEYPOST_HOST") or "127.0.0.1",
            port=parse_port(environ.get("KEYPOST_PORT") or "8000", "KEYPOST_PORT"),
        )


def parse_port(text: str, name: str) -> int:
    """A TCP port from 0 (any free one) to 65535. Raises CannotStart naming the setting ``name``."""
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise CannotStart(f"{name} is “{text}”, which is not a port. Give a whole number from 1 to 65535.")
    return int(text)


def _sqlite_url(path: Path) -> str:
    """The address of a file, whatever characters its path holds."""
    return sa.URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def _database_url(text: str) -> str:
    scheme = text.split(":", 1)[0]
    try:
        url = make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        raise CannotStart(
            "KEYPOST_DATABASE_URL is no database's address. "
            "It looks like sqlite:////folder/keypost.db or postgresql://user:password@host:5432/name."
        ) from None
    if scheme == "sqlite":
        if url.database in (None, "", ":memory:"):
            raise CannotStart(
                "KEYPOST_DATABASE_URL names no file, so nothing would be kept. Write sqlite:/// and the file's path."
            )
        return text
    if scheme in ("postgresql", "postgres", "postgresql+psycopg"):
        return "postgresql+psycopg:" + text.split(":", 1)[1]
    raise CannotStart(
        "KEYPOST_DATABASE_URL must begin with sqlite:/// or postgresql://; "
        f"it begins with “{scheme[:20]}”. Leave it out to use SQLite in the instance folder."
    )


def prepare_instance(instance: Path) -> None:
    """Make the instance folder, 0700. Raises CannotStart when it cannot be made, written or kept private."""
    try:
        instance.mkdir(mode=0o700, parents=True, exist_ok=True)
        if instance.stat().st_uid == os.geteuid():
            instance.chmod(0o700)
    except OSError as error:
        raise CannotStart(
            f"The folder {instance} cannot be made ({error.strerror}). "
            "Make it yourself, or name another with KEYPOST_INSTANCE."
        ) from None
    if not os.access(instance, os.R_OK | os.W_OK | os.X_OK):
        raise CannotStart(
            f"The folder {instance} is not writable for this user. "
            "Give it to the user that runs Keypost, or name another with KEYPOST_INSTANCE."
        )
    if stat.S_IMODE(instance.stat().st_mode) & 0o077:
        raise CannotStart(f"The folder {instance} is open to other users. Close it with: chmod 700 {instance}")
