"""Background work beside the web pages: check the sign-in when the bound password changes, forget old sessions.

The thread is woken by a password change in this process, and looks by itself every two seconds as well: a script may
have changed the password in another process, which wakes nobody here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from webapp.actor import program
from webapp.db import Database, Session
from webapp.identity import sessions
from webapp.mail import checks
from webapp.mail.transport import Trust
from webapp.vault import uses

POLL_SECONDS: Final = 2.0
FORGET_SECONDS: Final = 600.0
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

    def _password_changed(self, session: Session, account_id: int) -> None:
        session.after_commit(self.wake)

    def _work(self) -> None:
        while not self._stopping:
            self._do("The login check", self._check_login)
            self._do("Forgetting old sessions", self._forget)
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
        claimed = checks.claim_login_check(self._database, program())
        if claimed is not None and not self._stopping:
            checks.check_saved(self._database, self._trust, program(), check_id=claimed)

    def _forget(self) -> None:
        if time.monotonic() < self._forget_at:
            return
        self._forget_at = time.monotonic() + FORGET_SECONDS
        with self._database.transaction() as session:
            sessions.forget_old(session)
