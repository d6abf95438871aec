"""The bytes of a message mean what was asked for, to every reader, and nothing else."""

from __future__ import annotations

import email
import re
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import default
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from webapp.errors import Invalid
from webapp.mail.address import needs_smtputf8, valid_address, valid_header_text
from webapp.mail.message import compose, compose_test, new_message_id
from webapp.mail.transport import on_the_wire


def write(**fields: object) -> bytes:
    asked = {"sender": "a@example.test", "recipient": "b@example.test", "subject": "Hello", "text": "Hello\n", **fields}
    return compose(**asked)  # type: ignore[arg-type]


def read(message: bytes) -> EmailMessage:
    return cast(EmailMessage, email.message_from_bytes(message, policy=default))


def body(message: bytes, kind: str = "plain") -> str:
    part = read(message).get_body((kind,))
    assert part is not None
    return str(part.get_content())


def assert_sound(message: bytes) -> None:
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", message)
    assert all(len(line) <= 998 for line in message.split(b"\r\n"))
    assert message.isascii()
    assert b"\x00" not in message


def test_a_message_says_who_when_and_what() -> None:
    when = datetime(2026, 11, 24, 1, 2, 3, tzinfo=UTC)
    seen = read(write(sender_name="Keypost", date=when, message_id="<x.1@example.test>", headers={"X-Kind": "invited"}))
    assert seen["From"] == "Keypost <a@example.test>"
    assert seen["To"] == "b@example.test"
    assert seen["Date"].datetime == when
    assert seen["Message-ID"] == "<x.1@example.test>"
    assert seen["Auto-Submitted"] == "auto-generated"
    assert seen["X-Kind"] == "invited"


def test_text_and_html_are_alternatives() -> None:
    message = write(text="Grüße\n", html="<p>Grüße</p>")
    assert read(message).get_content_type() == "multipart/alternative"
    assert (body(message).strip(), body(message, "html").strip()) == ("Grüße", "<p>Grüße</p>")
    assert_sound(message)


@pytest.mark.parametrize(
    "text",
    [
        "\r\nBcc: x@y.example",
        "a\nBcc: x@y.example",
        "é =?UTF-8?Q?=0A?=Bcc: x@y.example",
        "a\x00b",
        "a\u2028b",
        "a\x85b",
        "right \u202e to left",
        "zero\u200bwidth",
        "x" * 1000,
        "lone \ud800 surrogate",
    ],
)
@pytest.mark.parametrize("field", ["subject", "sender_name"])
def test_a_header_cannot_be_forged(field: str, text: str) -> None:
    with pytest.raises(Invalid):
        write(**{field: f"Hello {text} you"})


@pytest.mark.parametrize("name", ["Bcc", "To", "X: y", "Content-Type", "", "X-é", "X\r\nBcc"])
def test_only_a_further_header_can_be_added(name: str) -> None:
    with pytest.raises(Invalid):
        write(headers={name: "x"})


@pytest.mark.parametrize("address", ["a@b.example, c@d.example", "a@b.example>\r\nBcc: <x@y", "<a@b.example>", "a"])
def test_only_one_address_is_a_recipient(address: str) -> None:
    with pytest.raises(Invalid):
        write(recipient=address)


@pytest.mark.parametrize("identity", ["x", "<x>", "<x@y>\r\nBcc: <z@z>", "<a b@c>"])
def test_a_message_id_is_checked(identity: str) -> None:
    with pytest.raises(Invalid):
        write(message_id=identity)


def test_each_message_id_is_new_and_in_the_domain_of_the_sender() -> None:
    assert new_message_id("a@Müller.example").endswith("@xn--mller-kva.example>")
    assert new_message_id("a@b") != new_message_id("a@b")


def test_an_international_address_is_written_in_utf_8_only_where_it_must() -> None:
    assert write(sender="a@müller.example").isascii()
    wide = write(recipient="jörg@müller.example")
    assert "To: <jörg@müller.example>\r\n".encode() in wide


def test_line_ends_of_any_kind_become_one_kind() -> None:
    message = write(text="a\rb\nc\r\nd\u2028e\x0bf\x00g")
    assert body(message).splitlines() == ["a", "b", "c", "d", "e", "f\ufffdg"]
    assert_sound(message)


def test_dots_at_the_start_of_a_line_are_doubled_on_the_wire() -> None:
    assert on_the_wire(b".\r\n..x\r\ny.\r\n.") == b"..\r\n...x\r\ny.\r\n..\r\n.\r\n"


def test_no_bare_line_end_reaches_the_wire() -> None:
    assert on_the_wire(b"a\n.\nb\r.\rc") == b"a\r\n..\r\nb\r\n..\r\nc\r\n.\r\n"


def test_the_test_message_leads_to_the_access_url_and_can_be_confirmed() -> None:
    message = compose_test(
        "a@example.test",
        "Keypost",
        "b@example.test",
        'https://k.example.test/?a=1&b="x"',
        code="4711",
        confirmation_url="https://k.example.test/confirm/4711",
    )
    assert "4711" in body(message)
    assert 'https://k.example.test/?a=1&b="x"' in body(message)
    assert 'href="https://k.example.test/?a=1&amp;b=&quot;x&quot;"' in body(message, "html")
    assert_sound(message)


visible = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=120).filter(
    lambda text: "=?" not in text
)


@given(subject=visible, name=visible, text=st.text(max_size=300))
def test_what_is_visible_is_read_back_as_it_was(subject: str, name: str, text: str) -> None:
    try:
        message = write(subject=subject, sender_name=name, text=text)
    except Invalid:
        return
    assert_sound(message)
    assert [key for key in read(message) if key.lower() in ("to", "bcc", "cc")] == ["To"]
    assert read(message)["To"].addresses[0].addr_spec == "b@example.test"


nasty = st.lists(
    st.sampled_from(
        [
            "\r",
            "\n",
            "\r\n",
            "\r\n\r\n",
            ".",
            "\r\n.\r\n",
            "--=_",
            "=20",
            "=?",
            "?=",
            "=?UTF-8?Q?=0A?=",
            "From ",
            "Bcc: x@y.example",
            " ",
            "\t",
            "\x00",
            "\x0b",
            "\x85",
            "\u2028",
            "\u202e",
            "\ud800",
            "é",
            "日本",
            "😀",
            "—",
            "x" * 80,
            "é " * 60,
            "x" * 1100,
            '"',
            "\\",
            "(",
            ")",
            "<",
            ">",
            ",",
            ";",
            ":",
            "@",
        ]
    )
    | st.text(max_size=20),
    max_size=12,
).map("".join)
UNSEEN = re.compile("[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")
addresses = st.sampled_from(["b@example.test", "o'hara+x@müller.example", "jörg@example.test", "B.B@EXAMPLE.test"])


def same(read_back: str, asked: str) -> bool:
    """Whether two texts have the same visible lines; what nobody sees is written as U+FFFD."""
    seen = [UNSEEN.sub("\ufffd", line) for line in asked.splitlines() or [""]]
    return read_back.splitlines() == seen


@settings(max_examples=1500)
@given(sender=addresses, recipient=addresses, name=nasty, subject=nasty, text=nasty, html=st.none() | nasty)
def test_a_parser_reads_back_exactly_what_was_asked_for(
    *, sender: str, recipient: str, name: str, subject: str, text: str, html: str | None
) -> None:
    """What compose() does not prove of each message, it holds for all of them."""
    try:
        message = write(sender=sender, recipient=recipient, sender_name=name, subject=subject, text=text, html=html)
    except Invalid:
        return
    seen = cast(EmailMessage, email.message_from_string(message.decode(), policy=default))
    own = ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"]
    assert seen.keys() == own + (["Content-Transfer-Encoding"] if html is None else [])
    types = ["text/plain"] if html is None else ["multipart/alternative", "text/plain", "text/html"]
    assert [part.get_content_type() for part in seen.walk()] == types
    wide = needs_smtputf8(sender) or needs_smtputf8(recipient)
    for field, asked in (("From", sender), ("To", recipient)):
        assert [each.addr_spec for each in seen[field].addresses] == [valid_address(asked, ascii_domain=not wide)]
    # Python's parser puts a blank between two encoded words of a name, so blanks are left out of the comparison.
    assert "".join(seen["From"].addresses[0].display_name.split()) == "".join(valid_header_text(name).split())
    assert str(seen["Subject"]) == valid_header_text(subject)
    contents = [str(part.get_content()) for part in seen.walk() if not part.is_multipart()]
    assert all(map(same, contents, [text] if html is None else [text, html]))
    assert all(len(line) <= 998 for line in message.split(b"\r\n"))
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)|\x00", message)


@given(st.binary(max_size=300))
def test_what_goes_over_the_wire_ends_at_its_own_dot_only(message: bytes) -> None:
    sent = on_the_wire(message)
    assert sent.endswith(b".\r\n")
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", sent)
    assert b"\r\n.\r\n" not in sent[:-1].removesuffix(b"\r\n.\r")
    assert not sent[:-3].startswith(b".\r\n")
