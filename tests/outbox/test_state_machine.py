"""Whatever happens in whatever order, no message is lost, and none that was cancelled is sent.

Hypothesis makes up sequences of all that can happen to the outbox; beside the real tables a model in this file says
what each message must have become.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test

from webapp.actor import command_line
from webapp.db import Database
from webapp.errors import Conflict, NotFound
from webapp.outbox import lease, ledger, outcomes
from webapp.outbox.lease import LEASE, MOST_CRASHES, Leased
from webapp.outbox.ledger import Wanted
from webapp.outbox.messages import LIFE, FailedAttempt, Kind, Message, State, queue
from webapp.outbox.outcomes import LONGEST_DELAY, Outcome

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEPT = timedelta(days=30)
# A failing sequence is short enough to read, and making it shorter on a real database takes many minutes.
_PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
KINDS = (Kind.ROLE_CHANGED, Kind.PASSWORD_RESET)  # One whose life can begin anew, one whose link dies.
VERDICTS = ("accepted", "refused", "deferred", "unreadable")


@dataclass
class Expected:
    """What a message must be."""

    kind: Kind
    due_at: datetime
    expires_at: datetime
    state: State = State.QUEUED
    has_data: bool = True
    attempts: int = 0
    crashes: int = 0
    lease: str | None = None
    lease_until: datetime | None = None
    ended_at: datetime | None = None

    def end(self, state: State, now: datetime) -> None:
        self.state, self.ended_at, self.lease, self.lease_until = state, now, None, None

    def wait(self) -> None:
        self.state, self.lease, self.lease_until = State.QUEUED, None, None

    def is_due(self, now: datetime) -> bool:
        return self.state is State.QUEUED and self.due_at <= now < self.expires_at


@dataclass
class World:
    """The model: what is there, and what the mail server was given."""

    messages: dict[str, Expected] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)
    sent: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    forgotten: set[str] = field(default_factory=set)


class Outbox(RuleBasedStateMachine):
    """All that can happen. A claim is one worker's; several are out at the same time."""

    database: Database
    tokens: Bundle[str] = Bundle("tokens")
    claims: Bundle[list[Leased]] = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.database.clock = lambda: self.now
        self.world = World()
        with self.database.transaction() as session:
            session.execute(sa.delete(Message))

    # What the program does ---------------------------------------------

    @rule(target=tokens, kind=st.sampled_from(KINDS), hours=st.sampled_from([1, 72, 500]))
    def queue(self, kind: Kind, hours: int) -> str:
        life = timedelta(hours=hours)
        with self.database.transaction() as session:
            token = queue(session, command_line(), kind, recipient="bob@example.com", data={"link": "x"}, life=life)
        self._expect(token, kind, min(life, LIFE))
        return token

    @rule(kind=st.sampled_from(KINDS))
    def queue_and_roll_back(self, kind: Kind) -> None:
        with pytest.raises(NotFound):
            self._queue_and_fail(kind)

    def _queue_and_fail(self, kind: Kind) -> None:
        with self.database.transaction() as session:
            queue(session, command_line(), kind, recipient="bob@example.com")
            raise NotFound("whatever goes wrong in the transaction of the cause")

    @rule(target=claims, most=st.integers(1, 3))
    def claim(self, most: int) -> list[Leased]:
        with self.database.transaction() as session:
            taken = lease.claim(session, most, domain="example.com")
        self._take(taken, most, crashed=False)
        return taken

    @rule(target=claims)
    def claim_alone(self) -> list[Leased]:
        with self.database.transaction() as session:
            taken = lease.claim_alone(session, domain="example.com")
        self._take(taken, 1, crashed=True)
        return taken

    def _take(self, taken: list[Leased], most: int, *, crashed: bool) -> None:
        due = [token for token, each in self.world.messages.items() if each.is_due(self.now)]
        due = [token for token in due if (self.world.messages[token].crashes > 0) is crashed]
        due.sort(key=lambda token: (self.world.messages[token].due_at, self.world.ids[token]))
        assert {each.token for each in taken} == set(due[:most])
        for each in taken:
            expected = self.world.messages[each.token]
            assert each.sealed is not None
            assert each.message_id == f"<{each.token}@example.com>"
            expected.state, expected.lease, expected.lease_until = State.SENDING, each.lease, self.now + LEASE

    @rule(claim=consumes(claims), verdicts=st.lists(st.sampled_from(VERDICTS), min_size=3, max_size=3))
    def deliver(self, claim: list[Leased], verdicts: list[Any]) -> None:
        """A worker sends what it claimed and writes down what became of it, however late."""
        ended = [Outcome(each, verdict, reply="250 ok") for each, verdict in zip(claim, verdicts, strict=False)]
        for each in ended:
            self._send(each)
        with self.database.transaction() as session:
            outcomes.record(session, ended)
        for each in ended:
            self._note(each)

    @rule(claim=claims, verdict=st.sampled_from(VERDICTS))
    def deliver_and_remember_twice(self, claim: list[Leased], verdict: Any) -> None:
        """The same results come twice: a commit of which the worker did not hear."""
        ended = [Outcome(each, verdict) for each in claim]
        for each in ended:
            self._send(each)
        for _ in range(2):
            with self.database.transaction() as session:
                outcomes.record(session, ended)
        for each in ended:
            self._note(each)

    def _holds(self, each: Leased) -> bool:
        expected = self.world.messages.get(each.token)
        return expected is not None and expected.lease == each.lease

    def _send(self, outcome: Outcome) -> None:
        """A worker whose lease has run out sends nothing more; it holds what it sends."""
        if outcome.verdict == "accepted" and self._holds(outcome.message):
            self.world.sent.add(outcome.message.token)

    def _note(self, outcome: Outcome) -> None:
        if not self._holds(outcome.message):
            return
        expected = self.world.messages[outcome.message.token]
        expected.attempts += 1
        if outcome.verdict == "accepted":
            expected.end(State.ACCEPTED, self.now)
            expected.has_data = False
        elif outcome.verdict == "refused":
            expected.end(State.REFUSED, self.now)
        elif outcome.verdict == "unreadable":
            expected.end(State.GIVEN_UP, self.now)
        else:
            self._defer(outcome.message.token, expected)

    def _defer(self, token: str, expected: Expected) -> None:
        due_at = self._row(token).due_at
        assert self.now < due_at <= self.now + LONGEST_DELAY * 1.2
        expected.due_at = due_at
        if due_at >= expected.expires_at:
            expected.end(State.GIVEN_UP, self.now)
        else:
            expected.wait()

    @rule(claim=consumes(claims))
    def release(self, claim: list[Leased]) -> None:
        with self.database.transaction() as session:
            lease.release(session, claim)
        for each in claim:
            if self._holds(each):
                self.world.messages[each.token].wait()

    @rule(claim=consumes(claims))
    def die(self, claim: list[Leased]) -> None:
        """The worker is gone, and with it what it held in memory."""

    @rule()
    def take_back(self) -> None:
        with self.database.transaction() as session:
            lease.take_back(session)
        for each in self.world.messages.values():
            until = each.lease_until
            if until and (until < self.now or until > self.now + 2 * LEASE):
                each.crashes += 1
                if each.crashes >= MOST_CRASHES:
                    each.end(State.GIVEN_UP, self.now)
                else:
                    each.wait()

    @rule()
    def give_up_expired(self) -> None:
        with self.database.transaction() as session:
            outcomes.give_up_expired(session)
        for each in self.world.messages.values():
            if each.state is State.QUEUED and each.expires_at <= self.now:
                each.end(State.GIVEN_UP, self.now)
                each.has_data = False

    @rule()
    def keep_house(self) -> None:
        with self.database.transaction() as session:
            outcomes.set_clock_right(session)
            outcomes.empty_ended(session)
            outcomes.forget_old(session, KEPT)
        for token, each in list(self.world.messages.items()):
            if each.state is State.QUEUED and each.due_at > self.now + 2 * LONGEST_DELAY:
                each.due_at = self.now
            if each.ended_at and each.ended_at < self.now - LIFE:
                each.has_data = False
            if each.ended_at and each.ended_at < self.now - KEPT:
                self.world.forgotten.add(token)
                del self.world.messages[token]

    # What people do ----------------------------------------------------

    @rule(token=tokens)
    def cancel(self, token: str) -> None:
        expected = self.world.messages.get(token)
        may = expected is not None and expected.state is State.QUEUED
        if self._act(token, ledger.cancel, may=may):
            assert expected is not None
            expected.end(State.CANCELLED, self.now)
            self.world.cancelled.add(token)

    @rule(token=tokens)
    def retry(self, token: str) -> None:
        expected = self.world.messages.get(token)
        waits = expected is not None and expected.state is State.QUEUED
        if self._act(token, ledger.retry, may=waits or (expected is not None and self._may_be_revived(expected))):
            assert expected is not None
            self._revive(expected)

    @rule(state=st.sampled_from([None, State.QUEUED, State.REFUSED, State.GIVEN_UP]))
    def retry_all(self, state: State | None) -> None:
        with self.database.transaction() as session:
            ledger.retry_all(session, command_line(), Wanted(state))
        for each in self.world.messages.values():
            meant = state is None or each.state is state
            waits = each.state is State.QUEUED and each.due_at > self.now
            if meant and (waits or self._may_be_revived(each)):
                self._revive(each)

    @rule(kind=st.sampled_from(KINDS))
    def cancel_all(self, kind: Kind) -> None:
        with self.database.transaction() as session:
            ledger.cancel_all(session, command_line(), Wanted(kind=kind.value))
        for token, each in self.world.messages.items():
            if each.kind is kind and each.state is State.QUEUED:
                each.end(State.CANCELLED, self.now)
                self.world.cancelled.add(token)

    @rule(target=tokens, token=tokens)
    def again(self, token: str) -> str:
        expected = self.world.messages.get(token)
        try:
            with self.database.transaction() as session:
                fresh_id = ledger.again(session, command_line(), self.world.ids[token])
        except (Conflict, NotFound):
            return token
        assert expected is not None
        assert not expected.state.is_waiting
        assert expected.has_data
        with self.database.reading() as session:
            fresh = session.get_one(Message, fresh_id)
        assert (fresh.again_of, fresh.state) == (self.world.ids[token], State.QUEUED)
        left = min(expected.expires_at - self.now, LIFE) if expected.kind.is_essential else LIFE
        assert left > timedelta()
        self._expect(fresh.token, expected.kind, left)
        return fresh.token

    # What time does -----------------------------------------------------

    @rule(minutes=st.sampled_from([0.1, 1, 3, 6, 30, 90, 60 * 24, 60 * 24 * 6, 60 * 24 * 31]))
    def time_passes(self, minutes: float) -> None:
        self.now += timedelta(minutes=minutes)

    @rule(minutes=st.sampled_from([1, 8, 60 * 24]))
    def the_clock_is_put_back(self, minutes: float) -> None:
        self.now -= timedelta(minutes=minutes)

    # What must hold after each of these ----------------------------------

    @invariant()
    def each_message_is_what_it_must_be(self) -> None:
        with self.database.reading() as session:
            rows = {row.token: row for row in session.scalars(sa.select(Message))}
            orphans = session.scalar(sa.select(sa.func.count()).where(FailedAttempt.message_id.not_in(_ids(rows))))
        assert rows.keys() == self.world.messages.keys()
        assert orphans == 0
        for token, expected in self.world.messages.items():
            assert _facts(rows[token]) == _facts(expected), token

    @invariant()
    def what_waits_has_what_it_is_to_say(self) -> None:
        assert all(each.has_data for each in self.world.messages.values() if each.state.is_waiting)

    @invariant()
    def nothing_was_sent_that_had_been_cancelled(self) -> None:
        assert not self.world.sent & self.world.cancelled

    @invariant()
    def nothing_that_was_not_ended_is_forgotten(self) -> None:
        assert self.world.ids.keys() == self.world.messages.keys() | self.world.forgotten

    # ---------------------------------------------------------------------

    def _expect(self, token: str, kind: Kind, life: timedelta) -> None:
        self.world.messages[token] = Expected(kind, self.now, self.now + life)
        self.world.ids[token] = self._row(token).id

    def _row(self, token: str) -> Message:
        with self.database.reading() as session:
            return session.scalars(sa.select(Message).where(Message.token == token)).one()

    def _act(self, token: str, act: Any, *, may: bool) -> bool:
        try:
            with self.database.transaction() as session:
                act(session, command_line(), self.world.ids[token])
        except NotFound:
            assert token in self.world.forgotten
            return False
        except Conflict:
            assert not may
            return False
        assert may
        return True

    def _may_be_revived(self, each: Expected) -> bool:
        link_lives = not each.kind.is_essential or each.expires_at > self.now
        return each.state in (State.REFUSED, State.GIVEN_UP) and each.has_data and link_lives

    def _revive(self, each: Expected) -> None:
        if each.state is not State.QUEUED:
            each.expires_at = each.expires_at if each.kind.is_essential else self.now + LIFE
            each.crashes = min(each.crashes, 1)
            each.ended_at = None
            each.wait()
        each.due_at = self.now


def _ids(rows: dict[str, Message]) -> list[int]:
    return [row.id for row in rows.values()]


def _facts(each: Message | Expected) -> dict[str, object]:
    names = ("state", "due_at", "expires_at", "attempts", "crashes", "lease", "lease_until", "ended_at")
    has_data = each.has_data if isinstance(each, Expected) else each.sealed is not None
    due_at = each.due_at if each.state == State.QUEUED else None
    return {name: getattr(each, name) for name in names} | {"has_data": has_data, "due_at": due_at}


def run(database: Database, examples: int) -> None:
    machine = type("OutboxHere", (Outbox,), {"database": database})
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=40, phases=_PHASES))


@pytest.mark.slow
def test_no_sequence_of_events_loses_a_message_or_sends_a_cancelled_one(database: Database) -> None:
    run(database, 80 if database.is_sqlite else 20)
