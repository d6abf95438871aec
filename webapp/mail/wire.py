"""Bytes to and from a mail server, bounded in size and in time.

Replies follow RFC 5321, section 4.2: ``ddd-text`` for every line but the last, ``ddd text`` for the last.
"""

from __future__ import annotations

import re
import socket
import time
from typing import Final, Literal, NamedTuple

LINE_LIMIT: Final = 4096
REPLY_LIMIT: Final = 64 * 1024
_CHUNK: Final = 8192
_CODE: Final = re.compile(rb"[2-5][0-9]{2}(?=[- ]|$)")
_PLAIN: Final = re.compile(rb"([2-5][0-9]{2})(?: ([^\x00-\x08\x0b\x0c\x0e-\x1f\x7f\r\n]{0,500}))?\r?\n")
_ENHANCED: Final = re.compile(rb"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?= |$)")
_BINARY: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

Defect = Literal["foreign", "line-too-long", "reply-too-long", "binary", "code"]
Service = Literal["IMAP", "POP3", "SSH", "HTTP", "unknown"]

_SERVICES: Final[tuple[tuple[bytes, Service], ...]] = (
    (b"* OK", "IMAP"),
    (b"* PR", "IMAP"),
    (b"* BY", "IMAP"),
    (b"+OK", "POP3"),
    (b"-ERR", "POP3"),
    (b"SSH-", "SSH"),
    (b"HTTP", "HTTP"),
    (b"<htm", "HTTP"),
    (b"<HTM", "HTTP"),
    (b"<!DO", "HTTP"),
    (b"<!do", "HTTP"),
)


def service_of(first_bytes: bytes) -> Service:
    """Which kind of service begins like this; its words themselves are never shown (they may be an internal one's)."""
    return next((name for start, name in _SERVICES if first_bytes.startswith(start)), "unknown")


class Malformed(Exception):
    """The server sent something that is no SMTP reply. ``service`` is its kind when the defect is "foreign"."""

    def __init__(self, defect: Defect, service: Service = "unknown") -> None:
        super().__init__(defect)
        self.defect: Defect = defect
        self.service: Service = service


class Closed(Exception):
    """The server closed the connection where a reply was due."""


class Deadline:
    """A moment, on the monotonic clock, by which something must be over."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds left. Raises TimeoutError when there are none."""
        left = self._at - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time allowed is over")
        return left

    def within(self, seconds: float) -> Deadline:
        """The sooner of this deadline and one ``seconds`` from now."""
        sooner = Deadline(seconds)
        sooner._at = min(sooner._at, self._at)
        return sooner


class Reply(NamedTuple):
    """One reply: its three-digit code and the text of each line, as the bytes that came."""

    code: int
    lines: tuple[bytes, ...]

    @property
    def enhanced(self) -> str | None:
        """The enhanced status code (RFC 3463) at the start of the text, such as ``5.7.8``, if there is one."""
        for line in self.lines:
            found = _ENHANCED.match(line)
            if found:
                return found.group(1).decode()
        return None

    @property
    def words(self) -> str:
        """The text in lower case, for the last resort of a diagnosis."""
        return b" ".join(self.lines).decode("utf-8", "replace").lower()

    def raw_lines(self) -> list[bytes]:
        """The lines as the server wrote them."""
        last = len(self.lines) - 1
        return [b"%d%s%s" % (self.code, b" " if at == last else b"-", line) for at, line in enumerate(self.lines)]


class ReplyReader:
    """Turns bytes as they come into replies; nothing in it can grow without end."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._lines: list[bytes] = []
        self._code = b""
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Take what has arrived."""
        self._buffer += data

    def holds_unread(self) -> bool:
        """Whether bytes have arrived that nobody asked for yet."""
        return bool(self._buffer)

    def next_reply(self) -> Reply | None:
        """The next whole reply, or None until more has arrived. Raises Malformed."""
        if not self._lines:
            found = _PLAIN.match(self._buffer)
            if found is not None:  # One sound line, as nearly every reply is.
                reply = Reply(int(found[1]), (bytes(found[2] or b""),))
                end = found.end()
                del self._buffer[:end]
                self._searched = 0
                return reply
        while (line := self._next_line()) is not None:
            self._size += len(line)
            if self._size > REPLY_LIMIT:
                raise Malformed("reply-too-long")
            self._code = self._check(line, self._code)
            self._lines.append(line[4:])
            if line[3:4] != b"-":
                reply = Reply(int(self._code), tuple(self._lines))
                self._lines, self._code, self._size = [], b"", 0
                return reply
        return None

    @staticmethod
    def _check(line: bytes, expected: bytes) -> bytes:
        if _BINARY.search(line):
            raise Malformed("binary")
        found = _CODE.match(line)
        if found and expected in (b"", found.group()):
            return found.group()
        if found or line[:3].isdigit() or expected:
            raise Malformed("code")
        raise Malformed("foreign", service_of(line))

    def _next_line(self) -> bytes | None:
        end = self._buffer.find(b"\n", self._searched)
        if end < 0:
            self._refuse_hopeless_line()
            self._searched = len(self._buffer)
            return None
        self._searched = 0
        if end > LINE_LIMIT:
            raise Malformed("line-too-long")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line.removesuffix(b"\r")

    def _refuse_hopeless_line(self) -> None:
        start = bytes(self._buffer[:4])
        if len(self._buffer) > LINE_LIMIT:
            raise Malformed("line-too-long")
        if _BINARY.search(self._buffer):
            raise Malformed("binary")
        if len(start) == 4 and not start[:3].isdigit():
            raise Malformed("foreign", service_of(start))


class Wire:
    """A connected socket with one buffer, and nothing that can grow or wait without end."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.reader = ReplyReader()

    def send(self, data: bytes, deadline: Deadline) -> None:
        """Send all of ``data``. Raises OSError, TimeoutError among them."""
        self.socket.settimeout(deadline.remaining())
        self.socket.sendall(data)

    def holds_unread(self) -> bool:
        """Whether bytes have arrived that nobody asked for yet."""
        return self.reader.holds_unread()

    def read_reply(self, deadline: Deadline) -> Reply:
        """The next reply. Raises Malformed, Closed, TimeoutError or another OSError."""
        while (reply := self.reader.next_reply()) is None:
            self._fill(deadline)
        return reply

    def _fill(self, deadline: Deadline) -> None:
        self.socket.settimeout(deadline.remaining())
        chunk = self.socket.recv(_CHUNK)
        if not chunk:
            raise Closed
        self.reader.feed(chunk)
