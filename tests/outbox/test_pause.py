"""The pause: attempts grow rarer, one worker of all makes each, and whatever changes the server ends it at once."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from tests.outbox.test_lease import later
from webapp.actor import command_line
from webapp.audit import trail
from webapp.db import Database
from webapp.outbox import pause
from webapp.outbox.pause import Reason

REASON = Reason("here", "mail.example.com:587", "connection-refused", "connect", "It refused.", "Check it.")


def begin(database: Database, reason: Reason = REASON) -> timedelta:
    """Pause; gives in how long the server is asked again."""
    with database.transaction() as session:
        return pause.begin(session, reason).attempt_at - session.now()


def claim(database: Database, about: str = "here") -> bool:
    with database.transaction() as session:
        return pause.claim_attempt(session, about)


def acts(database: Database) -> list[str]:
    with database.reading() as session:
        return [line.action for line in reversed(trail.latest(session))]


def test_attempts_grow_rarer(database: Database) -> None:
    waits = [begin(database) for _ in range(6)]
    assert waits == [timedelta(minutes=minutes) for minutes in (1, 1, 2, 3, 5, 5)]


def test_a_refused_login_is_tried_three_times_within_a_day(database: Database) -> None:
    waits = [begin(database, replace(REASON, login=True)) for _ in range(4)]
    assert sum(waits[:3], timedelta()) > timedelta(days=1)
    assert waits[3] == timedelta(days=1)


def test_a_pause_is_audited_once_and_again_when_its_reason_changes(database: Database) -> None:
    begin(database)
    begin(database)
    begin(database, replace(REASON, code="connection-timeout"))
    assert acts(database) == ["outbox:pause", "outbox:pause"]


def test_the_pause_is_as_old_as_its_beginning(database: Database) -> None:
    begin(database)
    since: datetime = database.clock()
    later(database, timedelta(minutes=10))
    begin(database, replace(REASON, code="connection-timeout"))
    with database.reading() as session:
        found = pause.current(session)
    assert found is not None
    assert found.since == since


def test_one_worker_of_all_asks_the_server(database: Database) -> None:
    begin(database)
    assert not claim(database)
    later(database, timedelta(minutes=1, seconds=1))
    assert [claim(database) for _ in range(3)] == [True, False, False]


def test_a_change_of_what_failed_makes_the_attempt_due_at_once(database: Database) -> None:
    begin(database)
    assert claim(database, "elsewhere")


def test_what_was_changed_begins_anew_although_it_fails_alike(database: Database) -> None:
    refused = replace(REASON, code="credentials-refused", login=True)
    waits = [begin(database, refused) for _ in range(3)]
    assert claim(database, "elsewhere")
    assert begin(database, replace(refused, about="elsewhere")) == waits[0] < waits[1]
    assert acts(database) == ["outbox:pause", "outbox:pause"]


def test_somebody_may_have_the_server_asked_at_once(database: Database) -> None:
    begin(database)
    with database.transaction() as session:
        assert pause.ask_now(session, command_line())
    assert claim(database)


REFUSED = replace(REASON, login=True)


def ask_now(database: Database) -> None:
    with database.transaction() as session:
        assert pause.ask_now(session, command_line())


def test_a_refusal_that_somebody_asked_for_does_not_lengthen_the_wait(database: Database) -> None:
    begin(database, REFUSED)
    for _ in range(3):
        ask_now(database)
        assert claim(database)
        assert begin(database, REFUSED) == timedelta(minutes=15)
    later(database, timedelta(minutes=16))
    assert claim(database)
    assert begin(database, REFUSED) == timedelta(hours=4)


def test_asking_again_before_the_answer_does_not_shorten_the_wait(database: Database) -> None:
    begin(database, REFUSED)
    begin(database, REFUSED)
    ask_now(database)
    ask_now(database)
    assert claim(database)
    ask_now(database)
    assert begin(database, REFUSED) == timedelta(hours=4)


def test_an_attempt_put_off_by_a_clock_that_ran_ahead_is_due_once_it_is_right(database: Database) -> None:
    right = database.clock()
    database.clock = lambda: right + timedelta(days=30)
    begin(database)
    database.clock = lambda: right
    assert claim(database)


def test_it_ends_once(database: Database) -> None:
    begin(database)
    for ended in (True, False):
        with database.transaction() as session:
            assert pause.end(session) is ended
    assert acts(database) == ["outbox:pause", "outbox:resume"]
