"""A small TCP proxy before a server: it passes on, hangs up, or refuses, as a network does at its worst."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path


class Proxy:
    """Listens on a free port of this machine and passes everything on to a socket of the file system."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._away = False
        self._flowing = threading.Event()
        self._flowing.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def go_away(self) -> None:
        """Hang up on everybody, and on whoever comes."""
        self._away = True
        with self._lock:
            gone, self._open = self._open, set()
        for each in gone:
            _hang_up(each)

    def come_back(self) -> None:
        self._away = False

    def stall(self) -> None:
        """Keep every connection, take whoever comes, and pass nothing on: as a server that was stopped does."""
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    def close(self) -> None:
        self.flow()
        self.go_away()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                visitor, _address = self._listener.accept()
                if self._away:
                    _hang_up(visitor)
                else:
                    self._connect(visitor)

    def _connect(self, visitor: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        server.connect(str(self._target))
        with self._lock:
            self._open |= {visitor, server}
        for source, sink in ((visitor, server), (server, visitor)):
            threading.Thread(target=_pass_on, args=(source, sink, self._flowing), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket, flowing: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            flowing.wait()
            sink.sendall(data)
    _hang_up(source)
    _hang_up(sink)


def _hang_up(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()


@contextlib.contextmanager
def proxy(target: Path) -> Iterator[Proxy]:
    """A proxy that is gone at the end."""
    running = Proxy(target)
    try:
        yield running
    finally:
        running.close()
