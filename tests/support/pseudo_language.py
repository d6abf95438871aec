"""German in marks: each piece of a translated sentence stands in ⟦…⟧, and what is filled into it stands outside.

Whatever a page says outside of the marks did not come out of the catalogue.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Final

import pytest
from babel.support import NullTranslations

from webapp import i18n
from webapp.mail import kinds

_FILLED_IN: Final = re.compile(r"(%\(\w+\)s|%%|\{+[^{}]*\}+|<[^<>]*>)")
_MARKED: Final = re.compile("⟦[^⟦⟧]*⟧")
_LETTERS: Final = re.compile(r"[^\W\d_]{2}|\d{4}-\d\d-\d\d")
_UNSPOKEN: Final = frozenset({"script", "style", "code", "pre", "kbd", "textarea"})
_VOID: Final = frozenset({"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "wbr"})
_SPOKEN: Final = frozenset({"alt", "aria-description", "aria-label", "data-label", "label", "placeholder", "title"})


def mark(text: str) -> str:
    """The same in marks, what is filled in and markup aside."""
    pieces = _FILLED_IN.split(text)
    pieces[::2] = [f"⟦{said}⟧" if said.strip() else said for said in pieces[::2]]
    return "".join(pieces)


class Marked(NullTranslations):
    """A catalogue of which every sentence stands in marks."""

    def __init__(self, catalogue: NullTranslations) -> None:
        super().__init__()
        self._catalogue = catalogue

    def gettext(self, message: str) -> str:
        return mark(self._catalogue.gettext(message))

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return mark(self._catalogue.ngettext(msgid1, msgid2, n))


def speak(patch: pytest.MonkeyPatch) -> None:
    """Put German, and its dates, into marks; English stays as it is."""
    german, catalogue = Marked(i18n._catalogue("de")), i18n._catalogue
    patch.setattr(i18n, "_catalogue", lambda language: german if language == "de" else catalogue(language))
    for name in ("format_date", "format_datetime"):
        said = getattr(i18n, name)
        patch.setattr(i18n, name, lambda *given, _said=said, **named: mark(_said(*given, **named)))
    for name in ("_actor_in_words", "_minute_in_words"):  # They remember what was said without marks.
        patch.setattr(kinds, name, getattr(kinds, name).__wrapped__)


class _Spoken(HTMLParser):
    """Collects what a reader of the page's language sees or hears."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._within: list[tuple[str, bool]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        foreign = tag != "html" and "lang" in given
        silent = tag in _UNSPOKEN or foreign or (bool(self._within) and self._within[-1][1])
        if tag not in _VOID:
            self._within.append((tag, silent))
        if not foreign:
            self.found += [value for name, value in given.items() if _is_spoken(tag, name, value, given)]

    def handle_endtag(self, tag: str) -> None:
        while self._within and self._within.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not (self._within and self._within[-1][1]):
            self.found.append(data)


def _is_spoken(tag: str, name: str, value: str, given: dict[str, str]) -> bool:
    if name == "value":
        return tag == "input" and given.get("type") in ("button", "reset", "submit")
    is_sentence = name.startswith("data-") and re.search(r"[^\W\d_] [^\W\d_]", value) and value[:1] not in "{[#."
    return name in _SPOKEN or bool(is_sentence)


def unmarked(page: str, data: re.Pattern[str]) -> list[str]:
    """Each text of a page that has letters, or a date as machines write it, outside of marks and of data."""
    parser = _Spoken()
    parser.feed(page)
    parser.close()
    left = [_MARKED.sub(" ", data.sub(" ", text)) for text in parser.found]
    return sorted({" ".join(text.split()) for text in left if _LETTERS.search(text)})
