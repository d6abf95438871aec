"""What people type as addresses, server names and ports."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.errors import Invalid
from webapp.mail.address import needs_smtputf8, valid_address, valid_header_text, valid_port, valid_server_name


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (" Name@Example.COM ", "Name@example.com"),
        ("root@localhost", "root@localhost"),
        ("a@mail", "a@mail"),
        ("a@host.local", "a@host.local"),
        ("a@example.test", "a@example.test"),
        ("o'brien+tag@example.com", "o'brien+tag@example.com"),
        ("a@Müller.example", "a@müller.example"),
        ("a@xn--mller-kva.example", "a@müller.example"),
        ("jörg@example.com", "jörg@example.com"),
    ],
)
def test_an_address_is_kept_in_one_form(typed: str, kept: str) -> None:
    assert valid_address(typed) == kept


def test_a_domain_can_be_had_as_a_labels() -> None:
    assert valid_address("a@Müller.example", ascii_domain=True) == "a@xn--mller-kva.example"


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "a",
        "@",
        "a@",
        "@b.example",
        "a b@c.example",
        "a@b c",
        "a@b@c",
        "a@b..c",
        "a@-b.example",
        "a@b.example,c@d.example",
        "a@b.example;c@d.example",
        "Name <a@b.example>",
        "<a@b.example>",
        "a@b.example>\r\nRCPT TO:<x@y.example",
        '"quoted local"@b.example',
        "-oQ/tmp@b.example",
        ".a@b.example",
        "a.@b.example",
        "a..b@c.example",
        "a\x00@b.example",
        "a\u202e@b.example",
        "a\u200b@b.example",
        "a@[127.0.0.1]",
        "a@1.2.3.4",
        "a@xn--0.example",
        "x" * 65 + "@b.example",
        "a@" + "b." * 130 + "example",
    ],
)
def test_what_is_no_single_address_is_refused(typed: str) -> None:
    with pytest.raises(Invalid):
        valid_address(typed)


def test_only_the_part_before_the_at_needs_smtputf8() -> None:
    assert needs_smtputf8("jörg@example.com")
    assert not needs_smtputf8("a@müller.example")


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (" Mail.Example.COM. ", "mail.example.com"),
        ("mail", "mail"),
        ("localhost", "localhost"),
        ("mail_1.intern", "mail_1.intern"),
        ("Müller.example", "xn--mller-kva.example"),
        ("192.0.2.1", "192.0.2.1"),
        ("[2001:DB8::1]", "2001:db8::1"),
        ("::1", "::1"),
    ],
)
def test_a_server_name_is_kept_in_one_form(typed: str, kept: str) -> None:
    assert valid_server_name(typed) == kept


@pytest.mark.parametrize(
    ("typed", "remedy"),
    [
        ("", "Enter the name"),
        ("smtp://mail.example.com:25/x", "Leave out “smtp://”"),
        ("ssl://mail.example.com", "only the name: mail.example.com"),
        ("mail.example.com:587", "the port 587 in its own field"),
        ("mail example.com", "no spaces"),
        ("me@example.com", "mail address"),
        ("mail.example.com/path", "no slash"),
        ("smtp..x", "single dots"),
        ("-mail.example.com", "not a valid name"),
        ("a" * 64 + ".example.com", "not a valid name"),
        ("1.2.3.4.5", "not a valid name"),
        ("999.1.1.1", "not a valid name"),
        ("mail.example.com\r\nEHLO x", "no spaces"),
    ],
)
def test_a_server_name_that_cannot_be_one_is_refused_with_the_remedy(typed: str, remedy: str) -> None:
    with pytest.raises(Invalid) as raised:
        valid_server_name(typed)
    assert remedy in str(raised.value)
    assert raised.value.field == "server_name"


@pytest.mark.parametrize(("typed", "port"), [("25", 25), (" 587 ", 587), (65535, 65535)])
def test_a_port_is_a_number(typed: str | int, port: int) -> None:
    assert valid_port(typed) == port


@pytest.mark.parametrize(
    "typed", ["", "0", "65536", "70000", "-1", "5.5", "٥٨٧", "1_000", "0x19", "9" * 5000, "25\n26"]
)
def test_what_is_no_port_is_refused(typed: str) -> None:
    with pytest.raises(Invalid):
        valid_port(typed)


def test_a_header_text_keeps_its_letters() -> None:
    assert valid_header_text(" Käte & Söhne 日本 🙂 ") == "Käte & Söhne 日本 🙂"


@given(st.text(max_size=300))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        address = valid_address(text)
    except Invalid:
        return
    assert valid_address(address) == address
    assert not set(address) & set("<>\r\n\t\0 ,;")
    assert valid_address(address, ascii_domain=True).rpartition("@")[2].isascii()


@given(st.text(max_size=300))
def test_any_text_is_a_server_name_or_refused(text: str) -> None:
    try:
        name = valid_server_name(text)
    except Invalid:
        return
    assert name.isascii()
    assert valid_server_name(name) == name


plain = st.from_regex(r"[A-Za-z0-9+_.-]{1,20}@[A-Za-z0-9.-]{1,30}", fullmatch=True)


@given(plain)
def test_a_plain_address_is_judged_as_a_wide_one_is(address: str) -> None:
    """The short way for what nearly all addresses are lets nothing pass that the long way refuses."""
    with pytest.MonkeyPatch.context() as patch:
        quick = judged(address)
        patch.setattr("webapp.mail.address._PLAIN", re.compile("(?!)"))
        assert judged(address) == quick


def judged(address: str) -> list[str]:
    try:
        return [valid_address(address, ascii_domain=ascii_domain) for ascii_domain in (False, True)]
    except Invalid:
        return []
