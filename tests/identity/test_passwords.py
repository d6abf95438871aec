"""Passwords of people: long, kept only as Argon2id, compared in the same time for nobody as for somebody."""

from __future__ import annotations

import pytest

from webapp.errors import Invalid
from webapp.identity.passwords import check_new, hash_password, is_outdated, verify_password
from webapp.keyring import Secret

GOOD = Secret("correct horse battery staple")


@pytest.mark.parametrize("text", ["a" * 15, "a" * 1024, "  fifteen blanks ", "пароль из пяти слов", "🔑" * 15])
def test_it_takes_any_long_password(text: str) -> None:
    check_new(Secret(text))


@pytest.mark.parametrize(("text", "reason"), [("", "at least"), ("a" * 14, "has 14"), ("a" * 1025, "at most 1024")])
def test_it_refuses_what_is_too_short_or_too_long(text: str, reason: str) -> None:
    with pytest.raises(Invalid, match=reason) as refused:
        check_new(Secret(text), field="new")
    assert refused.value.field == "new"


def test_letters_with_combining_marks_count_as_one() -> None:
    with pytest.raises(Invalid, match="has 14"):
        check_new(Secret("e\u0301" * 14))


def test_the_hash_is_argon2id_and_never_the_same() -> None:
    one, two = hash_password(GOOD), hash_password(GOOD)
    assert one.startswith("$argon2id$")
    assert one != two
    assert not is_outdated(one)


def test_only_the_password_itself_fits() -> None:
    hashed = hash_password(GOOD)
    assert verify_password(hashed, GOOD)
    assert not verify_password(hashed, Secret(GOOD.reveal() + " "))


def test_both_spellings_of_an_accent_fit() -> None:
    assert verify_password(
        hash_password(Secret("caf\u00e9 au lait, bien chaud")), Secret("cafe\u0301 au lait, bien chaud")
    )


def test_nothing_is_cut_off_a_long_password() -> None:
    assert not verify_password(hash_password(Secret("a" * 1024)), Secret("a" * 1023 + "b"))


@pytest.mark.parametrize("hashed", [None, "", "!", "$argon2id$v=19$m=65536,t=3,p=4$broken"])
def test_nobody_and_broken_hashes_fit_nothing(hashed: str | None) -> None:
    assert not verify_password(hashed, GOOD)


def test_the_stand_in_for_nobody_opens_nothing() -> None:
    assert not verify_password(None, Secret("nobody has this password"))


def test_an_absurdly_long_password_is_refused_unhashed() -> None:
    assert not verify_password(hash_password(GOOD), Secret("a" * 1025))
