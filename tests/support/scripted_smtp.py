"""A mail server that says exactly what a script tells it: real sockets, real TLS, any fault one likes.

A script is a function that is called with a Talk for each connection, in a thread of its own::

    def script(talk):
        talk.say("220 ready")
        talk.expect("EHLO")
        talk.say("250 HELP")

    with ScriptedServer(script) as server: …
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

_PATIENCE_SECONDS = 30


class Gone(Exception):
    """The client hung up."""


class Talk:
    """One connection, seen from the server. ``number`` counts connections from 1."""

    def __init__(self, sock: socket.socket, number: int, heard: list[str], stopping: threading.Event) -> None:
        self.sock = sock
        self.number = number
        self._heard = heard
        self._stopping = stopping
        self._buffer = b""

    def say(self, *lines: str) -> None:
        """Send lines, each ended by CRLF."""
        self.send("".join(line + "\r\n" for line in lines).encode())

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(data)

    def hear(self) -> str:
        """The next line of the client. Raises Gone."""
        while b"\n" not in self._buffer:
            chunk = self.sock.recv(65536)
            if not chunk:
                raise Gone
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        text = line.rstrip(b"\r").decode("utf-8", "replace")
        self._heard.append(text)
        return text

    def expect(self, start: str) -> str:
        """The next line of the client, which must begin like this."""
        line = self.hear()
        assert line.upper().startswith(start.upper()), f"heard {line!r} instead of {start}"
        return line

    def hear_message(self) -> list[str]:
        """The lines of a message after DATA, up to the final dot."""
        lines: list[str] = []
        while (line := self.hear()) != ".":
            lines.append(line)
        return lines

    def begin_tls(self, context: ssl.SSLContext) -> None:
        """The server's side of a handshake."""
        self.sock = context.wrap_socket(self.sock, server_side=True)

    def hold(self) -> None:
        """Say nothing until the client hangs up or the server stops."""
        with contextlib.suppress(OSError):
            while not self._stopping.is_set() and self.sock.recv(65536):
                pass

    def drip(self, byte: bytes, every_seconds: float) -> None:
        """Send one byte after the other, slowly and without end."""
        while not self._stopping.wait(every_seconds):
            self.sock.sendall(byte)

    def reset(self) -> None:
        """Break the connection with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.sock.close()


Script = Callable[[Talk], None]


@dataclass
class ScriptedServer:
    """Runs a script for each connection. heard: every line the clients said; errors: what went wrong in scripts."""

    script: Script
    host: str = "127.0.0.1"
    heard: list[str] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    connections: int = 0

    def __enter__(self) -> ScriptedServer:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._listening = socket.create_server((self.host, 0), family=family)
        self.port: int = self._listening.getsockname()[1]
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._open: list[socket.socket] = []
        self._threads[0].start()
        return self

    def __exit__(self, *ignored: object) -> None:
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_PATIENCE_SECONDS)

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            sock.settimeout(_PATIENCE_SECONDS)
            self._open.append(sock)
            thread = threading.Thread(target=self._run, args=(sock, self.connections), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, sock: socket.socket, number: int) -> None:
        talk = Talk(sock, number, self.heard, self._stopping)
        try:
            self.script(talk)
        except (Gone, OSError):
            pass
        except AssertionError as error:
            self.errors.append(error)
        finally:
            for each in (talk.sock, sock):
                with contextlib.suppress(OSError):
                    each.close()


DEFAULT_REPLIES: Mapping[str, str] = {
    "greeting": "220 mail.example.test ready",
    "EHLO": "250-mail.example.test\r\n250-SIZE 1000000\r\n250-AUTH PLAIN LOGIN\r\n250 STARTTLS",
    "STARTTLS": "220 go ahead",
    "AUTH": "235 2.7.0 welcome",
    "MAIL": "250 2.1.0 sender ok",
    "RCPT": "250 2.1.5 recipient ok",
    "DATA": "354 end with a dot",
    "message": "250 2.0.0 Ok: queued as 4XyZ123abc",
    "RSET": "250 2.0.0 ok",
    "QUIT": "221 2.0.0 bye",
}
HANG_UP = "(hang up)"
SILENCE = "(silence)"
RESET = "(reset)"


def replying(context: ssl.SSLContext | None = None, *, at_once: bool = False, **replies: str) -> Script:
    """A server that behaves, save for the replies given here: by command, or ``greeting`` and ``message``.

    context: for STARTTLS, or for TLS from the first byte if ``at_once``. HANG_UP, SILENCE and RESET are replies too.
    """
    table = {**DEFAULT_REPLIES, **replies}

    def answer(talk: Talk, reply: str) -> None:
        if reply == SILENCE:
            talk.hold()
            raise Gone
        if reply == RESET:
            talk.reset()
            raise Gone
        if reply == HANG_UP:
            raise Gone
        talk.send(reply.encode("utf-8", "surrogateescape") + b"\r\n")

    def script(talk: Talk) -> None:
        if context and at_once:
            talk.begin_tls(context)
        answer(talk, table["greeting"])
        while True:
            verb = talk.hear().partition(" ")[0].upper()
            answer(talk, table.get(verb, "500 5.5.1 unknown command"))
            if verb == "STARTTLS" and context and table[verb].startswith("220"):
                talk.begin_tls(context)
            if verb == "DATA" and table[verb].startswith("354"):
                talk.hear_message()
                answer(talk, table["message"])
            if verb == "QUIT":
                return

    return script
