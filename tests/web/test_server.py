"""The real web server on a real socket: what is too big, too slow, too much or no HTTP at all."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import pytest
from flask import Flask

from webapp.cli.serve import answer
from webapp.server import MAX_BODY_BYTES, MAX_HEADER_BYTES, MOST_FROM_ONE_ADDRESS, make_server

HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
WHOLE = HEAD + b"Connection: close\r\n\r\n"


@contextlib.contextmanager
def serving(app: Flask, *, request_seconds: float) -> Iterator[tuple[str, int]]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = make_server(app, listener, request_seconds=request_seconds)
    ended = threading.Event()
    thread = threading.Thread(target=answer, args=(server, ended), daemon=True)
    thread.start()
    yield ("127.0.0.1", int(server.effective_port))
    ended.set()
    server.close()
    thread.join(5)


def place_of(live_server: str) -> tuple[str, int]:
    parts = urlsplit(live_server)
    return str(parts.hostname), int(parts.port or 0)


def say(place: tuple[str, int], request: bytes, *, finish: bool = False) -> bytes:
    """Everything that is answered until the server hangs up. finish: say that nothing more will come."""
    with closing(socket.create_connection(place, timeout=10)) as sock:
        with contextlib.suppress(OSError):  # it may hang up before it has heard all
            sock.sendall(request)
            if finish:
                sock.shutdown(socket.SHUT_WR)
        heard = b""
        with contextlib.suppress(OSError):
            while piece := sock.recv(65536):
                heard += piece
        return heard


def status(heard: bytes) -> int:
    return int(heard.split(b" ", 2)[1]) if heard.startswith(b"HTTP/1.") else 0


def test_a_header_has_sixteen_kilobytes_at_most(live_server: str) -> None:
    place = place_of(live_server)
    fits = b"X-Long: " + b"a" * (MAX_HEADER_BYTES - 500) + b"\r\nConnection: close\r\n\r\n"
    assert status(say(place, HEAD + fits)) == 200
    assert status(say(place, HEAD + b"X-Long: " + b"a" * 200_000 + b"\r\n\r\n")) in (400, 413, 431)
    assert status(say(place, HEAD + b"X-Many: 1\r\n" * 20_000 + b"\r\n")) in (400, 413, 431)


@pytest.mark.parametrize("sent", ["announced", "chunked"])
def test_a_body_has_one_megabyte_at_most(live_server: str, sent: str) -> None:
    head = b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    if sent == "announced":
        request = head + b"Content-Length: %d\r\n\r\n" % (20 * MAX_BODY_BYTES) + b"a" * MAX_BODY_BYTES
    else:
        chunk = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
        request = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 40
    assert status(say(place_of(live_server), request)) in (413, 0)
    assert status(say(place_of(live_server), WHOLE)) == 200


def test_who_sends_too_much_is_heard_out_and_told_in_words(live_server: str) -> None:
    body = b"a" * (3 * MAX_BODY_BYTES)
    head = (
        b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    )
    with closing(socket.create_connection(place_of(live_server), timeout=30)) as sock:
        sock.sendall(head + body)
        heard = b"".join(iter(lambda: sock.recv(65536), b""))
    assert status(heard) == 413
    assert b"That was more than Keypost takes at once" in heard


HARDLY_HTTP = (
    b"\r\n\r\n\r\n",
    b"\x16\x03\x01\x00\xa5",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET http:// HTTP/1.1\r\n\r\n",
    b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/1.1\r\nHo st: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n X: folded\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    b"TRACE / HTTP/1.1\r\nHost: localhost\r\nCookie: canary=1\r\nConnection: close\r\n\r\n",
    b"CONNECT example.com:443 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    b"A" * 100_000,
)


def test_what_is_hardly_http_is_no_failure_of_ours(live_server: str) -> None:
    place = place_of(live_server)
    for request in HARDLY_HTTP:
        heard = say(place, request, finish=True)
        assert status(heard) < 500, request[:80]
        assert b"canary" not in heard
        assert b"Traceback" not in heard
    assert status(say(place, WHOLE)) == 200


def test_no_answer_names_the_server_or_its_version(live_server: str) -> None:
    for request in (WHOLE, HEAD.replace(b"/healthz", b"/nowhere") + b"Connection: close\r\n\r\n", b"GET\r\n\r\n"):
        heard = say(place_of(live_server), request).lower()
        assert b"\r\nserver:" not in heard
        assert not any(name in heard for name in (b"werkzeug", b"python/", b"flask"))


def hold(place: tuple[str, int], source: str) -> socket.socket:
    """Open a connection from one of this machine's addresses, and begin a request on it."""
    sock = socket.create_connection(place, timeout=10, source_address=(source, 0))
    sock.sendall(HEAD)
    return sock


def test_those_who_say_nothing_keep_nobody_else_waiting(live_server: str) -> None:
    place = place_of(live_server)
    with contextlib.ExitStack() as held:
        for number in range(300):
            held.enter_context(closing(hold(place, f"127.0.1.{number % 3 + 1}")))
        begun = time.monotonic()
        assert status(say(place, WHOLE)) == 200
        assert time.monotonic() - begun < 5


def test_one_address_does_not_take_every_connection(live_server: str) -> None:
    place = place_of(live_server)
    with contextlib.ExitStack() as held:
        for _ in range(MOST_FROM_ONE_ADDRESS):
            held.enter_context(closing(hold(place, "127.0.1.1")))
        one_more = held.enter_context(closing(socket.create_connection(place, 10, source_address=("127.0.1.1", 0))))
        assert one_more.recv(1) == b""
        assert status(say(place, WHOLE)) == 200


def test_who_drips_is_closed_although_never_silent(app: Flask) -> None:
    with (
        serving(app, request_seconds=1.0) as place,
        closing(socket.create_connection(place, timeout=0.05)) as sock,
    ):
        sock.sendall(HEAD)
        begun = time.monotonic()
        assert _hung_up(sock, drip=b"X: y\r\n", within=10)
        assert time.monotonic() - begun < 8


def test_who_drips_a_body_is_closed_as_well(app: Flask) -> None:
    with serving(app, request_seconds=1.0) as place, closing(socket.create_connection(place, timeout=0.05)) as sock:
        sock.sendall(b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
        assert _hung_up(sock, drip=b"a", within=10)


def test_who_falls_silent_is_closed(app: Flask) -> None:
    with serving(app, request_seconds=1.0) as place, closing(socket.create_connection(place, timeout=10)) as sock:
        sock.sendall(HEAD)
        assert sock.recv(1) == b""


def _hung_up(sock: socket.socket, *, drip: bytes, within: float) -> bool:
    """Send a little again and again, as fast as the socket's own patience, until the server hangs up."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        try:
            sock.sendall(drip)
            if sock.recv(1) == b"":
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False
