"""Passwords of people: long, kept only as Argon2id, compared in the same time for nobody as for somebody."""

from __future__ import annotations

import random
import threading
import time

import pytest

from webapp.errors import Invalid, Unavailable
from webapp.identity import passwords
from webapp.identity.passwords import check_new, hash_password, stronger_hash, verify_password
from webapp.keyring import Secret

GOOD = Secret("correct horse battery staple")
LONG = " ".join(f"word{number * number}" for number in range(150))


@pytest.mark.parametrize("text", [LONG[:1024], "  fifteen blanks ", "пароль из пяти слов", "🔑 до ŧ ß 漢字 þ ð ñ 🐎 "])
def test_it_takes_any_long_password(text: str) -> None:
    check_new(Secret(text))


@pytest.mark.parametrize(("text", "reason"), [("", "at least"), ("a" * 14, "has 14"), ("a" * 1025, "at most 1024")])
def test_it_refuses_what_is_too_short_or_too_long(text: str, reason: str) -> None:
    with pytest.raises(Invalid, match=reason) as refused:
        check_new(Secret(text), field="new")
    assert refused.value.field == "new"


@pytest.mark.parametrize(
    "text",
    [
        *("passwordpassword", "PasswordPassword1", "P@ssw0rdP@ssw0rd", "123456789012345", "qwertyuiopasdfgh"),
        *("aaaaaaaaaaaaaaa", "a" * 1024, "abcabcabcabcabcabc", "iloveyouiloveyou", "letmein letmein letmein"),
        *("abcdefghijklmnopq", "🔑" * 15, "monkey123monkey123", "liverpoolfootball"),
    ],
)
def test_it_refuses_what_is_guessed_first(text: str) -> None:
    with pytest.raises(Invalid, match="among the first passwords"):
        check_new(Secret(text))


@pytest.mark.parametrize(
    "text",
    ["ada.lovelace@example.com", "Ada Lovelace 1815!", "keypost-keypost", "KeyPost2026KeyPost", "LovelaceAdaLovelace"],
)
def test_it_refuses_what_is_made_of_its_owners_name_or_of_the_products(text: str) -> None:
    with pytest.raises(Invalid, match="made of your name"):
        check_new(Secret(text), about=("Ada Lovelace", "ada.lovelace@example.com"))


def test_a_word_known_of_the_owner_may_stand_among_others() -> None:
    check_new(Secret("ada met seven grey herons"), about=("Ada Lovelace",))


def test_there_are_no_rules_of_composition() -> None:
    check_new(Secret("violet turbine kettle"))


def test_judging_a_password_takes_no_second() -> None:
    chance = random.Random(1)
    signs = "4@({[<3691!|x%2$507+/zgl"
    began = time.monotonic()
    check_new(Secret("".join(chance.choice(signs) for _ in range(1000))))
    assert time.monotonic() - began < 2


def test_people_judged_at_once_are_not_mixed_up() -> None:
    refused: list[int] = []

    def judge(number: int) -> None:
        try:
            check_new(Secret(f"person{number} somebody lives here"), about=(f"somebody lives here person{number}",))
        except Invalid:
            refused.append(number)

    judges = [threading.Thread(target=judge, args=(number,)) for number in range(8)]
    for thread in judges:
        thread.start()
    for thread in judges:
        thread.join()
    assert sorted(refused) == list(range(8))


def test_who_comes_when_the_line_is_full_is_told_to_come_again() -> None:
    for _ in range(5):
        assert passwords._in_line.acquire(blocking=False)
    try:
        with pytest.raises(Unavailable, match="Wait a few seconds"), passwords.place_in_line():
            pass
    finally:
        passwords._in_line.release(5)
    with passwords.place_in_line():
        assert not verify_password(None, GOOD)


def test_letters_with_combining_marks_count_as_one() -> None:
    with pytest.raises(Invalid, match="has 14"):
        check_new(Secret("e\u0301" * 14))


def test_the_hash_is_argon2id_and_never_the_same() -> None:
    one, two = hash_password(GOOD), hash_password(GOOD)
    assert one.startswith("$argon2id$")
    assert one != two
    assert stronger_hash(one, GOOD) is None


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
