"""Secrets stay unseen, seals open only in their place, and the key file is whole or not there."""

from __future__ import annotations

import copy
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp import keyring
from webapp.errors import CannotStart
from webapp.keyring import KEY_BYTES, Keyring, SealBroken, Secret, make_key_file, read_key_file

PLACE = {"table": "account_passwords", "row": "7/1", "field": "password"}
KEYRING = Keyring(bytes(range(32)))


@pytest.mark.parametrize("shape", ["{}", "{!r}", "{!s}", "{!a}", "{:>40}", "{:d}"])
def test_a_secret_shows_only_stars(shape: str) -> None:
    assert shape.format(Secret("hunter2")) == "***"


@pytest.mark.parametrize("copier", [pickle.dumps, copy.copy, copy.deepcopy, hash])
def test_a_secret_is_not_carried_away(copier: object) -> None:
    with pytest.raises(TypeError):
        copier(Secret("hunter2"))  # type: ignore[operator]


def test_secrets_are_equal_by_their_text() -> None:
    assert Secret("ü") == Secret("ü")
    assert Secret("ü") != Secret("u")
    assert Secret("hunter2") != "hunter2"


def test_an_empty_secret_is_false() -> None:
    assert not Secret("")
    assert Secret(" ")


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_what_is_sealed_opens_again(text: str) -> None:
    assert KEYRING.unseal(KEYRING.seal(Secret(text), **PLACE), **PLACE).reveal() == text


def test_sealing_twice_never_gives_the_same() -> None:
    assert len({KEYRING.seal(Secret("same"), **PLACE) for _ in range(1000)}) == 1000


@pytest.mark.parametrize("moved", [{"table": "mail_settings"}, {"row": "7/2"}, {"row": "8/1"}, {"field": "notes"}])
def test_a_seal_moved_elsewhere_does_not_open(moved: dict[str, str]) -> None:
    sealed = KEYRING.seal(Secret("hunter2"), **PLACE)
    with pytest.raises(SealBroken):
        KEYRING.unseal(sealed, **{**PLACE, **moved})


def test_no_altered_byte_goes_unnoticed() -> None:
    sealed = KEYRING.seal(Secret("hunter2"), **PLACE)
    for index in range(len(sealed)):
        altered = bytearray(sealed)
        altered[index] ^= 1
        with pytest.raises(SealBroken):
            KEYRING.unseal(bytes(altered), **PLACE)


def test_no_shortened_seal_opens() -> None:
    sealed = KEYRING.seal(Secret("hunter2"), **PLACE)
    for length in range(len(sealed)):
        with pytest.raises(SealBroken):
            KEYRING.unseal(sealed[:length], **PLACE)


def test_another_key_does_not_open_it() -> None:
    sealed = KEYRING.seal(Secret("hunter2"), **PLACE)
    with pytest.raises(SealBroken, match="another key"):
        Keyring(bytes(32)).unseal(sealed, **PLACE)


def test_each_purpose_has_a_key_of_its_own() -> None:
    keys = {KEYRING.derive(purpose) for purpose in ("seal", "cookie", "audit chain", "key check")}
    assert len(keys) == 4
    assert {len(key) for key in keys} == {32}


def test_a_digest_tells_where_its_parts_end() -> None:
    assert KEYRING.digest("p", "ab", "c") != KEYRING.digest("p", "a", "bc")


def test_a_new_key_file_is_private_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    make_key_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(bytes.fromhex(path.read_text())) == KEY_BYTES
    assert os.listdir(tmp_path) == ["master.key"]


def test_a_new_key_never_replaces_one(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    make_key_file(path)
    before = path.read_bytes()
    make_key_file(path)
    assert path.read_bytes() == before


def test_of_many_who_make_a_key_at_once_all_use_the_same(tmp_path: Path) -> None:
    path = tmp_path / "master.key"

    def make(_number: int) -> bytes:
        make_key_file(path)
        return read_key_file(path).key_id

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(make, range(64)))) == 1


def test_a_key_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="cannot be written"):
        make_key_file(tmp_path / "nowhere" / "master.key")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"00" * 31,
        b"00" * 33,
        b"00" * 16,
        b"0" * 63,
        b"zz" * 32,
        bytes(32),
        "é".encode() * 32,
        b"00" * 32 + b" and more",
        b"00" * 500,
    ],
    ids=repr,
)
def test_a_damaged_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "master.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(CannotStart, match="is damaged"):
        read_key_file(path)


def test_a_key_open_to_others_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    make_key_file(path)
    path.chmod(0o640)
    with pytest.raises(CannotStart, match="chmod 600"):
        read_key_file(path)


def test_a_key_that_systemd_hands_over_may_show_the_bit_of_its_access_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "CREDENTIALS", tmp_path)
    path = tmp_path / "keypost.service" / "master.key"
    path.parent.mkdir(mode=0o700)
    make_key_file(path)
    path.chmod(0o440)
    read_key_file(path)
    path.chmod(0o444)
    with pytest.raises(CannotStart, match="open to other users"):
        read_key_file(path)


def _a_folder(path: Path) -> None:
    path.mkdir(mode=0o700)


def _a_link(path: Path) -> None:
    make_key_file(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _nothing(path: Path) -> None:
    pass


@pytest.mark.parametrize("put", [_nothing, _a_folder, _a_link])
def test_what_is_no_key_file_is_refused_in_a_sentence(tmp_path: Path, put: object) -> None:
    put(tmp_path / "master.key")  # type: ignore[operator]
    with pytest.raises(CannotStart, match=r"cannot be read .* put it back"):
        read_key_file(tmp_path / "master.key")


def test_a_pipe_in_place_of_the_key_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "master.key", 0o600)
    with pytest.raises(CannotStart, match="is damaged"):
        read_key_file(tmp_path / "master.key")


@pytest.mark.parametrize("known", [bytes(32), b"\xab" * 32, bytes(range(32)), b"0123456789" * 3 + b"01"], ids=bytes.hex)
def test_a_sample_key_is_refused(tmp_path: Path, known: bytes) -> None:
    path = tmp_path / "master.key"
    path.write_text(known.hex())
    path.chmod(0o600)
    with pytest.raises(CannotStart, match="a sample that everybody knows"):
        read_key_file(path)
