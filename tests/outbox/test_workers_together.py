"""Several workers on one database, workers that were stopped and wake again, and workers that end in good order."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.support.invariants import check
from tests.support.outbox import deliver, enqueue, open_relay, save, states
from tests.support.sink import Sink
from tests.support.worker_process import WorkerProcess, address, end_leases, until, waiting, workers
from webapp import faults
from webapp.db import utc_now
from webapp.installation import Installation
from webapp.mail.delivery import POLL_SECONDS
from webapp.outbox.messages import Message
from webapp.outbox.workers import Worker

# Signals at these find a worker that holds something, or is about to.
STEPS = sorted(set(faults.STEPS) - {"tls", "authentication", "release", "released"})
SHORT_PATIENCE = 0.5


@pytest.fixture
def sink(installation: Installation, tmp_path: Path) -> Iterator[Sink]:
    installation.database.clock = utc_now  # Workers in other processes have no other.
    with Sink(tmp_path) as running:
        save(installation.database, open_relay(running.port))
        yield running


def living(installation: Installation) -> int:
    with installation.database.reading() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(Worker)) or 0


@pytest.mark.parametrize("count", [2, 4, 8])
def test_workers_share_the_work_and_nobody_gets_a_message_twice(
    installation: Installation, sink: Sink, tmp_path: Path, count: int
) -> None:
    letters = 500 * count
    # As far away as a server usually is: otherwise one worker would be done before the others have looked.
    sink.tell(delay=0.02)
    with workers(installation, tmp_path, count, what="count") as started:
        until(lambda: living(installation) == count)
        enqueue(installation.database, *map(address, range(letters)))
        until(lambda: not waiting(installation.database))
        for worker in started:
            worker.send(signal.SIGTERM)
        assert [worker.wait() for worker in started] == [0] * count
        shares = [worker.accepted for worker in started]
    tally = check(installation.database, sink.heard(), doubtful={})
    assert (tally.accepted, tally.duplicates) == (letters, 0)
    assert sum(shares) == letters
    assert min(shares) >= letters / 20, f"shares: {shares}"


def test_a_worker_with_much_to_do_never_pauses(installation: Installation, sink: Sink, tmp_path: Path) -> None:
    """It waits for the disk now and then, and goes on when that has been; not when it next looks by itself."""
    enqueue(installation.database, *map(address, range(1500)))
    with workers(installation, tmp_path):
        until(lambda: not waiting(installation.database))
    moments = [each.at for each in sink.accepted()]
    longest = max(after - before for before, after in itertools.pairwise(moments)) / 1e9
    assert longest < POLL_SECONDS / 2


@pytest.mark.parametrize("step", STEPS)
def test_a_worker_that_is_asked_to_end_at_any_step_finishes_or_gives_back_what_it_holds(
    installation: Installation, sink: Sink, tmp_path: Path, step: str
) -> None:
    enqueue(installation.database, *map(address, range(40)))
    with workers(installation, tmp_path, fault=f"{step}:1:SIGTERM") as (worker,):
        assert worker.wait() == 0
        assert worker.fault == step
    assert states(installation.database)["sending"] == 0
    assert living(installation) == 0
    deliver(installation.database)
    tally = check(installation.database, sink.heard(), doubtful={})
    assert (tally.accepted, tally.duplicates) == (40, 0)


def test_a_worker_that_is_asked_to_end_among_many_messages_ends_soon(
    installation: Installation, sink: Sink, tmp_path: Path
) -> None:
    enqueue(installation.database, *map(address, range(2000)))
    sink.tell(delay=0.05)
    with workers(installation, tmp_path) as (worker,):
        until(lambda: sink.count() > 20)
        worker.send(signal.SIGTERM)
        assert worker.wait(10) == 0
    found = states(installation.database)
    assert found["sending"] == 0
    assert found["accepted"] == sink.count() < 2000


@pytest.mark.parametrize("fault", ["claimed:1", "compose:2", "recorded:2"])
def test_a_worker_that_slept_past_its_lease_sends_nothing_more_of_it(
    installation: Installation, sink: Sink, tmp_path: Path, fault: str
) -> None:
    sleeper = WorkerProcess(
        installation.config, tmp_path, what="count", fault=f"{fault}:SIGSTOP", patience=SHORT_PATIENCE
    )
    try:
        until(lambda: living(installation) == 1)
        enqueue(installation.database, *map(address, range(30)))
        until(lambda: bool(sleeper.fault))
        end_leases(installation.database)
        with workers(installation, tmp_path, what="count") as (other,):
            until(lambda: not waiting(installation.database))
            other.send(signal.SIGTERM)
            other.wait()
            taken = other.accepted
        before = len(sink.accepted())
        until(lambda: sleeper.has_slept(4 * SHORT_PATIENCE))
        sleeper.send(signal.SIGCONT)
        enqueue(installation.database, address(100))
        until(lambda: not waiting(installation.database))
        sleeper.send(signal.SIGTERM)
        assert sleeper.wait() == 0
    finally:
        sleeper.close()
    # What the sleeper had sent before it slept and not written down may come twice; nothing after it woke.
    assert [each.recipient for each in sink.accepted()[before:]] == [address(100)]
    assert taken > 0
    assert check(installation.database, sink.heard()).accepted == 31


def test_what_a_stopped_worker_did_no_longer_counts(installation: Installation, sink: Sink, tmp_path: Path) -> None:
    """Its outcomes are written only where its claim still holds."""
    enqueue(installation.database, address(1))
    sleeper = WorkerProcess(
        installation.config, tmp_path, what="count", fault="accepted:1:SIGSTOP", patience=SHORT_PATIENCE
    )
    try:
        until(lambda: sleeper.fault == "accepted")
        end_leases(installation.database)
        deliver(installation.database)
        with installation.database.reading() as session:
            before = session.scalars(sa.select(Message)).one()
        sleeper.send(signal.SIGCONT)
        sleeper.send(signal.SIGTERM)
        assert sleeper.wait() == 0
    finally:
        sleeper.close()
    with installation.database.reading() as session:
        after = session.scalars(sa.select(Message)).one()
    assert (after.state, after.attempts, after.ended_at) == ("accepted", 1, before.ended_at)
    # The one duplicate that nobody can avoid: the server had it, and the row did not say so.
    assert [each.message_id for each in sink.accepted()] == [after.message_id] * 2
