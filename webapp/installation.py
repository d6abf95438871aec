"""One installation: its configuration, keyring and database, opened together and checked against each other."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Mapped, mapped_column

from webapp import migrations
from webapp.config import Config, prepare_instance
from webapp.db import Base, Database, UtcDateTime, keep_private, make_engine, utc_now
from webapp.errors import CannotStart
from webapp.keyring import Keyring, make_key_file, read_key_file


class InstallationRow(Base):
    """What identifies this installation, and a value that only its own master key gives."""

    __tablename__ = "installation"

    id: Mapped[int] = mapped_column(primary_key=True)
    identifier: Mapped[str] = mapped_column(sa.String(64))
    key_check: Mapped[str] = mapped_column(sa.String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


@dataclass(frozen=True, slots=True)
class Installation:
    config: Config
    keyring: Keyring
    database: Database

    def close(self) -> None:
        self.database.dispose()


def open_installation(config: Config) -> Installation:
    """Open an installation, making it when its database is empty, and migrate it.

    Raises CannotStart before anything is changed when folder, key or database do not fit together.
    """
    os.umask(0o077)
    prepare_instance(config.instance)
    engine = make_engine(config.database_url)
    try:
        keyring = _keyring(config, _key_check(engine))
        migrations.upgrade(engine, first=lambda connection: _sign(connection, keyring))
        # Somebody else may have been the first at the empty database, with a key of their own.
        _compare(config, keyring, _key_check(engine))
    except DatabaseError as error:
        raise CannotStart(_unreachable(config, error)) from None
    finally:
        engine.dispose()
    keep_private(config.database_url)
    return Installation(config, keyring, Database(config.database_url, keyring))


def _key_check(engine: sa.Engine) -> str | None:
    """The value the database's own key gives, or None when the database is empty."""
    with engine.connect() as connection:
        if migrations.current_revision(connection) is None:
            return None
        return connection.scalar(sa.select(InstallationRow.key_check).where(InstallationRow.id == 1)) or ""


def _keyring(config: Config, key_check: str | None) -> Keyring:
    if key_check is None and not config.master_key_file.exists():
        make_key_file(config.master_key_file)
    keyring = read_key_file(config.master_key_file)
    if key_check is not None:
        _compare(config, keyring, key_check)
    return keyring


def _compare(config: Config, keyring: Keyring, key_check: str | None) -> None:
    if keyring.digest("key check") != key_check:
        raise CannotStart(
            f"The master key {config.master_key_file} is not the one this database was sealed with; nothing was "
            "changed. Put the right key back, or name it with KEYPOST_MASTER_KEY_FILE."
        )


def _sign(connection: sa.Connection, keyring: Keyring) -> None:
    connection.execute(
        sa.insert(InstallationRow).values(
            id=1,
            identifier=secrets.token_urlsafe(16),
            key_check=keyring.digest("key check"),
            created_at=utc_now(),
        )
    )


def _unreachable(config: Config, error: DatabaseError) -> str:
    url = make_url(config.database_url)
    reason = str(error.orig).strip().splitlines()[0] if error.orig else "no reason given"
    if url.get_backend_name() == "sqlite":
        return f"The database {url.database} cannot be opened: {reason}. Check the file and its folder."
    return (
        f"The database {url.render_as_string(hide_password=True)} cannot be opened: {reason}. "
        "Check that PostgreSQL runs and that KEYPOST_DATABASE_URL is right."
    )
