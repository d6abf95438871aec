"""Turns a message of the outbox into the bytes that are sent.

Thousands are written in a second, so whatever is the same for all of them is made once: the wordings are cut at their
placeholders and the sender is spelled when a Letters is made. It holds for one state of the settings and wordings.
"""

from __future__ import annotations

import html as markup
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from webapp.db import Session
from webapp.errors import Invalid, Problem
from webapp.i18n import LANGUAGES, SOURCE
from webapp.i18n import gettext as _
from webapp.mail import rewording
from webapp.mail.address import needs_smtputf8, valid_address, valid_header_text
from webapp.mail.message import assemble, clean, date_of, mailbox, unstructured, valid_message_id
from webapp.mail.settings import Target
from webapp.mail.wording import Compiled, Wording, compiled, compiled_default, in_ascii
from webapp.outbox.lease import Leased
from webapp.outbox.messages import Kind

_LONGEST_SUBJECT: Final = 200
_MARKUP: Final = re.compile("[&<>\"'\r\n]")
_SUBJECT_INDENT: Final = len("Subject: ")


class Unwritable(Problem):
    """The row cannot be made into a message."""


class Letter(NamedTuple):
    """A finished message. content: its lines end with CRLF. recipient: as it stands in the envelope. smtputf8: whether
    only a server with that extension (RFC 6531) can take it."""

    content: bytes
    recipient: str
    smtputf8: bool


class Words(NamedTuple):
    """What a reader sees. subject: one line; text, html: their lines end with CRLF."""

    subject: str
    text: str
    html: str


class Letters:
    """Writes messages for one snapshot of the settings."""

    def __init__(
        self, *, sender_address: str, sender_name: str, access_url: str, edited: Mapping[tuple[Kind, str], Wording]
    ) -> None:
        """edited: the wordings that an administrator changed, by kind and language; one that does not hold any more
        is left out."""
        self._sender_address = sender_address
        self._sender_name = sender_name
        self._access_url = access_url
        self._wide = needs_smtputf8(sender_address)
        self._from: dict[bool, str] = {}
        self._sheets = {
            (kind.value, language): _Sheet(_best(kind, language, edited.get((kind, language))))
            for kind in Kind
            for language in LANGUAGES
        }

    @classmethod
    def read(cls, session: Session, target: Target) -> Letters:
        """The letters of these settings, in the wordings as they stand."""
        return cls(
            sender_address=target.sender_address,
            sender_name=target.sender_name,
            access_url=target.access_url,
            edited=rewording.edited(session),
        )

    def write(self, message: Leased, data: Mapping[str, str]) -> Letter:
        """The finished message; the same message always becomes the same bytes. data: see kinds. Raises Unwritable."""
        words = self.word(message, data)
        try:
            wide = self._wide or needs_smtputf8(message.recipient)
            recipient = valid_address(message.recipient, ascii_domain=not wide)
            fields = (
                ("From", self._from.get(wide) or self._spell_sender(wide)),
                ("To", f"<{recipient}>"),
                ("Subject", unstructured(words.subject, _SUBJECT_INDENT)),
                ("Date", date_of(message.queued_at)),
                ("Message-ID", valid_message_id(message.message_id)),
                ("Auto-Submitted", "auto-generated"),
                ("X-Auto-Response-Suppress", "OOF, AutoReply"),
            )
            return Letter(assemble(fields, words.text, words.html, message.token), recipient, wide)
        except Invalid as error:
            raise Unwritable(error.sentence) from None

    def word(self, message: Leased, data: Mapping[str, str]) -> Words:
        """What the message says. Raises Unwritable."""
        sheets = self._sheets
        sheet = sheets.get((message.kind, data.get("language", SOURCE))) or sheets.get((message.kind, SOURCE))
        if sheet is None:
            raise Unwritable(_("This version of Keypost has no text for such a mail. Was it queued by a newer one?"))
        return sheet.word(message, data, self._access_url)

    def _spell_sender(self, wide: bool) -> str:
        address = valid_address(self._sender_address, ascii_domain=not wide)
        self._from[wide] = mailbox(valid_header_text(self._sender_name), address)
        return self._from[wide]


class _Sheet:
    """One kind's wording, and how to find what is filled in."""

    __slots__ = ("_escaped", "_facts", "_html", "_subject", "_text")

    def __init__(self, compiled: Compiled) -> None:
        self._subject, self._text, self._html = compiled.subject, compiled.text, compiled.html
        used = self._subject.names | self._text.names | self._html.names
        self._facts = [
            (each.name, each.fact, each.needed, each.has_lines)
            for each in compiled.outline.placeholders
            if each.name in used
        ]
        self._escaped = [name for name in self._html.names if name != "subject"]

    def word(self, message: Leased, data: Mapping[str, str], access_url: str) -> Words:
        values = {}
        for name, fact, needed, has_lines in self._facts:
            value = fact(message, data, access_url)
            if not value.isprintable() or "  " in value or value != value.strip():
                value = _lines(value) if has_lines else _one_line(value)
            if needed and not value:
                raise Unwritable(_("What this mail has to say is missing: its “%(name)s”.", name=name))
            values[name] = value
        subject = self._subject.filled(values).strip()
        if len(subject) > _LONGEST_SUBJECT or "=?" in subject or not subject.isprintable():
            subject = _short(subject)
        escaped = {name: _escape(values[name]) for name in self._escaped}
        escaped["subject"] = _escape(subject)
        return Words(subject, self._text.filled(values), self._html.filled(escaped))


def _best(kind: Kind, language: str, edited: Wording | None) -> Compiled:
    """An edited wording may have lost what a newer Keypost needs; a mail in the other wording beats none."""
    if edited is not None:
        try:
            return compiled(kind, edited, language)
        except Invalid:
            pass
    return compiled_default(kind, language)


def _escape(value: str) -> str:
    if value.isascii() and not _MARKUP.search(value):
        return value
    value = markup.escape(value).replace("\r\n", "<br>\r\n")
    return value if value.isascii() else in_ascii(value)


def _one_line(value: str) -> str:
    """Visible characters and single blanks: what is filled in cannot begin a line, or turn the direction of one."""
    return "".join(character if character.isprintable() else "\ufffd" for character in " ".join(value.split()))


def _lines(value: str) -> str:
    return "\r\n".join(map(_one_line, clean(value).removesuffix("\r\n").split("\r\n")))


def _short(subject: str) -> str:
    subject = _one_line(subject).replace("=?", "= ?")
    return subject if len(subject) <= _LONGEST_SUBJECT else subject[: _LONGEST_SUBJECT - 1] + "…"
