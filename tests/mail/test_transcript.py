"""No form of a secret survives in the record of a conversation."""

from __future__ import annotations

import base64
import itertools
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from webapp.keyring import Secret
from webapp.mail.transcript import Masker, Transcript
from webapp.mail.wire import Reply

PASSWORD = "Tröub4dor & 3"
RAW = PASSWORD.encode()
TRIPLE = b"\x00user@example.test\x00" + RAW


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


FORMS = {
    "raw": PASSWORD,
    "base64": b64(RAW),
    "base64 without padding": b64(RAW).rstrip("="),
    "base64 in capitals": b64(RAW).upper(),
    "PLAIN triple": b64(TRIPLE),
    "PLAIN triple with an identity": b64(b"someone" + TRIPLE),
    "inside other base64": b64(b'{"password":"' + RAW + b'"}'),
    "hexadecimal": RAW.hex(),
    "percent-encoded": quote(PASSWORD),
}


def masked(*texts: str) -> str:
    masker = Masker()
    masker.hide(Secret(PASSWORD))
    lines = [f"535-5.7.8 {text}".encode() for text in texts]
    return "\n".join(masker.lines(lines))


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_sent_back_is_masked(form: str) -> None:
    shown = masked(f"no: {FORMS[form]} is wrong")
    assert shown.startswith("535-5.7.8 no: ")
    assert shown.endswith(" is wrong")
    assert PASSWORD not in shown
    assert b64(RAW)[2:-3] not in shown
    assert "***" in shown


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("at", [1, 3, 7])
def test_a_secret_split_over_lines_is_masked(form: str, at: int) -> None:
    text = FORMS[form]
    shown = masked(text[:at], text[at : at + 4], text[at + 4 :])
    joined = "".join(line.removeprefix("535-5.7.8 ") for line in shown.split("\n"))
    assert text not in joined
    left = joined.replace("***", "").strip(" =")
    assert left == "" or (form.startswith(("PLAIN", "inside")) and b64(RAW)[2:-3] not in left)


def test_a_secret_split_over_replies_with_commands_between_is_masked() -> None:
    masker = Masker()
    masker.hide(Secret("correct-horse"))
    transcript = Transcript(masker)
    transcript.received(Reply(535, (b"5.7.8 correct-",)))
    transcript.sent("RSET")
    transcript.received(Reply(250, (b"2.0.0 horse",)))
    assert transcript.lines() == ("S: 535 5.7.8 ***", "C: RSET", "S: 250 2.0.0 ***")


def test_each_line_is_printable_and_short() -> None:
    masker = Masker()
    line = masker.lines([b"250 \x1b[31mred\x00 \xe2\x80\xae" + b"x" * 1000])[0]
    assert line.isprintable()
    assert len(line) == 200


def test_a_record_is_bounded() -> None:
    transcript = Transcript(Masker())
    for number in range(1000):
        transcript.note(str(number))
    lines = transcript.lines()
    assert len(lines) == 401
    assert lines[-1] == "-- 600 more lines"


secrets = st.text(st.characters(codec="utf-8", exclude_characters="\ufffd…•#*[]"), min_size=1, max_size=40)


@given(secret=secrets, before=st.binary(max_size=40), after=st.binary(max_size=40))
def test_whatever_surrounds_it_no_secret_survives(secret: str, before: bytes, after: bytes) -> None:
    assume(secret.strip())
    masker = Masker()
    masker.hide(Secret(secret))
    shown = masker.lines([before + secret.encode() + after])[0]
    assert secret not in shown
    encoded = base64.b64encode(before + secret.encode() + after)
    assert encoded.decode() not in masker.lines([encoded])[0] or len(secret.encode()) < 5


@given(secret=secrets, cuts=st.lists(st.integers(1, 60), max_size=5), form=st.sampled_from(["raw", "base64", "hex"]))
def test_however_it_is_split_no_secret_survives(secret: str, cuts: list[int], form: str) -> None:
    assume(secret.strip())
    raw = secret.encode()
    text = {"raw": raw, "base64": base64.b64encode(raw).rstrip(b"="), "hex": raw.hex().encode()}[form]
    ends = sorted({0, *(cut for cut in cuts if cut < len(text)), len(text)})
    pieces = [text[start:end] for start, end in itertools.pairwise(ends)]
    masker = Masker()
    masker.hide(Secret(secret))
    transcript = Transcript(masker)
    transcript.received(Reply(535, tuple(pieces)))
    shown = "".join(line[7:] for line in transcript.lines())
    assert text.decode() not in shown


@given(st.lists(st.binary(max_size=300), max_size=20), secrets)
def test_any_bytes_can_be_shown(lines: list[bytes], secret: str) -> None:
    masker = Masker()
    masker.hide(Secret(secret))
    shown = masker.lines(lines)
    assert len(shown) == len(lines)
    assert all(line.isprintable() and len(line) <= 200 for line in shown)
