"""The steps of delivery at which a test may end a process, as kill -9 or a power cut would.

``FAULT=step:n`` in the environment kills the process the n-th time that it reaches the step, and ``FAULT=any:n`` at
the n-th step whichever it is, so that one test can fail at 1, 2, 3 … until a run ends untouched. A third part sends
another signal instead: ``FAULT=mail:2:SIGSTOP``. Without FAULT, reaching a step does nothing.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from typing import Final

STEPS: Final = {
    "claim": "messages are leased, their transaction has not committed",
    "claimed": "that transaction has committed",
    "compose": "a message is about to be written",
    "connect": "a connection to the server is about to be made",
    "greeting": "connected, the greeting is about to be read",
    "hello": "about to say EHLO",
    "tls": "about to encrypt",
    "authentication": "about to sign in",
    "mail": "about to send MAIL",
    "rcpt": "about to send RCPT",
    "data": "about to send DATA",
    "half-body": "half of a message's bytes have been sent",
    "before-dot": "all of a message but its final dot has been sent",
    "after-dot": "the final dot has been sent, and nothing heard of it",
    "accepted": "the server has said that it took the message; nothing is written down",
    "record": "outcomes are written, their transaction has not committed",
    "recorded": "that transaction has committed",
    "release": "messages are being given back, their transaction has not committed",
    "released": "that transaction has committed",
    "heartbeat": "the worker is about to say that it lives",
}
"""Where each step lies; a process is killed before anything that comes after it."""
ANY: Final = "any"


def _pass_by(step: str) -> None:
    """Nothing fails here."""


def arm(fault: str) -> Callable[[str], None]:
    """What reach() does when FAULT says this. Raises ValueError for what names no step, number or signal."""
    wanted, _, rest = fault.partition(":")
    number, _, name = rest.partition(":")
    if (wanted != ANY and wanted not in STEPS) or not number.isdecimal():
        raise ValueError(f"FAULT is a step and a number, such as {next(iter(STEPS))}:1; it is {fault!r}")
    fatal, sent = int(number), signal.Signals[name or "SIGKILL"]
    count = itertools.count(1)

    def reach(step: str) -> None:
        if step not in STEPS:
            raise ValueError(f"no such step: {step}")
        if wanted in (step, ANY) and next(count) == fatal:
            os.write(2, f"FAULT at {step}\n".encode())
            os.kill(os.getpid(), sent)

    return reach


_fault: Final = os.environ.get("FAULT", "")
is_armed: Final = bool(_fault)
"""Whether this process is to fail somewhere: then what is otherwise sent in one piece is sent in parts."""
reach: Final[Callable[[str], None]] = arm(_fault) if _fault else _pass_by
"""Say that a step has been reached."""
