"""What a server can do wrong, at each step: each message ends in the right state, and the rest of the queue arrives."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.support.invariants import check
from tests.support.outbox import MovableClock, deliver, enqueue, only, open_relay, save, states
from tests.support.sink import HANG_UP, SILENCE, TAKE_AND_HANG_UP, Sink
from tests.support.worker_process import address, until
from webapp.db import Database
from webapp.installation import Installation
from webapp.mail.delivery import Delivery
from webapp.mail.route import NoWay
from webapp.outbox import pause
from webapp.outbox.messages import FailedAttempt, Message
from webapp.trust.store import TrustStore

LETTERS = 6


@pytest.fixture
def clock(database: Database) -> MovableClock:
    database.clock = MovableClock()
    return database.clock


@pytest.fixture
def sink(database: Database, tmp_path: Path) -> Iterator[Sink]:
    with Sink(tmp_path) as running:
        save(database, open_relay(running.port))
        yield running


def reason(database: Database) -> str | None:
    with database.reading() as session:
        waits = pause.current(session)
        return waits.code if waits else None


def attempts(database: Database) -> int:
    """How often anything was tried in vain."""
    with database.reading() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(FailedAttempt)) or 0


def recover(database: Database, clock: MovableClock, sink: Sink) -> None:
    """The server behaves again; hours pass."""
    sink.tell(replies={}, listening=True)
    for _ in range(6):
        clock.go(minutes=90)
        deliver(database)


@pytest.mark.parametrize("step", ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "body", "message"])
@pytest.mark.parametrize("fault", [HANG_UP, SILENCE])
def test_a_server_that_hangs_up_or_falls_silent_gets_everything_later(
    database: Database, clock: MovableClock, sink: Sink, step: str, fault: str
) -> None:
    sink.tell(replies={step: fault})
    enqueue(database, *map(address, range(LETTERS)))
    Delivery(database, TrustStore(database), step_seconds=0.3, open_seconds=0.3).deliver_due()
    assert states(database) == {"queued": LETTERS}
    assert sink.accepted() == []
    recover(database, clock, sink)
    tally = check(database, sink.heard())
    assert (tally.accepted, tally.duplicates) == (LETTERS, 0)
    assert reason(database) is None


JUMPS = {"an hour ahead": 1, "an hour back": -1, "a day ahead": 24, "a day back": -24, "ten years back": -10 * 8766}


@pytest.mark.parametrize("hours", JUMPS.values(), ids=JUMPS)
def test_a_clock_that_jumps_makes_no_storm_and_leaves_nothing_lying(
    database: Database, clock: MovableClock, sink: Sink, hours: float
) -> None:
    """Asked every three minutes for two hours, without a jump and with one after the first."""
    refusal = {"RCPT": "451 4.3.0 not now"}
    asked = []
    for first, jump in ((0, 0.0), (LETTERS, hours)):
        sink.tell(replies=refusal)
        enqueue(database, *map(address, range(first, first + LETTERS)))
        for minute in range(0, 120, 3):
            if minute == 60:
                clock.go(hours=jump)
            deliver(database)
            clock.go(minutes=3)
        asked.append(attempts(database))
        sink.tell(replies={})
        for _ in range(3):
            clock.go(minutes=66 * 1.2)
            deliver(database)
        assert states(database) == {"accepted": first + LETTERS}
    usual, after_jump = asked[0], asked[1] - asked[0]
    assert after_jump <= 2 * usual


@pytest.mark.parametrize("step", ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "message"])
@pytest.mark.parametrize("reply", ["421 4.3.2 closing", "451 4.3.0 not now"])
def test_a_passing_refusal_at_any_step_is_tried_again(
    database: Database, clock: MovableClock, sink: Sink, step: str, reply: str
) -> None:
    sink.tell(replies={step: reply})
    enqueue(database, *map(address, range(LETTERS)))
    deliver(database)
    assert states(database) == {"queued": LETTERS}
    recover(database, clock, sink)
    tally = check(database, sink.heard())
    assert (tally.accepted, tally.duplicates) == (LETTERS, 0)
    assert reason(database) is None


def test_greylisting_of_many_pauses_nothing(database: Database, clock: MovableClock, sink: Sink) -> None:
    many = 50
    sink.tell(replies={"RCPT": "450 4.2.0 Greylisted, come back in five minutes"})
    enqueue(database, *map(address, range(many)))
    deliver(database)
    assert (attempts(database), reason(database)) == (many, None)
    sink.tell(replies={})
    clock.go(minutes=7)
    deliver(database)
    assert states(database) == {"accepted": many}


@pytest.mark.parametrize("reply", ["550 5.1.1 unknown", "552 5.2.2 full", "553 5.1.3 what is that"])
def test_a_lasting_refusal_of_one_message_ends_it_and_no_other(database: Database, sink: Sink, reply: str) -> None:
    sink.tell(replies={f"RCPT {address(2)}": reply})
    enqueue(database, *map(address, range(LETTERS)))
    deliver(database)
    assert states(database) == {"accepted": LETTERS - 1, "refused": 1}
    refused = only(database, address(2))
    assert reply in refused.reply
    assert refused.attempts == 1


@pytest.mark.parametrize("step", ["greeting", "EHLO", "MAIL"])
def test_a_lasting_refusal_of_us_pauses_the_queue_and_loses_nothing(
    database: Database, clock: MovableClock, sink: Sink, step: str
) -> None:
    sink.tell(replies={step: "550 5.7.1 not you"})
    enqueue(database, *map(address, range(LETTERS)))
    deliver(database)
    assert reason(database) is not None
    assert states(database) == {"queued": LETTERS}
    recover(database, clock, sink)
    assert states(database) == {"accepted": LETTERS}
    assert reason(database) is None


def test_a_message_that_was_taken_and_not_answered_comes_again_as_the_same_one(
    database: Database, clock: MovableClock, sink: Sink
) -> None:
    sink.tell(replies={"message": TAKE_AND_HANG_UP})
    enqueue(database, address(1))
    deliver(database)
    message = only(database, address(1))
    assert (message.state, message.code) == ("queued", "conversation-broken")
    recover(database, clock, sink)
    assert only(database, address(1)).state == "accepted"
    assert [each.message_id for each in sink.accepted()] == [message.message_id] * 2


def test_a_message_is_not_under_way_longer_than_its_lease(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.mail.delivery.LEASE", timedelta(seconds=22))  # two seconds, and the margin
    with Sink(tmp_path, delay=1, pipelining=False) as slow:
        save(database, open_relay(slow.port))
        enqueue(database, address(1), address(2))
        deliver(database)
    assert {only(database, address(number)).state for number in (1, 2)} == {"queued"}
    assert only(database, address(1)).attempts == 1


def test_a_reason_that_cannot_be_written_down_does_not_end_the_trying(database: Database, sink: Sink) -> None:
    sink.tell(listening=False)
    enqueue(database, address(1))
    delivery = Delivery(database, TrustStore(database))
    suffer, failed = delivery._suffer, iter([True])

    def locked_once(way: NoWay) -> None:
        if next(failed, False):
            raise sa.exc.OperationalError("the database is locked", None, sqlite3.OperationalError())
        suffer(way)

    delivery._suffer = locked_once  # type: ignore[method-assign]
    delivery.deliver_due()
    assert reason(database) == "connection-refused"


def test_an_outage_of_six_hours_is_asked_after_once_a_minute_at_most_and_the_oldest_goes_first(
    database: Database, clock: MovableClock, sink: Sink
) -> None:
    sink.tell(listening=False)
    for start in range(0, 1000, 250):
        enqueue(database, *map(address, range(start, start + 250)))
        clock.go(seconds=1)
    minutes = 6 * 60
    for _ in range(minutes):
        deliver(database)
        clock.go(minutes=1)
    with database.reading() as session:
        waits = pause.current(session)
        assert waits is not None
        assert waits.code == "connection-refused"
        assert waits.attempts <= minutes
        assert session.scalar(sa.select(sa.func.count()).select_from(FailedAttempt)) == 0
    sink.tell(listening=True)
    clock.go(minutes=5)
    deliver(database)
    assert states(database) == {"accepted": 1000}
    arrived = [int(each.recipient.partition("@")[0].removeprefix("person-")) // 250 for each in sink.accepted()]
    assert arrived[:200] == [0] * 200
    assert arrived[-200:] == [3] * 200


def test_one_message_that_nobody_can_read_among_a_thousand_harms_no_other(database: Database, sink: Sink) -> None:
    enqueue(database, *map(address, range(1000)))
    with database.transaction() as session:
        session.execute(sa.update(Message).where(Message.recipient == address(500)).values(sealed=b"poison"))
    deliver(database)
    assert states(database) == {"accepted": 999, "given-up": 1}
    assert only(database, address(500)).code == "unreadable"
    assert len(sink.accepted()) == 999


def test_a_locked_database_holds_up_and_loses_nothing(installation: Installation, sink: Sink) -> None:
    database = installation.database
    if not database.is_sqlite:
        pytest.skip("PostgreSQL locks rows")
    enqueue(database, *map(address, range(50)))
    sink.tell(delay=0.02)
    delivery = Delivery(database, TrustStore(database))
    delivery.start()
    with closing(sqlite3.connect(str(database.url.database), isolation_level=None)) as locking:
        until(lambda: sink.count() >= 5)
        locking.execute("BEGIN IMMEDIATE")
        taken = sink.count()
        until(lambda: sink.count() > taken)  # What was leased goes on.
        locking.execute("ROLLBACK")
        until(lambda: states(database) == {"accepted": 50})
    assert delivery.stop()
    assert check(database, sink.heard(), doubtful={}).duplicates == 0


def test_a_full_disk_holds_up_and_loses_nothing(
    installation: Installation, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    database = installation.database
    if not database.is_sqlite:
        pytest.skip("SQLite can be told how large it may become")
    enqueue(database, *map(address, range(50)))
    sink.tell(replies={f"RCPT {address(number)}": "550 5.1.1 " + "x" * 900 for number in range(40)})

    def may_not_grow(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")

    database.dispose()
    sa.event.listen(database.engine, "connect", may_not_grow)
    delivery = Delivery(database, TrustStore(database))
    delivery.start()
    until(lambda: "cannot be written to" in caplog.text)
    sa.event.remove(database.engine, "connect", may_not_grow)
    database.dispose()
    until(lambda: states(database) == {"accepted": 10, "refused": 40})
    assert delivery.stop()
    assert len(sink.accepted()) == 10
