"""From a name to a connected socket: resolve once, race the addresses, never reach a link-local one."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import queue
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from webapp.mail.wire import Deadline

_HEAD_START_SECONDS: Final = 0.25
_MOST_ADDRESSES: Final = 8
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_METADATA: Final = frozenset({"fd00:ec2::254", "fd20:ce::254", "100.100.100.200"})  # AWS, Google, Alibaba


@dataclass(frozen=True, slots=True)
class Address:
    """One address a name stands for, ready to connect to. family: AF_INET or AF_INET6; ip: as shown to a person."""

    family: int
    ip: str
    sockaddr: tuple[Any, ...]


Resolver = Callable[[str, int], Sequence[Address]]
"""Finds the addresses of a name, for a port. Raises socket.gaierror or UnicodeError."""


def system_resolver(name: str, port: int) -> Sequence[Address]:
    """What this machine's own resolver says, in its order of preference."""
    found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(Address(family, str(to[0]), to) for family, _, _, _, to in found))


def resolve(name: str, port: int, resolver: Resolver, deadline: Deadline) -> Sequence[Address]:
    """Ask ``resolver``, but wait no longer than the deadline: the system's own patience cannot be set.

    Raises TimeoutError, socket.gaierror or UnicodeError.
    """
    answer: queue.SimpleQueue[Sequence[Address] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(resolver(name, port)[:_MOST_ADDRESSES])
        except (OSError, UnicodeError) as error:
            answer.put(error)

    threading.Thread(target=ask, name="resolve a mail server", daemon=True).start()
    try:
        found = answer.get(timeout=deadline.remaining())
    except queue.Empty:
        raise TimeoutError("the resolver did not answer") from None
    if isinstance(found, Exception):
        raise found
    return found


def is_forbidden(ip: str) -> bool:
    """Whether Keypost never connects there: link-local (cloud metadata live there), multicast, or no address at all."""
    address = ipaddress.ip_address(ip.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        address = _translated(address) or address
    return address.is_link_local or address.is_multicast or address.is_unspecified or str(address) in _METADATA


def _translated(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a gateway on the way makes of it: mapped, 6to4 (RFC 3056) or NAT64 (RFC 6052)."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def is_loopback(ip: str) -> bool:
    """Whether the connection never leaves this machine."""
    return ipaddress.ip_address(ip.partition("%")[0]).is_loopback


class Unreachable(OSError):
    """No address could be connected to; ``failures`` says why for each. The errno is that of the most telling one."""

    def __init__(self, failures: Sequence[tuple[Address, OSError]]) -> None:
        self.failures = tuple(failures)
        telling = min((error for _, error in failures), key=_tells, default=TimeoutError(errno.ETIMEDOUT, "timed out"))
        super().__init__(telling.errno or errno.ETIMEDOUT, telling.strerror or "timed out")


def _tells(error: OSError) -> int:
    order = (errno.ECONNREFUSED, errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH)
    return order.index(error.errno) if error.errno in order else len(order)


def dial(addresses: Sequence[Address], deadline: Deadline) -> tuple[socket.socket, Address]:
    """Connect to whichever address answers first, each with a head start of 250 ms before the next (RFC 8305).

    Raises Unreachable.
    """
    race = _Race(addresses)
    try:
        return race.run(deadline)
    finally:
        race.close()


class _Race:
    def __init__(self, addresses: Sequence[Address]) -> None:
        self._waiting = list(addresses)
        self._running = selectors.DefaultSelector()
        self._failures: list[tuple[Address, OSError]] = []

    def run(self, deadline: Deadline) -> tuple[socket.socket, Address]:
        while self._waiting or self._running.get_map():
            if self._waiting:
                self._start(self._waiting.pop(0))
            won = self._wait(deadline)
            if won:
                return won
        raise Unreachable(self._failures)

    def _start(self, address: Address) -> None:
        try:
            sock = socket.socket(address.family, socket.SOCK_STREAM)
        except OSError as error:
            self._failures.append((address, error))
            return
        sock.setblocking(False)
        status = sock.connect_ex(address.sockaddr)
        if status in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
            self._running.register(sock, selectors.EVENT_WRITE, address)
        else:
            sock.close()
            self._failures.append((address, OSError(status, os.strerror(status))))

    def _wait(self, deadline: Deadline) -> tuple[socket.socket, Address] | None:
        until = time.monotonic() + _HEAD_START_SECONDS
        while self._running.get_map():
            try:
                patience = deadline.remaining()
            except TimeoutError:
                self._give_up()
                return None
            if self._waiting:
                patience = min(patience, until - time.monotonic())
                if patience <= 0:
                    return None
            for key, _ in self._running.select(patience):
                sock = cast(socket.socket, key.fileobj)
                self._running.unregister(sock)
                status = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if not status:
                    return sock, key.data
                sock.close()
                self._failures.append((key.data, OSError(status, os.strerror(status))))
        return None

    def _give_up(self) -> None:
        for key in list(self._running.get_map().values()):
            self._failures.append((key.data, TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))))
        self._waiting.clear()
        self._close_running()

    def _close_running(self) -> None:
        for key in list(self._running.get_map().values()):
            self._running.unregister(key.fileobj)
            with contextlib.suppress(OSError):
                cast(socket.socket, key.fileobj).close()

    def close(self) -> None:
        self._close_running()
        self._running.close()
