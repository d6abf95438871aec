"""Tables as text (CSV, RFC 4180) in the ways spreadsheets write them: read with a guess that is said plainly, written
so that no cell runs as a formula."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from webapp.errors import Invalid
from webapp.i18n import gettext as _
from webapp.i18n import lazy

MAXIMUM_BYTES: Final = 1_000_000
MAXIMUM_LINES: Final = 5_000
MAXIMUM_COLUMNS: Final = 50
DELIMITERS: Final = {",": "commas", ";": "semicolons", "\t": "tabs"}
_SHIELD: Final = "'"
_BEGINS_FORMULA: Final = re.compile(r'[\t\r\n]|[\s"]*[=+\-@＝＋－＠]')
# Where a program that parts cells by semicolons or tabs, and lines in spite of quotation marks, sees a cell begin.
_CELL_WITHIN: Final = re.compile(r"""([;\t\r\n][\s";]*)(['=+\-@＝＋－＠])?""")
_NO_TABLE: Final = {
    b"PK\x03\x04": lazy("This is a workbook or another archive, not a table as text."),
    b"\xd0\xcf\x11\xe0": lazy("This is an old Excel workbook, not a table as text."),
    b"%PDF": lazy("This is a PDF file, not a table as text."),
    b"\xff\xfe": lazy("This is UTF-16, which Keypost does not read."),
    b"\xfe\xff": lazy("This is UTF-16, which Keypost does not read."),
}
_SAVE: Final = lazy("Save the table as “CSV UTF-8” in your spreadsheet, and choose that file.")


@dataclass(frozen=True, slots=True)
class Line:
    """One record, and the number of the line in the file at which it ends, counted from 1."""

    number: int
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table as it was understood. columns: the headings, or made-up ones when the first line is none."""

    delimiter: str
    columns: tuple[str, ...]
    has_heading: bool
    lines: tuple[Line, ...]


def decode(content: bytes) -> tuple[str, str]:
    """The text, and the name of its encoding. Raises Invalid for what is no text, or too much of it."""
    if len(content) > MAXIMUM_BYTES:
        raise Invalid(
            _("That is more than one megabyte. Split the file, and import its parts one after another."), "file"
        )
    for start, sentence in _NO_TABLE.items():
        if content.startswith(start):
            raise Invalid(f"{sentence} {_SAVE}", "file")
    if b"\0" in content:
        raise Invalid(_("This is no text. %(save)s", save=_SAVE), "file")
    for encoding, called in (("utf-8-sig", "UTF-8"), ("windows-1252", "Windows-1252")):
        try:
            return content.decode(encoding), called
        except UnicodeDecodeError:
            continue
    raise Invalid(_("This is neither UTF-8 nor Windows-1252. %(save)s", save=_SAVE), "file")


@dataclass(frozen=True, slots=True)
class Reading:
    """How a table is read.

    known: headings, in small letters. least: how many of them make the first line a heading. exact: blanks and line
    ends within cells matter, as in passwords. escape: what stands before a quotation mark within a cell that is not
    doubled.
    """

    known: frozenset[str]
    least: int = 1
    exact: bool = False
    escape: str | None = None


def read(text: str, how: Reading, *, has_heading: bool | None = None) -> Sheet:
    """Understand a table. has_heading: whether the first line is one; guessed unless somebody knows.

    Raises Invalid when it is no table, or too long a one.
    """
    declared = text[4:5] if text[:4].casefold() == "sep=" else ""
    delimiter = declared if declared in DELIMITERS else _delimiter(text)
    lines = list(_lines(text, delimiter, how))
    if declared and lines:
        del lines[0]
    if not lines:
        raise Invalid(_("There is no line in it. Give a table with headings, and lines below them."), "file")
    width = max(len(line.cells) for line in lines)
    if has_heading is None:
        has_heading = sum(heading(cell) in how.known for cell in lines[0].cells) >= how.least
    named = tuple(map(_tidy, lines.pop(0).cells)) if has_heading else ()
    columns = tuple((named[number] if number < len(named) else "") or f"Column {number + 1}" for number in range(width))
    if not lines:
        raise Invalid(_("There is only the line with the headings. Give the lines below it."), "file")
    return Sheet(delimiter, columns, has_heading, tuple(lines))


def heading(cell: str) -> str:
    """A heading as it is compared."""
    return _tidy(cell).casefold()


def _tidy(cell: str) -> str:
    return " ".join(cell.split())


def _delimiter(text: str) -> str:
    """What parts the first line into the most cells; a comma when nothing does."""
    # csv raises for a field of more than 131,072 characters; _lines() says so in words, and here the beginning tells.
    first = next((line for line in text.splitlines() if line.strip()), "")[:10_000]
    return max(DELIMITERS, key=lambda sign: len(next(csv.reader([first], delimiter=sign), [])))


def _lines(text: str, delimiter: str, how: Reading) -> Iterator[Line]:
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, escapechar=how.escape, doublequote=how.escape is None
    )
    count = 0
    try:
        for row in reader:
            cells = tuple(row) if how.exact else tuple(map(_tidy, row))
            if not any(map(str.strip, cells)):
                continue
            count += 1
            if count > MAXIMUM_LINES + 1:
                raise Invalid(
                    _(
                        "There are more than %(maximum_lines)s lines. Split the file, and import its parts one "
                        "after another.",
                        maximum_lines=MAXIMUM_LINES,
                    ),
                    "file",
                )
            if len(cells) > MAXIMUM_COLUMNS:
                raise Invalid(
                    _(
                        "Line %(line_num)s has more than %(maximum_columns)s columns. %(save)s",
                        line_num=reader.line_num,
                        maximum_columns=MAXIMUM_COLUMNS,
                        save=_SAVE,
                    ),
                    "file",
                )
            yield Line(reader.line_num, cells)
    except csv.Error:
        raise Invalid(
            _("Line %(line_num)s cannot be read as a line of a table. %(save)s", line_num=reader.line_num, save=_SAVE),
            "file",
        ) from None


def write(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table for spreadsheets: UTF-8 with its mark, and an apostrophe before whatever would run as a formula."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(heading)
    writer.writerows([cell(str(value)) for value in row] for row in rows)
    return "\ufeff" + out.getvalue()


def lines(rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Each row as a line of CSV, as they come."""
    for row in rows:
        written = io.StringIO(newline="")
        csv.writer(written).writerow([cell(text) for text in row])
        yield written.getvalue()


def cell(text: str) -> str:
    """The text, with an apostrophe in front of whatever a spreadsheet would take for a formula (OWASP, CSV injection).

    Which sign parts the cells, the spreadsheet decides: in a table with commas, “x;=1+1” is a formula to one that
    expects semicolons. Where an apostrophe stands already there comes one more, so that plain() gives back every text.
    """
    runs = text.startswith(_SHIELD) or _BEGINS_FORMULA.match(text)
    within = _CELL_WITHIN.sub(lambda found: f"{found[1]}{_SHIELD}{found[2]}" if found[2] else found[0], text)
    return f"{_SHIELD}{within}" if runs else within


def plain(cell: str) -> str:
    """The text of a cell that cell() made."""
    return _CELL_WITHIN.sub(lambda found: found[1] if found[2] == _SHIELD else found[0], cell.removeprefix(_SHIELD))
