"""Stands between Playwright and Firefox, and gives a harmless command instead of one that Firefox does not know.

Playwright is ahead of Firefox's long-term releases, and such a command would end the test before it began. Standard
library only; started by its path with the command that starts Firefox.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from typing import Final

UNKNOWN: Final = frozenset({"emulation.setMediaFeaturesOverride"})
"""Commands that change nothing in these tests, whose answers nobody reads."""
LISTENING: Final = re.compile(rb"WebDriver BiDi listening on ws://127\.0\.0\.1:(\d+)")


async def _run(*command: str) -> int:
    """Start Firefox, and tell its caller of the relay's address instead of its own."""
    firefox = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    assert firefox.stderr is not None
    async for line in firefox.stderr:
        said = line
        if found := LISTENING.search(line):
            said = line.replace(found[1], b"%d" % await _relay(int(found[1])))
        sys.stderr.buffer.write(said)
        sys.stderr.buffer.flush()
    return await firefox.wait()


async def _relay(port: int) -> int:
    """Listen for Playwright and pass on to Firefox's port; gives the relay's own."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_firefox, to_firefox = await asyncio.open_connection("127.0.0.1", port)
        greeting = await reader.readuntil(b"\r\n\r\n")
        to_firefox.write(greeting.replace(b":%d\r\n" % own, b":%d\r\n" % port))
        await asyncio.gather(_pass_on(from_firefox, writer), _pass_on_commands(reader, to_firefox))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**24)
    own: int = server.sockets[0].getsockname()[1]
    return own


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()
    writer.close()


async def _pass_on_commands(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Frames of a WebSocket's client (RFC 6455, 5.2), with what Firefox does not know exchanged."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            kind, length = await reader.readexactly(2)
            length &= 0x7F
            if length >= 126:
                length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8))
            mask, masked = await reader.readexactly(4), await reader.readexactly(length)
            writer.write(_frame(kind, mask, _masked(_known(_masked(masked, mask)), mask)))
            await writer.drain()
    writer.close()


def _masked(payload: bytes, mask: bytes) -> bytes:
    """The exclusive or with the mask, over and over; done twice it is undone."""
    whole = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload) ^ int.from_bytes(whole)).to_bytes(len(payload))


def _known(command: bytes) -> bytes:
    with contextlib.suppress(ValueError):
        asked = json.loads(command)
        if asked["method"] in UNKNOWN:
            return json.dumps({"id": asked["id"], "method": "session.status", "params": {}}).encode()
    return command


def _frame(kind: int, mask: bytes, payload: bytes) -> bytes:
    if len(payload) < 126:
        length = bytes([0x80 | len(payload)])
    else:
        short = len(payload) < 0x10000
        length = bytes([0xFE if short else 0xFF]) + len(payload).to_bytes(2 if short else 8)
    return bytes([kind]) + length + mask + payload


if __name__ == "__main__":
    sys.exit(asyncio.run(_run(*sys.argv[1:])))
