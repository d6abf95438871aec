"""Files, modes, the key, space and surroundings: everything that can be judged without the database."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sqlalchemy.engine import make_url

from webapp.config import Config
from webapp.db import utc_now
from webapp.doctor.findings import Finding, failing, ok, on_machine, warning
from webapp.errors import CannotStart
from webapp.keyring import open_to_others, read_key_file

LEAST_FREE: Final = 0.10
"""The part of a disk that should be free."""

_BACKUPS: Final = (".backup", ".bak", ".dump", ".sql", ".sqlite", ".tar", ".tar.gz", ".tgz", ".zip", ".7z", ".gpg")
_RELEASED: Final = datetime(2026, 1, 1, tzinfo=UTC)
_DEBUG: Final = ("FLASK_DEBUG", "FLASK_ENV", "WERKZEUG_DEBUG_PIN", "PYTHONASYNCIODEBUG")


@on_machine("Files")
def file_modes(config: Config) -> Finding:
    """Whether everything in the instance folder, and the key, is this user's alone."""
    if not os.path.isdir(config.instance):
        return failing(f"The folder {config.instance} is not there.", "Start once with bin/serve, which makes it.")
    if not os.access(config.instance, os.R_OK | os.X_OK):
        return failing(
            f"The folder {config.instance} is closed to this user.", "Do this as the user that runs Keypost."
        )
    reachable = [path for path in _private_files(config) if _mode(path) & open_to_others(path)]
    if reachable:
        names = " ".join(str(path) for path in reachable)
        return failing(f"Other users of this machine can reach {names}.", f"Close it: chmod go= {names}")
    return ok(f"{config.instance} and all that lies in it belong to this user alone.")


@on_machine("Master key")
def master_key(config: Config) -> Finding:
    """Whether the key is there, whole, private and made at random."""
    database = make_url(config.database_url)
    is_sqlite = database.get_backend_name() == "sqlite"
    folder_is_open = os.access(config.instance, os.X_OK) or not os.path.isdir(config.instance)
    is_there = os.path.exists(config.master_key_file) or os.path.exists(str(database.database))
    if is_sqlite and folder_is_open and not is_there:
        return failing(f"There is no master key {config.master_key_file} yet.", "The first bin/serve makes it.")
    try:
        keyring = read_key_file(config.master_key_file)
    except CannotStart as problem:
        return failing(str(problem), "Nothing that is sealed opens without it.")
    return ok(f"{config.master_key_file} holds the master key {keyring.key_id.hex()}.")


@on_machine("Key apart from backups")
def key_apart(config: Config) -> Finding:
    """Whether no backup lies beside the key: who carries off the folder would have both."""
    folder = config.master_key_file.parent
    backups = sorted(path.name for path in _listed(folder) if path.name.endswith(_BACKUPS))
    if backups:
        return failing(
            f"In {folder} lie a backup and the key that opens it: {', '.join(backups)}.",
            "Move the backups to another machine, and keep the copy of the key elsewhere.",
        )
    return ok(f"No backup lies beside the key in {folder}.")


@on_machine("Disk space")
def disk_space(config: Config) -> Finding:
    """Whether a tenth of each disk in use is free."""
    folders = {config.instance, _database_folder(config) or config.instance}
    rooms = [room(folder, *_free_and_total(folder)) for folder in sorted(folders) if os.path.isdir(folder)]
    failed = [finding for finding in rooms if finding.remedy]
    return (failed or rooms or [failing(f"{config.instance} is not there.", "Start once with bin/serve.")])[0]


def room(folder: Path, free: int, total: int) -> Finding:
    """Judge ``free`` of ``total`` bytes."""
    part = free / total if total else 0
    if part < LEAST_FREE:
        return failing(
            f"Only {part:.0%} of the disk of {folder} is free ({free // 2**20} MB).",
            "Make room: once it is full, nothing can be saved, read only.",
        )
    return ok(f"{part:.0%} of the disk of {folder} is free.")


@on_machine("Running user")
def running_user(_config: Config) -> Finding:
    """Whether the program is kept from what is not its own."""
    return user(os.geteuid())


def user(uid: int) -> Finding:
    """Judge the number of the user that runs Keypost."""
    if uid == 0:
        return warning(
            "This runs as root: a mistake in Keypost would reach the whole machine.",
            "Make a user for it, give it the instance folder, and start bin/serve as that user.",
        )
    return ok("It does not run as root.")


@on_machine("Debugging")
def debugging(_config: Config) -> Finding:
    """Whether no switch of the environment shows insides to strangers."""
    return environment(os.environ)


def environment(environ: Mapping[str, str]) -> Finding:
    """Judge the environment that Keypost starts in."""
    switches = [name for name in _DEBUG if environ.get(name) not in (None, "", "0", "production", "off")]
    if switches:
        return failing(f"{' and '.join(switches)} is set.", f"Start without it: unset {' '.join(switches)}")
    return ok("No debugging switch is set.")


@on_machine("Clock")
def clock(_config: Config) -> Finding:
    """Whether this machine's clock can be right at all."""
    return moment(utc_now())


def moment(now: datetime) -> Finding:
    """Judge what the clock says."""
    if now < _RELEASED:
        return failing(
            f"The clock says {now:%Y-%m-%d %H:%M} UTC, before this program was made.",
            "Set it, and let it be set by NTP: timedatectl set-ntp true",
        )
    return ok(f"The clock says {now:%Y-%m-%d %H:%M} UTC.")


def _private_files(config: Config) -> Iterator[Path]:
    yield config.instance
    yield from (path for path in sorted(config.instance.rglob("*")) if path.name != ".gitkeep")
    if os.path.exists(config.master_key_file) and config.instance not in config.master_key_file.parents:
        yield config.master_key_file
    database = make_url(config.database_url)
    if database.get_backend_name() == "sqlite" and config.instance not in Path(str(database.database)).parents:
        yield from (Path(f"{database.database}{end}") for end in ("", "-wal", "-shm"))


def _mode(path: Path) -> int:
    try:
        found = path.lstat()
    except OSError:
        return 0
    return 0 if stat.S_ISLNK(found.st_mode) else stat.S_IMODE(found.st_mode)


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _database_folder(config: Config) -> Path | None:
    url = make_url(config.database_url)
    return Path(str(url.database)).absolute().parent if url.get_backend_name() == "sqlite" else None


def _free_and_total(folder: Path) -> tuple[int, int]:
    usage = shutil.disk_usage(folder)
    return usage.free, usage.total
