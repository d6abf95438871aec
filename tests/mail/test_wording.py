"""Wordings are cut at their placeholders, judged before they are saved, and never run."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mail.test_letters import BASE, leased, letters, text_of
from tests.support.mail_settings import join
from webapp import i18n
from webapp.actor import Role
from webapp.audit.trail import latest
from webapp.db import Database
from webapp.errors import Invalid
from webapp.identity import preferences
from webapp.mail import rewording, wording
from webapp.mail.kinds import OUTLINES
from webapp.mail.rewording import WordingConflict
from webapp.mail.wording import Pattern, Wording
from webapp.outbox.messages import Kind

KIND = Kind.RESOURCE_SHARED
SUBJECT, TEXT = (
    "For you: {{ resource }}",
    "Dear {{ name }},\n\nit is yours <now> & here:\n\n{{ link }}\n\nSee {{ access_url }}.\n",
)


@pytest.mark.parametrize("kind", Kind)
def test_every_default_can_be_saved_as_it_is(kind: Kind) -> None:
    default = wording.default(kind)
    assert rewording.checked(kind, default.subject, default.text) == default


@pytest.mark.parametrize("kind", Kind)
def test_every_default_travels_without_encoding(kind: Kind) -> None:
    assert (wording.default(kind).subject + wording.default(kind).text).isascii()


@given(st.text(max_size=50), st.text(max_size=50))
def test_what_is_filled_in_is_never_looked_at_again(before: str, value: str) -> None:
    before = before.replace("{", "").replace("}", "")
    assert Pattern(f"{before}{{{{ a }}}}{before}{{{{b}}}}").filled({"a": value, "b": "{{ a }}"}) == (
        f"{before}{value}{before}{{{{ a }}}}"
    )


@pytest.mark.parametrize("text", ["{{ a", "a }}", "{{ a }} }}", "{{ {{ a }}", "{{\na }}"])
def test_a_placeholder_that_is_not_closed_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="close"):
        Pattern(text)


@pytest.mark.parametrize(
    ("subject", "text", "field", "sentence"),
    [
        ("", TEXT, "subject", "a subject"),
        ("a\nBcc: x@y.example", TEXT, "subject", "one line"),
        ("=?utf-8?b?QmNj?=", TEXT, "subject", "=\\?"),
        ("x" * 201, TEXT, "subject", "200 characters"),
        ("{{ password }}", TEXT, "subject", "none of the placeholders"),
        (SUBJECT, "Hello {{ name }}", "text", "does not work without {{ link }}"),
        ("Hello", "{{ link }}", "text", "does not work without {{ resource }}"),
        (SUBJECT, TEXT + "{{ token }}", "text", "none of the placeholders"),
        (SUBJECT, TEXT + "{{ name.__class__ }}", "text", "none of the placeholders"),
        (SUBJECT, TEXT + "{% raw %}{{ 7 * 7 }}", "text", "none of the placeholders"),
        (SUBJECT, TEXT + "{{ name", "text", "close the one that is open"),
        (SUBJECT, TEXT + "x" * 10_000, "text", "10000 characters"),
    ],
)
def test_a_wording_that_does_not_work_is_refused_at_its_field(
    subject: str, text: str, field: str, sentence: str
) -> None:
    with pytest.raises(Invalid, match=sentence) as refused:
        rewording.checked(KIND, subject, text)
    assert refused.value.field == field


def test_a_needed_placeholder_may_stand_in_the_subject() -> None:
    assert rewording.checked(KIND, SUBJECT, TEXT)


def test_an_edited_text_makes_the_html() -> None:
    written = letters(edited={(KIND, "en"): Wording(SUBJECT, TEXT)}).write(leased(KIND), OUTLINES[KIND].data)
    page = text_of(written, "html")
    assert "<h1>For you: Build server 3</h1>" in page
    assert "<p>it is yours &lt;now&gt; &amp; here:</p>" in page
    assert f'<a class="button" href="{BASE}/resources/12">Open the resource</a>' in page
    assert f'<p>See <a href="{BASE}">{BASE}</a>.</p>' in page
    assert "Dear Bob User,\n\nit is yours <now> & here:\n" in text_of(written)


def test_a_stored_wording_that_no_longer_holds_gives_way_to_the_default() -> None:
    written = letters(edited={(KIND, "en"): Wording("Hi", "{{ gone }}")}).write(leased(KIND), OUTLINES[KIND].data)
    assert "shared a resource with you" in text_of(written)


def test_letters_are_written_in_the_saved_words_until_the_default_is_restored(database: Database) -> None:
    ann = join(database, "Ann")
    with database.transaction() as session:
        rewording.reword(session, ann, KIND, subject=SUBJECT, text=TEXT, version=0)
    with database.reading() as session:
        assert rewording.edited(session) == {(KIND, "en"): Wording(SUBJECT, TEXT)}
        assert rewording.standing(session, KIND).edited_by == "Ann"
    with database.transaction() as session:
        restored = rewording.restore(session, ann, KIND, version=1)
        assert (restored.is_edited, restored.wording, restored.version) == (False, wording.default(KIND), 2)
        assert rewording.edited(session) == {}
        assert [line.action for line in latest(session)][:2] == ["mail-text:restore", "mail-text:edit"]


def test_of_two_who_edit_at_once_the_second_is_told(database: Database) -> None:
    ann, bob = join(database, "Ann"), join(database, "Bob")
    with database.transaction() as session:
        rewording.reword(session, ann, KIND, subject=SUBJECT, text=TEXT, version=0)
    with (
        database.transaction() as session,
        pytest.raises(WordingConflict, match="Ann changed this mail") as conflict,
    ):
        rewording.reword(session, bob, KIND, subject="Other {{ resource }}", text=TEXT, version=0)
    assert conflict.value.current.wording.subject == SUBJECT


def test_saving_the_words_of_the_default_is_no_edit(database: Database) -> None:
    ann, default = join(database, "Ann"), wording.default(KIND)
    with database.transaction() as session:
        rewording.reword(
            session, ann, KIND, subject=default.subject, text=default.text.replace("\n", "\r\n"), version=0
        )
        assert not rewording.standing(session, KIND).is_edited


def test_the_style_sheet_is_named_by_its_hash() -> None:
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", wording.STYLE_SOURCE)


def test_only_what_is_not_essential_can_be_switched_off(database: Database) -> None:
    eve = join(database, "Eve", Role.PASSWORD_USER)
    assert eve.id is not None
    with database.transaction() as session:
        preferences.switch(session, eve, eve.id, list(Kind), list(Kind))
        assert preferences.switched_off(session, eve.id) == {kind for kind in Kind if not kind.is_essential}
        assert preferences.wants(session, eve.id, Kind.PASSWORD_RESET)
        assert not preferences.wants(session, eve.id, Kind.ROLE_CHANGED)
        preferences.switch(session, eve, eve.id, list(Kind), [])
        assert preferences.switched_off(session, eve.id) == set()


@pytest.mark.parametrize("language", i18n.LANGUAGES)
@pytest.mark.parametrize("kind", Kind)
def test_every_language_says_everything_that_english_says(kind: Kind, language: str) -> None:
    def named(words: Wording) -> set[str]:
        return Pattern(words.subject).names | Pattern(words.text).names

    assert named(wording.default(kind, language)) == named(wording.default(kind))
    assert wording.compiled_default(kind, language).html.names == wording.compiled_default(kind).html.names


def test_a_mail_is_written_in_the_language_and_zone_it_was_queued_for() -> None:
    data = {"account": "Server — root", "language": "de", "zone": "Europe/Berlin"}
    words = letters().word(leased(Kind.PASSWORD_CHANGED), data)
    assert words.subject == "Neues Passwort: Server — root"
    assert re.search(r"Geändert: \d+\. \S+ \d{4}, \d\d:\d\d ME(S)?Z\r\n", words.text)
    assert '<html lang="de">' in words.html


def test_a_language_that_is_gone_is_written_in_english() -> None:
    words = letters().word(
        leased(Kind.PASSWORD_CHANGED), {"account": "Server — root", "language": "xx", "zone": "No/Where"}
    )
    assert words.subject == "New password: Server — root"


def test_each_language_has_a_text_of_its_own(database: Database) -> None:
    ann = join(database, "Ann")
    with database.transaction() as session:
        rewording.reword(session, ann, KIND, subject=SUBJECT, text=TEXT, version=0, language="de")
        assert rewording.edited(session) == {(KIND, "de"): Wording(SUBJECT, TEXT)}
        assert not rewording.standing(session, KIND).is_edited
