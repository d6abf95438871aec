"""A TLS server on a loopback port."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.trust.authorities import Issued


class Serve(Protocol):
    def __call__(self, presented: Issued, *, with_root: bool = False) -> tuple[str, int]: ...


class TlsServer:
    """Shakes hands with everybody who comes, and greets."""

    def __init__(self, presented: Issued, folder: Path, *, with_root: bool = False) -> None:
        file = folder / f"{presented.sha256}.pem"
        file.write_bytes(presented.served + (presented.root.pem if with_root else b""))
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(file)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            self._greet(accepted)

    def _greet(self, accepted: socket.socket) -> None:
        accepted.settimeout(5)
        try:
            with self._context.wrap_socket(accepted, server_side=True) as secured:
                secured.sendall(b"220 ready\r\n")
                secured.recv(1)
        except OSError:
            accepted.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start a TLS server that presents a certificate; gives its address."""
    servers: list[TlsServer] = []

    def start(presented: Issued, *, with_root: bool = False) -> tuple[str, int]:
        servers.append(TlsServer(presented, tmp_path, with_root=with_root))
        return servers[-1].address

    yield start
    for server in servers:
        server.close()
