"""The file of a backup: a tar with a manifest in front and the database behind it.

The manifest says where and when the backup was made, what the database's SHA-256 is, and where the audit trail ended.
It is sealed with a key derived from the master key: who has the file alone can alter neither unseen.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final

from webapp.errors import Problem
from webapp.keyring import Keyring

FORMAT: Final = 1
_MANIFEST: Final = "manifest.json"
_MOST_MANIFEST: Final = 64 * 1024
_CHUNK: Final = 1024 * 1024


class BackupRefused(Problem):
    """A backup cannot be made there, or cannot be trusted."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says of itself.

    engine: "sqlite" or "postgresql". revision: of the tables. master_key: the id of the key that opens it. made_at: ISO
    8601. audit_line, audit_head: where the trail ended. size, sha256: of the database in the file.
    """

    engine: str
    installation: str
    revision: str
    master_key: str
    made_at: str
    audit_line: int
    audit_head: str
    size: int
    sha256: str
    format: int = FORMAT

    def seal(self, keyring: Keyring) -> str:
        """The proof that this installation's key was there when it was written."""
        return keyring.digest("backup manifest", json.dumps(asdict(self), sort_keys=True))


def write(path: Path, database: Path, manifest: Manifest, keyring: Keyring) -> None:
    """Write the file, 0600; the name appears once all of it is on the disk. Raises FileExistsError for a taken name."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            _write(file, database, manifest, keyring)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _write(file: IO[bytes], database: Path, manifest: Manifest, keyring: Keyring) -> None:
    content = json.dumps({**asdict(manifest), "seal": manifest.seal(keyring)}, sort_keys=True, indent=1).encode()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(_member(_MANIFEST, len(content)), io.BytesIO(content))
        with database.open("rb") as copied:
            tar.addfile(_member(_name(manifest), manifest.size), copied)


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    return member


def _name(manifest: Manifest) -> str:
    return "keypost.db" if manifest.engine == "sqlite" else "keypost.pgdump"


@contextmanager
def opened(path: Path, keyring: Keyring) -> Iterator[tuple[Manifest, tarfile.TarFile]]:
    """A backup whose manifest is this installation's. Raises BackupRefused."""
    try:
        with tarfile.open(path, mode="r:") as tar:
            yield _manifest(path, tar, keyring), tar
    except (OSError, tarfile.TarError) as error:
        raise BackupRefused(
            f"{path} cannot be read as a backup ({getattr(error, 'strerror', None) or 'it is none, or damaged'}). "
            "Nothing was changed. Name a file that bin/keypost backup made."
        ) from None


def _manifest(path: Path, tar: tarfile.TarFile, keyring: Keyring) -> Manifest:
    first = tar.next()
    if first is None or first.name != _MANIFEST or not first.isreg() or first.size > _MOST_MANIFEST:
        raise BackupRefused(f"{path} is no backup of Keypost. Nothing was changed.")
    file = tar.extractfile(first)
    try:
        content: dict[str, Any] = json.loads(file.read() if file else b"")
        seal = str(content.pop("seal")).encode()
        manifest = Manifest(**content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BackupRefused(f"{path} has no manifest that can be read. Nothing was changed.") from None
    if manifest.format != FORMAT:
        raise BackupRefused(f"{path} was made by a newer Keypost. Nothing was changed; restore it with that version.")
    if manifest.master_key != keyring.key_id.hex():
        raise BackupRefused(
            f"{path} opens with the master key {manifest.master_key}, and this one is {keyring.key_id.hex()}. Nothing "
            "was changed. Put the right key in its place, or name it with KEYPOST_MASTER_KEY_FILE."
        )
    if not secrets.compare_digest(seal, manifest.seal(keyring).encode()):
        raise BackupRefused(f"{path} was altered since it was made. Nothing was changed; use another backup.")
    return manifest


def extract(path: Path, tar: tarfile.TarFile, manifest: Manifest, target: Path) -> None:
    """Write the database of an opened backup to ``target``, 0600, and prove that it is the one that was copied."""
    member = tar.next()
    file = tar.extractfile(member) if member is not None and member.isreg() else None
    if member is None or file is None or member.name != _name(manifest) or member.size != manifest.size:
        raise BackupRefused(f"{path} does not hold the database that its manifest tells of. Nothing was changed.")
    digest = hashlib.sha256()
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as written:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            written.write(chunk)
        written.flush()
        os.fsync(written.fileno())
    if digest.hexdigest() != manifest.sha256:
        raise BackupRefused(f"The database in {path} is damaged or was altered. Nothing was changed.")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
