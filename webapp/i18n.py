"""The reader's language and time zone: every sentence, date and number that a person sees goes through here.

How to write one, in Python and in templates alike:

    _("There is no such user.")
    _("%(name)s was added.", name=user.name)                           values by name; a % that is only a % stays
    ngettext("%(num)s day", "%(num)s days", number)                    num is the number itself
    lazy("Server name")                                                where a module is read: labels, choices, messages
    N_("Use a name like %(example)s.")                                 marks a text in a table; _() says it later

In templates ``{{ _("…") }}``, or ``{% trans name=user.name %}…{{ name }}…{% endtrans %}`` where there is markup inside;
what is filled in is escaped, the sentence is not, so it is always written out and never a variable of somebody's words.
The English sentence is the key, and stays English in the audit trail, at the command line, and in what programs read.

The German stands in translations/de/LC_MESSAGES/messages.po. After a change of sentences:

    .venv/bin/python .ci/catalogue.py

brings the catalogue up to date and names what still lacks its German; tests/test_translations.py insists on it. The
catalogue is read from that file itself, once, when its language is first wanted: nothing is to be compiled.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from functools import cache
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, cast
from zoneinfo import ZoneInfo, available_timezones

from babel import Locale
from babel.dates import format_date, format_datetime, get_timezone_name
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal
from babel.support import LazyProxy, NullTranslations, Translations
from jinja2 import Environment, pass_eval_context
from jinja2.nodes import EvalContext
from markupsafe import Markup, escape

TRANSLATIONS: Final = Path(__file__).parent / "translations"
SOURCE: Final = "en"
LANGUAGES: Final[Mapping[str, str]] = MappingProxyType({"en": "English", "de": "Deutsch"})
"""The languages that are complete, each by its own name."""
_KEPT: Final = "\x02"
"""What a kept sentence begins with: no text of a person or a server does, they are printable."""
_NAMED: Final = re.compile(r"%\((\w+)\)s|%%")
_BRACED: Final = re.compile(r"\{(\w+)\}")
# Where a day stands in its month, and how the two are written.
_DAY: Final = MappingProxyType({"en": "d MMM y", "de": "d. MMM y"})
_HOUR: Final = MappingProxyType({"en": "d MMM, HH:mm", "de": "d. MMM, HH:mm"})


@dataclass(frozen=True, slots=True)
class Reader:
    """Whom a sentence is for. language: one of LANGUAGES. zone: a name of the tz database."""

    language: str = SOURCE
    zone: str = "UTC"


_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})
_NOBODY: Final = Reader()
_reader: ContextVar[Reader] = ContextVar("reader", default=_NOBODY)


def reader() -> Reader:
    """For whom sentences are worded at this moment."""
    return _reader.get()


def read_by(who: Reader) -> None:
    """Word sentences for this reader from now on, in this thread (or task)."""
    _reader.set(who)


@contextlib.contextmanager
def reading_as(who: Reader) -> Iterator[None]:
    """Word sentences for this reader within a block."""
    before = _reader.set(who)
    try:
        yield
    finally:
        _reader.reset(before)


def throughout(pieces: Iterator[str]) -> Iterator[str]:
    """The same pieces, worded for whoever reads now, although each is made later, after the request has ended."""

    def go_on(who: Reader) -> Iterator[str]:
        with reading_as(who):
            yield from pieces

    return go_on(reader())


def valid_language(text: str | None) -> str:
    """The language, or "" for one that is not offered."""
    return text if text is not None and text in LANGUAGES else ""


def valid_zone(text: str | None) -> str:
    """The time zone, or "" for one that is not known here."""
    return text if text and len(text) <= 60 and text in zones() else ""


@cache
def zones() -> frozenset[str]:
    """Every time zone that a person may choose."""
    return frozenset(name for name in available_timezones() if "/" in name and not name.startswith("Etc/")) | {"UTC"}


def gettext(sentence: str, /, **values: object) -> str:
    """The sentence in the reader's language, with its named values filled in."""
    said = fill(_catalogue(_reader.get().language).gettext(sentence), values)
    return Sentence(said, "gettext", sentence, values=values)


def ngettext(one: str, many: str, number: int, /, **values: object) -> str:
    """The sentence for this number; ``%(num)s`` is the number."""
    said = fill(_catalogue(_reader.get().language).ngettext(one, many, number), {"num": number, **values})
    return Sentence(said, "ngettext", one, many, number, values=values)


def lazy(sentence: str, /, **values: object) -> str:
    """A sentence that is worded each time it is shown: for what is written where a module is read."""
    # A stand-in that behaves as a string wherever one is shown.
    return cast(str, LazyProxy(gettext, sentence, enable_cache=False, **values))


def later(words: Callable[..., str], *arguments: object, **named: object) -> str:
    """What a function will say each time it is shown: ``later(getattr, role, "label")`` where a module is read."""
    return cast(str, LazyProxy(words, *arguments, enable_cache=False, **named))


class Sentence(str):
    """Words as they were said, and how to say them again: so keep() can write them down for readers of any language."""

    again: tuple[str, Sequence[object], Mapping[str, object]]

    def __new__(cls, text: str, how: str, *arguments: object, values: Mapping[str, object] = _NOTHING) -> Sentence:
        made = super().__new__(cls, text)
        made.again = how, arguments, values
        return made

    def __deepcopy__(self, memo: object) -> Sentence:
        """Itself, since nothing changes it: asdict() copies deeply."""
        return self


def keep(text: str) -> str:
    """The text as it is stored: a sentence by what it was made of, anything else as it is."""
    parts = _taken_apart(text)
    return parts.lstrip(_KEPT) if isinstance(parts, str) else _KEPT + json.dumps(parts, ensure_ascii=False)


def told(kept: str) -> str:
    """What keep() wrote down, in the reader's language; a text that was stored as it is stays so."""
    if not kept.startswith(_KEPT):
        return kept
    try:
        said = _put_together(json.loads(kept.removeprefix(_KEPT)))
    except (ValueError, LookupError, TypeError, AttributeError):
        said = None
    # What is none was altered in the database.
    return said if isinstance(said, str) else kept.removeprefix(_KEPT)


def _taken_apart(value: object) -> Any:
    said = value.value if isinstance(value, LazyProxy) else value
    if isinstance(said, Sentence):
        how, arguments, values = said.again
        return {
            "how": how,
            "arguments": [_taken_apart(each) for each in arguments],
            "values": {name: _taken_apart(each) for name, each in values.items()},
        }
    if isinstance(said, datetime):
        return said.isoformat()
    return said if isinstance(said, int) else str(said)


def _put_together(parts: Any) -> Any:
    if not isinstance(parts, dict):
        return parts
    values = {name: _put_together(each) for name, each in parts["values"].items()}
    return _SAID[parts["how"]](*map(_put_together, parts["arguments"]), **values)


def explain(sentence: str, /, **values: object) -> str:
    """The sentence with its ``{name}`` filled in, as the table of diagnoses writes them."""
    said = _BRACED.sub(lambda found: str(values[found[1]]), _catalogue(_reader.get().language).gettext(sentence))
    return Sentence(said, "explain", sentence, values=values)


def joined(parts: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a and b and c``."""
    return f" {gettext('and')} ".join(parts)


def N_(sentence: str) -> str:
    """Mark a sentence for the catalogue; it is worded later, by gettext()."""
    return sentence


def fill(sentence: str, values: Mapping[str, object]) -> str:
    """Put values in the places of ``%(name)s``; ``%%`` becomes one %, and every other % is only a %."""
    if "%" not in sentence:
        return sentence
    return _NAMED.sub(lambda found: str(values[found[1]]) if found[1] else "%", sentence)


@cache
def _catalogue(language: str) -> NullTranslations:
    file = TRANSLATIONS / language / "LC_MESSAGES" / "messages.po"
    if not file.is_file():
        return NullTranslations()
    with file.open("rb") as opened:
        catalogue = read_po(opened, locale=language)
    compiled = BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return Translations(compiled)


def number(value: float) -> str:
    """``12,345`` in English, ``12.345`` in German."""
    return format_decimal(value, locale=_locale())


def megabytes(size: float) -> str:
    """``12.3 MB`` for a number of bytes, ``0,1 MB`` in German."""
    return f"{number(round(size / 1_000_000, 1))} MB"


def day(at: date) -> str:
    """``24 Nov 2026``: the day in the reader's zone."""
    local = local_time(at) if isinstance(at, datetime) else at
    return Sentence(format_date(local, _DAY[_reader.get().language], locale=_locale()), "day", at)


def moment(at: datetime) -> str:
    """``24 Nov 2026, 17:37 UTC``: a moment in the reader's zone, with the zone's name."""
    return Sentence(_in_words(at, "HH:mm"), "moment", at)


def _in_words(at: datetime, time: str) -> str:
    local = local_time(at)
    pattern = f"{_DAY[_reader.get().language]}, {time}"
    return f"{format_datetime(local, pattern, tzinfo=local.tzinfo, locale=_locale())} {zone_name(local)}"


def exactly(at: datetime) -> str:
    """``24 Nov 2026, 17:37:05 UTC``: to the second, for whom minutes are not enough."""
    return _in_words(at, "HH:mm:ss")


def clock(at: datetime) -> str:
    """``17:37``: the time of day in the reader's zone."""
    return f"{local_time(at):%H:%M}"


def hour_of_day(at: datetime) -> str:
    """``24 Nov, 17:00``: a moment of the last days in the reader's zone."""
    local = local_time(at)
    return format_datetime(local, _HOUR[_reader.get().language], tzinfo=local.tzinfo, locale=_locale())


# How a kept sentence is said again. It is read from the database, so it names none but these.
_SAID: Final[Mapping[str, Callable[..., str]]] = MappingProxyType(
    {
        "gettext": gettext,
        "ngettext": ngettext,
        "explain": explain,
        "moment": lambda at: moment(datetime.fromisoformat(at)),
        "day": lambda at: day(datetime.fromisoformat(at) if "T" in at else date.fromisoformat(at)),
    }
)


def local_time(at: datetime) -> datetime:
    """The moment in the reader's zone; one without a zone is in UTC."""
    known = at if at.tzinfo else at.replace(tzinfo=UTC)
    try:
        return known.astimezone(zone())
    except OverflowError:  # “without an end”, as certificates write it (9999-12-31), is past the last day elsewhere.
        return known


def zone() -> tzinfo:
    """The reader's time zone."""
    return _zone(_reader.get().zone)


def zone_name(at: datetime | None = None) -> str:
    """What the reader's zone is called at that moment: ``UTC``, ``CET``, ``MEZ``, ``UTC+5:30``."""
    local = local_time(at or datetime.now(UTC))
    name = local.tzname() or ""
    if name == "UTC":
        return name
    said = get_timezone_name(local, width="short", locale=_locale())
    if said.isalpha():
        return said
    return name if name.isalpha() else said.replace("GMT", "UTC").replace("MGZ", "UTC")


@cache
def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)


def _locale() -> Locale:
    return _parsed(_reader.get().language)


@cache
def _parsed(language: str) -> Locale:
    return Locale.parse(language)


def install(environment: Environment) -> None:
    """Let Jinja's templates word their sentences by the same functions."""
    environment.add_extension("jinja2.ext.i18n")
    environment.policies["ext.i18n.trimmed"] = True
    environment.newstyle_gettext = True  # type: ignore[attr-defined]  # the extension's own
    environment.globals.update(_=_say, gettext=_say, ngettext=_say_number)
    environment.filters.update(moment=moment, day=day, exactly=exactly, clock=clock, hour_of_day=hour_of_day)
    environment.tests["sentence"] = lambda text: isinstance(text, Sentence)
    environment.filters.update(number=number, megabytes=megabytes)
    environment.globals.update(zone_name=zone_name, languages=LANGUAGES, reader=reader)


@pass_eval_context
def _say(context: EvalContext, sentence: str, /, **values: object) -> str:
    """gettext() for templates: the sentence is the program's own and may hold markup, values are escaped."""
    if not context.autoescape:
        return gettext(sentence, **values)
    return Markup(gettext(sentence, **{name: escape(value) for name, value in values.items()}))  # noqa: S704  # nosec B704


@pass_eval_context
def _say_number(context: EvalContext, one: str, many: str, number: int, /, **values: object) -> str:
    """ngettext() for templates."""
    values.setdefault("num", number)
    if not context.autoescape:
        return ngettext(one, many, number, **values)
    return Markup(ngettext(one, many, number, **{name: escape(value) for name, value in values.items()}))  # noqa: S704  # nosec B704
