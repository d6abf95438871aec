"""pg_dump and pg_restore of PostgreSQL. The password reaches them by the environment, never as an argument."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from webapp.backup.archive import BackupRefused

_VERSION: Final = re.compile(r"\(PostgreSQL\) ([0-9]+)")
_QUERY: Final = {
    "host": "PGHOST",
    "port": "PGPORT",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
}


def dump(url: sa.URL, target: Path, *, server: int) -> None:
    """Write a consistent copy to a new file, 0600, while others go on. Raises BackupRefused, OSError.

    server: its major version.
    """
    _refuse_newer_tool(url, server)
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    _run("pg_dump", url, "--format=custom", "--no-owner", "--no-privileges", f"--file={target}")


def restore(url: sa.URL, source: Path) -> None:
    """Fill an empty database, wholly or not at all. Raises BackupRefused."""
    _run(
        "pg_restore", url, "--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error",
        f"--dbname={url.database}", str(source),
    )  # fmt: skip


def _refuse_newer_tool(url: sa.URL, server: int) -> None:
    """What a newer pg_dump writes need not go back into this server: what 18 wrote for 15 does not."""
    said = _run("pg_dump", url, "--version")
    found = _VERSION.search(said)
    if found and int(found[1]) > server:
        raise BackupRefused(
            f"pg_dump is of version {found[1]} and the server of version {server}, into which what it writes "
            f"may not be restored. There is no backup. Put the PostgreSQL client of version {server} first on the PATH."
        )


def _run(name: str, url: sa.URL, *arguments: str) -> str:
    """Run one of PostgreSQL's tools; gives what it says. Raises BackupRefused."""
    program = shutil.which(name)
    if program is None:
        raise BackupRefused(
            f"{name} is not on the PATH, and PostgreSQL is backed up and restored with its own tools. Install the "
            "PostgreSQL client of your server's version. Without it, run on the server: "
            f"pg_dump --format=custom --file=FILE {url.database} and keep a copy of the audit head beside it "
            "(bin/keypost audit head)."
        )
    ended = subprocess.run(  # noqa: S603 - a list and no shell; the names come from this installation's settings
        [program, *arguments], env=_environment(url), stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if ended.returncode:
        said = ended.stderr.decode("utf-8", "replace").strip().splitlines()
        raise BackupRefused(f"{name} failed, and nothing was kept: {said[0][:300] if said else 'no reason given'}.")
    return ended.stdout.decode("utf-8", "replace")


def _environment(url: sa.URL) -> dict[str, str]:
    named = {_QUERY[name]: str(value) for name, value in url.query.items() if name in _QUERY}
    given = {"PGHOST": url.host, "PGPORT": url.port, "PGUSER": url.username, "PGDATABASE": url.database}
    named |= {name: str(value) for name, value in given.items() if value is not None}
    if url.password is not None:
        named["PGPASSWORD"] = str(url.password)
    return {**os.environ, **named}
