"""Every sentence has its translation, and says with it what the English says."""

from __future__ import annotations

import re
from collections import Counter
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po
from jinja2 import Environment, nodes

from webapp import i18n

ROOT = Path(__file__).resolve().parents[1]
TEMPLATES = sorted(path for path in (ROOT / "webapp" / "templates").rglob("*.html") if "mail" not in path.parts)
OTHERS = [language for language in i18n.LANGUAGES if language != i18n.SOURCE]


def tool() -> ModuleType:
    """The program that keeps the catalogues."""
    spec = util.spec_from_file_location("catalogue", ROOT / ".ci" / "catalogue.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def catalogue(language: str) -> Catalog:
    with (i18n.TRANSLATIONS / language / "LC_MESSAGES" / "messages.po").open("rb") as opened:
        return read_po(opened, locale=language)


def forms(words: object) -> list[str]:
    return list(words) if isinstance(words, (list, tuple)) else [str(words)]


def sentences(language: str) -> list[Message]:
    return [message for message in catalogue(language) if message.id]


@pytest.mark.parametrize("language", OTHERS)
def test_every_sentence_of_the_program_is_translated(language: str) -> None:
    program, theirs = tool().extracted(), catalogue(language)
    assert [message.id for message in program if message.id and message.id not in theirs] == []
    assert [message.id for message in sentences(language) if not all(forms(message.string)) or message.fuzzy] == []


@pytest.mark.parametrize("language", OTHERS)
def test_a_translation_fills_in_the_same_values(language: str) -> None:
    def values(text: str) -> set[str]:
        return set(re.findall(r"%\(\w+\)s|\{\w+\}", text))

    wrong = [
        (said, message.id)
        for message in sentences(language)
        for said in forms(message.string)
        # One form of several may leave out the number.
        if values(said) - {"%(num)s"} != values(forms(message.id)[-1]) - {"%(num)s"}
    ]
    assert wrong == []


@pytest.mark.parametrize("language", OTHERS)
def test_a_translation_brings_no_markup_of_its_own(language: str) -> None:
    def tags(text: str) -> Counter[str]:
        return Counter(re.findall(r"</?[a-z][^>]*>|&\w+;", text))

    wrong = [
        message.id
        for message in sentences(language)
        for said in forms(message.string)
        if tags(said) != tags(forms(message.id)[0])
    ]
    assert wrong == []


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_template_asks_only_for_sentences_that_are_written_out(path: Path) -> None:
    """What is translated is not escaped, so it must be the program's own words."""
    environment = Environment(extensions=["jinja2.ext.i18n"])  # noqa: S701 - it is parsed and never rendered
    tree = environment.parse(path.read_text("utf-8"))
    asked = [
        call
        for call in tree.find_all(nodes.Call)
        if isinstance(call.node, nodes.Name) and call.node.name in ("_", "gettext", "ngettext")
    ]
    words = [word for call in asked for word in call.args[: 2 if call.node.name == "ngettext" else 1]]
    assert [word for word in words if not isinstance(word, nodes.Const)] == []


NAMES = {
    "Keypost",
    "Keypost  · Keypost",
    "UTC",
    "SHA-256",
    "ms",
    "SSL",
    "TLS",
    "CSV",
    "bin/keypost",
    "you@example.com",
    "Client-ID",
}
"""What stands in templates as it is, in every language."""
BLOCKS_WITHOUT_WORDS = r"\{%\s*block width\s*%\}.*?\{%\s*endblock\s*%\}"


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_template_says_nothing_of_its_own(path: Path) -> None:
    """Every word on a page, and every one that is read aloud, is asked for through gettext."""
    text = re.sub(rf"(?s)\{{#.*?#\}}|{BLOCKS_WITHOUT_WORDS}|\{{%.*?%\}}|\{{\{{.*?\}}\}}", " ", path.read_text("utf-8"))
    text = re.sub(r"(?s)<(script|style|code|pre|kbd)\b[^>]*>.*?</\1>|<path\b[^>]*>", " ", text)
    spoken = re.findall(r'(?:aria-label|title|placeholder|alt)="([^"]*)"', text)
    found = [*re.sub(r"<[^>]*>", "\n", text).split("\n"), *spoken]
    words = [re.sub(r"^[ .,:;·…/()&]+|[ .,:;·…/()&]+$", "", part) for part in found]
    assert [each for each in words if re.search(r"[A-Za-z]{2}", re.sub(r"&\w+;", "", each)) and each not in NAMES] == []
