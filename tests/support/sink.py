"""A fast mail server in a process of its own, for benchmarks and for tests that kill the worker.

It writes down each message before it says that it took it, so that its log is the truth whatever is killed. One core
takes more messages a second than a worker can send, so that a benchmark does not measure the server. It is quick at
one thing only: mail_server.py is the server that understands everything.

    with Sink(folder) as sink:
        sink.tell(replies={"RCPT bad@example.test": "550 5.1.1 unknown"})
        …
        assert [each.recipient for each in sink.accepted()] == ["bob@example.test"]

This file is also the program that runs: standard library only, started by its path.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import json
import os
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

HANG_UP: Final = "(hang up)"
SILENCE: Final = "(silence)"
TAKE_AND_HANG_UP: Final = "(take and hang up)"
"""Replies that are none. The last, for ``message``: the message is taken, and the client never hears of it."""
CONTROL_SECONDS: Final = 10


class Accepted(NamedTuple):
    """One message the sink took. at: nanoseconds since the epoch; connection: their number; size: of the body."""

    at: int
    connection: int
    recipient: str
    message_id: str
    size: int


@dataclass(frozen=True, slots=True)
class Heard:
    """What a sink's log holds. violations: what no client may do, such as sending a body before it is asked for."""

    accepted: list[Accepted]
    connections: int
    logins: int
    refused_logins: int
    violations: list[str]


class Sink:
    """The running server: use it as a context, or start() and stop() it.

    delay: seconds by which each reply comes later than its command; other connections go on meanwhile. certificate: a
    PEM file with key and chain, which makes STARTTLS part of the bargain. login: the name and password it demands.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        folder: Path,
        *,
        delay: float = 0.0,
        certificate: Path | None = None,
        login: tuple[str, str] | None = None,
        pipelining: bool = True,
    ) -> None:
        self.log = folder / "sink.log"
        self.port = 0
        self._settings = {
            "log": str(self.log),
            "delay": delay,
            "certificate": str(certificate) if certificate else None,
            "login": list(login) if login else None,
            "pipelining": pipelining,
        }
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Sink:
        self.start()
        return self

    def __exit__(self, *ignored: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen on a free port, from now on."""
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__, json.dumps(self._settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self._answer())

    def stop(self) -> None:
        """End, together with all connections."""
        if self._process is not None:
            self._process.communicate(timeout=CONTROL_SECONDS)
            self._process = None

    def tell(self, **orders: Any) -> None:
        """Change how it behaves, at once and for every connection.

        replies: instead of its own, by step: greeting, EHLO, STARTTLS, AUTH, MAIL, RCPT, DATA, message, RSET, QUIT, and
        ``RCPT bob@example.test`` for one recipient alone. listening: False refuses connections. delay: see above.
        password: of the login. hang_up: True drops everybody.
        """
        assert self._process is not None, "the sink does not run"
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(orders) + "\n")
        self._process.stdin.flush()
        self._answer()

    def heard(self) -> Heard:
        """Everything up to now."""
        lines = [line.split("\t") for line in self.log.read_text(encoding="utf-8").splitlines()]
        kinds = Counter(line[0] for line in lines)
        return Heard(
            [
                Accepted(int(at), int(number), to, id, int(size))
                for _, at, number, to, id, size in (line for line in lines if line[0] == "M")
            ],
            kinds["C"],
            kinds["L"],
            kinds["F"],
            [line[1] for line in lines if line[0] == "V"],
        )

    def accepted(self) -> list[Accepted]:
        """Every message it took, in order, also those that a client never heard of."""
        return self.heard().accepted

    def count(self) -> int:
        """How many messages it took, without reading more than it must."""
        with self.log.open("rb") as log:
            return sum(line.startswith(b"M") for line in log)

    def cpu_seconds(self) -> float:
        """How long its processor has worked for it."""
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _answer(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the sink ended"
        return line.strip()


@dataclass(slots=True)
class _State:
    """What all connections share."""

    log: int
    delay: float
    context: ssl.SSLContext | None
    login: list[str] | None
    pipelining: bool
    replies: dict[str, str]
    connections: int = 0

    def write(self, *fields: object) -> None:
        os.write(self.log, ("\t".join(map(str, fields)) + "\n").encode())


class _Conversation(asyncio.BufferedProtocol):
    """One connection. Commands are taken from the buffer one by one; their replies leave in one piece."""

    transport: asyncio.Transport

    def __init__(self, state: _State, open_: set[_Conversation]) -> None:
        self._state = state
        self._open = open_
        self._room = bytearray(65536)
        self._buffer = b""
        self._out = ""
        self._in_body = False
        self._recipient = ""
        self._encrypted = self._in_handshake = self._signed_in = self._has_sender = False
        self._deaf = self._leaving = self._follows = False
        self._number = 0
        self._handshake: asyncio.Task[None] | None = None
        self._commands: dict[bytes, Callable[[bytes], str]] = {
            b"MAIL": self._mail,
            b"RCPT": self._rcpt,
            b"DATA": self._data,
            b"EHLO": self._hello,
            b"HELO": lambda line: self._reply("EHLO", "250 sink.example.test"),
            b"STAR": self._encrypt,
            b"AUTH": self._authenticate,
            b"RSET": lambda line: self._reply("RSET", "250 2.0.0 ok"),
            b"NOOP": lambda line: "250 2.0.0 ok",
            b"QUIT": self._quit,
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self._encrypted:
            return
        self._open.add(self)
        self._state.connections += 1
        self._number = self._state.connections
        self._state.write("C", self._number)
        self._say(self._reply("greeting", "220 sink.example.test ESMTP"))
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        self._open.discard(self)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        if self._deaf:
            return
        self._buffer += self._room[:nbytes]
        if not self._in_handshake:
            self._take()

    def _take(self) -> None:
        """Answer what has arrived whole."""
        at = 0
        while at < len(self._buffer) and not self._deaf and not self._in_handshake:
            after = self._take_body(at) if self._in_body else self._take_command(at)
            if not after:
                break
            at = after
        self._buffer = self._buffer[at:]
        self._flush()

    def _take_command(self, at: int) -> int:
        """Answer one command; gives where the next begins, or 0 when this one has not arrived whole."""
        end = self._buffer.find(b"\r\n", at)
        if end < 0:
            return 0
        line, self._follows = self._buffer[at:end], len(self._buffer) > end + 2
        answer = self._commands.get(line[:4].upper())
        self._say(answer(line) if answer else "500 5.5.1 unknown command")
        return end + 2

    def _take_body(self, at: int) -> int:
        """Take a body; gives what follows it, or 0 when it has not arrived whole."""
        if "body" in self._state.replies:
            self._say(self._state.replies["body"])
            return 0
        if self._buffer.startswith(b".\r\n", at):
            end = at - 2  # The line break before the dot is the one after DATA.
        elif (end := self._buffer.find(b"\r\n.\r\n", at)) < 0:
            return 0
        self._in_body = False
        reply = self._reply("message", "250 2.0.0 Ok: queued")
        if reply.startswith("250") or reply == TAKE_AND_HANG_UP:  # Written down before anybody hears of it.
            line = (
                f"M\t{time.time_ns()}\t{self._number}\t{self._recipient}\t{self._message_id(at, end)}\t{end - at + 2}\n"
            )
            os.write(self._state.log, line.encode())
        self._say(reply)
        return end + 5

    def _message_id(self, begin: int, end: int) -> str:
        start = self._buffer.find(b"\r\nMessage-ID: ", begin, end) + 14
        return self._buffer[start : self._buffer.find(b"\r\n", start)].decode() if start > 14 else ""

    def _reply(self, step: str, usual: str) -> str:
        return self._state.replies.get(step, usual) if self._state.replies else usual

    def _say(self, reply: str) -> None:
        if reply in (HANG_UP, TAKE_AND_HANG_UP):
            self._deaf = self._leaving = True
        elif reply == SILENCE:
            self._deaf = True
        else:
            self._out += reply + "\r\n"
            self._leaving = self._leaving or reply.startswith("421")

    def _flush(self) -> None:
        if not self._out and not self._leaving:
            return
        out, self._out = self._out.encode(), ""
        if self._state.delay:
            asyncio.get_running_loop().call_later(self._state.delay, self._send, self.transport, out, self._leaving)
        else:
            self._send(self.transport, out, self._leaving)

    @staticmethod
    def _send(transport: asyncio.Transport, out: bytes, leaving: bool) -> None:
        if transport.is_closing():
            return
        if out:
            transport.write(out)
        if leaving:
            transport.close()

    def _hello(self, line: bytes) -> str:
        offers = ["sink.example.test", "8BITMIME", "SIZE 10000000", "ENHANCEDSTATUSCODES"]
        if self._state.pipelining:
            offers.append("PIPELINING")
        if self._state.context and not self._encrypted:
            offers.append("STARTTLS")
        if self._state.login and (self._encrypted or not self._state.context):
            offers.append("AUTH PLAIN")
        lines = [f"250-{offer}" for offer in offers]
        return self._reply("EHLO", "\r\n".join([*lines[:-1], f"250 {offers[-1]}"]))

    def _authenticate(self, line: bytes) -> str:
        username, password = self._state.login or ("", "")
        given = base64.b64decode(line[len(b"AUTH PLAIN ") :]).split(b"\0")[1:]
        self._signed_in = given == [username.encode(), password.encode()]
        reply = self._reply("AUTH", "235 2.7.0 welcome" if self._signed_in else "535 5.7.8 wrong password")
        self._state.write("L" if reply.startswith("235") else "F", self._number)
        return reply

    def _mail(self, line: bytes) -> str:
        if self._state.login and not self._signed_in:
            return "530 5.7.0 sign in first"
        self._recipient = ""
        reply = self._reply("MAIL", "250 2.1.0 ok")
        self._has_sender = reply.startswith("250")
        return reply

    def _rcpt(self, line: bytes) -> str:
        if not self._has_sender:
            return "503 5.5.1 MAIL first"
        recipient = line[line.find(b"<") + 1 : line.rfind(b">")].decode()
        usual = "250 2.1.5 ok"
        if self._state.replies:
            usual = self._state.replies.get(f"RCPT {recipient}") or self._reply("RCPT", usual)
        if usual.startswith("250"):
            self._recipient = recipient
        return usual

    def _data(self, line: bytes) -> str:
        if not self._recipient:
            return "503 5.5.1 nobody to send to"
        reply = self._reply("DATA", "354 go on")
        self._in_body = reply.startswith("354")
        if self._in_body and self._follows:
            self._state.write("V", f"connection {self._number} sent a body before it was asked to")
        return reply

    def _quit(self, line: bytes) -> str:
        self._leaving = True
        return self._reply("QUIT", "221 2.0.0 bye")

    def _encrypt(self, line: bytes) -> str:
        reply = self._reply("STARTTLS", "220 2.0.0 go ahead")
        if reply.startswith("220"):
            if self._follows:
                self._state.write("V", f"connection {self._number} sent something between STARTTLS and the handshake")
            self._encrypted = self._in_handshake = True
            self.transport.pause_reading()
            self._handshake = asyncio.get_running_loop().create_task(self._shake_hands())
        return reply

    async def _shake_hands(self) -> None:
        assert self._state.context is not None
        await asyncio.sleep(self._state.delay)
        with contextlib.suppress(OSError):
            transport = await asyncio.get_running_loop().start_tls(
                self.transport, self, self._state.context, server_side=True
            )
            assert isinstance(transport, asyncio.Transport)
            self.transport = transport
            self._in_handshake = False
            self._take()  # The first command may have come together with the end of the handshake.


class _Server:
    """The listening socket and the orders from standard input."""

    def __init__(self, settings: dict[str, Any]) -> None:
        context = None
        if settings["certificate"]:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(settings["certificate"])
        self._state = _State(
            log=os.open(settings["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600),
            delay=settings["delay"],
            context=context,
            login=settings["login"],
            pipelining=settings["pipelining"],
            replies={},
        )
        self._open: set[_Conversation] = set()
        self._listening: asyncio.Server | None = None
        self._port = 0

    async def run(self) -> None:
        """Until standard input ends."""
        loop = asyncio.get_running_loop()
        orders = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
        await self._listen()
        print(self._port, flush=True)
        while line := await orders.readline():
            await self._obey(json.loads(line))
            print("done", flush=True)

    async def _listen(self) -> None:
        self._listening = await asyncio.get_running_loop().create_server(
            lambda: _Conversation(self._state, self._open), Sink.host, self._port, reuse_address=True, backlog=512
        )
        self._port = self._listening.sockets[0].getsockname()[1]

    async def _obey(self, orders: dict[str, Any]) -> None:
        self._state.replies = orders.get("replies", self._state.replies)
        self._state.delay = orders.get("delay", self._state.delay)
        if "password" in orders and self._state.login:
            self._state.login[1] = orders["password"]
        if orders.get("hang_up"):
            for conversation in list(self._open):
                conversation.transport.abort()
        if orders.get("listening") is False and self._listening is not None:
            self._listening.close()
            self._listening = None
        if orders.get("listening") and self._listening is None:
            await self._listen()


if __name__ == "__main__":
    gc.disable()
    asyncio.run(_Server(json.loads(sys.argv[1])).run())
