"""The sending half of SMTP as a state machine without a socket: bytes out, replies in, one outcome for each message.

With PIPELINING (RFC 2920) the body of one message and MAIL, RCPT and DATA of the next leave in one write, so that a
message costs one round trip; without it, each command waits for its answer (RFC 5321). A message whose sender or
recipient was refused is ended by RSET, or by a lone dot where the server asked for the body all the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Generic, Literal, NamedTuple, Protocol, TypeVar

from webapp.mail.transport import StageName
from webapp.mail.wire import Reply


class Sendable(Protocol):
    """A message ready for the wire. mail, rcpt: whole command lines; body: as DATA carries it, with the final dot."""

    @property
    def mail(self) -> bytes: ...

    @property
    def rcpt(self) -> bytes: ...

    @property
    def body(self) -> bytes: ...


Item = TypeVar("Item", bound=Sendable)
Step = Literal["mail", "rcpt", "data", "end", "rset", "spare"]
_STAGE: Final[dict[Step, StageName]] = {
    "mail": "sender",
    "rcpt": "recipient",
    "data": "message",
    "end": "message",
    "rset": "sender",
    "spare": "message",
}
_DATA: Final = b"DATA\r\n"
_RSET: Final = b"RSET\r\n"
_DOT: Final = b".\r\n"


class Ended(NamedTuple, Generic[Item]):
    """What the server said of one message. stage: None when it took it, else where it refused."""

    item: Item
    reply: Reply
    stage: StageName | None


@dataclass(frozen=True, slots=True)
class Left(Generic[Item]):
    """What a broken connection leaves. in_doubt: its body was on the way, so the server may have it all the same;
    blamed: it was the only one under way; untried: nothing of it was looked at."""

    in_doubt: tuple[Item, ...]
    blamed: tuple[Item, ...]
    untried: tuple[Item, ...]


class Closing(Exception):
    """The server said 421: it is about to hang up."""

    def __init__(self, reply: Reply, stage: StageName) -> None:
        super().__init__(f"{stage}: 421")
        self.reply = reply
        self.stage: StageName = stage


class Unexpected(Exception):
    """A reply came that answers nothing."""


class Pipeline(Generic[Item]):
    """One connection's messages, one after the other.

    Give messages with offer() while wants_more; write what output() gives; hand each reply to receive(). step() names
    what the server is asked for at the moment, and stage() the same for a diagnosis.
    """

    def __init__(self, *, pipelining: bool) -> None:
        self._pipelining = pipelining
        self._out = bytearray()
        self._expected: deque[tuple[Step, Item | None]] = deque()
        self._current: Item | None = None
        self._next: Item | None = None
        self._trouble: tuple[StageName, Reply] | None = None
        self._mail_taken = False

    @property
    def wants_more(self) -> bool:
        """Whether there is room for one more message."""
        return self._next is None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way and nothing waits."""
        return self._current is None and self._next is None and not self._expected

    @property
    def is_waiting(self) -> bool:
        """Whether the server owes a reply."""
        return bool(self._expected)

    @property
    def stage(self) -> StageName:
        """What the server is asked for at the moment."""
        return _STAGE[self._expected[0][0]] if self._expected else "sender"

    def offer(self, item: Item) -> None:
        """Take a message. Raises ValueError when there is no room."""
        if self._next is not None:
            raise ValueError("the pipeline is full")
        self._next = item
        if self._current is None and not self._is_ending_badly():
            self._begin_next()

    def output(self) -> bytes:
        """What must be written now."""
        out = bytes(self._out)
        self._out.clear()
        return out

    def receive(self, reply: Reply) -> Iterator[Ended[Item]]:
        """Take the server's next reply. Raises Closing, and Unexpected for a reply to nothing."""
        if not self._expected:
            raise Closing(reply, "sender") if reply.code == 421 else Unexpected
        step, item = self._expected[0]
        if reply.code == 421:
            raise Closing(reply, _STAGE[step])
        self._expected.popleft()
        if step == "end":
            yield self._ended(item, reply)
        elif step in ("rset", "spare"):
            if step == "spare":
                self._trouble = None
        elif step == "data":
            yield from self._answer_to_data(reply)
        else:
            self._answer_to_envelope(step, reply)
            yield from self._go_on_in_step(step)
        if self._current is None and self._next is not None and not self._is_ending_badly():
            self._begin_next()

    def abandon(self) -> Left[Item]:
        """The connection is gone: what became of each message given and not ended."""
        in_doubt = tuple(item for step, item in self._expected if step == "end" and item is not None)
        under_way = (self._current,) if self._current is not None and self._trouble is None else ()
        refused = (self._current,) if self._current is not None and self._trouble is not None else ()
        waiting = (self._next,) if self._next is not None else ()
        self._expected.clear()
        self._current = self._next = None
        if in_doubt:
            return Left(in_doubt, refused, under_way + waiting)
        return Left((), under_way + refused, waiting)

    def _begin_next(self) -> None:
        self._current, self._next = self._next, None
        self._trouble, self._mail_taken = None, False
        if self._current is None:
            return
        self._out += self._current.mail
        self._expected.append(("mail", self._current))
        if self._pipelining:
            self._out += self._current.rcpt + _DATA
            self._expected.append(("rcpt", self._current))
            self._expected.append(("data", self._current))

    def _answer_to_envelope(self, step: Step, reply: Reply) -> None:
        good = reply.code == 250 or (step == "rcpt" and reply.code in (251, 252))
        if step == "mail":
            self._mail_taken = good
        if not good and self._trouble is None:
            self._trouble = (_STAGE[step], reply)

    def _go_on_in_step(self, step: Step) -> Iterator[Ended[Item]]:
        if self._pipelining or self._current is None:
            return
        if self._trouble is not None:
            yield self._give_up()
        elif step == "mail":
            self._out += self._current.rcpt
            self._expected.append(("rcpt", self._current))
        else:
            self._out += _DATA
            self._expected.append(("data", self._current))

    def _answer_to_data(self, reply: Reply) -> Iterator[Ended[Item]]:
        if self._current is None:
            raise Unexpected
        if reply.code != 354:
            self._trouble = self._trouble or ("message", reply)
            yield self._give_up()
        elif self._trouble is not None:
            # The server waits for a body although it refused the message: nothing but the dot is sent.
            stage, refusal = self._trouble
            self._out += _DOT
            self._expected.append(("spare", None))
            ended: Ended[Item] = Ended(self._current, refusal, stage)
            self._current = None
            yield ended
        else:
            self._out += self._current.body
            self._expected.append(("end", self._current))
            self._current = None
            if self._pipelining and self._next is not None:
                self._begin_next()

    def _give_up(self) -> Ended[Item]:
        if self._current is None or self._trouble is None:
            raise Unexpected
        stage, reply = self._trouble
        ended: Ended[Item] = Ended(self._current, reply, stage)
        self._current, self._trouble = None, None
        if self._mail_taken:
            self._out += _RSET
            self._expected.append(("rset", None))
        return ended

    def _is_ending_badly(self) -> bool:
        """Whether the next message must wait: for the reply to a lone dot, or for any when they come in step."""
        return any(step == "spare" for step, _ in self._expected) or (bool(self._expected) and not self._pipelining)

    @staticmethod
    def _ended(item: Item | None, reply: Reply) -> Ended[Item]:
        if item is None:
            raise Unexpected
        return Ended(item, reply, None if reply.code == 250 else "message")
