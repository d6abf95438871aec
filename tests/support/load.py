"""People who work with a running Keypost over HTTP, each at a person's pace, and what they met."""

from __future__ import annotations

import http.client
import random
import re
import threading
import time
import urllib.parse
from dataclasses import dataclass, field

READS = ("/resources", "/resources?q=host", "/profile", "/admin", "/admin/users", "/admin/outbox", "/admin/audit")
_TOKEN = re.compile(r'name="csrf_token"[^>]*value="([^"]+)"')


@dataclass
class Met:
    """How long reads and writes took, in seconds, and what went wrong."""

    reads: list[float] = field(default_factory=list)
    writes: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def __iadd__(self, other: Met) -> Met:
        self.reads += other.reads
        self.writes += other.writes
        self.faults += other.faults
        return self


def share(taken: list[float], portion: float) -> float:
    """The time that this portion of all took at the most, in milliseconds."""
    return 1000 * sorted(taken)[min(len(taken) - 1, int(portion * len(taken)))]


class Visitor:
    """A browser without scripts: one connection, its cookies, and the token of its forms."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._cookies: dict[str, str] = {}
        self._token = ""

    def ask(self, method: str, path: str, fields: dict[str, str] | None = None) -> tuple[int, str]:
        """One request; gives its status and its page."""
        body = urllib.parse.urlencode({"csrf_token": self._token, **fields}) if fields is not None else None
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        page = answer.read().decode()
        for cookie in answer.headers.get_all("Set-Cookie") or ():
            name, _, value = cookie.partition(";")[0].partition("=")
            self._cookies[name] = value
        return answer.status, page

    def close(self) -> None:
        self._connection.close()

    def learn_token(self, path: str) -> None:
        """Take the token out of a page with a form."""
        found = _TOKEN.search(self.ask("GET", path)[1])
        assert found, path
        self._token = found[1]

    def sign_in(self, email: str, password: str) -> None:
        self.learn_token("/sign-in")
        assert self.ask("POST", "/sign-in", {"email": email, "password": password})[0] == 303, email
        self.learn_token("/resources/new")


def work(visitors: list[Visitor], seconds: float, *, pause: float = 1.0, write_every: int = 5) -> Met:
    """Have each of them read and write for so long, with about ``pause`` seconds between."""
    until, met, lock = time.monotonic() + seconds, Met(), threading.Lock()
    run = time.monotonic_ns()

    def live(number: int, visitor: Visitor) -> None:
        mine, chance, turn = Met(), random.Random(number), 0
        time.sleep(chance.uniform(0, pause))
        while time.monotonic() < until:
            turn += 1
            _one_turn(visitor, chance, f"Host {run} {number} {turn}" if turn % write_every == 0 else None, mine)
            time.sleep(chance.uniform(0.5, 1.5) * pause)
        with lock:
            nonlocal met
            met += mine

    threads = [threading.Thread(target=live, args=pair) for pair in enumerate(visitors)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return met


def _one_turn(visitor: Visitor, chance: random.Random, name: str | None, met: Met) -> None:
    path, began = chance.choice(READS), time.perf_counter()
    try:
        if name is None:
            status, _page = visitor.ask("GET", path)
        else:
            status, _page = visitor.ask("POST", "/resources/new", {"name": name, "kind": "Server"})
    except OSError as error:
        met.faults.append(f"{path}: {type(error).__name__}")
        return
    (met.reads if name is None else met.writes).append(time.perf_counter() - began)
    if status != (200 if name is None else 303):
        met.faults.append(f"{path if name is None else 'adding'}: {status}")
