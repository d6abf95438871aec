"""Writes messages that mean the same to every mail program (RFC 5322, 2045-2047, 6532).

Everything is written here and not by the email package: on the Pythons in use that can be made to write further headers
out of a subject (CVE-2024-6923), breaks some long names when it folds them, and needs fifty times as long. Each text is
checked before, the shape of the finished header after; that a parser reads back what was asked for is a property that
the tests try with thousands of inputs.
"""

from __future__ import annotations

import base64
import binascii
import html as markup
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from webapp.errors import Invalid
from webapp.i18n import gettext as _
from webapp.mail.address import needs_smtputf8, valid_address, valid_header_text

_LINE: Final = 76
_LONGEST_LINE: Final = 998
_ENCODED_BYTES: Final = 42
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NEWLINES: Final = re.compile("\r\n|[\r\n\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_INVISIBLE: Final = re.compile("[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")
_HEADER_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,60}")
_MESSAGE_ID: Final = re.compile(r"<[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,200}@[A-Za-z0-9.\[\]:_-]{1,253}>")
_ATOMS: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
_OWN: Final = frozenset({"from", "to", "subject", "date", "message-id", "auto-submitted", "mime-version", "bcc", "cc"})


def new_message_id(sender: str) -> str:
    """A Message-ID nobody else will make, in the sender's domain."""
    domain = valid_address(sender, ascii_domain=True).rpartition("@")[2]
    return f"<{secrets.token_hex(16)}@{domain}>"


def compose(
    *,
    sender: str,
    recipient: str,
    subject: str,
    text: str,
    sender_name: str = "",
    html: str | None = None,
    message_id: str | None = None,
    date: datetime | None = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """One finished message, every line ended by CRLF; ASCII throughout unless an address itself needs UTF-8.

    date: aware; now, if left out. headers: further ones. Raises Invalid for what cannot stand in a message.
    """
    wide = needs_smtputf8(sender) or needs_smtputf8(recipient)
    sender = valid_address(sender, ascii_domain=not wide, field="sender_address")
    recipient = valid_address(recipient, ascii_domain=not wide, field="recipient")
    sender_name = valid_header_text(sender_name, field="sender_name")
    subject = valid_header_text(subject, field="subject")
    fields = [
        ("From", mailbox(sender_name, sender)),
        ("To", f"<{recipient}>"),
        ("Subject", unstructured(subject, len("Subject: "))),
        ("Date", date_of(date or datetime.now(UTC))),
        ("Message-ID", valid_message_id(message_id or new_message_id(sender))),
        ("Auto-Submitted", "auto-generated"),
        *((name, _further(name, value)) for name, value in (headers or {}).items()),
    ]
    return assemble(fields, clean(text), None if html is None else clean(html))


def assemble(fields: Sequence[tuple[str, str]], text: str, html: str | None, boundary: str = "") -> bytes:
    """The finished bytes: a header of these fields, then the text, alone or with the HTML as alternatives.

    fields: names and values, those folded already that need it. text, html: as clean() leaves them. boundary: ASCII
    letters and digits, random ones if none are given or if they occur in the text. Raises Invalid for a field that
    would become something else.
    """
    head = "".join([f"{name}: {value}\r\n" for name, value in fields])
    lines = head.count("\r\n") - head.count("\r\n ")
    if lines != len(fields) or not head.replace("\r\n", "").isprintable():
        raise Invalid(_("Sender name or subject cannot be written in a mail header. Use simpler text."))
    head += "MIME-Version: 1.0\r\n"
    if html is None:
        return head.encode() + _part("plain", text)
    while not (boundary.isascii() and boundary.isalnum()) or boundary in text or boundary in html:
        boundary = secrets.token_hex(16)
    edge = f"--=_{boundary}"
    return b"".join(
        (
            f'{head}Content-Type: multipart/alternative; boundary="=_{boundary}"\r\n\r\n{edge}\r\n'.encode(),
            _part("plain", text),
            f"\r\n{edge}\r\n".encode(),
            _part("html", html),
            f"\r\n{edge}--\r\n".encode(),
        )
    )


def compose_test(
    sender: str,
    sender_name: str,
    recipient: str,
    access_url: str,
    *,
    code: str | None = None,
    confirmation_url: str | None = None,
    message_id: str | None = None,
    date: datetime | None = None,
) -> bytes:
    """The message the Test button sends. code and confirmation_url let its reader confirm that it arrived."""
    lines = [
        _("This message was sent by the Test button of the Mail Server Settings in Keypost."),
        _("It arrived, so Keypost can send mail with these settings."),
    ]
    if code:
        lines.append(_("To record that it arrived, enter this code on the settings page: %(code)s", code=code))
    if confirmation_url:
        lines.append(_("Or open this address: %(confirmation_url)s", confirmation_url=confirmation_url))
    if access_url:
        lines.append(_("Your users will be told to open this address: %(access_url)s", access_url=access_url))
    lines.append(_("Nobody needs to answer this message."))
    return compose(
        sender=sender,
        sender_name=sender_name,
        recipient=recipient,
        subject=_("Keypost test message") + (f" (code {code})" if code else ""),
        text="\n\n".join(lines) + "\n",
        html="".join(f"<p>{_linked(line)}</p>\n" for line in lines),
        message_id=message_id,
        date=date,
    )


def _linked(line: str) -> str:
    words, separator, target = line.partition(": http")
    if not separator:
        return markup.escape(line)
    address = markup.escape("http" + target)
    return f'{markup.escape(words)}: <a href="{address}">{address}</a>'


def mailbox(name: str, address: str) -> str:
    """A name and an address as the From field carries them; both as valid_header_text() and valid_address() give."""
    if not name:
        return f"<{address}>"
    if name.isascii() and len(name) < _LINE - len("From: ") - 2:
        phrase = name if _ATOMS.fullmatch(name) else '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'
    else:
        phrase = _encoded(name)
    return f"{phrase}\r\n <{address}>"


def unstructured(text: str, indent: int) -> str:
    """One visible line as a header carries it, folded and encoded as needed. indent: characters before it."""
    if text.isascii() and len(text) <= _LINE - indent:
        return text
    if not text.isascii():
        return _encoded(text)
    words = re.findall(" *[^ ]+", text)
    if any(len(word) > _LINE - indent for word in words):
        return _encoded(text)
    lines = [""]
    for word in words:
        room = _LINE - (indent if len(lines) == 1 else 0)
        if lines[-1] and len(lines[-1]) + len(word) > room:
            lines.append("")
        lines[-1] += word
    return "\r\n".join(lines)


def _encoded(text: str) -> str:
    """Encoded words (RFC 2047), each whole characters and at most 75 long, one a line."""
    content, chunks = text.encode(), []
    while content:
        end = min(_ENCODED_BYTES, len(content))
        while end < len(content) and content[end] & 0xC0 == 0x80:
            end -= 1
        chunks.append(f"=?utf-8?b?{binascii.b2a_base64(content[:end], newline=False).decode()}?=")
        content = content[end:]
    return "\r\n ".join(chunks)


def _further(name: str, value: str) -> str:
    if not _HEADER_NAME.fullmatch(name) or name.lower() in _OWN or name.lower().startswith("content-"):
        raise Invalid(_("“%(name)s” is not a header that can be added.", name=f"{name[:60]!a}"), "headers")
    return unstructured(valid_header_text(value, field=name), len(name) + 2)


def date_of(when: datetime) -> str:
    """An aware instant as the Date field carries it, in UTC."""
    when = when.astimezone(UTC)
    return (
        f"{_DAYS[when.weekday()]}, {when.day:02} {_MONTHS[when.month - 1]} {when.year:04} "
        f"{when.hour:02}:{when.minute:02}:{when.second:02} +0000"
    )


def valid_message_id(text: str) -> str:
    """The same text. Raises Invalid."""
    if not _MESSAGE_ID.fullmatch(text):
        raise Invalid(_("A Message-ID looks like <something@example.com>."), "message_id")
    return text


def clean(text: str) -> str:
    """Lines that end with CRLF, the last one too, and nothing a mail program could choke on or a person not see."""
    text = _INVISIBLE.sub("\ufffd", _NEWLINES.sub("\r\n", text))
    return text if text.endswith("\r\n") else text + "\r\n"


def _part(kind: str, text: str) -> bytes:
    """The text as one body part: as it is if it can travel so, else in whichever encoding is the shorter."""
    head = f'Content-Type: text/{kind}; charset="utf-8"\r\nContent-Transfer-Encoding: '
    if text.isascii():
        if max(map(len, text.split("\r\n"))) <= _LONGEST_LINE:
            return f"{head}7bit\r\n\r\n{text}".encode()
        return f"{head}quoted-printable\r\n\r\n".encode() + binascii.b2a_qp(text.encode(), istext=True)
    content = text.encode()
    if 3 * (len(content) - len(text)) < len(text):
        return f"{head}quoted-printable\r\n\r\n".encode() + binascii.b2a_qp(content, istext=True)
    coded = base64.encodebytes(content).replace(b"\n", b"\r\n")
    return f"{head}base64\r\n\r\n".encode() + coded
