"""One installation: its configuration, keyring and database, opened together and checked against each other."""

from __future__ import annotations

import os
import secrets
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Mapped, mapped_column

from webapp import migrations
from webapp.config import Config, prepare_instance
from webapp.db import Base, Database, KeyTerm, Session, UtcDateTime, copy_sqlite, keep_private, make_engine, utc_now
from webapp.errors import CannotStart
from webapp.keyring import Keyring, make_key_file, read_key_file

_COPIES_KEPT: Final = 3
_HALF_RESTORED: Final = "keypost_half_restored"


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


def open_installation(config: Config, *, restoring: bool = False) -> Installation:
    """Open an installation, making it when its database is empty, and migrate it.

    restoring: by whoever restores a backup into the database at this moment; nobody else may.

    Raises CannotStart before anything is changed when folder, key or database do not fit together.
    """
    os.umask(0o077)
    _leave_no_core()
    prepare_instance(config.instance)
    engine = make_engine(config.database_url, patient=True)
    try:
        if not restoring:
            _refuse_half_restored(engine)
        keyring = _keyring(config, _key_check(engine))
        _keep_before_migration(config, engine)
        migrations.upgrade(engine, first=lambda connection: _sign(connection, keyring))
        # Somebody else may have been the first at the empty database, with a key of their own.
        _compare(config, keyring, _key_check(engine))
    except DatabaseError as error:
        raise CannotStart(_unreachable(config, error)) from None
    finally:
        engine.dispose()
    keep_private(config.database_url)
    return Installation(config, keyring, Database(config.database_url, keyring, mail_ports=config.mail_ports))


def _keep_before_migration(config: Config, engine: sa.Engine) -> None:
    """Copy an SQLite database that is about to be migrated, so that the version before can go on with it.

    The last three copies stay, in the folder before-migration beside the database. Raises CannotStart.
    """
    url = make_url(config.database_url)
    with engine.connect() as connection:
        revision = migrations.current_revision(connection)
    if url.get_backend_name() != "sqlite" or not migrations.is_older(revision):
        return
    folder = Path(str(url.database)).absolute().parent / "before-migration"
    draft = folder / f".{secrets.token_hex(8)}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        copy_sqlite(str(url.database), draft)
        os.replace(draft, folder / f"keypost-{revision}.db")
    except OSError as error:
        raise CannotStart(
            f"The database has to be brought up to date, and the copy made before that cannot be written to {folder} "
            f"({error.strerror}). Nothing was changed. Make room, and start again."
        ) from None
    finally:
        draft.unlink(missing_ok=True)
    kept = sorted(folder.glob("keypost-*.db"), key=lambda copy: copy.stat().st_mtime, reverse=True)
    for earlier in kept[_COPIES_KEPT:]:
        earlier.unlink(missing_ok=True)


def _leave_no_core() -> None:
    """Keep what this process knows out of core files: should it crash, the system writes none."""
    if sys.platform != "win32":
        import resource  # noqa: PLC0415 - there is none on Windows

        _soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def open_unchanged(config: Config) -> Installation:
    """Open an installation as it is: nothing is made and nothing is migrated. Raises CannotStart."""
    url = make_url(config.database_url)
    if url.get_backend_name() == "sqlite" and not os.path.exists(str(url.database)):
        folder = os.path.dirname(os.path.abspath(str(url.database)))
        if os.path.isdir(folder) and not os.access(folder, os.X_OK):
            raise CannotStart(f"The folder {folder} is closed to this user. Do this as the user that runs Keypost.")
        raise CannotStart(
            f"There is no database {url.database} yet. Start once with bin/serve, which makes it; or if your vault is "
            "elsewhere, give this command the same KEYPOST_INSTANCE as bin/serve has."
        )
    keyring = read_key_file(config.master_key_file)
    engine = make_engine(config.database_url)
    try:
        _refuse_half_restored(engine)
        _compare(config, keyring, _key_check(engine))
        _refuse_outdated(engine)
    except DatabaseError as error:
        raise CannotStart(_unreachable(config, error)) from None
    finally:
        engine.dispose()
    return Installation(config, keyring, Database(config.database_url, keyring))


def mark_half_restored(connection: sa.Connection) -> None:
    """From now until end_restoring() the database is half restored, and nobody may start on it."""
    connection.execute(sa.text(f"CREATE TABLE {_HALF_RESTORED} (begun_at timestamp DEFAULT CURRENT_TIMESTAMP)"))


def end_restoring(connection: sa.Connection) -> None:
    """The restore has ended, once this transaction commits."""
    connection.execute(sa.text(f"DROP TABLE IF EXISTS {_HALF_RESTORED}"))


def _refuse_half_restored(engine: sa.Engine) -> None:
    """Refuse a database in which messages wait that may have been sent since the backup. Raises CannotStart."""
    if sa.inspect(engine).has_table(_HALF_RESTORED):
        raise CannotStart(
            f"A restore into the database {engine.url.database} was interrupted, and messages in it may have been sent "
            "already. Nothing was changed. Drop it (dropdb NAME), make an empty one (createdb NAME), and restore again."
        )


def _refuse_outdated(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        revision = migrations.current_revision(connection)
    if revision != migrations.head():
        raise CannotStart(
            f"The database's tables are of version {revision}, and this program needs {migrations.head()}. "
            "Start Keypost, which brings them up to date."
        )


def _key_check(engine: sa.Engine) -> str | None:
    """The value the database's own key gives, or None when the database is empty."""
    with engine.connect() as connection:
        if migrations.current_revision(connection) is None:
            return None
        return connection.scalar(sa.select(InstallationRow.key_check).where(InstallationRow.id == 1)) or ""


def _keyring(config: Config, key_check: str | None) -> Keyring:
    if key_check is None and not os.path.exists(config.master_key_file):
        make_key_file(config.master_key_file)
    keyring = read_key_file(config.master_key_file)
    if key_check is not None:
        _compare(config, keyring, key_check)
    return keyring


def has_its_key(session: Session) -> bool:
    """Whether the master key that this process holds is the one of the database."""
    known = session.scalar(sa.select(InstallationRow.key_check).where(InstallationRow.id == 1))
    return known is not None and session.keyring.digest("key check") == known


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
    key_id, wrapped = keyring.new_term()
    connection.execute(sa.insert(KeyTerm).values(key_id=key_id.hex(), wrapped=wrapped, made_at=utc_now()))


def _unreachable(config: Config, error: DatabaseError) -> str:
    url = make_url(config.database_url)
    reason = str(error.orig).strip().splitlines()[0] if error.orig else "no reason given"
    if url.get_backend_name() == "sqlite":
        return f"The database {url.database} cannot be opened: {reason}. Check the file and its folder."
    return (
        f"The database {url.render_as_string(hide_password=True)} cannot be opened: {reason}. "
        "Check that PostgreSQL runs and that KEYPOST_DATABASE_URL is right."
    )
