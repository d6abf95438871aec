"""What becomes of messages after an attempt, and how long they are kept."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from tests.outbox.test_lease import add, later, states, take
from webapp.actor import command_line
from webapp.db import Database
from webapp.errors import Invalid
from webapp.outbox import keeping, ledger, outcomes
from webapp.outbox.lease import Leased
from webapp.outbox.ledger import Wanted
from webapp.outbox.messages import LIFE, FailedAttempt, Message, State
from webapp.outbox.outcomes import AT_ONCE, LONGEST_DELAY, Outcome, Verdict, delay


def end(database: Database, verdict: Verdict, taken: list[Leased] | None = None, **facts: object) -> None:
    with database.transaction() as session:
        outcomes.record(session, [Outcome(each, verdict, **facts) for each in taken or []])  # type: ignore[arg-type]


def message(database: Database) -> Message:
    with database.reading() as session:
        return session.get_one(Message, 1)


def rows(database: Database, table: type[Message] | type[FailedAttempt] = Message) -> int:
    with database.reading() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def test_an_accepted_message_loses_its_content_at_once(database: Database) -> None:
    add(database)
    end(database, "accepted", take(database), reply="250 Ok", server="mail.example.com:587")
    found = message(database)
    assert (found.state, found.sealed, found.attempts, found.reply) == (State.ACCEPTED, None, 1, "250 Ok")
    assert rows(database, FailedAttempt) == 0


def test_a_failed_attempt_is_kept_with_the_server_s_words(database: Database) -> None:
    add(database)
    end(database, "deferred", take(database), code="greylisted", stage="recipient", reply="450 " + "x" * 2000)
    with database.reading() as session:
        attempt = session.scalars(sa.select(FailedAttempt)).one()
    assert (attempt.code, attempt.stage, len(attempt.reply)) == ("greylisted", "recipient", 1000)


def test_delays_double_up_to_an_hour_and_spread_by_a_fifth() -> None:
    for attempts, minutes in ((1, 1), (2, 2), (3, 4), (6, 32), (7, 64), (8, 66), (1000, 66)):
        drawn = [delay(attempts) for _ in range(200)]
        assert timedelta(minutes=minutes) * 0.8 <= min(drawn) <= max(drawn) <= timedelta(minutes=minutes) * 1.2
        assert max(drawn) - min(drawn) > timedelta(minutes=minutes) * 0.1


def test_a_server_may_ask_for_more_time(database: Database) -> None:
    add(database)
    end(database, "deferred", take(database), not_before=timedelta(minutes=5))
    assert message(database).due_at >= database.clock() + timedelta(minutes=4)


def test_a_message_whose_next_attempt_would_come_too_late_is_given_up_now(database: Database) -> None:
    add(database, life=timedelta(seconds=30))
    end(database, "deferred", take(database), code="greylisted")
    assert (message(database).state, message(database).code) == (State.GIVEN_UP, "greylisted")


def test_what_waited_too_long_is_given_up_and_emptied(database: Database) -> None:
    add(database)
    later(database, LIFE + timedelta(seconds=1))
    with database.transaction() as session:
        assert outcomes.give_up_expired(session) == 1
    found = message(database)
    assert (found.state, found.code, found.sealed) == (State.GIVEN_UP, "expired", None)


def test_what_failed_keeps_its_content_for_five_days(database: Database) -> None:
    add(database)
    end(database, "refused", take(database))
    for span, emptied in ((LIFE, 0), (timedelta(seconds=1), 1)):
        later(database, span)
        with database.transaction() as session:
            assert outcomes.empty_ended(session) == emptied
    assert message(database).sealed is None


def test_what_has_ended_is_forgotten_after_the_days_of_the_setting_with_its_attempts(database: Database) -> None:
    add(database, 2)
    end(database, "refused", take(database, 1), code="recipient-unknown")
    with database.transaction() as session:
        keeping.keep(session, command_line(), 7)
        kept = timedelta(days=keeping.kept_days(session))
    for span, gone in ((kept, 0), (timedelta(seconds=1), 1)):
        later(database, span)
        with database.transaction() as session:
            assert outcomes.forget_old(session, kept) == gone
    assert states(database) == ["queued"]
    assert rows(database, FailedAttempt) == 0


@pytest.mark.parametrize("days", [0, -1, 731])
def test_an_impossible_time_is_refused(database: Database, days: int) -> None:
    with pytest.raises(Invalid), database.transaction() as session:
        keeping.keep(session, command_line(), days)


def test_housekeeping_takes_a_thousand_rows_in_a_step(database: Database) -> None:
    add(database, AT_ONCE + 1)
    later(database, LIFE + timedelta(seconds=1))
    with database.transaction() as session:
        assert [outcomes.give_up_expired(session) for _ in range(3)] == [AT_ONCE, 1, 0]
    later(database, timedelta(days=31))
    with database.transaction() as session:
        assert [outcomes.forget_old(session) for _ in range(3)] == [AT_ONCE, 1, 0]
    assert rows(database) == 0


def test_what_a_clock_that_ran_ahead_put_off_is_due_once_it_is_right(database: Database) -> None:
    right = database.clock()
    add(database)
    database.clock = lambda: right + timedelta(days=1)
    end(database, "deferred", take(database))
    database.clock = lambda: right
    with database.transaction() as session:
        outcomes.set_clock_right(session)
    assert message(database).due_at == right
    assert message(database).due_at < right + LONGEST_DELAY


def test_people_s_acts_on_many_take_a_thousand_rows_in_a_step(database: Database) -> None:
    add(database, AT_ONCE + 1)
    with database.transaction() as session:
        assert [ledger.cancel_all(session, command_line(), Wanted()) for _ in range(3)] == [AT_ONCE, 1, 0]
