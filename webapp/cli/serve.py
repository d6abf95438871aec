"""`keypost serve`: the web pages and the background work, together in one process."""

from __future__ import annotations

import os
import socket
import sys
import threading
from dataclasses import replace

import click
from waitress.server import BaseWSGIServer

from webapp import create_app, logs
from webapp.cli.ending import Ending
from webapp.cli.options import keep_address
from webapp.config import Config, parse_port
from webapp.errors import CannotStart
from webapp.identity.setup import offer_setup
from webapp.installation import Installation, open_installation
from webapp.mail.worker import Worker
from webapp.server import make_server
from webapp.trust.store import TrustStore


@click.command()
@click.option("--host", help="Address to listen on; 127.0.0.1 unless KEYPOST_HOST says otherwise.")
@click.option("--port", help="Port to listen on; 8000 unless KEYPOST_PORT says otherwise, 0 for any free one.")
@click.option("--without-worker", is_flag=True, help="Serve the pages only; run the background work elsewhere.")
def serve(host: str | None, port: str | None, without_worker: bool) -> None:
    """Start Keypost; Ctrl-C ends it."""
    logs.begin()
    config = Config.from_environment()
    config = replace(config, host=host or config.host, port=parse_port(port, "--port") if port else config.port)
    with _listen(config.host, config.port) as listener:
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
    server = make_server(create_app(installation), listener)
    worker = Worker(installation.database, TrustStore(installation.database)) if with_worker else None
    ended = threading.Event()
    ending = Ending()
    thread = threading.Thread(target=answer, args=(server, ended), name="web", daemon=True)
    if worker is not None:
        worker.start()
    thread.start()
    _announce(installation, listener)
    ending.wait()
    ended.set()
    if worker is not None:
        worker.ask_to_stop()
    server.close()
    if worker is not None:
        worker.stop()


def answer(server: BaseWSGIServer, ended: threading.Event) -> None:
    """Answer requests until the server is closed, which its loop meets as a socket that is gone."""
    try:
        server.run()
    except OSError:
        if not ended.is_set():
            raise


def _announce(installation: Installation, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    base = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    keep_address(installation.config, base)
    print(f"Keypost is ready at {base}", flush=True)
    token = offer_setup(installation.database)
    if token is not None:
        print(f"Set it up within the hour: {base}/setup?token={token}", flush=True)
    if os.geteuid() == 0:
        print("Keypost runs as root; a user of its own would be safer.", file=sys.stderr, flush=True)
