"""Brings the translations up to date with the program's sentences, and names what still lacks its translation.

Ends with 1 when something is missing. `--check` changes nothing, and also fails when the catalogue is out of date.
`--missing` prints the sentences to translate as JSON; `--take FILE` puts in what such a file, completed, says.
"""

from __future__ import annotations

import json
import sys
import tomllib
from io import BytesIO
from pathlib import Path
from typing import Final

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.pofile import read_po, write_po

ROOT: Final = Path(__file__).resolve().parents[1]
TRANSLATIONS: Final = ROOT / "webapp" / "translations"
PRESETS: Final = ROOT / "webapp" / "mail" / "presets.toml"
"""Data, of which two parts are sentences."""
KEYWORDS: Final = {
    "_": None, "gettext": None, "ngettext": (1, 2), "lazy": None, "N_": None,
}  # fmt: skip
"""The functions of webapp.i18n whose first arguments are sentences."""
HEAD: Final = 'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=utf-8\\n"\n"Plural-Forms: {plural_forms}\\n"\n\n'


def main(arguments: list[str]) -> int:
    """Do as the docstring of this file says."""
    missing = 0
    for file in sorted(TRANSLATIONS.glob("*/LC_MESSAGES/messages.po")):
        before = file.read_bytes()
        catalogue = read_po(BytesIO(before), locale=file.parts[-3])
        catalogue.update(extracted(), no_fuzzy_matching=True)
        catalogue.obsolete.clear()
        if "--take" in arguments:
            _take(catalogue, json.loads(Path(arguments[arguments.index("--take") + 1]).read_text("utf-8")))
        after = written(catalogue)
        untranslated = [message for message in catalogue if message.id and not is_translated(message)]
        missing += len(untranslated)
        if "--missing" in arguments:
            sentences = [{"id": message.id, "said": ""} for message in untranslated]
            print(json.dumps(sentences, ensure_ascii=False, indent=0))
        elif "--check" in arguments:
            missing += before != after
        else:
            file.write_bytes(after)
        print(f"{file.relative_to(ROOT)}: {len(catalogue)} sentences, {len(untranslated)} to do", file=sys.stderr)
    return 1 if missing else 0


def extracted() -> Catalog:
    """Every sentence of the program."""
    with (ROOT / "babel.cfg").open(encoding="utf-8") as opened:
        methods, options = parse_mapping_cfg(opened)
    catalogue = Catalog(charset="utf-8")
    for _file, _line, sentence, _comments, _context in extract_from_dir(
        ROOT, method_map=methods, options_map=options, keywords=KEYWORDS
    ):
        if sentence not in ("", ("", "")):
            catalogue.add(sentence)
    for preset in tomllib.loads(PRESETS.read_text("utf-8"))["preset"]:
        catalogue.add(preset["username"])
        catalogue.add(preset["note"])
    return catalogue


def written(catalogue: Catalog) -> bytes:
    """The catalogue as its file holds it: sorted and without places, so that two people's changes seldom meet."""
    file = BytesIO()
    write_po(file, catalogue, width=110, no_location=True, omit_header=True, sort_output=True, ignore_obsolete=True)
    return HEAD.format(plural_forms=catalogue.plural_forms).encode() + file.getvalue()


def is_translated(message: Message) -> bool:
    """Whether every form of the sentence has words, which somebody has looked at."""
    said = message.string if isinstance(message.string, tuple) else (message.string,)
    return all(said) and not message.fuzzy


def _take(catalogue: Catalog, sentences: list[dict[str, str | list[str]]]) -> None:
    for sentence in sentences:
        id, said = sentence["id"], sentence["said"]
        message = catalogue.get(id[0] if isinstance(id, list) else id)
        if message is None:
            print(f"not a sentence of the program: {id}", file=sys.stderr)
        elif said:
            message.string = tuple(said) if isinstance(said, list) else said


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
