"""The password generator."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.errors import Invalid
from webapp.vault.generator import SYMBOLS, generate


@given(length=st.integers(8, 200), symbols=st.booleans())
def test_a_password_has_its_length_and_one_of_each_kind(length: int, symbols: bool) -> None:
    drawn = set(text := generate(length, symbols).reveal())
    assert len(text) == length
    for kind in (string.ascii_lowercase, string.ascii_uppercase, string.digits):
        assert drawn & set(kind)
    assert bool(drawn & set(SYMBOLS)) is symbols
    assert drawn <= set(string.ascii_letters + string.digits + SYMBOLS)


def test_no_two_passwords_are_alike() -> None:
    assert len({generate().reveal() for _ in range(1000)}) == 1000


@pytest.mark.parametrize("length", [0, 7, 1025])
def test_it_refuses_a_length_out_of_bounds(length: int) -> None:
    with pytest.raises(Invalid, match="8 to 1024"):
        generate(length)
