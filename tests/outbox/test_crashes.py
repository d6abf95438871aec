"""Workers are killed at every step of delivery and at random moments; nothing is lost, and little comes twice.

The usual run takes seconds. The long one kills as often as it is told, and fails at each step a hundred times:
``KEYPOST_KILLS=1000 bin/test tests/outbox/test_crashes.py``.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.support.invariants import check, in_doubt, recorded
from tests.support.mail_settings import draft
from tests.support.outbox import deliver, enqueue, open_relay, save
from tests.support.sink import Sink
from tests.support.worker_process import address, end_leases, until, waiting, workers
from webapp import faults
from webapp.actor import command_line
from webapp.db import Database, utc_now
from webapp.installation import Installation
from webapp.keyring import Secret
from webapp.outbox.ledger import Wanted, retry_all
from webapp.outbox.messages import State
from webapp.trust.store import import_certificates

KILLS = int(os.environ.get("KEYPOST_KILLS", "0"))
SEED = int(os.environ.get("KEYPOST_SEED", "0")) or random.randrange(1 << 32)
IN_FLIGHT = 5 * 2 + 100
"""What may be taken and not yet written down: two on each connection, and the outcomes that wait for the disk."""
# Steps that a pass through a server without encryption and login does not reach; each has a test of its own.
ELSEWHERE = {"tls", "authentication", "release", "released"}
LINE = 110
"""About the length of a line in the sink's log."""


@pytest.fixture
def sink(installation: Installation, tmp_path: Path) -> Iterator[Sink]:
    installation.database.clock = utc_now  # Workers in other processes have no other.
    with Sink(tmp_path) as running:
        save(installation.database, open_relay(running.port))
        yield running


def fail(installation: Installation, sink: Sink, folder: Path, fault: str, count: int = 1) -> tuple[str, Counter[str]]:
    """One pass that fails there, then one that does not; gives where it failed, and who was in doubt then."""
    with workers(installation, folder, count, what="pass", fault=fault) as started:
        codes = [each.wait() for each in started]
        failed_at = started[0].fault
    assert codes == [-signal.SIGKILL if failed_at else 0] + [0] * (count - 1)
    doubtful = in_doubt(sink.heard(), recorded(installation.database))
    end_leases(installation.database)
    deliver(installation.database)
    assert waiting(installation.database) == 0
    return failed_at, doubtful


def try_again(database: Database) -> int:
    """Press Retry for all that was set aside because workers died with it; gives how many."""
    with database.transaction() as session:
        return retry_all(session, command_line(), Wanted(state=State.GIVEN_UP))


def wait_for_lines(sink: Sink, count: int) -> None:
    """Until the sink has taken about so many more messages, or a second has passed: others may hold the rest."""
    size, end = sink.log.stat().st_size + count * LINE, time.monotonic() + 1
    until(lambda: sink.log.stat().st_size > size or time.monotonic() > end, every=0.001)


def test_a_worker_that_is_killed_at_each_step_in_turn_loses_nothing(
    installation: Installation, sink: Sink, tmp_path: Path
) -> None:
    letters = 2
    seen: Counter[str] = Counter()
    doubtful: Counter[str] = Counter()
    for fatal in itertools.count(1):
        enqueue(installation.database, *(address(fatal * letters + number) for number in range(letters)))
        failed_at, in_question = fail(installation, sink, tmp_path, f"{faults.ANY}:{fatal}")
        assert len(in_question) <= letters
        doubtful += in_question
        if not failed_at:
            break
        seen[failed_at] += 1
    tally = check(installation.database, sink.heard(), doubtful=doubtful)
    assert (tally.accepted, tally.set_aside) == (fatal * letters, 0)
    assert set(seen) == set(faults.STEPS) - ELSEWHERE


def test_one_of_four_workers_that_is_killed_at_each_step_loses_nothing(
    installation: Installation, sink: Sink, tmp_path: Path
) -> None:
    for number, step in enumerate(sorted(set(faults.STEPS) - ELSEWHERE)):
        enqueue(installation.database, *(address(number * 8 + each) for each in range(8)))
        fail(installation, sink, tmp_path, f"{step}:1", 4)
    # The other three may take up what the dead one held before anybody looks: the rows say what died with whom.
    tally = check(installation.database, sink.heard())
    assert (tally.accepted, tally.set_aside) == (8 * (number + 1), 0)


@pytest.mark.parametrize("step", ["tls", "authentication"])
def test_a_worker_that_is_killed_before_it_is_signed_in_loses_nothing(
    installation: Installation, tmp_path: Path, mail_authority: trustme.CA, step: str
) -> None:
    database, pem = installation.database, tmp_path / "server.pem"
    database.clock = utc_now
    mail_authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(pem)
    with Sink(tmp_path, certificate=pem, login=("user", "correct-horse")) as sink:
        save(
            database, draft(server_name="localhost", port=sink.port, username="user", password=Secret("correct-horse"))
        )
        with database.transaction() as session:
            import_certificates(session, command_line(), mail_authority.cert_pem.bytes(), source="test")
        enqueue(database, *map(address, range(3)))
        assert fail(installation, sink, tmp_path, f"{step}:1") == (step, Counter())
        assert check(database, sink.heard(), doubtful={}).accepted == 3


@pytest.mark.parametrize("step", ["release", "released"])
def test_a_worker_that_is_killed_while_it_gives_messages_back_loses_nothing(
    installation: Installation, sink: Sink, tmp_path: Path, step: str
) -> None:
    sink.tell(delay=0.02)
    enqueue(installation.database, *map(address, range(150)))
    with workers(installation, tmp_path, fault=f"{step}:1") as (worker,):
        until(lambda: sink.count() > 5)
        worker.send(signal.SIGTERM)
        assert worker.wait() == -signal.SIGKILL
        assert worker.fault == step
    doubtful = in_doubt(sink.heard(), recorded(installation.database))
    sink.tell(delay=0)
    end_leases(installation.database)
    deliver(installation.database)
    assert check(installation.database, sink.heard(), doubtful=doubtful).accepted == 150


@pytest.mark.parametrize("count", [1, 4])
def test_workers_that_are_killed_at_random_moments_lose_nothing(
    installation: Installation, sink: Sink, tmp_path: Path, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    database, draw = installation.database, random.Random(SEED)
    kills = KILLS or 8 * (1 + (count > 1))
    letters = itertools.count()
    doubtful: Counter[str] = Counter()
    most = killed = 0
    sink.tell(delay=0.002)
    while killed < kills:
        enqueue(database, *(address(next(letters)) for _ in range(60)))
        with workers(installation, tmp_path, count) as started:
            for worker in draw.sample(started, count):
                wait_for_lines(sink, draw.randrange(60))
                # Others may take up at once what it held: what counts as written down is what was before.
                written_down = recorded(database)
                worker.kill()
                doubtful += in_doubt(sink.heard(), written_down)
                killed += 1
        most = max(most, len(in_doubt(sink.heard(), recorded(database))))
        end_leases(database)
    while waiting(database) or try_again(database):
        deliver(installation.database)
    tally = check(database, sink.heard(), doubtful=doubtful)
    with capsys.disabled():
        print(
            f"\n{killed} kills of {count} worker(s) at random (KEYPOST_SEED={SEED}): {tally.accepted} letters, none "
            f"lost, {tally.duplicates} came twice; at most {most} in doubt at one kill"
        )
    assert (tally.accepted, tally.set_aside) == (next(letters), 0)
    assert most <= IN_FLIGHT * count


@pytest.mark.skipif(not KILLS, reason="the long run: KEYPOST_KILLS=1000")
@pytest.mark.parametrize("step", sorted(set(faults.STEPS) - ELSEWHERE))
def test_a_step_that_fails_a_hundred_times_loses_nothing(
    installation: Installation, sink: Sink, tmp_path: Path, step: str
) -> None:
    doubtful: Counter[str] = Counter()
    failed = 0
    for fatal in range(1, 101):
        enqueue(installation.database, *(address(fatal * 10 + number) for number in range(10)))
        failed_at, in_question = fail(installation, sink, tmp_path, f"{step}:{1 + fatal % 10}")
        failed += failed_at == step
        doubtful += in_question
    assert failed >= 10
    check(installation.database, sink.heard(), doubtful=doubtful)
