"""Workers are woken by the commit of a message, and by nothing else."""

from __future__ import annotations

import contextlib
import select
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.outbox.test_lease import add, later
from tests.support.tcp_proxy import Proxy
from tests.support.worker_process import until
from webapp.actor import command_line
from webapp.config import Config
from webapp.db import Database
from webapp.errors import Refused
from webapp.installation import open_installation
from webapp.mail.delivery import Delivery
from webapp.outbox import wake, workers
from webapp.outbox.messages import Kind, queue
from webapp.outbox.standing import standing
from webapp.outbox.wake import Bell
from webapp.outbox.workers import Worker
from webapp.trust.store import TrustStore

SECONDS = 5.0


@pytest.fixture
def bells(database: Database) -> Iterator[list[Bell]]:
    """The bells of two workers."""
    hung = [wake.hang_bell(database, workers.new_id()) for _ in range(2)]
    yield hung
    for bell in hung:
        bell.close()


def rings(bell: Bell, seconds: float = SECONDS) -> bool:
    return bool(select.select([bell], [], [], seconds)[0])


def test_a_commit_rings_every_bell(database: Database, bells: list[Bell]) -> None:
    add(database)
    assert all(map(rings, bells))


def test_nothing_rings_before_the_commit(database: Database, bells: list[Bell]) -> None:
    with database.transaction() as session:
        queue(session, command_line(), Kind.ROLE_CHANGED, recipient="bob@example.com")
        assert not rings(bells[0], 0.05)
    assert rings(bells[0])


def test_a_rollback_rings_no_bell(database: Database, bells: list[Bell]) -> None:
    with pytest.raises(Refused):
        _queue_and_fail(database)
    assert not any(rings(bell, 0.05) for bell in bells)


def _queue_and_fail(database: Database) -> None:
    with database.transaction() as session:
        queue(session, command_line(), Kind.ROLE_CHANGED, recipient="bob@example.com")
        raise Refused("whatever goes wrong")


def test_a_bell_that_was_heard_is_still_until_the_next_message(database: Database, bells: list[Bell]) -> None:
    add(database)
    assert rings(bells[0])
    bells[0].clear()
    assert not rings(bells[0], 0.05)
    add(database)
    assert rings(bells[0])


def test_a_message_is_queued_although_nobody_listens(database: Database) -> None:
    add(database)


@pytest.fixture
def far(far_server: tuple[Proxy, str], tmp_path: Path) -> Iterator[tuple[Proxy, Database]]:
    """An installation whose PostgreSQL is behind a network that can break."""
    network, url = far_server
    opened = open_installation(
        Config.from_environment({"KEYPOST_INSTANCE": str(tmp_path / "far"), "KEYPOST_DATABASE_URL": url})
    )
    yield network, opened.database
    opened.close()


@pytest.mark.postgresql
def test_a_bell_is_silent_while_its_database_is_away_and_rings_once_it_is_back(far: tuple[Proxy, Database]) -> None:
    network, database = far
    with closing(wake.hang_bell(database, workers.new_id())) as bell:
        network.go_away()
        assert rings(bell)
        for _ in range(2):
            bell.clear()
            assert bell.is_silent
        network.come_back()
        bell.clear()
        add(database)
        assert rings(bell)


@pytest.mark.postgresql
def test_a_bell_that_is_hung_while_its_database_is_away_is_silent(far: tuple[Proxy, Database]) -> None:
    network, database = far
    network.go_away()
    with closing(wake.hang_bell(database, workers.new_id())) as bell:
        assert bell.is_silent
        assert not rings(bell, 0.05)


@pytest.mark.postgresql
def test_a_worker_listens_again_once_its_database_is_back(far: tuple[Proxy, Database]) -> None:
    network, database = far
    delivery = Delivery(database, TrustStore(database))
    delivery.start()
    until(lambda: bool(listeners(database)))
    before = listeners(database)
    network.go_away()
    network.come_back()
    until(lambda: bool(listeners(database) - before))
    assert delivery.stop()


def listeners(database: Database) -> set[int]:
    """Who is listening at this database, as PostgreSQL sees it; nobody when it does not answer."""
    listening = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    with contextlib.suppress(sa.exc.SQLAlchemyError), database.reading() as session:
        return set(session.scalars(sa.text(listening)))
    return set()


def test_a_worker_lives_for_a_minute_after_it_said_so(database: Database) -> None:
    worker_id = workers.new_id()
    with database.transaction() as session:
        workers.begin(session, worker_id)
    later(database, timedelta(seconds=50))
    with database.transaction() as session:
        assert workers.is_alive(session, worker_id)
    later(database, timedelta(seconds=59))
    with database.reading() as session:
        assert standing(session).alive == 1
        assert session.scalars(sa.select(Worker.id)).all() == [worker_id]
    later(database, timedelta(seconds=2))
    with database.reading() as session:
        assert standing(session).alive == 0


def test_a_worker_that_ends_is_gone_at_once(database: Database) -> None:
    worker_id = workers.new_id()
    with database.transaction() as session:
        workers.begin(session, worker_id)
        workers.end(session, worker_id)
        assert standing(session).alive == 0
        assert standing(session).seen_at is None


def test_the_long_dead_are_forgotten(database: Database) -> None:
    dead, alive = workers.new_id(), workers.new_id()
    with database.transaction() as session:
        workers.begin(session, dead)
    later(database, timedelta(days=1, seconds=1))
    with database.transaction() as session:
        workers.begin(session, alive)
        workers.is_alive(session, alive)
        assert not workers.is_alive(session, dead)
