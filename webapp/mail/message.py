"""Writes messages that mean the same to every mail program (RFC 5322, 2045-2047, 6532).

The header is written here and not by the email package: on the Pythons in use it can be made to write further headers
out of a subject (CVE-2024-6923) and breaks some long names when it folds them. Each text is checked before, and the
finished bytes are parsed back and compared after.
"""

from __future__ import annotations

import base64
import email
import html as markup
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from email.headerregistry import AddressHeader
from email.message import EmailMessage
from email.policy import SMTP, default
from email.utils import format_datetime
from typing import Final, cast

from webapp.errors import Invalid
from webapp.mail.address import needs_smtputf8, valid_address, valid_header_text

_BODY_POLICY: Final = SMTP.clone(cte_type="7bit")
_LINE: Final = 76
_LONGEST_LINE: Final = 998
_ENCODED_BYTES: Final = 42
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
    message_id = message_id or new_message_id(sender)
    if not _MESSAGE_ID.fullmatch(message_id):
        raise Invalid("A Message-ID looks like <something@example.com>.", "message_id")
    fields = [
        ("From", _mailbox(sender_name, sender)),
        ("To", f"<{recipient}>"),
        ("Subject", _unstructured(subject, len("Subject: "))),
        ("Date", format_datetime(date or datetime.now(UTC))),
        ("Message-ID", message_id),
        ("Auto-Submitted", "auto-generated"),
        *((name, _further(name, value)) for name, value in (headers or {}).items()),
    ]
    head = "".join(f"{name}: {value}\r\n" for name, value in fields).encode()
    message = head + _body(text, html)
    _check(message, [name for name, _ in fields], (sender, recipient, sender_name, subject))
    return message


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
        "This message was sent by the Test button of the Mail Server Settings in Keypost.",
        "It arrived, so Keypost can send mail with these settings.",
    ]
    if code:
        lines.append(f"To record that it arrived, enter this code on the settings page: {code}")
    if confirmation_url:
        lines.append(f"Or open this address: {confirmation_url}")
    if access_url:
        lines.append(f"Your users will be told to open this address: {access_url}")
    lines.append("Nobody needs to answer this message.")
    return compose(
        sender=sender,
        sender_name=sender_name,
        recipient=recipient,
        subject="Keypost test message" + (f" (code {code})" if code else ""),
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


def _mailbox(name: str, address: str) -> str:
    if not name:
        return f"<{address}>"
    if name.isascii() and len(name) < _LINE - len("From: ") - 2:
        phrase = name if _ATOMS.fullmatch(name) else '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'
    else:
        phrase = _encoded(name)
    return f"{phrase}\r\n <{address}>"


def _unstructured(text: str, indent: int) -> str:
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
    chunks = [""]
    for character in text:
        if len((chunks[-1] + character).encode()) > _ENCODED_BYTES:
            chunks.append("")
        chunks[-1] += character
    return "\r\n ".join(f"=?utf-8?b?{base64.b64encode(chunk.encode()).decode()}?=" for chunk in chunks)


def _further(name: str, value: str) -> str:
    if not _HEADER_NAME.fullmatch(name) or name.lower() in _OWN or name.lower().startswith("content-"):
        raise Invalid(f"“{name[:60]!a}” is not a header that can be added.", "headers")
    return _unstructured(valid_header_text(value, field=name), len(name) + 2)


def _body(text: str, html: str | None) -> bytes:
    body = EmailMessage(policy=_BODY_POLICY)
    body.set_content(_clean(text))
    if html is not None:
        body.add_alternative(_clean(html), subtype="html")
    return re.sub(rb"\r\n|\r|\n", b"\r\n", body.as_bytes())


def _clean(text: str) -> str:
    return _INVISIBLE.sub("\ufffd", _NEWLINES.sub("\n", text))


def _check(message: bytes, names: list[str], asked: tuple[str, str, str, str]) -> None:
    """Parse the bytes back; what a mail program will see must be what was asked for."""
    parsed = email.message_from_string(message.decode(), policy=default)
    own = [name for name in parsed if not name.lower().startswith(("content-", "mime-"))]
    from_, to = cast(AddressHeader, parsed["From"]).addresses, cast(AddressHeader, parsed["To"]).addresses
    if own != names or len(from_) != 1 or len(to) != 1:
        raise Invalid("Sender name or subject cannot be written in a mail header. Use simpler text.")
    seen = (from_[0].addr_spec, to[0].addr_spec, from_[0].display_name, str(parsed["Subject"]))
    # Python's own parser puts a blank between two encoded words of a name, so blanks are left out of the comparison.
    same = ["".join(text.split()) for text in seen] == ["".join(text.split()) for text in asked]
    longest = max(len(line) for line in message.split(b"\r\n"))
    if not same or re.search(rb"(?<!\r)\n|\r(?!\n)", message) or longest > _LONGEST_LINE:
        raise Invalid("Sender name or subject cannot be written in a mail header. Use simpler text.")
