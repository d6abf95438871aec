"""A table from outside is understood, or refused in words; a table for outside is never computed."""

from __future__ import annotations

import contextlib
import csv
import io
import re
import time
import zipfile

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from webapp.errors import Invalid
from webapp.identity import roster
from webapp.spreadsheet import MAXIMUM_BYTES, MAXIMUM_COLUMNS, MAXIMUM_LINES, cell, decode, plain, read, write


def entries(text: str) -> list[roster.Entry]:
    sheet = read(text, roster.READING)
    return list(roster.entries(sheet, roster.guess(sheet)))


def zipped() -> bytes:
    """Ten megabytes of nothing, packed into some kilobytes, as a workbook may be."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/../../sheet.xml", b"\0" * 10_000_000)
    return packed.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"a" * (MAXIMUM_BYTES + 1),
        zipped(),
        b"\x1f\x8b\x08" + b"\0" * 100,
        "email\nann@example.com".encode("utf-16"),
        b"email\nann\0@example.com",
        b"email\n\x81\xff\x8d",
    ],
    ids=["too much", "zip", "gzip", "UTF-16", "NUL", "no encoding"],
)
def test_what_is_no_table_is_refused_unread(content: bytes) -> None:
    with pytest.raises(Invalid) as caught:
        decode(content)
    assert caught.value.field == "file"


@pytest.mark.parametrize(
    "text",
    ["email\n" + "a@b.test\n" * (MAXIMUM_LINES + 2), "email\n" + "," * (MAXIMUM_COLUMNS + 5) + "x\n", "", "email\n"],
    ids=["lines", "columns", "nothing", "heading"],
)
def test_a_table_out_of_bounds_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        read(text, roster.READING)


@pytest.mark.parametrize("part", ['"', ",", "\n", ";", "\t", '"a,', "sep=", "=cmd|' /C calc'!A0,", "\u2028", "a@b,"])
def test_no_arrangement_takes_long(part: str) -> None:
    began = time.monotonic()
    with contextlib.suppress(Invalid):
        entries(part * (MAXIMUM_BYTES // len(part.encode())))
    assert time.monotonic() - began < 8


def test_who_is_there_twice_is_named() -> None:
    found = entries("email,name\nann@example.com,Ann\nANN@example.com,Ann again\n")
    assert [each.problem for each in found] == ["", "Line 2 has the same address."]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1"])
def test_no_cell_that_is_written_is_a_formula(text: str) -> None:
    assert cell(text).startswith("'")
    assert f"'{text}"[:2] in write(["name"], [[text]])


FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]")
TABLES = st.lists(st.lists(st.text("x=+-@＝;,\t\r\n \"'"), min_size=2, max_size=3), min_size=1, max_size=3)


@given(TABLES, st.sampled_from(",;\t"))
@example([["x", "x;=1+1"]], ";")
@example([["x", 'x,;"=1+1";x']], ";")
@example([["x", "x,\t=1+1\tx"]], "\t")
@example([["x", "x,\n=1+1\nx"]], ";")
def test_whatever_sign_a_program_parts_cells_by_it_computes_none(rows: list[list[str]], sign: str) -> None:
    table = write(["One", "Two"], rows).removeprefix("\ufeff")
    quoted = [each for row in csv.reader(io.StringIO(table, newline=""), delimiter=sign) for each in row]
    assert [each for each in quoted if FORMULA.match(each)] == []


@given(TABLES, st.sampled_from(";\t"))
def test_nor_does_one_that_knows_nothing_of_quotation_marks(rows: list[list[str]], sign: str) -> None:
    parted = re.split(rf"[{sign}\r\n]", write(["One", "Two"], rows))
    assert [each for each in parted if FORMULA.match(each.replace('"', ""))] == []


@given(st.text("x=+-@＝;,\t\r\n \"'") | st.text())
def test_what_was_written_is_read_back_as_it_was(text: str) -> None:
    assert plain(cell(text)) == text
    ((read_back, _other),) = csv.reader(io.StringIO(write([], [[text, "x"]]).removeprefix("\ufeff\r\n"), newline=""))
    assert plain(read_back) == text


def test_a_long_text_is_written_at_once() -> None:
    began = time.process_time()
    cell(";\n" * 100_000)
    assert time.process_time() - began < 8
