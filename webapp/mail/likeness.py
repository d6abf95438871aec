"""Host names that look like others: the letters they are written with, beside the form that goes over the internet."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Final

import idna

from webapp.errors import Invalid
from webapp.i18n import gettext as _
from webapp.i18n import joined
from webapp.mail.address import valid_server_name

# Scripts that one language writes side by side (Unicode Technical Standard 39, 5.1): one of these is a single script.
_TOGETHER: Final = frozenset({"LATIN", "CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO"})
# Letters that hardly differ from Latin ones; a label of these alone looks like another name.
_LIKE_LATIN: Final = frozenset("асԁеһіјӏорԛѕԝхуѵԍӓӧϲονρυιακ")


@dataclass(frozen=True, slots=True)
class Likeness:
    """How a host name with other letters than a to z is read, and how it is looked up.

    warning: why it may be taken for another name; blank when nothing suggests it.
    """

    readable: str
    a_label: str
    warning: str

    @property
    def sentence(self) -> str:
        """Both forms, and the warning if there is one."""
        same = _("“%(readable)s” is %(a_label)s on the internet.", readable=self.readable, a_label=self.a_label)
        if not self.warning:
            return same
        compare = _("Compare it with what whoever runs the server says.")
        return f"{self.warning} {same} {compare}"


def of_host(text: str) -> Likeness | None:
    """What a host name with other letters than a to z may be taken for; None for every other text."""
    try:
        a_label = valid_server_name(text)
        readable = idna.decode(a_label) if "xn--" in a_label else a_label
    except (Invalid, idna.IDNAError):
        return None
    return None if readable.isascii() else Likeness(readable, a_label, _warning(readable))


def _warning(readable: str) -> str:
    for label in readable.split("."):
        scripts = _scripts(label)
        named = joined(sorted(script.title() for script in scripts))
        if len(scripts) > 1 and not scripts <= _TOGETHER:
            return _("“%(label)s” mixes letters of %(named)s, some of which look alike.", label=label, named=named)
        if scripts and set(label) - set("0123456789-") <= _LIKE_LATIN:
            return _("“%(label)s” is written in %(named)s letters that look like Latin ones.", label=label, named=named)
    return ""


def _scripts(label: str) -> frozenset[str]:
    """The scripts of a label's letters, by the first word of each letter's Unicode name."""
    names = (unicodedata.name(letter, "").partition(" ")[0] for letter in label if letter.isalpha())
    return frozenset(name.partition("-")[0] for name in names if name)
