"""What the database itself must promise."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import sqlalchemy as sa

from webapp.audit.trail import AuditLine
from webapp.db import CLOCK_TOLERANCE, Session
from webapp.doctor.findings import Finding, failing, in_database, ok
from webapp.identity.sessions import SignIn

_SQLITE: Final = {"journal_mode": ("wal",), "synchronous": ("2", "3"), "foreign_keys": ("1",), "secure_delete": ("1",)}
_POSTGRESQL: Final = ("fsync", "full_page_writes", "synchronous_commit")


@in_database("Durability")
def durability(session: Session) -> Finding:
    """Whether what was acknowledged outlives a power cut."""
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    wrong = _wrong_pragmas(session) if is_sqlite else _wrong_settings(session)
    if not wrong:
        return ok("What was saved is on the disk before it is acknowledged.")
    remedy = (
        "Keep the file on a local disk: network folders have no WAL."
        if is_sqlite
        else "Switch them on in postgresql.conf and reload PostgreSQL."
    )
    return failing(f"A power cut can lose what was saved: {', '.join(wrong)}.", remedy)


@in_database("Integrity")
def integrity(session: Session) -> Finding:
    """Whether SQLite finds its file whole; PostgreSQL checks its own pages."""
    if session.get_bind().dialect.name != "sqlite":
        return ok("PostgreSQL checks its pages itself.")
    said = [str(line) for line in session.scalars(sa.text("PRAGMA quick_check(3)"))]
    if said == ["ok"]:
        return ok("The database file is whole.")
    return failing(
        f"The database file is damaged: {said[0][:200]}.",
        "Stop Keypost, keep the file, and restore the latest backup: bin/keypost restore FILE",
    )


@in_database("Clock and database")
def latest_times(session: Session) -> Finding:
    """Whether nothing in the database happened in the future: then the clock has jumped."""
    latest = max(filter(None, map(session.scalar, _NEWEST)), default=None)
    return in_order(latest, session.now())


def in_order(latest: datetime | None, now: datetime) -> Finding:
    """Judge the newest time in the database by the clock."""
    if latest is not None and latest > now + CLOCK_TOLERANCE:
        return failing(
            f"The newest entry is of {latest:%Y-%m-%d %H:%M} UTC, but the clock says {now:%Y-%m-%d %H:%M} UTC.",
            "One of the two was wrong: set the clock, and let it be set by NTP. Sessions and links end by the clock.",
        )
    return ok("Nothing in the database lies in the future.")


_NEWEST: Final = (sa.select(sa.func.max(AuditLine.at)), sa.select(sa.func.max(SignIn.seen_at)))


def _wrong_pragmas(session: Session) -> list[str]:
    found = {name: str(session.scalar(sa.text(f"PRAGMA {name}"))) for name in _SQLITE}
    return [f"{name} is {value}" for name, value in found.items() if value not in _SQLITE[name]]


def _wrong_settings(session: Session) -> list[str]:
    found = {name: str(session.scalar(sa.text(f"SHOW {name}"))) for name in _POSTGRESQL}
    return [f"{name} is {value}" for name, value in found.items() if value == "off"]
