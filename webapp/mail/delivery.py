"""Delivery: takes what is queued and hands it to the mail server, over a few connections and many messages each.

One thread runs the event loop: it sleeps until it is rung at a commit, asks the ledger for what is due, keeps up to
five connections busy, and gives each outcome to the ledger within the same turn. Opening a connection may take long
and happens in threads of its own. Faults are classed by diagnosis: of the message, passing, or of the server; the last,
and many of the second in a row, pause the queue (outbox.pause).
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from webapp import faults
from webapp.actor import program
from webapp.db import Database, Session
from webapp.i18n import gettext as _
from webapp.keyring import SealBroken
from webapp.mail import checks, former, route
from webapp.mail.diagnosis import Diagnosis
from webapp.mail.dial import Resolver, system_resolver
from webapp.mail.ledger import Ledger, Outlook, claim
from webapp.mail.letters import Unwritable
from webapp.mail.pipeline import Closing, Ended, Left, Pipeline, Unexpected
from webapp.mail.presented import describe
from webapp.mail.probe import Result
from webapp.mail.route import NoWay, Route
from webapp.mail.transport import Connection, Fault, Sign, Trust, mail_command, rcpt_command, stuffed
from webapp.mail.wire import Malformed
from webapp.outbox import keeping, lease, messages, pause, wake, workers
from webapp.outbox.lease import LEASE, Leased
from webapp.outbox.outcomes import Outcome
from webapp.outbox.pause import Reason

MOST_CONNECTIONS: Final = 5
STEP_SECONDS: Final = 30.0
SESSION_SECONDS: Final = 100.0
"""A connection takes no further message after this; with what is under way it ends within 120 s (see LEASE)."""
IDLE_SECONDS: Final = 30.0
POLL_SECONDS: Final = 5.0
"""The safety net: so often the worker looks although nobody rang."""
STOP_SECONDS: Final = 30.0
_BATCH: Final = 200
_LOW: Final = 60
_PER_CONNECTION: Final = 25
_MOST_UNWRITTEN: Final = 100
_STALL_SECONDS: Final = 60.0
_LEASE_MARGIN_SECONDS: Final = 20.0
_AFTER_FAILURE_SECONDS: Final = 1.0
_NOTHING_TAKEN_SECONDS: Final = 1.0
_STAMP_SECONDS: Final = 0.2
_ALONE_SECONDS: Final = 30.0
_NO_MORE_SECONDS: Final = 60.0
_FRUITLESS: Final = 3
_STREAK: Final = 20
_NOTED_SECONDS: Final = 3600.0
_QUIT: Final = b"QUIT\r\n"
_GREYLISTED_FOR: Final = timedelta(minutes=5)
_log = logging.getLogger("keypost.delivery")


class Parcel(NamedTuple):
    """A message as it goes over the wire; see pipeline.Sendable. until: as in the stock."""

    message: Leased
    until: float
    mail: bytes
    rcpt: bytes
    body: bytes


@dataclass(slots=True)
class Counts:
    """What became of messages since the start."""

    accepted: int = 0
    refused: int = 0
    deferred: int = 0


class _Link:
    """An open connection: its socket, which never blocks any more, and its pipeline."""

    def __init__(self, connection: Connection, way: Route, *, trial: bool, now: float) -> None:
        self.connection = connection
        self.way = way
        self.trial = trial
        self.socket = connection.socket
        self.socket.setblocking(False)
        self.reader = connection.reader
        self.pipeline: Pipeline[Parcel] = Pipeline(pipelining=connection.features.pipelining)
        self.unsent = b""
        self.ends: deque[float] = deque()
        """When each message under way must have ended, for its lease does."""
        self.born = self.moved = now
        self.ended = 0
        self.retired = False
        self.events = selectors.EVENT_READ

    @property
    def is_busy(self) -> bool:
        return bool(self.unsent) or not self.pipeline.is_idle


class Delivery:
    """A worker. start() and stop() it, or let deliver_due() make one pass. Several may run on one database."""

    def __init__(
        self,
        database: Database,
        trust: Trust,
        *,
        most_connections: int = MOST_CONNECTIONS,
        step_seconds: float = STEP_SECONDS,
        open_seconds: float = route.OPEN_SECONDS,
        resolver: Resolver = system_resolver,
    ) -> None:
        self._database = database
        self._trust = trust
        self._most = most_connections
        self._step_seconds = step_seconds
        self._open_seconds = open_seconds
        self._resolver = resolver
        self._worker_id = workers.new_id()
        self._ledger = Ledger(database, self._worker_id, self._ledger_rang, keeping.kept_days)
        self._selector = selectors.DefaultSelector()
        self._inbox: deque[Callable[[], None]] = deque()
        self._pipe = os.pipe()
        for end in self._pipe:
            os.set_blocking(end, False)
        self._links: list[_Link] = []
        self._stock: deque[tuple[Leased, float]] = deque()
        """What was claimed and is not under way, and until when it may be begun."""
        self._ended: list[Outcome] = []
        self._bell: wake.Bell | None = None
        self._opening = False
        self._claiming = False
        self._looking = False
        self._outlook: Outlook | None = None
        self._set_up = True
        self._more = True
        self._look_at = 0.0
        self._stamp = ""
        self._stamp_at = 0.0
        self._alone_at = 0.0
        self._no_more_until = 0.0
        self._open_at = 0.0
        self._fruitless = 0
        self._streak = 0
        self._pausing = False
        self._noted: dict[str, float] = {}
        self._turn_at = time.monotonic()
        self._stopping = False
        self._stop_by = 0.0
        self._one_pass = False
        self._settled = False
        self._held_up = False
        self._thread: threading.Thread | None = None
        self.counts = Counts()

    # Starting and stopping

    def start(self) -> None:
        """Deliver from now on, in a thread of its own."""
        self._thread = threading.Thread(target=self.run, name="delivery", daemon=True)
        self._thread.start()

    def stop(self, seconds: float = STOP_SECONDS) -> bool:
        """Take no more, finish what is under way within ``seconds`` or give it back; tells whether that was done."""
        self.ask_to_stop(seconds)
        if self._thread is None:
            return True
        self._thread.join(seconds + 5)
        return not self._thread.is_alive()

    def ask_to_stop(self, seconds: float = STOP_SECONDS) -> None:
        """The same without waiting for it; may be called from a signal's handler."""
        self._stop_by = time.monotonic() + seconds
        self._stopping = True
        self._ring()

    def deliver_due(self) -> Counts:
        """One pass: hand over all that is due now, and end. Call it instead of start()."""
        self._one_pass = True
        self.run()
        return self.counts

    def run(self) -> None:
        """Deliver in this thread, until somebody calls ask_to_stop()."""
        self._ledger.start()
        self._selector.register(self._pipe[0], selectors.EVENT_READ, "pipe")
        self._hang_bell()
        self._turn_at = time.monotonic()
        try:
            while not self._is_over():
                self._turn()
        finally:
            self._close()

    def _is_over(self) -> bool:
        if self._stopping:
            # What is just being claimed must come here first, so that it can be given back.
            busy = self._claiming or any(link.is_busy for link in self._links)
            return not busy or time.monotonic() > self._stop_by
        if not self._one_pass or self._outlook is None or self._looking:
            return False
        due = self._outlook.due_at is not None and self._outlook.due_at <= self._database.clock()
        hopeless = not self._set_up or (self._outlook.paused and not self._links)
        return self._settled and not self._is_busy and (hopeless or not due)

    @property
    def _is_busy(self) -> bool:
        """Whether anything is under way."""
        busy = any(link.is_busy for link in self._links) or self._stock or self._ended or self._ledger.backlog
        return bool(busy) or self._opening or self._claiming or self._pausing

    def _close(self) -> None:
        self._stopping = True
        untried = [message for message, _ in self._stock]
        self._stock.clear()
        for link in list(self._links):
            untried += self._drop(link, polite=True)
        self._write_down()
        self._give_back(untried)
        self._ledger.end(5.0)
        if self._bell is not None:
            self._bell.close()
        self._selector.close()
        for end in self._pipe:
            os.close(end)

    def _hang_bell(self) -> None:
        try:
            self._bell = wake.hang_bell(self._database, self._worker_id)
        except (OSError, sa.exc.SQLAlchemyError) as error:
            _log.warning("nobody can wake the delivery (%s): it looks by itself", type(error).__name__)
            return
        self._selector.register(self._bell, selectors.EVENT_READ, "bell")

    # From other threads

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._pipe[1], b"\0")

    def _post(self, action: Callable[[], None]) -> None:
        """Have something done in the loop's thread."""
        self._inbox.append(action)
        self._ring()

    def _ledger_rang(self) -> None:
        if self._one_pass or self._stopping or self._held_up:
            self._ring()

    # One turn of the loop

    def _turn(self) -> None:
        ready = self._selector.select(self._patience())
        now = time.monotonic()
        if now - self._turn_at > POLL_SECONDS + _STALL_SECONDS:
            self._wake_from_long_sleep()
            ready = []
        self._turn_at = now
        for key, mask in ready:
            if key.data == "pipe":
                with contextlib.suppress(BlockingIOError):
                    os.read(self._pipe[0], 4096)
            elif key.data == "bell":
                self._be_rung()
            elif key.data in self._links:
                self._serve(key.data, mask)
        while self._inbox:
            self._inbox.popleft()()
        self._steer(now)
        for link in list(self._links):
            self._flush(link)
            self._look_after(link, now)
        self._write_down()

    def _patience(self) -> float:
        if self._inbox:
            return 0.0
        now = time.monotonic()
        moments = [now + POLL_SECONDS]
        if self._open_at > now:
            moments.append(self._open_at)
        # What the ledger is asked already rings when it is answered; not to wait would take the processor from it.
        if not (self._looking or self._claiming):
            moments.append(self._look_at)
        for link in self._links:
            moments.append(link.moved + (self._step_seconds if link.is_busy else IDLE_SECONDS))
        return max(0.0, min(moments) - now)

    def _be_rung(self) -> None:
        self._clear_bell()
        self._more = True
        self._look_at = 0.0

    def _clear_bell(self) -> None:
        bell = self._bell
        if bell is None:
            return
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(bell)
        bell.clear()
        # What is watched may be another descriptor now: a new connection to the database, or none.
        self._selector.register(bell, selectors.EVENT_READ, "bell")

    def _wake_from_long_sleep(self) -> None:
        """The process was stopped for so long that its leases may be others' by now: it sends nothing more of them."""
        self._stock.clear()
        for link in list(self._links):
            self._drop(link)
        self._write_down()
        self._look_at = 0.0

    # What to do next

    def _steer(self, now: float) -> None:
        if self._stopping:
            self._give_back([message for message, _ in self._stock])
            self._stock.clear()
            return
        self._release_stale(now)
        paused = self._outlook is not None and self._outlook.paused
        takes = [link for link in self._links if not link.retired]
        if takes and not self._pausing and not self._ledger.failing:
            self._claim_if_low(takes, now)
        ending = self._one_pass and not self._settled and not self._is_busy
        if not self._looking and not self._claiming and (now >= self._look_at or ending):
            self._look()
        if self._wants_connection(paused):
            self._open(extra=False)
        elif self._wants_another(takes, now):
            self._open(extra=True)
        # Set before it is asked: whatever is written down after that rings.
        self._held_up = True
        if self._ledger.backlog < _MOST_UNWRITTEN and not self._ledger.failing and not self._pausing:
            self._held_up = False
            self._fill(takes)

    def _claim_if_low(self, takes: list[_Link], now: float) -> None:
        if self._claiming or not self._more:
            return
        busy = self._stock or any(link.is_busy for link in self._links)
        if takes[0].trial:
            if not busy:
                self._claim(takes[0], 1)
        elif now - self._alone_at > _ALONE_SECONDS:
            # Now and then the loop lets everything run dry, and takes a message that a worker died with alone.
            if not busy:
                self._alone_at = now
                self._claim(takes[0], 1, alone=True)
        elif len(self._stock) < _LOW:
            self._claim(takes[0], _BATCH)

    def _claim(self, link: _Link, most: int, *, alone: bool = False) -> None:
        domain = link.way.domain
        self._claiming = True

        def job(session: Session) -> None:
            may = link.trial or not pause.stands(session)
            taken = claim(session, most, domain, worker=self._worker_id, alone=alone) if may else []
            short = len(taken) < most
            seen = Outlook(session) if short else None
            stamped = self._stamp_now(session)
            session.after_commit(lambda: self._post(lambda: self._claimed(taken, seen, stamped, alone=alone)))

        self._ledger.do(job)

    def _claimed(self, taken: list[Leased], seen: Outlook | None, stamped: str, *, alone: bool) -> None:
        self._claiming = self._settled = False
        until = time.monotonic() + LEASE.total_seconds() / 2
        self._stock.extend((message, until) for message in taken)
        if alone:
            if taken:
                self._alone_at = 0.0  # There may be more of them.
        elif seen is not None:
            self._more = False
        if seen is not None:
            self._learn(seen)
        if not alone and not taken and self._more:
            # What is due is not for the taking: its time is over, or a worker died with it. The next look asks again.
            self._more = False
            self._look_at = min(self._look_at, time.monotonic() + _NOTHING_TAKEN_SECONDS)
        self._learn_stamp(stamped)

    def _look(self) -> None:
        self._looking = True

        def job(session: Session) -> None:
            seen, stamped = Outlook(session), route.stamp(session)
            session.after_commit(lambda: self._post(lambda: self._seen(seen, stamped)))

        self._ledger.do(job)

    def _seen(self, seen: Outlook, stamped: str) -> None:
        self._looking = False
        if self._bell is not None and self._bell.is_silent:
            self._clear_bell()  # The database has just answered.
        self._learn(seen)
        self._learn_stamp(stamped)
        # One pass ends with a look at what is left, taken after all that was under way.
        self._settled = not self._is_busy

    def _learn(self, seen: Outlook) -> None:
        self._outlook = seen
        now = time.monotonic()
        self._look_at = now + POLL_SECONDS
        if seen.due_at is not None:
            wait = (seen.due_at - self._database.clock()).total_seconds()
            if wait <= 0:
                self._more = True
            else:
                self._look_at = min(self._look_at, now + wait)
        if seen.paused and not any(link.trial for link in self._links):
            self._retire_all()

    def _stamp_now(self, session: Session) -> str:
        """The stamp, read again a few times a second at most."""
        now = time.monotonic()
        if now - self._stamp_at < _STAMP_SECONDS:
            return self._stamp
        self._stamp_at = now
        return route.stamp(session)

    def _learn_stamp(self, stamped: str) -> None:
        if stamped != self._stamp:
            if self._stamp:
                self._retire_all()
            self._stamp = stamped
            self._set_up = True

    def _retire_all(self) -> None:
        for link in self._links:
            link.retired = True

    def _release_stale(self, now: float) -> None:
        """Give back what has waited here for half of its lease, and all when nothing can be sent."""
        stale = [message for message, until in self._stock if until < now]
        hold = self._pausing or (not self._links and not self._opening)
        if hold:
            stale = [message for message, _ in self._stock]
        if stale:
            gone = {message.id for message in stale}
            self._stock = deque(each for each in self._stock if each[0].id not in gone)
            self._give_back(stale)

    def _give_back(self, held: list[Leased]) -> None:
        if held:

            def job(session: Session) -> None:
                lease.release(session, held)
                faults.reach("release")
                session.after_commit(lambda: faults.reach("released"))

            self._ledger.do(job)

    # Connections

    def _wants_connection(self, paused: bool) -> bool:
        if self._opening or self._pausing or any(not link.retired for link in self._links) or not self._set_up:
            return False
        if self._outlook is None or self._ledger.failing or time.monotonic() < self._open_at:
            return False
        if paused:
            return not self._links and self._may_ask()
        return bool(self._stock) or (
            self._outlook.due_at is not None and self._outlook.due_at <= self._database.clock()
        )

    def _may_ask(self) -> bool:
        """Whether a look at the pause is due: its time has come, or it may be about what is no longer so."""
        seen = self._outlook
        if seen is None or seen.ask_at is None or self._asked == (seen.ask_at, self._stamp):
            return seen is not None and seen.ask_at is not None and seen.ask_at <= self._database.clock()
        return True

    _asked: tuple[datetime, str] | None = None

    def _wants_another(self, takes: list[_Link], now: float) -> bool:
        return (
            bool(takes)
            and not self._opening
            and not takes[0].trial
            and len(self._links) < self._most
            and len(self._stock) > _PER_CONNECTION * len(takes)
            and now >= self._no_more_until
        )

    def _open(self, *, extra: bool) -> None:
        self._opening = True
        if self._outlook is not None and self._outlook.ask_at is not None:
            self._asked = (self._outlook.ask_at, self._stamp)
        threading.Thread(target=self._open_apart, args=(extra,), name="open a mail connection", daemon=True).start()

    def _open_apart(self, extra: bool) -> None:
        """In a thread of its own: the way to a server may be long."""
        found: tuple[Connection, Route, bool] | None = None
        set_up = failed = True
        try:
            found, set_up = self._find_way_or_suffer(extra)
            failed = False
        except (sa.exc.SQLAlchemyError, OSError) as error:
            _log.warning("no connection was opened: %s", type(error).__name__)
        except Exception as error:
            # Whatever else: the loop must learn that this attempt is over.
            _log.error("opening a connection failed: %s", type(error).__name__)
        self._post(lambda: self._opened(found, set_up=set_up, failed=failed))

    def _find_way_or_suffer(self, extra: bool) -> tuple[tuple[Connection, Route, bool] | None, bool]:
        try:
            return self._find_way(extra)
        except NoWay as way:
            if not extra:
                self._suffer(way)
            return None, True

    def _find_way(self, extra: bool) -> tuple[tuple[Connection, Route, bool] | None, bool]:
        trial = False
        if not extra:
            with self._database.transaction() as session:
                waits = pause.current(session)
                trial = waits is not None and waits.stage in route.LATE_STAGES
                if waits is not None and not pause.claim_attempt(session, route.about_now(session)):
                    return None, True
        opened = route.open_route(
            self._database, self._trust, resolver=self._resolver, session_seconds=self._open_seconds
        )
        if opened is None:
            return None, False
        if not extra and not trial:
            with self._database.transaction() as session:
                pause.end(session)
        return (*opened, trial), True

    def _suffer(self, way: NoWay) -> None:
        with self._database.transaction() as session:
            if pause.is_news(pause.current(session), way.reason):
                _record_failure(session, way)
            pause.begin(session, way.reason)
        former.deliver_notice(self._database, self._trust, resolver=self._resolver)

    def _opened(self, found: tuple[Connection, Route, bool] | None, *, set_up: bool, failed: bool) -> None:
        self._opening = self._settled = False
        self._set_up = set_up
        self._look_at = 0.0
        if failed:
            self._open_at = time.monotonic() + _AFTER_FAILURE_SECONDS
        if found is None:
            self._no_more_until = time.monotonic() + _NO_MORE_SECONDS
            return
        connection, way, trial = found
        if self._stopping:
            connection.close()
            return
        link = _Link(connection, way, trial=trial, now=time.monotonic())
        self._links.append(link)
        self._selector.register(link.socket, link.events, link)
        self._more = True
        if self._outlook is not None and not trial:
            self._outlook.paused = False
        if link.reader.holds_unread():
            self._receive(link, b"")

    def _look_after(self, link: _Link, now: float) -> None:
        if link not in self._links:
            return
        if link.is_busy:
            if now - link.moved > self._step_seconds or (link.ends and now > link.ends[0]):
                self._lose(link, "timeout")
            return
        too_old = now - link.born > SESSION_SECONDS
        if link.retired or too_old or now - link.moved > IDLE_SECONDS:
            self._drop(link, polite=True)

    def _drop(self, link: _Link, *, polite: bool = False) -> list[Leased]:
        """Close a link; what was in doubt is to be tried again. Gives back what was not tried."""
        left = link.pipeline.abandon()
        self._forget_link(link, polite=polite and not link.unsent)
        self._defer(left.in_doubt, link, self._in_doubt(link))
        return [parcel.message for parcel in (*left.blamed, *left.untried)]

    def _forget_link(self, link: _Link, *, polite: bool) -> None:
        if link in self._links:
            self._links.remove(link)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(link.socket)
        if polite:
            with contextlib.suppress(OSError):
                link.socket.send(_QUIT)
        link.connection.close()

    # Messages on their way

    def _fill(self, takes: list[_Link]) -> None:
        for link in takes:
            if time.monotonic() - link.born > SESSION_SECONDS:
                link.retired = True
                continue
            while self._stock and link.pipeline.wants_more:
                parcel = self._parcel(link, *self._stock.popleft())
                if parcel is not None:
                    if not link.is_busy:
                        link.moved = self._turn_at
                    link.pipeline.offer(parcel)
                    link.ends.append(parcel.until + LEASE.total_seconds() / 2 - _LEASE_MARGIN_SECONDS)

    def _parcel(self, link: _Link, message: Leased, until: float) -> Parcel | None:
        """The message as it goes over the wire; None when that cannot be, which is an outcome too."""
        faults.reach("compose")
        way, features = link.way, link.connection.features
        try:
            if message.sealed is None:
                raise Unwritable(_("There is nothing left of what this message should say."))
            data = messages.read_data(self._database.keyring, message.token, message.sealed)
            letter = way.letters.write(message, data)
            sender = way.target.sender_address
            link.connection.check_message(size=len(letter.content), smtputf8=letter.smtputf8)
            mail = mail_command(sender, features, size=len(letter.content), smtputf8=letter.smtputf8)
            return Parcel(
                message, until, mail.encode() + b"\r\n", rcpt_command(letter.recipient).encode() + b"\r\n",
                stuffed(letter.content),
            )  # fmt: skip
        except Fault as fault:
            diagnosis = route.explain_briefly(link.connection, way, fault, recipient=message.recipient)
            self._end(Outcome(message, "refused", diagnosis.code, diagnosis.stage, diagnosis.cause, way.server))
        except Unwritable as error:
            self._end(Outcome(message, "unreadable", "unreadable", "message", error.sentence))
        except (SealBroken, ValueError):
            sentence = _("What this message should say was altered in the database, or does not open.")
            self._end(Outcome(message, "unreadable", "unreadable", "message", sentence))
        except Exception as error:
            _log.error("a message could not be written: %s", type(error).__name__)
            sentence = _("Keypost could not write this message.")
            self._end(Outcome(message, "unreadable", "unreadable", "message", sentence))
        return None

    def _flush(self, link: _Link) -> None:
        """Write what the pipeline wants written, as far as the socket takes it."""
        out = link.unsent + link.pipeline.output()
        if not out:
            return
        if time.monotonic() - self._turn_at > _STALL_SECONDS:
            # The process was stopped in the middle of this turn; the next one begins with what that means.
            link.unsent = out
            return
        try:
            sent = self._send(link, out)
        except (ssl.SSLWantWriteError, BlockingIOError):
            sent = 0
        except ssl.SSLWantReadError:
            sent = 0
        except OSError as error:
            self._lose(link, "error", error=error)
            return
        if sent:
            link.moved = self._turn_at
        link.unsent = out[sent:]
        self._watch(link)

    def _send(self, link: _Link, out: bytes) -> int:
        if not faults.is_armed:
            return link.socket.send(out)
        return _send_in_parts(link.socket, out)

    def _watch(self, link: _Link) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if link.unsent else 0)
        if events != link.events:
            link.events = events
            self._selector.modify(link.socket, events, link)

    def _serve(self, link: _Link, mask: int) -> None:
        if mask & selectors.EVENT_READ:
            try:
                data = link.socket.recv(65536)
                while isinstance(link.socket, ssl.SSLSocket) and link.socket.pending():
                    data += link.socket.recv(65536)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
                return
            except OSError as error:
                self._lose(link, "error", error=error)
                return
            if not data:
                self._lose(link, "closed")
                return
            self._receive(link, data)

    def _receive(self, link: _Link, data: bytes) -> None:
        link.moved = self._turn_at
        link.reader.feed(data)
        try:
            while link in self._links and (reply := link.reader.next_reply()) is not None:
                for ended in link.pipeline.receive(reply):
                    self._conclude(link, ended)
        except Malformed as error:
            self._lose(link, "malformed", error=error)
        except Unexpected:
            self._lose(link, "closed")
        except Closing as closing:
            self._lose(link, "reply", fault=Fault(closing.stage, "reply", reply=closing.reply))

    # Outcomes

    def _conclude(self, link: _Link, ended: Ended[Parcel]) -> None:
        message, way = ended.item.message, link.way
        link.ended += 1
        link.ends.popleft()
        self._fruitless = 0
        if ended.stage is None:
            faults.reach("accepted")
            self._streak = 0
            self._end(Outcome(message, "accepted", reply=link.connection.masker.shown(ended.reply), server=way.server))
            self._note_success(link)
            return
        fault = Fault(ended.stage, "reply", reply=ended.reply)
        diagnosis = route.explain_briefly(link.connection, way, fault, recipient=message.recipient)
        if diagnosis.permanence == "message":
            self._streak = 0
            self._end(_outcome("refused", message, way, diagnosis))
            if link.trial:
                self._end_trial(link)
        elif diagnosis.code == "greylisted":
            # Each recipient is asked to wait on its own account: to pause would only put off the first attempts.
            self._end(_outcome("deferred", message, way, diagnosis))
            if link.trial:
                self._end_trial(link)
        elif diagnosis.permanence == "passing":
            self._streak += 1
            self._end(_outcome("deferred", message, way, diagnosis))
            if link.trial or self._streak >= _STREAK:
                self._pause(link, diagnosis)
        else:
            self._give_back([message])
            self._pause(link, diagnosis)

    def _end(self, outcome: Outcome) -> None:
        """Count an outcome, and have it written down at the end of this turn."""
        if outcome.verdict == "accepted":
            self.counts.accepted += 1
        elif outcome.verdict == "deferred":
            self.counts.deferred += 1
        else:
            self.counts.refused += 1
        self._ended.append(outcome)

    def _write_down(self) -> None:
        if self._ended:
            self._ledger.write(self._ended, more_comes=any(link.is_busy for link in self._links))
            self._ended = []

    def _lose(self, link: _Link, sign: Sign, *, error: BaseException | None = None, fault: Fault | None = None) -> None:
        """The connection broke. Whose fault that is depends on whether anything came of it before."""
        if link not in self._links:
            return
        idle = link.pipeline.is_idle
        fault = fault or Fault(link.pipeline.stage, sign, error=error)
        left: Left[Parcel] = link.pipeline.abandon()
        # No second look: this thread waits for nobody.
        diagnosis = route.explain_briefly(link.connection, link.way, fault)
        self._forget_link(link, polite=False)
        if idle:
            return
        self._defer(left.in_doubt, link, self._in_doubt(link) if fault.reply is None else diagnosis)
        untried = list(left.untried)
        if link.ended and not left.in_doubt and fault.reply is not None:
            # A server that closes after some messages has nothing against the next one.
            untried += left.blamed
        else:
            self._defer(left.blamed, link, diagnosis)
        self._stock.extendleft((parcel.message, parcel.until) for parcel in reversed(untried))
        if not link.ended:
            self._fruitless += 1
            if self._fruitless >= _FRUITLESS or link.trial:
                self._pause(link, diagnosis)

    @staticmethod
    def _in_doubt(link: _Link) -> Diagnosis:
        """The connection ended after the last line of a message, and before an answer."""
        return route.explain_briefly(link.connection, link.way, Fault("message", "closed"))

    def _defer(self, parcels: tuple[Parcel, ...], link: _Link, diagnosis: Diagnosis) -> None:
        for parcel in parcels:
            self._end(_outcome("deferred", parcel.message, link.way, diagnosis))

    def _pause(self, link: _Link, diagnosis: Diagnosis) -> None:
        """Pause the queue; until that is written down, nothing more is sent."""
        if self._pausing:
            return
        self._pausing = True
        self._retire_all()
        reason: Reason = route.reason_of(link.way, diagnosis)
        way = NoWay(reason, link.way, diagnosis)

        def job(session: Session) -> None:
            _record_failure(session, way)
            pause.begin(session, reason)
            seen = Outlook(session)
            session.after_commit(lambda: self._post(lambda: self._paused(seen)))

        self._ledger.do(job)

    def _paused(self, seen: Outlook) -> None:
        self._pausing = False
        self._streak = self._fruitless = 0
        self._learn(seen)
        self._asked = (seen.ask_at, self._stamp) if seen.ask_at else None

    def _end_trial(self, link: _Link) -> None:
        """One message went through, or was looked at on its own merits: the pause is over."""
        link.trial = False

        def job(session: Session) -> None:
            pause.end(session)
            session.after_commit(lambda: self._post(self._resumed))

        self._ledger.do(job)

    def _resumed(self) -> None:
        if self._outlook is not None:
            self._outlook.paused = False
        self._more = True

    def _note_success(self, link: _Link) -> None:
        """Leave one line an hour that real mail goes this way, which is also what proves the settings."""
        if link.trial:
            self._end_trial(link)
        now, way = time.monotonic(), link.way
        if now - self._noted.get(way.about, -_NOTED_SECONDS) < _NOTED_SECONDS:
            return
        self._noted[way.about] = now
        certificate = describe(link.connection.presented_chain(), trusted=True)
        result = Result("accepted", (), None, certificate, ())

        def job(session: Session) -> None:
            checks.record_check(session, kind="delivery", fingerprint=way.fingerprint, result=result, actor=program())

        self._ledger.do(job)


def _outcome(verdict: Any, message: Leased, way: Route, diagnosis: Diagnosis) -> Outcome:
    return Outcome(
        message,
        verdict,
        diagnosis.code,
        diagnosis.stage,
        diagnosis.reply or diagnosis.cause,
        way.server,
        not_before=_GREYLISTED_FOR if diagnosis.code == "greylisted" else None,
    )


def _record_failure(session: Session, way: NoWay) -> None:
    """What the settings page says of these settings, once for each reason."""
    if way.route is None or way.diagnosis is None:
        return
    checks.record_check(
        session,
        kind="delivery",
        fingerprint=way.route.fingerprint,
        result=Result("failed", (), way.diagnosis, way.certificate, ()),
        actor=program(),
    )


def _send_in_parts(sock: Any, out: bytes) -> int:
    """Send with a step between the parts at which a test may kill the process."""
    for start, step in ((b"MAIL", "mail"), (b"RCPT", "rcpt"), (b"DATA", "data")):
        if out.startswith(start) or b"\r\n" + start in out[-2000:]:
            faults.reach(step)
    end = out.find(b"\r\n.\r\n")
    if end < 0:
        return int(sock.send(out))
    sock.setblocking(True)
    try:
        sock.sendall(out[: end // 2])
        faults.reach("half-body")
        sock.sendall(out[end // 2 : end + 2])
        faults.reach("before-dot")
        sock.sendall(out[end + 2 : end + 5])
        faults.reach("after-dot")
        sock.sendall(out[end + 5 :])
    finally:
        sock.setblocking(False)
    return len(out)
