"""The web server: waitress, with bounds on what one visitor may take from all others."""

from __future__ import annotations

import ipaddress
import socket
import time
from typing import TYPE_CHECKING, Any, Final

from flask import Flask
from waitress.buffers import OverflowableBuffer
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.receiver import FixedStreamReceiver
from waitress.server import BaseWSGIServer, create_server
from waitress.utilities import RequestEntityTooLarge

if TYPE_CHECKING:
    from webapp.installation import Installation

MAX_HEADER_BYTES: Final = 16 * 1024
MAX_BODY_BYTES: Final = 1024 * 1024
MOST_DISCARDED_BYTES: Final = 16 * MAX_BODY_BYTES
"""A body up to this long is heard out, though not kept, so that whoever sent it reads why it was refused."""
THREADS: Final = 8
MOST_CONNECTIONS: Final = 500
MOST_FROM_ONE_ADDRESS: Final = 200
REQUEST_SECONDS: Final = 60.0
"""Within this time a request has arrived whole; a connection that says nothing for as long is closed."""


def make_server(app: Flask, listener: socket.socket, *, request_seconds: float = REQUEST_SECONDS) -> BaseWSGIServer:
    """A server for a bound socket; run() answers until it is closed."""
    server = create_server(
        app,
        sockets=[listener],
        threads=THREADS,
        ident=None,
        max_request_header_size=MAX_HEADER_BYTES,
        max_request_body_size=MOST_DISCARDED_BYTES,
        # Tables of passwords come in and go out: waitress would keep what is longer than these in a file meanwhile.
        inbuf_overflow=2 * MAX_BODY_BYTES,
        outbuf_overflow=4 * MAX_BODY_BYTES,
        outbuf_high_watermark=MAX_BODY_BYTES,
        connection_limit=MOST_CONNECTIONS,
        channel_timeout=max(1, int(request_seconds)),
        cleanup_interval=max(1, int(request_seconds / 6)),
        asyncore_use_poll=True,
        clear_untrusted_proxy_headers=False,  # ingress.Proxies reads them, or forgets them
    )
    if not isinstance(server, BaseWSGIServer):
        raise TypeError("one socket makes one server")
    server.channel_class = _channel_class(app.extensions["installation"], request_seconds)
    return server


def _channel_class(installation: Installation, request_seconds: float) -> type[HTTPChannel]:
    proxies = installation.config.trusted_proxies

    class Bounded(BoundedChannel):
        seconds = request_seconds

        def speaks_for_many(self, address: str) -> bool:
            ip = ipaddress.ip_address(address.partition("%")[0])
            return any(ip in network for network in proxies)

    return Bounded


class BoundedParser(HTTPRequestParser):
    """A request of whose body nothing is kept once it is said to be too long; the application refuses it in words.

    Waitress by itself answers at once and hangs up on who still sends: a browser then tells of a broken connection, and
    some proxies of a broken server.
    """

    def parse_header(self, header_plus: bytes) -> None:
        """Read the header, and decide by it what becomes of the body."""
        super().parse_header(header_plus)
        if self.content_length > MAX_BODY_BYTES:
            self.body_rcv = FixedStreamReceiver(self.content_length, Discarded(1))

    def received(self, data: bytes) -> int:
        """Take what arrived; a body in chunks, which says no length, ends where it becomes too long."""
        consumed = super().received(data)
        if self.chunked and self.body_bytes_received > MAX_BODY_BYTES:
            self.error = RequestEntityTooLarge("more than one megabyte")
            self.completed = True
        return consumed


class Discarded(OverflowableBuffer):
    """The buffer of a body that nobody will read."""

    def append(self, s: bytes) -> None:
        """Forget it."""


class BoundedChannel(HTTPChannel):
    """A connection on which each request must arrive whole in time, and of which one address has only so many.

    Waitress itself closes what is silent; this closes what drips (slowloris), which would never be.
    """

    parser_class = BoundedParser
    seconds = REQUEST_SECONDS
    _began = 0.0

    def __init__(self, server: Any, sock: socket.socket, addr: Any, adj: Any, map: Any = None) -> None:
        super().__init__(server, sock, addr, adj, map=map)
        siblings = sum(1 for channel in server.active_channels.values() if channel.addr[0] == addr[0])
        if siblings > MOST_FROM_ONE_ADDRESS and not self.speaks_for_many(addr[0]):
            self.will_close = True

    def speaks_for_many(self, address: str) -> bool:
        """Whether a whole company may come from this address, because it is a proxy of ours."""
        return False

    def received(self, data: bytes) -> bool:
        """Take what arrived, unless the request it belongs to began too long ago."""
        now = time.monotonic()
        if self.request is None:
            self._began = now
        if now - self._began > self.seconds:
            self.will_close = True
            return False
        return super().received(data)
