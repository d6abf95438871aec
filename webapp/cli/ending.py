"""Waiting for Ctrl-C or SIGTERM.

A handler that sets an Event is not enough: Python runs handlers between two steps of the main thread, and a signal that
comes just before that thread falls asleep would be noticed when it wakes, which is never. A byte is written at once.
"""

from __future__ import annotations

import signal
import socket


class Ending:
    """Make it before anything is started; from then on a request to end is kept until wait() asks for it."""

    def __init__(self) -> None:
        self._ours, self._signals = socket.socketpair()
        self._signals.setblocking(False)
        signal.set_wakeup_fd(self._signals.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda _number, _frame: None)

    def wait(self) -> None:
        """Until somebody asks the program to end."""
        self._ours.recv(1)
