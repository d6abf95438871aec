"""The record of a conversation with a mail server, in which no form of a secret survives.

smtplib's own debug output prints passwords in base64, so Keypost writes its own record. Two things keep it clean: what
is sent to sign in is never recorded at all, and everything else passes through a Masker, which also finds a secret
that the server sends back, in any encoding it could know and even when it is split over several lines.
"""

from __future__ import annotations

import base64
import contextlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import quote

from webapp.keyring import Secret
from webapp.mail.wire import Reply

SHOWN_CHARACTERS: Final = 200
SHOWN_LINES: Final = 400
_LONGEST_HEAD: Final = 4
_LEAST_FRAGMENT: Final = 4
_MARKS: Final = ("***", "•••", "###", "[…]")
_REPLY_HEAD: Final = re.compile(rb"[0-9]{3}[- ]?")
_ENHANCED_HEAD: Final = re.compile(rb"[0-9]{3}[- ]?[245]\.[0-9]{1,3}\.[0-9]{1,3} ?")
_BLANK: Final = frozenset(b"\x00\t\n\r\x0b\x0c ")


class Masker:
    """Replaces every known form of the secrets it was told."""

    def __init__(self) -> None:
        self._forms: set[bytes] = set()
        self._squeezed: set[bytes] = set()
        self._mark = _MARKS[0]

    def hide(self, secret: Secret | str | bytes) -> None:
        """From now on, mask ``secret``: raw, in base64 at any offset, hexadecimal and percent-encoded."""
        for raw in _spellings(secret):
            self._forms.update(form.lower() for form in _forms_of(raw) if form)
        self._prepare()

    def hide_form(self, form: bytes) -> None:
        """From now on, mask exactly these bytes; a base64 text with or without its padding."""
        stripped = form.rstrip(b"=").lower()
        if stripped:
            self._forms.add(stripped)
            self._prepare()

    def _prepare(self) -> None:
        self._squeezed = {form.translate(None, bytes(_BLANK)) for form in self._forms}
        shown = [form.decode("utf-8", "replace") for form in self._forms]
        self._mark = next((mark for mark in _MARKS if not any(set(mark) & set(form) for form in shown)), _MARKS[0])

    def lines(self, lines: Sequence[bytes]) -> list[str]:
        """The lines as a person may see them: masked, printable, at most 200 characters each."""
        hidden = [bytearray(len(line)) for line in lines]
        for at, line in enumerate(lines):
            self._find_within(line, hidden[at])
        for head in (_REPLY_HEAD, _ENHANCED_HEAD):
            self._find_across(lines, hidden, head)
        return [_printable(self._replace(line, flags)) for line, flags in zip(lines, hidden, strict=True)]

    def shown(self, reply: Reply) -> str:
        """The same as reply(), at once for the one plain line that most are."""
        if (
            len(reply.lines) == 1
            and len(reply.lines[0]) < SHOWN_CHARACTERS - _LONGEST_HEAD
            and reply.lines[0].isascii()
        ):
            line = b"%d %s" % (reply.code, reply.lines[0])
            # Where there are no blanks, a form is found into which some were put, too; the slow way tells where.
            squeezed = line.lower().translate(None, bytes(_BLANK))
            if not any(form in squeezed for form in self._squeezed):
                text = line.decode("ascii")
                if text.isprintable():
                    return text
        return self.reply(reply)

    def text(self, text: str) -> str:
        """One line of text, masked likewise."""
        return self.lines([text.encode("utf-8", "surrogatepass")])[0]

    def prose(self, text: str) -> str:
        """A value for one of our own sentences, masked likewise but not cut."""
        line = text.encode("utf-8", "surrogatepass")
        flags = bytearray(len(line))
        self._find_within(line, flags)
        return self._replace(line, flags).decode("utf-8", "replace")

    def reply(self, reply: Reply) -> str:
        """A server's reply as a person may see it; its lines are joined by newlines."""
        return "\n".join(self.lines(reply.raw_lines()))

    def _find_within(self, line: bytes, flags: bytearray) -> None:
        lowered = line.lower()
        for form in self._forms:
            for at in _occurrences(lowered, form):
                flags[at : at + len(form)] = b"\x01" * len(form)

    def _find_across(self, lines: Sequence[bytes], hidden: list[bytearray], head: re.Pattern[bytes]) -> None:
        stream = bytearray()
        origin: list[tuple[int, int]] = []
        for at, line in enumerate(lines):
            found = head.match(line)
            for offset in range(found.end() if found else 0, len(line)):
                if line[offset] not in _BLANK:
                    stream.append(line[offset])
                    origin.append((at, offset))
        lowered = bytes(stream).lower()
        for form in {bytes(byte for byte in form if byte not in _BLANK) for form in self._forms} - {b""}:
            for start in _occurrences(lowered, form):
                for at, offset in origin[start : start + len(form)]:
                    hidden[at][offset] = 1

    def _replace(self, line: bytes, flags: bytearray) -> bytes:
        mark = self._mark.encode()
        masked = bytearray()
        for offset, byte in enumerate(line):
            if not flags[offset]:
                masked.append(byte)
            elif offset == 0 or not flags[offset - 1]:
                masked += mark
        return bytes(masked)


class Transcript:
    """What was said, in order. Bounded: after 400 lines only their number grows."""

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._entries: list[tuple[str, bytes]] = []
        self._left_out = 0

    def sent(self, line: str) -> None:
        """Record a command. Never call this with anything that answers a challenge."""
        self._add("C: ", line.encode("utf-8", "surrogatepass"))

    def received(self, reply: Reply) -> None:
        """Record a reply."""
        for line in reply.raw_lines():
            self._add("S: ", line)

    def note(self, text: str) -> None:
        """Record something that happened, in our own words."""
        self._add("-- ", text.encode("utf-8", "surrogatepass"))

    def lines(self) -> tuple[str, ...]:
        """The record as a person may see and copy it."""
        shown: dict[int, str] = {}
        for who in ("C: ", "S: ", "-- "):
            places = [at for at, (speaker, _) in enumerate(self._entries) if speaker == who]
            masked = self._masker.lines([self._entries[at][1] for at in places])
            shown.update({at: who + line for at, line in zip(places, masked, strict=True)})
        ending = [f"-- {self._left_out} more lines"] if self._left_out else []
        return (*(shown[at] for at in sorted(shown)), *ending)

    def _add(self, who: str, line: bytes) -> None:
        if len(self._entries) < SHOWN_LINES:
            self._entries.append((who, line))
        else:
            self._left_out += 1


def _spellings(secret: Secret | str | bytes) -> set[bytes]:
    if isinstance(secret, bytes):
        return {secret}
    text = secret.reveal() if isinstance(secret, Secret) else secret
    spellings = {unicodedata.normalize(form, text) for form in ("NFC", "NFKC", "NFD")} | {text}
    encoded = {spelling.encode("utf-8", "surrogatepass") for spelling in spellings}
    with contextlib.suppress(UnicodeEncodeError):
        encoded.add(text.encode("latin-1"))
    return encoded


def _forms_of(raw: bytes) -> Iterable[bytes]:
    yield raw
    yield raw.hex().encode()
    yield quote(raw, safe="").encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(raw).rstrip(b"=")
        for shift in (0, 1, 2):
            fragment = _stable_fragment(encode(b"\x00" * shift + raw), shift, len(raw))
            if len(fragment) >= _LEAST_FRAGMENT:
                yield fragment


def _stable_fragment(encoded: bytes, shift: int, length: int) -> bytes:
    """The characters of a base64 text that depend on the secret alone, whatever stands before and after it."""
    first = (0, 2, 3)[shift]
    return encoded[first : (shift + length) * 8 // 6]


def _occurrences(text: bytes, form: bytes) -> Iterable[int]:
    at = text.find(form)
    while at >= 0:
        yield at
        at = text.find(form, at + 1)


def _printable(line: bytes) -> str:
    text = line.decode("utf-8", "replace")
    text = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
