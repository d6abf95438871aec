"""`keypost serve`: the web pages and the background work, together in one process."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading

import click
from waitress.server import BaseWSGIServer, MultiSocketServer, create_server

from webapp import create_app
from webapp.config import Config, parse_port
from webapp.errors import CannotStart
from webapp.identity.setup import offer_setup
from webapp.installation import Installation, open_installation
from webapp.mail.background import BackgroundWork
from webapp.trust.store import TrustStore

MAX_HEADER_BYTES = 16 * 1024
MAX_BODY_BYTES = 1024 * 1024


@click.command()
@click.option("--host", help="Address to listen on; 127.0.0.1 unless KEYPOST_HOST says otherwise.")
@click.option("--port", help="Port to listen on; 8000 unless KEYPOST_PORT says otherwise, 0 for any free one.")
@click.option("--without-worker", is_flag=True, help="Serve the pages only; run the background work elsewhere.")
def serve(host: str | None, port: str | None, without_worker: bool) -> None:
    """Start Keypost; Ctrl-C ends it."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    config = Config.from_environment()
    listener = _listen(host or config.host, parse_port(port, "--port") if port else config.port)
    installation = open_installation(config)
    try:
        _run(installation, listener, with_worker=not without_worker)
    finally:
        installation.close()


def _listen(host: str, port: int) -> socket.socket:
    """Take the port before anything else is touched. Raises CannotStart."""
    try:
        family, _kind, _protocol, _name, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise CannotStart(
            f"Keypost cannot listen on {host} port {port} ({error.strerror}). "
            "End what already runs there, or choose another port with --port."
        ) from None
    return listener


def _run(installation: Installation, listener: socket.socket, *, with_worker: bool) -> None:
    server = create_server(
        create_app(installation),
        sockets=[listener],
        threads=8,
        ident=None,
        max_request_header_size=MAX_HEADER_BYTES,
        max_request_body_size=MAX_BODY_BYTES,
        clear_untrusted_proxy_headers=True,
    )
    background = BackgroundWork(installation.database, TrustStore(installation.database)) if with_worker else None
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: _end(ended))
    thread = threading.Thread(target=answer, args=(server, ended), name="web", daemon=True)
    if background is not None:
        background.start()
    thread.start()
    _announce(installation, listener)
    ended.wait()
    if background is not None:
        background.stop()
    server.close()


def _end(ended: threading.Event) -> None:
    ended.set()


def answer(server: BaseWSGIServer | MultiSocketServer, ended: threading.Event) -> None:
    """Answer requests until the server is closed, which its loop meets as a socket that is gone."""
    try:
        server.run()
    except OSError:
        if not ended.is_set():
            raise


def _announce(installation: Installation, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    base = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    print(f"Keypost is ready at {base}", flush=True)
    token = offer_setup(installation.database)
    if token is not None:
        print(f"Set it up within the hour: {base}/setup?token={token}", flush=True)
    if os.geteuid() == 0:
        print("Keypost runs as root; a user of its own would be safer.", file=sys.stderr, flush=True)
