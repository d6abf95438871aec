"""The wording of mails: subject, text and HTML of each kind, with ``{{ name }}`` where something is filled in.

No template engine reads what people edit: a text is cut at its placeholders once, and what is filled in is never looked
at again. The texts that come with Keypost lie in templates/mail/<kind>/, those of another language than English in a
folder of its own below. When an administrator has changed a text, the HTML is made from that.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html as markup
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from webapp.errors import Invalid
from webapp.i18n import SOURCE, Reader, joined, reading_as
from webapp.i18n import gettext as _
from webapp.mail.kinds import OUTLINES, Outline
from webapp.mail.message import clean
from webapp.outbox.messages import Kind

_FOLDER: Final = Path(__file__).parents[1] / "templates" / "mail"
_PLACEHOLDER: Final = re.compile(r"\{\{([^{}\n]*)\}\}")
_PARAGRAPHS: Final = re.compile(r"\n\s*\n")


@dataclass(frozen=True, slots=True)
class Wording:
    """What an administrator can change: the subject, one line, and the text."""

    subject: str
    text: str


class Pattern:
    """A text cut at its placeholders, ready to be filled in many times."""

    __slots__ = ("_parts", "_slots", "names")

    def __init__(self, text: str) -> None:
        """Raises Invalid for a placeholder that is not closed."""
        self._parts: list[str] = []
        self._slots: list[tuple[int, str]] = []
        for literal, name in _pieces(text):
            self._parts.append(literal)
            if name is not None:
                self._slots.append((len(self._parts), name))
                self._parts.append("")
        self.names = frozenset(name for _, name in self._slots)

    def filled(self, values: Mapping[str, str]) -> str:
        """The text with each placeholder's value in its place. Raises KeyError."""
        parts = self._parts.copy()
        for at, name in self._slots:
            parts[at] = values[name]
        return "".join(parts)


@dataclass(frozen=True, slots=True)
class Compiled:
    """The wording of one kind, ready to be filled in. html: of a whole page; it knows ``subject`` as well."""

    outline: Outline
    subject: Pattern
    text: Pattern
    html: Pattern


@functools.cache
def default(kind: Kind, language: str = SOURCE) -> Wording:
    """The wording that comes with Keypost."""
    return Wording(_read(kind, "subject.txt", language).strip(), _read(kind, "text.txt", language))


@functools.cache
def compiled_default(kind: Kind, language: str = SOURCE) -> Compiled:
    """The same, ready to be filled in, with HTML of its own."""
    return _compiled(OUTLINES[kind], default(kind, language), _read(kind, "html.html", language), language)


def compiled(kind: Kind, wording: Wording, language: str = SOURCE) -> Compiled:
    """An edited wording, with HTML made from its text. Raises Invalid, with the field at fault."""
    check(kind, wording)
    outline = OUTLINES[kind]
    with reading_as(Reader(language)):
        return _compiled(outline, wording, _html_of(wording.text, outline), language)


def check(kind: Kind, wording: Wording) -> None:
    """Raises Invalid, with the field at fault, for a wording that no mail of this kind can have."""
    outline = OUTLINES[kind]
    used = _used(wording.subject, outline, "subject") | _used(wording.text, outline, "text")
    missing = [each for each in outline.placeholders if each.needed and each.name not in used]
    if missing:
        lost = joined([f"{each.slot} ({each.meaning[0].lower()}{each.meaning[1:]})" for each in missing])
        raise Invalid(_("The mail does not work without %(lost)s. Put it back in.", lost=lost), "text")


def in_ascii(html: str) -> str:
    """HTML that says the same in ASCII, and so needs no encoding on its way."""
    return html.encode("ascii", "xmlcharrefreplace").decode()


def _used(text: str, outline: Outline, field: str) -> frozenset[str]:
    try:
        names = Pattern(text).names
    except Invalid as error:
        raise Invalid(str(error), field) from None
    unknown = sorted(names - outline.names)
    if unknown:
        raise Invalid(
            _("“{{ %(unknown)s }}” is none of the placeholders of this mail. Use those listed.", unknown=unknown[0]),
            field,
        )
    return names


def _pieces(text: str) -> Iterator[tuple[str, str | None]]:
    """Each stretch of ordinary text with the name of the placeholder that follows it."""
    end = 0
    for found in _PLACEHOLDER.finditer(text):
        yield _ordinary(text[end : found.start()]), found[1].strip()
        end = found.end()
    yield _ordinary(text[end:]), None


def _ordinary(text: str) -> str:
    if "{{" in text or "}}" in text:
        raise Invalid(_("A placeholder begins with {{ and ends with }} on the same line: close the one that is open."))
    return text


def _compiled(outline: Outline, wording: Wording, content: str, language: str) -> Compiled:
    page = _frame().replace('lang="en"', f'lang="{language}"').replace("{{ content }}", content.strip())
    return Compiled(outline, Pattern(wording.subject), Pattern(clean(wording.text)), Pattern(in_ascii(clean(page))))


def _html_of(text: str, outline: Outline) -> str:
    """Paragraphs of the text; a link that has one to itself becomes the button."""
    links = {each.name for each in outline.placeholders if each.is_link}
    paragraphs = filter(None, (part.strip() for part in _PARAGRAPHS.split(clean(text).replace("\r\n", "\n"))))
    return "<h1>{{ subject }}</h1>\n" + "\n".join(_paragraph(part, links, outline.button) for part in paragraphs)


def _paragraph(text: str, links: Collection[str], button: str) -> str:
    whole = _PLACEHOLDER.fullmatch(text)
    if whole and whole[1].strip() in links:
        return f'<p><a class="button" href="{text}">{markup.escape(str(button))}</a></p>'
    pieces = (markup.escape(literal) + ("" if name is None else _slot(name, links)) for literal, name in _pieces(text))
    return "<p>" + "".join(pieces).replace("\n", "<br>\n") + "</p>"


def _slot(name: str, links: Collection[str]) -> str:
    slot = f"{{{{ {name} }}}}"
    return f'<a href="{slot}">{slot}</a>' if name in links else slot


def _style_source() -> str:
    style = re.search(r"<style>(.*?)</style>", _frame(), re.DOTALL)
    digest = hashlib.sha256(style[1].encode() if style else b"").digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _read(kind: Kind, name: str, language: str) -> str:
    folder = _FOLDER / kind.value
    return ((folder if language == SOURCE else folder / language) / name).read_text(encoding="utf-8")


@functools.cache
def _frame() -> str:
    return (_FOLDER / "_frame.html").read_text(encoding="utf-8")


STYLE_SOURCE: Final = _style_source()
"""The mails' one style sheet as a content security policy names it: a page that shows a mail must allow just that."""
