"""Making a backup while everything goes on."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from webapp import migrations
from webapp.actor import Actor
from webapp.audit import trail
from webapp.backup import archive, postgres
from webapp.backup.archive import BackupRefused, Manifest
from webapp.config import Config
from webapp.db import Database, copy_sqlite
from webapp.installation import Installation, InstallationRow


def make(installation: Installation, actor: Actor, path: Path) -> Manifest:
    """Write a backup to a file that is not there yet. Raises BackupRefused, and then there is none."""
    path = path.absolute()
    _refuse_beside_key(installation.config, path)
    copy = path.with_name(f".{path.name}.{secrets.token_hex(8)}.copy")
    try:
        # Taken before the copy, so that the copy's trail goes at least as far.
        with installation.database.reading() as session:
            head, own = trail.head(session), session.get_one(InstallationRow, 1)
        if installation.database.is_sqlite:
            copy_sqlite(str(installation.database.url.database), copy)
        else:
            postgres.dump(installation.database.url, copy, server=_major(installation.database))
        manifest = Manifest(
            engine="sqlite" if installation.database.is_sqlite else "postgresql",
            installation=own.identifier,
            revision=str(migrations.head()),
            master_key=installation.keyring.key_id.hex(),
            made_at=installation.database.clock().isoformat(timespec="seconds"),
            audit_line=head.line_id,
            audit_head=head.hash,
            size=copy.stat().st_size,
            sha256=archive.sha256_of(copy),
        )
        archive.write(path, copy, manifest, installation.keyring)
    except FileExistsError:
        raise BackupRefused(f"{path} is there already, and no backup replaces another. Name a new file.") from None
    except OSError as error:
        raise BackupRefused(
            f"{path} cannot be written ({error.strerror}); there is no backup. The folder must be there, be yours, and "
            "have room for the database twice."
        ) from None
    finally:
        with contextlib.suppress(OSError):
            copy.unlink()
    with installation.database.transaction() as session:
        trail.record(session, actor, "backup:make", file=path.name, size=manifest.size)
    return manifest


def _major(database: Database) -> int:
    """The major version of the PostgreSQL that this process has spoken to."""
    return int((database.engine.dialect.server_version_info or (0,))[0])


def _refuse_beside_key(config: Config, path: Path) -> None:
    if os.path.lexists(path):
        raise BackupRefused(f"{path} is there already, and no backup replaces another. Name a new file.")
    if path.parent.resolve() == config.master_key_file.parent.resolve():
        raise BackupRefused(
            f"{path.parent} holds the master key: who carries off that folder would have the backup and the key that "
            "opens it. Name a file elsewhere, at best on another machine."
        )
