"""The sending half of SMTP, against a model of a server that keeps to RFC 5321 and RFC 2920."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.mail.pipeline import Closing, Ended, Pipeline, Unexpected
from webapp.mail.wire import Reply


@dataclass(frozen=True)
class Item:
    """A message whose number stands in each line. verdicts: the server's codes for MAIL, RCPT, DATA and the end."""

    number: int
    verdicts: tuple[int, int, int, int] = (250, 250, 354, 250)

    @property
    def mail(self) -> bytes:
        return b"MAIL FROM:<%d>\r\n" % self.number

    @property
    def rcpt(self) -> bytes:
        return b"RCPT TO:<%d>\r\n" % self.number

    @property
    def body(self) -> bytes:
        return b"body %d\r\n.\r\n" % self.number

    @property
    def stage(self) -> str | None:
        """Where the server says no first."""
        mail, rcpt, data, end = self.verdicts
        if mail != 250:
            return "sender"
        if rcpt != 250:
            return "recipient"
        return "message" if data != 354 or end != 250 else None


class Server:
    """A server with one transaction at a time. It fails the test when a client breaks the rules."""

    def __init__(self, items: dict[int, Item], *, pipelining: bool, lenient: bool) -> None:
        self.items = items
        self.pipelining = pipelining
        self.lenient = lenient
        self.accepted: list[int] = []
        self.replies: deque[int] = deque()
        self._sender: Item | None = None
        self._recipient: Item | None = None
        self._in_data = False
        self._body: list[bytes] = []

    def hear(self, data: bytes) -> None:
        lines = data.split(b"\r\n")
        assert lines.pop() == b"", "a line is not whole"
        if not self.pipelining:
            assert data.count(b"\r\n") <= 1 or self._in_data, "commands came in one write"
        for line in lines:
            self.replies.extend(self._answer(line))

    def _answer(self, line: bytes) -> list[int]:
        if self._in_data:
            return self._take(line)
        verb = line.partition(b" ")[0]
        if verb == b"RSET":
            self._sender = self._recipient = None
            return [250]
        if verb == b"DATA":
            return [self._data()]
        item = self.items[int(line.partition(b"<")[2][:-1])]
        if verb == b"MAIL":
            assert self._sender is None, "MAIL within a transaction"
            self._sender = item if item.verdicts[0] == 250 else None
            return [item.verdicts[0]]
        if self._sender is None:
            return [503]
        self._recipient = item if item.verdicts[1] == 250 else None
        return [item.verdicts[1]]

    def _data(self) -> int:
        if self._recipient is None:
            code = 354 if self.lenient and self._sender is not None else 554
        else:
            code = self._recipient.verdicts[2]
        self._in_data = code == 354
        self._body = []
        return code

    def _take(self, line: bytes) -> list[int]:
        if line != b".":
            self._body.append(line)
            return []
        item, self._in_data, self._sender, self._recipient = self._recipient, False, None, None
        if item is None:
            assert not self._body, "the body of a refused message was sent"
            return [554]
        assert self._body == [b"body %d" % item.number]
        if item.verdicts[3] == 250:
            self.accepted.append(item.number)
        return [item.verdicts[3]]


def converse(
    items: list[Item], *, pipelining: bool, lenient: bool, chunks: list[int]
) -> tuple[Server, list[Ended[Item]]]:
    """Let a pipeline hand over all items; the server answers in portions of the sizes given."""
    server = Server({item.number: item for item in items}, pipelining=pipelining, lenient=lenient)
    pipeline: Pipeline[Item] = Pipeline(pipelining=pipelining)
    waiting, ended, sizes = deque(items), list[Ended[Item]](), deque(chunks)
    for _ in range(20 * len(items) + 20):
        while waiting and pipeline.wants_more:
            pipeline.offer(waiting.popleft())
        out = pipeline.output()
        if out:
            server.hear(out)
        for _ in range(sizes.popleft() if sizes else 1):
            if server.replies:
                ended += pipeline.receive(Reply(server.replies.popleft(), (b"words",)))
        if pipeline.is_idle and not waiting:
            return server, ended
    raise AssertionError("the conversation does not end")


verdicts = st.tuples(
    st.sampled_from([250, 250, 250, 550, 451]),
    st.sampled_from([250, 250, 250, 550, 450]),
    st.sampled_from([354, 354, 354, 451, 554]),
    st.sampled_from([250, 250, 250, 552, 452]),
)
lists = st.lists(verdicts, min_size=1, max_size=8).map(lambda all_: [Item(at, each) for at, each in enumerate(all_)])


@given(items=lists, pipelining=st.booleans(), lenient=st.booleans(), chunks=st.lists(st.integers(0, 4), max_size=30))
def test_each_message_ends_once_with_the_verdict_that_was_meant_for_it(
    items: list[Item], pipelining: bool, lenient: bool, chunks: list[int]
) -> None:
    server, ended = converse(items, pipelining=pipelining, lenient=lenient, chunks=chunks)
    assert {each.item.number: each.stage for each in ended} == {item.number: item.stage for item in items}
    assert len(ended) == len(items)
    assert server.accepted == [item.number for item in items if item.stage is None]


@given(items=lists, cut=st.integers(0, 40), pipelining=st.booleans())
def test_a_broken_connection_leaves_each_message_in_exactly_one_place(
    items: list[Item], cut: int, pipelining: bool
) -> None:
    server = Server({item.number: item for item in items}, pipelining=pipelining, lenient=True)
    pipeline: Pipeline[Item] = Pipeline(pipelining=pipelining)
    waiting, given_, ended = deque(items), list[int](), list[int]()
    for _ in range(cut):
        while waiting and pipeline.wants_more:
            given_.append(waiting[0].number)
            pipeline.offer(waiting.popleft())
        server.hear(pipeline.output()) if pipeline.is_waiting else None
        if server.replies:
            ended += [each.item.number for each in pipeline.receive(Reply(server.replies.popleft(), (b"words",)))]
    left = pipeline.abandon()
    places = [item.number for group in (left.in_doubt, left.blamed, left.untried) for item in group]
    assert sorted(places + ended) == sorted(given_)
    silently_taken = set(server.accepted) - set(ended)
    assert silently_taken <= {item.number for item in left.in_doubt}


def test_the_body_and_the_next_envelope_leave_in_one_write() -> None:
    pipeline: Pipeline[Item] = Pipeline(pipelining=True)
    pipeline.offer(Item(1))
    assert pipeline.output() == b"MAIL FROM:<1>\r\nRCPT TO:<1>\r\nDATA\r\n"
    pipeline.offer(Item(2))
    for code in (250, 250, 354):
        list(pipeline.receive(Reply(code, (b"",))))
    assert pipeline.output() == b"body 1\r\n.\r\nMAIL FROM:<2>\r\nRCPT TO:<2>\r\nDATA\r\n"


def test_a_421_says_that_the_server_is_closing() -> None:
    pipeline: Pipeline[Item] = Pipeline(pipelining=True)
    pipeline.offer(Item(1))
    with pytest.raises(Closing):
        list(pipeline.receive(Reply(421, (b"too many messages",))))


def test_a_reply_to_nothing_is_noticed() -> None:
    with pytest.raises(Unexpected):
        list(Pipeline[Item](pipelining=True).receive(Reply(250, (b"ok",))))
