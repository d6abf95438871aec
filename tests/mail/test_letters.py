"""Messages of the outbox become letters that say what they should, to whom they should, and nothing else."""

from __future__ import annotations

import email
import html
import re
import string
from collections.abc import Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import default
from typing import Any, cast

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from webapp.mail.kinds import OUTLINES
from webapp.mail.letters import Letter, Letters, Unwritable
from webapp.outbox.lease import Leased
from webapp.outbox.messages import Kind

QUEUED_AT = datetime(2026, 11, 24, 13, 5, 9, tzinfo=UTC)
TOKEN = "0123456789abcdef0123456789abcdef"
BASE = "https://keypost.example.test/vault"


def letters(**changes: Any) -> Letters:
    given = {"sender_address": "keypost@example.test", "sender_name": "Keypost", "access_url": BASE, "edited": {}}
    return Letters(**{**given, **changes})


def leased(kind: str, **changes: Any) -> Leased:
    given: dict[str, Any] = {
        "id": 1,
        "token": TOKEN,
        "kind": kind,
        "user_id": 2,
        "recipient": "bob@example.test",
        "recipient_name": "Bob User",
        "about": OUTLINES[Kind(kind)].about if kind in OUTLINES else "",
        "cause": "Alice Admin",
        "sealed": None,
        "attempts": 0,
        "queued_at": QUEUED_AT,
        "expires_at": QUEUED_AT,
        "message_id": f"<{TOKEN}@example.test>",
        "lease": "1",
    }
    return Leased(**{**given, **changes})


def write(kind: str, data: Mapping[str, str] | None = None, **changes: Any) -> Letter:
    """A letter about an example, with some of its data or of its message replaced."""
    return letters().write(leased(kind, **changes), {**OUTLINES[Kind(kind)].data, **(data or {})})


def read(letter: Letter) -> EmailMessage:
    return cast(EmailMessage, email.message_from_bytes(letter.content, policy=default))


def text_of(letter: Letter, subtype: str = "plain") -> str:
    part = read(letter).get_body((subtype,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


@pytest.mark.parametrize("kind", Kind)
def test_each_kind_becomes_text_and_html_with_every_placeholder_filled_in(kind: Kind) -> None:
    letter = write(kind)
    seen = read(letter)
    assert [part.get_content_type() for part in seen.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    for written in (str(seen["Subject"]), text_of(letter), text_of(letter, "html")):
        assert "{{" not in written
        assert "}}" not in written
    assert "Bob User" in text_of(letter)
    assert "Bob User" in text_of(letter, "html")
    assert '<html lang="en">' in text_of(letter, "html")


@pytest.mark.parametrize("kind", Kind)
def test_every_link_starts_with_the_access_url(kind: Kind) -> None:
    letter = write(kind)
    found = re.findall(r"https?://\S+", text_of(letter)) + re.findall(r'href="([^"]+)"', text_of(letter, "html"))
    assert found
    assert all(link.startswith(BASE) for link in found)


@pytest.mark.parametrize("kind", Kind)
def test_every_link_leads_to_a_page_there_is(kind: Kind, app: Flask) -> None:
    pages = app.url_map.bind("localhost")
    for link in re.findall(r'href="([^"]+)"', text_of(write(kind), "html")):
        assert pages.test(link.removeprefix(BASE).partition("?")[0] or "/"), link


@pytest.mark.parametrize("kind", Kind)
def test_the_header_says_who_when_and_that_nobody_typed_it(kind: Kind) -> None:
    seen = read(write(kind))
    assert seen["From"] == "Keypost <keypost@example.test>"
    assert seen["To"] == "bob@example.test"
    assert seen["Date"].datetime == QUEUED_AT
    assert seen["Message-ID"] == f"<{TOKEN}@example.test>"
    assert seen["Auto-Submitted"] == "auto-generated"


def test_a_one_time_link_carries_the_token() -> None:
    letter = write("account-created", {"token": "a-B_c"})
    assert f"{BASE}/welcome?token=a-B_c\n" in text_of(letter)
    assert f'href="{BASE}/welcome?token=a-B_c"' in text_of(letter, "html")


def test_a_message_without_its_link_is_not_sent() -> None:
    with pytest.raises(Unwritable, match="link"):
        write("account-created", {"token": ""})


def test_a_message_of_a_kind_that_is_not_known_is_not_sent() -> None:
    with pytest.raises(Unwritable, match="newer"):
        letters().write(leased("birthday"), {})


def test_the_same_message_becomes_the_same_bytes() -> None:
    assert write("role-changed").content == write("role-changed").content


def test_what_is_filled_in_is_text_and_not_html() -> None:
    name = '<script>alert("1")</script> & {{ link }}'
    letter = write("resource-shared", {"resource": name})
    assert name in text_of(letter)
    assert html.escape(name) in text_of(letter, "html")
    assert "<script" not in text_of(letter, "html")


@pytest.mark.parametrize(
    "name",
    [
        "\r\nBcc: x@y.example",
        "a\nBcc: x@y.example",
        "é =?UTF-8?Q?=0A?=Bcc: x@y.example",
        "a\x00b",
        "a\u2028Bcc: b",
        "a\x85b",
        "right \u202e to left",
        "x" * 2000,
        "é" * 2000,
        "lone \ud800 surrogate",
        f"\r\n--=_{TOKEN}\r\nContent-Type: text/html\r\n\r\n<b>x",
    ],
)
def test_what_is_filled_in_cannot_become_a_header_or_a_part(name: str) -> None:
    letter = write("account-shared", {"account": name}, recipient_name=name, cause=name)
    seen = read(letter)
    assert [part.get_content_type() for part in seen.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    assert seen["Bcc"] is None
    assert len(seen.keys()) == 9
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)|\x00", letter.content)
    assert all(len(line) <= 998 for line in letter.content.split(b"\r\n"))


def test_a_german_mail_calls_the_command_line_so() -> None:
    letter = write("account-shared", {"account": "Mail host", "language": "de"}, cause="command line (root)")
    assert "Befehlszeile (root)" in text_of(letter)


@pytest.mark.parametrize(
    ("reader", "moment"),
    [
        ({"language": "de", "zone": "Europe/Vienna"}, "4. März 2027, 10:30 MEZ"),
        ({"zone": "Europe/Vienna"}, "4 Mar 2027, 10:30 CET"),
        ({"language": "nowhere's", "zone": "Nowhere"}, "4 Mar 2027, 09:30 UTC"),
        ({}, "4 Mar 2027, 09:30 UTC"),
    ],
)
def test_each_reader_is_told_the_same_moment_in_their_own_words(reader: dict[str, str], moment: str) -> None:
    assert moment in text_of(write("account-created", reader))


@pytest.mark.parametrize("address", ["a@b.example>\r\nRCPT TO:<x@y.example", "a@b.example, c@d.example", "a", ""])
def test_what_is_not_one_address_gets_no_letter(address: str) -> None:
    with pytest.raises(Unwritable):
        write("role-changed", recipient=address)


def test_a_forged_message_id_gets_no_letter() -> None:
    with pytest.raises(Unwritable):
        write("role-changed", message_id="<x@y>\r\nBcc: <z@z>")


def test_an_international_domain_is_written_in_ascii() -> None:
    letter = write("role-changed", recipient="bob@müller.example")
    assert (letter.recipient, letter.smtputf8) == ("bob@xn--mller-kva.example", False)
    assert letter.content.isascii()


def test_an_international_address_needs_smtputf8() -> None:
    letter = write("role-changed", recipient="jörg@müller.example")
    assert (letter.recipient, letter.smtputf8) == ("jörg@müller.example", True)
    assert "To: <jörg@müller.example>\r\n".encode() in letter.content


def test_a_sender_that_cannot_be_written_stops_no_more_than_the_letter() -> None:
    broken = letters(sender_name="two\nlines")
    with pytest.raises(Unwritable):
        broken.write(leased("role-changed"), OUTLINES[Kind.ROLE_CHANGED].data)


def test_several_changes_stand_on_a_line_each() -> None:
    letter = write("mail-settings-changed", {"changes": "Port: 587 (was 25)\nServer name: <mail>"})
    assert "\nPort: 587 (was 25)\nServer name: <mail>\n" in text_of(letter)
    assert "Port: 587 (was 25)<br>\nServer name: &lt;mail&gt;" in text_of(letter, "html")


names = st.text(max_size=80) | st.text(string.printable, max_size=400)


@given(account=names.filter(lambda text: text.strip() != ""), name=names, cause=names)
def test_whatever_is_filled_in_is_read_back_and_nothing_else(account: str, name: str, cause: str) -> None:
    letter = write("account-shared", {"account": account}, recipient_name=name, cause=cause)
    seen = read(letter)
    assert seen.keys() == [
        "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "X-Auto-Response-Suppress", "MIME-Version",
        "Content-Type",
    ]  # fmt: skip
    assert seen["To"].addresses[0].addr_spec == "bob@example.test"
    assert letter.content.isascii()
    shown = " ".join(account.split())
    if shown.isprintable():
        assert f"Account: {shown}\n" in text_of(letter)
        assert f"<b>{html.escape(shown)}</b>" in html_text(letter)


def html_text(letter: Letter) -> str:
    """The HTML with the character references of what is not ASCII undone."""
    return re.sub(r"&#(\d+);", lambda found: chr(int(found[1])), text_of(letter, "html"))
