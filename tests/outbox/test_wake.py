"""Workers are woken by the commit of a message, and by nothing else."""

from __future__ import annotations

import select
from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from tests.outbox.test_lease import add, later
from webapp.actor import command_line
from webapp.db import Database
from webapp.errors import Refused
from webapp.outbox import wake, workers
from webapp.outbox.messages import Kind, queue
from webapp.outbox.standing import standing
from webapp.outbox.wake import Bell
from webapp.outbox.workers import Worker

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
