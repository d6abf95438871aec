"""Workers as processes of their own, which tests stop and kill.

Each is forked from a process that has imported everything, so that hundreds can be killed in a minute. Its standard
error goes to a file.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Literal

import sqlalchemy as sa

import webapp.models  # noqa: F401 - all tables
from webapp import faults
from webapp.cli import main
from webapp.config import Config
from webapp.db import Database
from webapp.installation import Installation, open_installation
from webapp.mail import delivery
from webapp.outbox.messages import Message, State
from webapp.trust.store import TrustStore

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload([__name__, "webapp.cli.worker"])
PATIENCE_SECONDS = 60
What = Literal["worker", "pass", "count"]


def address(number: int) -> str:
    """Where the letter of this number goes."""
    return f"person-{number}@example.test"


def waiting(database: Database) -> int:
    """How many messages may still be sent."""
    with database.reading() as session:
        waits = Message.state.in_((State.QUEUED.value, State.SENDING.value))
        return session.scalar(sa.select(sa.func.count()).where(waits)) or 0


def end_leases(database: Database) -> None:
    """Let the time pass that a lease lasts, for messages whose workers are all dead."""
    with database.transaction() as session:
        past = session.now() - timedelta(seconds=1)
        session.execute(sa.update(Message).where(Message.state == State.SENDING.value).values(lease_until=past))


class WorkerProcess:
    """One worker. fault: as webapp.faults reads it. patience: see delivery; shorter ones make a test shorter.

    what: "worker" is the command `keypost worker`, "pass" delivers what is due and ends, and "count" delivers until
    SIGTERM and says how much.
    """

    def __init__(
        self, config: Config, folder: Path, *, what: What = "worker", fault: str = "", patience: float | None = None
    ) -> None:
        self.log = folder / f"worker-{time.monotonic_ns()}.log"
        self._process: ForkServerProcess = _forks.Process(
            target=_work, args=(config, str(self.log), what, fault, patience), daemon=True
        )
        self._process.start()

    @property
    def exit_code(self) -> int | None:
        """None while it runs, and negative for the signal that ended it."""
        return self._process.exitcode

    @property
    def fault(self) -> str:
        """The step at which it failed, if it did."""
        return self._said("FAULT at ")

    @property
    def accepted(self) -> int:
        """How many messages it delivered, if it is one that counts, and has ended."""
        return int(self._said("accepted "))

    def _said(self, beginning: str) -> str:
        said = self.log.read_text() if self.log.exists() else ""
        return said.partition(beginning)[2].partition("\n")[0]

    @property
    def resident_megabytes(self) -> float:
        """How much memory it holds."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def has_slept(self, seconds: float) -> bool:
        """Whether so long has passed since it failed."""
        return time.time() - self.log.stat().st_mtime > seconds

    def send(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self._process.kill()
        self.wait()

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Until it has ended; gives its exit code."""
        self._process.join(seconds)
        code = self.exit_code
        if code is None:
            self.send(signal.SIGUSR1)
            self._process.join(0.5)
            raise AssertionError(f"the worker did not end within {seconds} s:\n{self.log.read_text()}")
        return code

    def close(self) -> None:
        """Forget the process; it is killed if it lives."""
        if self._process.is_alive():
            with contextlib.suppress(ProcessLookupError):
                self.send(signal.SIGCONT)
            self.kill()
        self._process.close()


@contextlib.contextmanager
def workers(
    installation: Installation, folder: Path, count: int = 1, *, what: What = "worker", fault: str = ""
) -> Iterator[list[WorkerProcess]]:
    """So many workers; the fault is the first one's."""
    started = [
        WorkerProcess(installation.config, folder, what=what, fault="" if number else fault) for number in range(count)
    ]
    try:
        yield started
    finally:
        for each in started:
            each.close()


def until(holds: Callable[[], bool], seconds: float = PATIENCE_SECONDS, *, every: float = 0.02) -> None:
    """Wait for what another process does."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"it did not happen within {seconds} s"
        time.sleep(every)


def _work(config: Config, log: str, what: What, fault: str, patience: float | None) -> None:
    """What the process does."""
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
    faulthandler.register(signal.SIGUSR1)
    os.environ["FAULT"] = fault
    importlib.reload(faults)
    if patience is not None:
        for name in ("POLL_SECONDS", "_STALL_SECONDS"):
            setattr(delivery, name, patience)
    installation = open_installation(config)
    if what == "worker":
        main(["worker"], prog_name="keypost", obj=installation)
        return
    works = delivery.Delivery(installation.database, TrustStore(installation.database))
    if what == "pass":
        works.deliver_due()
    else:
        signal.signal(signal.SIGTERM, lambda _number, _frame: works.ask_to_stop())
        works.run()
        print(f"accepted {works.counts.accepted}", file=sys.stderr)
    installation.close()
