"""The way back: a backup is proved, brought up to date and made safe to start, and only then takes its place."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import tarfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from webapp import migrations, models
from webapp.actor import Actor
from webapp.audit import trail
from webapp.backup import archive, postgres
from webapp.backup.archive import BackupRefused, Manifest
from webapp.config import Config, prepare_instance
from webapp.db import Session, make_engine, sealed_columns
from webapp.identity.forgotten import ForgottenRequest
from webapp.identity.imports import PEOPLE
from webapp.identity.links import OneTimeLink
from webapp.identity.sessions import SignIn
from webapp.installation import end_restoring, mark_half_restored, open_installation
from webapp.keyring import SealBroken, read_key_file
from webapp.outbox import outcomes
from webapp.vault.imports import RESOURCES

_SAMPLE: Final = 100
"""So many secrets of each kind are opened, picked at random."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did. kept: where the database that was replaced lies now. held: messages that wait for review."""

    manifest: Manifest
    kept: Path | None
    lines: int
    secrets: int
    held: int


@dataclass(frozen=True, slots=True)
class _Opened:
    """A backup that was made with this key."""

    path: Path
    manifest: Manifest
    tar: tarfile.TarFile


def restore(config: Config, actor: Actor, path: Path, *, replacing: bool = False) -> Restored:
    """Put a backup in place of a database that is empty, or with ``replacing`` of one that nobody uses.

    Raises BackupRefused, or CannotStart; then the installation is as it was.
    """
    os.umask(0o077)
    prepare_instance(config.instance)
    keyring = read_key_file(config.master_key_file)
    with archive.opened(path, keyring) as (manifest, tar):
        backup, url = _Opened(path, manifest, tar), make_url(config.database_url)
        if url.get_backend_name() != manifest.engine:
            raise BackupRefused(
                f"{path} is a backup of {manifest.engine}, and KEYPOST_DATABASE_URL names {url.get_backend_name()}. "
                "Nothing was changed; restore it into a database of the same kind."
            )
        if not migrations.is_known(manifest.revision):
            raise BackupRefused(
                f"{path} belongs to a newer Keypost (version {manifest.revision} of its tables). Nothing was changed; "
                "restore it with that version."
            )
        if manifest.engine == "postgresql":
            return _restore_postgresql(config, actor, backup)
        return _restore_sqlite(config, actor, backup, Path(str(url.database)).absolute(), replacing)


def _restore_sqlite(config: Config, actor: Actor, backup: _Opened, target: Path, replacing: bool) -> Restored:
    """All is done to a draft beside the target; one rename puts it in place."""
    if target.exists() and not replacing:
        raise BackupRefused(
            f"There is a database already, {target}. Nothing was changed. To put the backup in its place stop Keypost "
            "and give --replace; the database that is there now is kept beside it."
        )
    draft = target.with_name(f".restoring-{secrets.token_hex(8)}.db")
    try:
        archive.extract(backup.path, backup.tar, backup.manifest, draft)
        url = sa.URL.create("sqlite", database=str(draft)).render_as_string()
        restored = _prove(replace(config, database_url=url), actor, backup.manifest)
        _leave_log(draft)
        kept = _set_aside(target) if target.exists() else None
        os.replace(draft, target)
    finally:
        for end in ("", "-wal", "-shm", "-journal"):
            Path(f"{draft}{end}").unlink(missing_ok=True)
    return replace(restored, kept=kept)


def _restore_postgresql(config: Config, actor: Actor, backup: _Opened) -> Restored:
    engine = make_engine(config.database_url)
    try:
        if sa.inspect(engine).get_table_names():
            raise BackupRefused(
                "There are tables in this database already. Nothing was changed. Make an empty one (createdb NAME), "
                "name it with KEYPOST_DATABASE_URL, and restore into that."
            )
    finally:
        engine.dispose()
    draft = config.instance / f".restoring-{secrets.token_hex(8)}.pgdump"
    try:
        archive.extract(backup.path, backup.tar, backup.manifest, draft)
        _bring_back(config, draft)
    finally:
        draft.unlink(missing_ok=True)
    try:
        return _prove(config, actor, backup.manifest)
    except BackupRefused as problem:
        raise BackupRefused(f"{problem} Drop this database again: dropdb NAME") from None


def _bring_back(config: Config, draft: Path) -> None:
    """Have pg_restore do its part, all or nothing; the mark stays until the rest is done. Raises BackupRefused."""
    engine = make_engine(config.database_url)
    try:
        with engine.begin() as connection:
            mark_half_restored(connection)
        try:
            postgres.restore(make_url(config.database_url), draft)
        except BackupRefused:
            with engine.begin() as connection:
                end_restoring(connection)
            raise
    finally:
        engine.dispose()


def _prove(config: Config, actor: Actor, manifest: Manifest) -> Restored:
    """Migrate what was restored, prove it whole, and make it safe to start. Raises BackupRefused, CannotStart."""
    opened = open_installation(config, restoring=True)
    try:
        with opened.database.reading() as session:
            _refuse_damaged(session)
            verdict = trail.verify(session, manifest.audit_head)
            tried = _open_some(session)
        if not verdict.sound:
            raise BackupRefused(f"The audit trail in the backup is not sound: {verdict.reason}. Do not use it.")
        with opened.database.transaction() as session:
            held = make_safe(session, actor)
            end_restoring(session.connection())
            trail.record(session, actor, "backup:restore", made_at=manifest.made_at, messages_held=held)
    finally:
        opened.close()
    return Restored(manifest, None, verdict.lines, tried, held)


def make_safe(session: Session, actor: Actor) -> int:
    """What was true when the backup was made may be over: end every session and link, stop imports that ran, and hold
    what waits to be sent.

    Gives how many messages are held: they may have been sent since, so somebody decides about each. An import would
    invite people anew, and set passwords that were changed since.
    """
    for kind in (PEOPLE, RESOURCES):
        kind.stop_all(session, actor)
    for ended in (SignIn, OneTimeLink, ForgottenRequest):
        session.execute(sa.delete(ended))
    return outcomes.hold_restored(session)


def _refuse_damaged(session: Session) -> None:
    if session.get_bind().dialect.name != "sqlite":
        return
    said = [str(line) for line in session.scalars(sa.text("PRAGMA integrity_check(3)"))]
    if said != ["ok"]:
        raise BackupRefused(f"The database in the backup is damaged: {said[0][:200]}. Do not use it.")


def _open_some(session: Session) -> int:
    """Open secrets of each kind at random; gives how many. Raises BackupRefused for one that does not open."""
    tried = 0
    for column, seal in sealed_columns(models.metadata):
        some = sa.select(column.table).where(column.is_not(None)).order_by(sa.func.random()).limit(_SAMPLE)
        for row in session.execute(some).mappings():
            place = seal.place(column.table, dict(row))
            try:
                session.keyring.unseal(row[column.name], **place)
            except SealBroken as broken:
                raise BackupRefused(f"A secret in the backup does not open: {broken}. Do not use it.") from None
            tried += 1
    return tried


def _leave_log(path: Path) -> None:
    """Move the log into the file, unless that is damaged. Raises BackupRefused when somebody has it open."""
    with contextlib.closing(sqlite3.connect(path, timeout=1, isolation_level=None)) as connection:
        try:
            # Only who has the database alone can leave the mode in which many write.
            connection.execute("PRAGMA journal_mode=DELETE")
        except sqlite3.OperationalError:
            raise BackupRefused(
                f"{path} is in use. Nothing was changed. Stop Keypost and its workers, then try again."
            ) from None
        except sqlite3.DatabaseError:
            return


def _set_aside(target: Path) -> Path:
    """Give the present database a second name, by which it stays."""
    _leave_log(target)
    kept = target.with_name(f"{target.stem}-before-{datetime.now(UTC):%Y%m%dT%H%M%SZ}{target.suffix}")
    os.link(target, kept)
    # A damaged database keeps its log, which must not be taken for that of the new one.
    for end in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{target}{end}", f"{kept}{end}")
    return kept
