"""Replies are read within bounds, whatever the other side sends."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.mail.wire import LINE_LIMIT, REPLY_LIMIT, Closed, Deadline, Malformed, Reply, Wire


@pytest.fixture
def pair() -> Iterator[tuple[Wire, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield Wire(ours), theirs
    ours.close()
    theirs.close()


def read(data: bytes, chunks: int = 1 << 16) -> Reply:
    """Read one reply from bytes that arrive in pieces and then end."""
    ours, theirs = socket.socketpair()

    def send() -> None:
        with theirs:
            for start in range(0, len(data), chunks):
                try:
                    theirs.sendall(data[start : start + chunks])
                except OSError:
                    return

    thread = threading.Thread(target=send)
    thread.start()
    try:
        return Wire(ours).read_reply(Deadline(10))
    finally:
        ours.close()
        thread.join()


def test_a_reply_of_several_lines_is_one() -> None:
    assert read(b"250-one\r\n250-two\r\n250 three\r\n") == Reply(250, (b"one", b"two", b"three"))


def test_a_reply_may_be_a_bare_code_and_end_in_a_bare_newline() -> None:
    assert read(b"250\n") == Reply(250, (b"",))


def test_the_enhanced_code_is_found_on_any_line() -> None:
    assert read(b"550-no\r\n550 5.7.26 policy\r\n").enhanced == "5.7.26"


@pytest.mark.parametrize(
    ("data", "defect"),
    [
        (b"220 " + b"x" * (LINE_LIMIT + 1) + b"\r\n", "line-too-long"),
        (b"220 " + b"x" * (1 << 20), "line-too-long"),
        (b"220-x\r\n" * REPLY_LIMIT, "reply-too-long"),
        (b"\x16\x03\x01\x00", "binary"),
        (b"250 a\x00b\r\n", "binary"),
        (b"999 x\r\n", "code"),
        (b"250-a\r\n550 b\r\n", "code"),
        (b"250-a\r\nhello\r\n", "code"),
        (b"2500 a\r\n", "code"),
        (b"hello\r\n", "foreign"),
        (b"\r\n", "foreign"),
    ],
)
def test_what_is_no_reply_is_named(data: bytes, defect: str) -> None:
    with pytest.raises(Malformed) as raised:
        read(data)
    assert raised.value.defect == defect


def test_an_end_in_the_middle_is_noticed() -> None:
    with pytest.raises(Closed):
        read(b"250-one\r\n250 tw")


def test_a_byte_now_and_then_does_not_prolong_the_wait(pair: tuple[Wire, socket.socket]) -> None:
    wire, theirs = pair
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.05):
            theirs.sendall(b"2")

    thread = threading.Thread(target=drip)
    thread.start()
    begun = time.monotonic()
    with pytest.raises((TimeoutError, Malformed)):
        wire.read_reply(Deadline(0.5))
    stop.set()
    thread.join()
    assert time.monotonic() - begun < 1.5


@given(st.binary(max_size=2000), st.integers(1, 64))
def test_any_bytes_end_in_a_reply_or_a_named_defect(data: bytes, chunks: int) -> None:
    try:
        reply = read(data, chunks)
    except (Malformed, Closed):
        return
    assert 200 <= reply.code <= 599
    assert len(reply.raw_lines()) == len(reply.lines)


replies = st.builds(
    Reply,
    st.integers(200, 599),
    st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80).map(str.encode), min_size=1).map(
        tuple
    ),
)


@given(replies, st.integers(1, 64))
def test_a_reply_written_out_is_read_back(reply: Reply, chunks: int) -> None:
    assert read(b"".join(line + b"\r\n" for line in reply.raw_lines()), chunks) == reply
