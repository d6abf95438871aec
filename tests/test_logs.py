"""The log cannot be made to say what did not happen."""

from __future__ import annotations

import io
import logging

import pytest

from webapp.logs import Entries, printable

FORGED = "x\r\n2026-11-24 00:00:00 ERROR keypost all is well\x1b[2K\u202e\u2028\x85\x00"


@pytest.fixture
def written() -> tuple[logging.Logger, io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Entries())
    logger = logging.Logger("keypost")
    logger.addHandler(handler)
    return logger, stream


def entries(stream: io.StringIO) -> list[str]:
    """What begins at the left margin."""
    return [line for line in stream.getvalue().splitlines() if line and not line.startswith(" ")]


def test_what_was_typed_cannot_begin_an_entry(written: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = written
    logger.warning("a name: %s", FORGED)
    assert len(entries(stream)) == 1
    assert "\\r\\n2026-11-24" in stream.getvalue()
    assert "\\x1b[2K\\u202e\\u2028\\x85\\x00" in stream.getvalue()


def test_what_an_exception_quotes_cannot_begin_an_entry(written: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = written
    try:
        raise ValueError(FORGED)
    except ValueError:
        logger.exception("it failed", stack_info=True)
    assert len(entries(stream)) == 1
    assert "    Traceback" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_letters_of_every_language_stay_as_they_are() -> None:
    assert printable("Zoë – 東京 “x”") == "Zoë – 東京 “x”"
