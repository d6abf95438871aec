"""Leases: workers take disjoint messages, and a result counts only while its claim holds."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import sqlalchemy as sa

from webapp.actor import command_line
from webapp.db import Database
from webapp.outbox import lease, outcomes
from webapp.outbox.lease import LEASE, MOST_CRASHES, Leased
from webapp.outbox.messages import Kind, Message, State, queue
from webapp.outbox.outcomes import Outcome


def add(database: Database, number: int = 1, **options: object) -> None:
    with database.transaction() as session:
        for _ in range(number):
            queue(session, command_line(), Kind.ROLE_CHANGED, recipient="bob@example.com", **options)  # type: ignore[arg-type]


def take(database: Database, most: int = 100, **options: str) -> list[Leased]:
    with database.transaction() as session:
        return lease.claim(session, most, domain="example.com", **options)  # type: ignore[arg-type]


def later(database: Database, span: timedelta) -> None:
    then = database.clock() + span
    database.clock = lambda: then


def take_back(database: Database, *dead: str) -> int:
    with database.transaction() as session:
        return lease.take_back(session, dead)


def states(database: Database) -> list[str]:
    with database.reading() as session:
        return list(session.scalars(sa.select(Message.state).order_by(Message.id)))


def test_workers_that_claim_at_once_take_disjoint_messages_and_leave_none(database: Database) -> None:
    add(database, 60)
    gate = threading.Barrier(4)

    def work(_number: int) -> list[list[int]]:
        gate.wait(30)
        taken = []
        while batch := take(database, 7):
            taken.append([each.id for each in batch])
        return taken

    with ThreadPoolExecutor(4) as threads:
        batches = [batch for worker in threads.map(work, range(4)) for batch in worker]
    assert sorted(number for batch in batches for number in batch) == list(range(1, 61))
    assert max(map(len, batches)) <= 7


def test_the_oldest_are_taken_first(database: Database) -> None:
    add(database, 5)
    assert [each.id for each in take(database, 2)] == [1, 2]
    assert [each.id for each in take(database, 2)] == [3, 4]


def test_what_has_expired_is_not_taken(database: Database) -> None:
    add(database, life=timedelta(hours=1))
    later(database, timedelta(hours=1))
    assert take(database) == []


def test_a_claim_that_is_rolled_back_holds_nothing(database: Database) -> None:
    add(database)
    with database.reading():
        pass
    session = database._writers()
    lease.claim(session, 1, domain="example.com")
    session.rollback()
    session.close()
    assert states(database) == ["queued"]
    assert len(take(database)) == 1


def test_a_message_keeps_its_message_id_through_every_claim(database: Database) -> None:
    add(database)
    (first,) = take(database)
    later(database, LEASE + timedelta(seconds=1))
    take_back(database)
    with database.transaction() as session:
        (second,) = lease.claim_alone(session, domain="elsewhere.example")
    assert second.message_id == first.message_id


def test_a_dead_worker_s_messages_wait_again_once_its_lease_has_run_out(database: Database) -> None:
    add(database)
    take(database)
    later(database, LEASE - timedelta(seconds=1))
    assert take_back(database) == 0
    later(database, timedelta(seconds=2))
    assert take_back(database) == 1
    assert states(database) == ["queued"]


def test_a_worker_known_to_be_dead_need_not_be_waited_for(database: Database) -> None:
    add(database, 2)
    take(database, 1, worker="a" * 32)
    take(database, 1, worker="b" * 32)
    assert take_back(database, "a" * 32) == 1
    assert states(database) == ["queued", "sending"]


def test_a_stopped_worker_that_wakes_up_changes_nothing(database: Database) -> None:
    add(database)
    stale = take(database)
    later(database, LEASE + timedelta(seconds=1))
    take_back(database)
    with database.transaction() as session:
        fresh = lease.claim_alone(session, domain="example.com")
        outcomes.record(session, [Outcome(stale[0], "accepted")])
        lease.release(session, stale)
    assert states(database) == ["sending"]
    with database.transaction() as session:
        outcomes.record(session, [Outcome(fresh[0], "refused", "recipient-unknown")])
        outcomes.record(session, [Outcome(stale[0], "accepted")])
    assert states(database) == ["refused"]


def test_what_a_worker_died_with_is_taken_alone(database: Database) -> None:
    add(database, 3)
    take(database)
    later(database, LEASE + timedelta(seconds=1))
    take_back(database)
    add(database, 2)
    assert [each.id for each in take(database)] == [4, 5]
    with database.transaction() as session:
        assert [each.id for each in lease.claim_alone(session, domain="example.com")] == [1]


def test_what_killed_three_workers_is_set_aside(database: Database) -> None:
    add(database)
    for _ in range(MOST_CRASHES):
        with database.transaction() as session:
            lease.claim(session, 1, domain="example.com") or lease.claim_alone(session, domain="example.com")
        later(database, LEASE + timedelta(seconds=1))
        take_back(database)
    with database.reading() as session:
        message = session.get_one(Message, 1)
    assert (message.state, message.code, message.crashes) == (State.GIVEN_UP, "worker-died", MOST_CRASHES)


def test_a_lease_made_by_a_clock_that_ran_ahead_ends_once_it_is_right(database: Database) -> None:
    right = database.clock()
    database.clock = lambda: right + timedelta(hours=3)
    add(database)
    take(database)
    database.clock = lambda: right
    assert take_back(database) == 1
