"""Background work beside the web pages: check the sign-in when the bound password changes and once a day, answer who
forgot a password, go on with imports of people and resources, warn of certificates that end, forget what is old.

The thread is woken by a password change in this process, and looks by itself every two seconds as well: a script may
have changed the password in another process, which wakes nobody here. A check that fails pauses the queue before
somebody needs it, and one that succeeds ends a pause that was about reaching the server or signing in.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from webapp.actor import Actor, program
from webapp.audit import upkeep
from webapp.db import Database, Session
from webapp.identity import forgotten, quota, sessions, submissions
from webapp.identity.imports import PEOPLE
from webapp.importing import Importing
from webapp.mail import checks, ending, route
from webapp.mail.transport import Trust
from webapp.vault import uses
from webapp.vault.imports import RESOURCES

POLL_SECONDS: Final = 2.0
FORGET_SECONDS: Final = 600.0
TRAIL_SECONDS: Final = 86_400.0
WARN_SECONDS: Final = 3600.0
STOP_SECONDS: Final = 0.9
_log = logging.getLogger("keypost.background")


class BackgroundWork:
    """One daemon thread; start() it once, stop() it before the database is disposed of."""

    def __init__(self, database: Database, trust: Trust, *, poll_seconds: float = POLL_SECONDS) -> None:
        self._database = database
        self._trust = trust
        self._poll_seconds = poll_seconds
        self._woken = threading.Event()
        self._stopping = False
        self._forget_at = 0.0
        self._trail_at = 0.0
        self._warn_at = 0.0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; a login check that is due is made at once."""
        self._stopping = False
        uses.on_password_change(self._password_changed)
        self._thread = threading.Thread(target=self._work, name="background work", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End within a second; a conversation with a slow mail server is left behind and its end not recorded."""
        self._stopping = True
        self._woken.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    def wake(self) -> None:
        """Look now."""
        self._woken.set()

    def _password_changed(self, session: Session, _actor: Actor, _account_id: int) -> None:
        session.after_commit(self.wake)

    def _work(self) -> None:
        while not self._stopping:
            self._do("The login check", self._check_login)
            self._do("Answering who forgot a password", self._answer_forgotten)
            self._do("Importing people", lambda: self._import(PEOPLE))
            self._do("Importing resources", lambda: self._import(RESOURCES))
            self._do("Forgetting old sessions", self._forget)
            self._do("The upkeep of the audit trail", self._keep_trail)
            self._do("Warning of certificates that end", self._warn)
            self._woken.wait(self._poll_seconds)
            self._woken.clear()

    def _do(self, name: str, duty: Callable[[], None]) -> None:
        """Whatever fails in one round must not end the rounds; a traceback could show values, so none is logged."""
        try:
            duty()
        except Exception as error:
            if not self._stopping:
                _log.warning("%s failed: %s", name, type(error).__name__)

    def _check_login(self) -> None:
        claimed = checks.claim_login_check(self._database, program()) or checks.claim_daily_check(
            self._database, program()
        )
        if claimed is not None and not self._stopping:
            result = checks.check_saved(self._database, self._trust, program(), check_id=claimed)
            route.conclude(self._database, claimed, result)

    def _answer_forgotten(self) -> None:
        if forgotten.answer(self._database):
            self.wake()

    def _import(self, kind: Importing[Any, Any]) -> None:
        """For a second at a time, so that nothing else waits long."""
        if kind.work(self._database, ended=lambda: self._stopping):
            self.wake()

    def _forget(self) -> None:
        if time.monotonic() < self._forget_at:
            return
        self._forget_at = time.monotonic() + FORGET_SECONDS
        with self._database.transaction() as session:
            sessions.forget_old(session)
            quota.forget_old(session)
            submissions.forget_old(session)
            PEOPLE.forget_old(session)
            RESOURCES.forget_old(session)
        self._database.empty_log(wait_seconds=0.05)  # Ten minutes later nobody may be reading.

    def _keep_trail(self) -> None:
        if time.monotonic() < self._trail_at:
            return
        self._trail_at = time.monotonic() + TRAIL_SECONDS
        upkeep.note_head(self._database)
        upkeep.prune(self._database)

    def _warn(self) -> None:
        """Once a day is told at most once; looking more often finds a day that begins while nobody restarts."""
        if time.monotonic() < self._warn_at:
            return
        self._warn_at = time.monotonic() + WARN_SECONDS
        with self._database.transaction() as session:
            ending.warn(session, program())
