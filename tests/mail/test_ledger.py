"""The delivery's one writer: what comes together is written down together, and none waits for what never comes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.outbox import enqueue, open_relay, save, states
from tests.support.sink import Sink
from tests.support.worker_process import until
from webapp.db import Database
from webapp.mail import ledger
from webapp.mail.delivery import Delivery
from webapp.mail.ledger import Ledger, claim
from webapp.outbox.outcomes import Outcome
from webapp.trust.store import TrustStore

WORKER = "w" * 32


class Running:
    """A ledger that has done its first duties. commits: what stood in the outbox after each since then."""

    def __init__(self, database: Database) -> None:
        self.commits: list[dict[str, int]] = []
        self.ledger = Ledger(database, WORKER, lambda: self.commits.append(states(database)), lambda _session: 30)
        self.ledger.start()
        until(lambda: bool(self.commits))
        self.commits.clear()


@pytest.fixture
def running(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr(ledger, "_GATHERING_SECONDS", 600.0)
    made = Running(database)
    yield made
    assert made.ledger.end(60.0)


def accepted(database: Database, count: int) -> list[Outcome]:
    """So many messages that a server took."""
    enqueue(database, *(f"person-{number}@example.test" for number in range(count)))
    with database.transaction() as session:
        return [Outcome(each, "accepted") for each in claim(session, count, "example.test", worker=WORKER)]


def test_outcomes_that_follow_each_other_share_a_commit(database: Database, running: Running) -> None:
    first, second = accepted(database, 2)
    running.ledger.write([first], more_comes=True)
    running.ledger.write([second])
    until(lambda: {"accepted": 2} in running.commits)
    assert {"accepted": 1, "sending": 1} not in running.commits


def test_what_has_to_be_done_waits_for_no_outcome(database: Database, running: Running) -> None:
    running.ledger.write(accepted(database, 1), more_comes=True)
    running.ledger.do(lambda _session: None)
    until(lambda: {"accepted": 1} in running.commits)


def test_many_outcomes_wait_for_no_more(database: Database, running: Running) -> None:
    running.ledger.write(accepted(database, 50), more_comes=True)
    until(lambda: {"accepted": 50} in running.commits)


def test_what_was_collected_is_written_down_at_the_end(database: Database, running: Running) -> None:
    running.ledger.write(accepted(database, 1), more_comes=True)
    assert running.ledger.end(60.0)
    assert states(database) == {"accepted": 1}


def test_the_last_of_some_messages_is_written_down_at_once(
    database: Database, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "_GATHERING_SECONDS", 600.0)
    with Sink(tmp_path_factory.mktemp("sink")) as sink:
        save(database, open_relay(sink.port))
        enqueue(database, "bob@example.test", "ann@example.test", "eve@example.test")
        delivery = Delivery(database, TrustStore(database))
        delivery.start()
        until(lambda: states(database) == {"accepted": 3})
        assert delivery.stop()
