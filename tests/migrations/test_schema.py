"""The migrations make exactly the tables that the program describes, whenever and however often they run."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from webapp import models
from webapp.config import Config
from webapp.db import Database
from webapp.errors import CannotStart
from webapp.installation import Installation, InstallationRow, open_installation


def test_the_migrated_tables_are_those_the_program_describes(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, models.metadata) == []


def test_the_migrated_constraints_bear_the_names_the_program_gives_them(database: Database, tmp_path: Path) -> None:
    described = sa.create_engine(f"sqlite:///{tmp_path / 'described.db'}")
    models.metadata.create_all(described)
    assert _constraints(database.engine) == _constraints(described)
    described.dispose()


def test_a_second_start_changes_nothing(installation: Installation) -> None:
    before = _everything(installation.database)
    open_installation(installation.config).close()
    assert _everything(installation.database) == before


def test_a_database_of_a_newer_keypost_is_refused(installation: Installation) -> None:
    with installation.database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    before = _everything(installation.database)
    with pytest.raises(CannotStart, match=r"belongs to a newer Keypost \(version 9999"):
        open_installation(installation.config)
    assert _everything(installation.database) == before


def test_a_failed_migration_leaves_an_empty_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'keypost.db'}"
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE mail_settings (stray TEXT)"))
    engine.dispose()
    config = Config.from_environment({"KEYPOST_INSTANCE": str(tmp_path / "instance"), "KEYPOST_DATABASE_URL": url})
    with pytest.raises(CannotStart, match="cannot be opened"):
        open_installation(config)
    engine = sa.create_engine(url)
    assert sa.inspect(engine).get_table_names() == ["mail_settings"]
    engine.dispose()


def test_processes_that_start_at_once_share_one_installation(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'instance' / 'keypost.db'}"
    assert len(_start_at_once([tmp_path / "instance"] * 8, url)) == 1


@pytest.mark.postgresql
def test_processes_that_start_at_once_share_one_postgresql(tmp_path: Path, postgres_url: str) -> None:
    assert len(_start_at_once([tmp_path / "instance"] * 8, postgres_url)) == 1


@pytest.mark.postgresql
def test_of_two_machines_that_claim_one_postgresql_the_second_is_refused(tmp_path: Path, postgres_url: str) -> None:
    answers = _start_at_once([tmp_path / "one", tmp_path / "two"], postgres_url)
    assert sum("is not the one this database was sealed with" in answer for answer in answers) == 1
    assert len(answers) == 2


def _start_at_once(instances: list[Path], url: str) -> set[str]:
    """Open an installation from several threads at once; gives the different answers."""
    gate = threading.Barrier(len(instances))

    def start(instance: Path) -> str:
        config = Config.from_environment({"KEYPOST_INSTANCE": str(instance), "KEYPOST_DATABASE_URL": url})
        gate.wait(30)
        try:
            opened = open_installation(config)
        except CannotStart as refused:
            return str(refused)
        with opened.database.reading() as session:
            row = session.get_one(InstallationRow, 1)
        opened.close()
        return f"{row.identifier} {opened.keyring.key_id.hex()}"

    with ThreadPoolExecutor(len(instances)) as threads:
        return set(threads.map(start, instances))


def _constraints(engine: sa.Engine) -> set[str | None]:
    look = sa.inspect(engine)
    names: set[str | None] = set()
    for table in set(look.get_table_names()) - {"alembic_version"}:
        names.add(look.get_pk_constraint(table)["name"])
        found = (look.get_foreign_keys, look.get_unique_constraints, look.get_check_constraints)
        names |= {constraint["name"] for kind in found for constraint in kind(table)}
    return names


def _everything(database: Database) -> dict[str, list[object]]:
    with database.engine.connect() as connection:
        return {
            name: sorted(map(tuple, connection.execute(sa.text(f'SELECT * FROM "{name}"')).all()))  # noqa: S608
            for name in sa.inspect(connection).get_table_names()
        }
