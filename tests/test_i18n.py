"""The reader's language and zone."""

from __future__ import annotations

from datetime import UTC, datetime

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp import i18n
from webapp.i18n import Reader, reading_as
from webapp.mail.retrospect import meaning_of_pause
from webapp.outbox.pause import Pause

WHEN = datetime(2026, 9, 24, 22, 37, 5, tzinfo=UTC)


def page(text: str, **values: object) -> str:
    environment = jinja2.Environment(autoescape=True)
    i18n.install(environment)
    return environment.from_string(text).render(**values)


def test_values_are_filled_in_by_name_and_a_percent_sign_stays() -> None:
    assert i18n.gettext("100 % of %(what)s", what="it") == "100 % of it"


def test_a_page_escapes_what_is_filled_in() -> None:
    assert page('{{ _("Hello %(name)s", name=name) }}', name="<b>") == "Hello &lt;b&gt;"
    assert page("{% trans name=name %}Hello <b>{{ name }}</b>{% endtrans %}", name="<i>") == "Hello <b>&lt;i&gt;</b>"


def test_a_page_counts() -> None:
    assert page('{{ ngettext("%(num)s day", "%(num)s days", 1) }}') == "1 day"
    assert page("{% trans n=2 %}one{% pluralize n %}{{ n }} of <i>100 %</i>{% endtrans %}") == "2 of <i>100 %</i>"


def test_a_moment_stands_in_the_readers_zone_with_its_name() -> None:
    assert i18n.moment(WHEN) == "24 Sep 2026, 22:37 UTC"
    with reading_as(Reader("en", "Europe/Berlin")):
        assert i18n.moment(WHEN) == "25 Sep 2026, 00:37 CEST"
        assert i18n.day(WHEN) == "25 Sep 2026"
        assert i18n.exactly(WHEN) == "25 Sep 2026, 00:37:05 CEST"


def test_a_moment_is_written_as_the_language_writes_it() -> None:
    with reading_as(Reader("de", "Europe/Berlin")):
        assert i18n.moment(WHEN) == "25. Sept. 2026, 00:37 MESZ"
        assert i18n.number(12345.5) == "12.345,5"


def test_a_moment_without_an_end_stands_as_it_is_written() -> None:
    with reading_as(Reader("de", "Europe/Berlin")):
        assert i18n.moment(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)) == "31. Dez. 9999, 23:59 UTC"


def test_only_languages_and_zones_that_exist_are_taken() -> None:
    assert i18n.valid_language("xx") == i18n.valid_zone("Mars/Olympus") == ""
    assert i18n.valid_zone("../../etc/passwd") == ""
    assert i18n.valid_zone("Europe/Berlin") == "Europe/Berlin"


def test_why_mail_is_paused_is_said_in_the_readers_language() -> None:
    paused = Pause(
        code="connection-refused", server="mail.example.com:587", stage="connect", cause="Stored.", remedy="Do."
    )
    assert meaning_of_pause(paused) == ("Stored.", "Do.")
    with reading_as(Reader("de")):
        assert meaning_of_pause(paused).cause.startswith("mail.example.com ist erreichbar")


def test_a_kept_sentence_is_told_in_the_language_of_whoever_reads_it() -> None:
    kept = i18n.keep(i18n.gettext("Page %(page)s of %(pages)s", page=1, pages=2))
    with reading_as(Reader("de")):
        assert i18n.told(kept) == "Seite 1 von 2"
    assert i18n.told(kept) == "Page 1 of 2"


def test_what_is_filled_into_a_kept_sentence_is_told_in_that_language_too() -> None:
    kept = i18n.keep(i18n.gettext("Give the %(called)s.", called=i18n.lazy("user name")))
    with reading_as(Reader("de", "Europe/Berlin")):
        assert i18n.told(kept) == "Geben Sie den Benutzernamen an."


def test_a_kept_day_stays_that_day_in_every_zone() -> None:
    kept = i18n.keep(i18n.day(WHEN.date()))
    with reading_as(Reader("de", "America/New_York")):
        assert i18n.told(kept) == "24. Sept. 2026"


def test_a_kept_moment_is_told_in_the_readers_zone() -> None:
    kept = i18n.keep(i18n.moment(WHEN))
    with reading_as(Reader("de", "Europe/Berlin")):
        assert i18n.told(kept) == "25. Sept. 2026, 00:37 MESZ"


@pytest.mark.parametrize("text", ["\x02", "\x02{}", "\x02[1]", '\x02{"how": "eval", "arguments": ["1"], "values": {}}'])
def test_what_was_altered_in_the_database_is_shown_as_it_is(text: str) -> None:
    assert i18n.told(text) == text[1:]


@given(st.text())
def test_what_was_stored_as_it_is_is_told_as_it_is(text: str) -> None:
    assert i18n.told(i18n.keep(text)) == text.lstrip("\x02")
