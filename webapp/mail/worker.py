"""A worker: delivery and the background duties, as `bin/serve` and `bin/keypost worker` run them."""

from __future__ import annotations

import sys
from typing import Final

from webapp.db import Database
from webapp.mail.background import BackgroundWork
from webapp.mail.delivery import STOP_SECONDS, Delivery
from webapp.mail.transport import Trust

SWITCH_SECONDS: Final = 0.0005


class Worker:
    """start() it once; ask_to_stop() and then stop() before the database is disposed of."""

    def __init__(self, database: Database, trust: Trust) -> None:
        self._delivery = Delivery(database, trust)
        self._background = BackgroundWork(database, trust)

    def start(self) -> None:
        # The event loop asks for the interpreter after each send and receive; by default others may keep it 5 ms.
        sys.setswitchinterval(SWITCH_SECONDS)
        self._background.start()
        self._delivery.start()

    def ask_to_stop(self, seconds: float = STOP_SECONDS) -> None:
        """Begin nothing more; may be called from a signal's handler."""
        self._delivery.ask_to_stop(seconds)

    def stop(self, seconds: float = STOP_SECONDS) -> bool:
        """End; what is under way is finished within ``seconds`` or given back. Tells whether that was done in time."""
        self.ask_to_stop(seconds)
        self._background.stop()
        return self._delivery.stop(seconds)
