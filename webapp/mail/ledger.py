"""The delivery's one writer: claims messages and writes down outcomes, many in each transaction.

It runs in a thread of its own beside the event loop. While one transaction waits for the disk, the next outcomes
collect, and while more are on their way it gives them a few milliseconds: a commit costs as much as ten outcomes. No
more than was collected can be sent twice after a crash.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, cast

import sqlalchemy as sa

from webapp import faults
from webapp.db import Database, Session
from webapp.outbox import lease, outcomes, pause, wake, workers
from webapp.outbox.lease import Leased
from webapp.outbox.messages import Message, State
from webapp.outbox.outcomes import Outcome

Job = Callable[[Session], None]
"""Runs in a transaction, again if that fails; what is to follow the commit it gives to session.after_commit()."""

_ENOUGH: Final = 50
_GATHERING_SECONDS: Final = 0.005
_UPKEEP_SECONDS: Final = 10.0
_SLOW_UPKEEP_SECONDS: Final = 60.0
_SHORTEST_WAIT_SECONDS: Final = 0.2
_LONGEST_WAIT_SECONDS: Final = 5.0
_log = logging.getLogger("keypost.delivery")


class Ledger:
    """Takes outcomes and jobs from the event loop. ``rang`` is called, in the ledger's thread, after each commit.

    kept_days: reads how many days an ended message is kept.
    """

    def __init__(
        self, database: Database, worker_id: str, rang: Callable[[], None], kept_days: Callable[[Session], int]
    ) -> None:
        self._database = database
        self._worker_id = worker_id
        self._rang = rang
        self._kept_days = kept_days
        self._outcomes: deque[Outcome] = deque()
        self._jobs: deque[Job] = deque()
        self._more_comes = False
        self._work = threading.Condition()
        self._ending = False
        self._upkeep_at = 0.0
        self._slow_upkeep_at = 0.0
        self._thread: threading.Thread | None = None
        self.failing = False

    @property
    def backlog(self) -> int:
        """How many outcomes are not yet written down."""
        return len(self._outcomes)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="delivery ledger", daemon=True)
        self._thread.start()

    def write(self, ended: Sequence[Outcome], *, more_comes: bool = False) -> None:
        """Have outcomes written down; soon rather than at once if more of them are on their way."""
        with self._work:
            begun = bool(self._outcomes)
            self._outcomes.extend(ended)
            self._more_comes = more_comes
            if not begun or self._is_enough():
                self._work.notify()

    def do(self, job: Job) -> None:
        """Have a job done."""
        with self._work:
            self._jobs.append(job)
            self._work.notify()

    def end(self, seconds: float) -> bool:
        """Do what is left, say goodbye, and end; tells whether that was done in time."""
        with self._work:
            self._ending = True
            self._work.notify()
        if self._thread is None:
            return True
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        wait = _SHORTEST_WAIT_SECONDS
        while True:
            with self._work:
                if not (self._outcomes or self._jobs or self._ending):
                    self._work.wait(max(0.0, self._upkeep_at - time.monotonic()))
                self._work.wait_for(self._is_enough, _GATHERING_SECONDS)
                # Whatever else comes meanwhile is of the next turn.
                ended, jobs, ending = list(self._outcomes), list(self._jobs), self._ending
            if self._turn(ended, jobs, ending):
                wait = _SHORTEST_WAIT_SECONDS
                if ending and not (self._outcomes or self._jobs):
                    return
            elif ending:
                return
            else:
                self._pause(wait)
                wait = min(wait * 2, _LONGEST_WAIT_SECONDS)

    def _is_enough(self) -> bool:
        """Whether what there is should not wait for more."""
        return not self._more_comes or len(self._outcomes) >= _ENOUGH or bool(self._jobs) or self._ending

    def _pause(self, seconds: float) -> None:
        with self._work:
            self._work.wait_for(lambda: self._ending, seconds)

    def _turn(self, ended: list[Outcome], jobs: list[Job], ending: bool) -> bool:
        """One transaction; tells whether it went through. What it did not do stays to be done."""
        try:
            with self._database.transaction() as session:
                self._write_down(session, ended)
                for job in jobs:
                    job(session)
                self._upkeep(session, ending)
                faults.reach("record")
            faults.reach("recorded")
        except (sa.exc.SQLAlchemyError, OSError) as error:
            if not self.failing:
                _log.warning("the outbox cannot be written to: %s", type(error).__name__)
            self.failing = True
            self._upkeep_at = 0.0
            return False
        except Exception as error:
            # A job that cannot be done must not keep the outcomes from being written down.
            _log.error("a duty of the delivery failed: %s", type(error).__name__)
            self._forget([], jobs)
            return not ended and not ending
        self._forget(ended, jobs)
        self.failing = False
        self._rang()
        return True

    def _forget(self, ended: list[Outcome], jobs: list[Job]) -> None:
        with self._work:
            for _ in ended:
                self._outcomes.popleft()
            for _ in jobs:
                self._jobs.popleft()

    @staticmethod
    def _write_down(session: Session, ended: list[Outcome]) -> None:
        if ended:
            outcomes.record(session, ended)

    def _upkeep(self, session: Session, ending: bool) -> None:
        if ending:
            workers.end(session, self._worker_id)
            return
        now = time.monotonic()
        if now >= self._upkeep_at:
            faults.reach("heartbeat")
            if not workers.is_alive(session, self._worker_id):
                workers.begin(session, self._worker_id)
            dead = wake.fallen(self._database)
            if lease.take_back(session, dead):
                wake.ring_after_commit(session)
            for worker_id in dead:
                workers.end(session, worker_id)
            session.after_commit(lambda: wake.bury(self._database, dead))
            self._upkeep_at = now + _UPKEEP_SECONDS
        if now >= self._slow_upkeep_at:
            outcomes.set_clock_right(session)
            full = [
                outcomes.give_up_expired(session),
                outcomes.empty_ended(session),
                outcomes.forget_old(session, timedelta(days=self._kept_days(session))),
            ]
            # Whatever has more than one step's worth goes on soon, but lets others write in between.
            self._slow_upkeep_at = now + (1.0 if max(full) >= outcomes.AT_ONCE else _SLOW_UPKEEP_SECONDS)


_pauses: Final = cast(sa.Table, pause.Pause.__table__)
_waits: Final = (
    sa.select(sa.func.min(Message.due_at).label("due_at"))
    .where(Message.state == sa.literal_column(f"'{State.QUEUED}'"))
    .subquery()
)
_OUTLOOK: Final = sa.select(_waits.c.due_at, _pauses.c.id, _pauses.c.attempt_at).select_from(
    _waits.outerjoin(_pauses, sa.true())
)


class Outlook:
    """What waits, as far as the loop must know. due_at: when the next message is due, None for none.

    paused: there is a pause; ask_at: when the server may be asked again.
    """

    __slots__ = ("ask_at", "due_at", "paused")

    def __init__(self, session: Session) -> None:
        seen = session.connection().execute(_OUTLOOK).one()
        self.paused: bool = seen.id is not None
        self.ask_at: datetime | None = seen.attempt_at
        self.due_at: datetime | None = seen.due_at


def claim(
    session: Session,
    most: int,
    domain: str,
    *,
    worker: str = "",
    alone: bool = False,
    kinds: Sequence[str] | None = None,
) -> list[Leased]:
    """Claim messages, or one that a worker died with, and learn the keys that open them."""
    if alone:
        taken = lease.claim_alone(session, domain=domain, worker=worker)
    else:
        taken = lease.claim(session, most, domain=domain, worker=worker, kinds=kinds)
    for sealed in (message.sealed for message in taken if message.sealed is not None):
        session.keyring.learn_for(sealed)
    if taken:
        faults.reach("claim")
        session.after_commit(lambda: faults.reach("claimed"))
    return taken
