"""The database's versions, applied in order at each start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from webapp.errors import CannotStart

_HERE = Path(__file__).parent
_LOCK = 0x6B6579706F7374  # "keypost": the advisory lock that keeps two starting processes apart


def current_revision(connection: sa.Connection) -> str | None:
    """The version this database is at, or None when it is empty."""
    return MigrationContext.configure(connection).get_current_revision()


def head() -> str | None:
    """The version this program's tables have."""
    return ScriptDirectory.from_config(alembic_config()).get_current_head()


def is_known(revision: str) -> bool:
    """Whether this program has tables of this version, or can bring them up to date."""
    return revision in {known.revision for known in ScriptDirectory.from_config(alembic_config()).walk_revisions()}


def is_older(revision: str | None) -> bool:
    """Whether a database at this version is one that upgrade() would change; an empty one is not."""
    script = ScriptDirectory.from_config(alembic_config())
    return revision != script.get_current_head() and revision in {known.revision for known in script.walk_revisions()}


def upgrade(engine: sa.Engine, *, first: Callable[[sa.Connection], None]) -> None:
    """Bring the database to this program's version, in one transaction. Raises CannotStart for a newer one.

    ``first`` runs in that transaction when the database was empty.
    """
    config = alembic_config()
    script = ScriptDirectory.from_config(config)
    with engine.execution_options(keypost_writes=True).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        revision = current_revision(connection)
        if revision == script.get_current_head():
            return
        if revision is not None and revision not in {known.revision for known in script.walk_revisions()}:
            raise CannotStart(
                f"This database belongs to a newer Keypost (version {revision} of its tables). "
                "Start that version, or restore a backup made with this one."
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        if revision is None:
            first(connection)


def alembic_config() -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(_HERE).replace("%", "%%"))
    return config
