"""The master key and everything sealed under it: the only symmetric cryptography.

A sealed secret is ``format (1 byte) | key id (8 bytes) | nonce (12 bytes) | AES-256-GCM ciphertext and tag``.
The associated data names format, key, table, row and field, so that a ciphertext moved elsewhere no longer opens.

Secrets are sealed with data keys that serve for a term each; the master key only wraps those, and they lie wrapped in
the database. The original term is the key that this master key gives by itself: databases made before there were terms
are sealed with it.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import itertools
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from webapp.errors import CannotStart

_FORMAT: Final = b"\x01"
_KEY_ID_BYTES: Final = 8
_NONCE_BYTES: Final = 12
_KEY_ID_END: Final = 1 + _KEY_ID_BYTES
_HEADER_BYTES: Final = _KEY_ID_END + _NONCE_BYTES
KEY_BYTES: Final = 32
CREDENTIALS: Final = Path("/run/credentials")
"""Where systemd hands keys over (systemd.exec(5), LoadCredential), in folders that it keeps shut itself."""


class Secret:
    """Text that must not be seen: printing, formatting, pickling or comparing it gives nothing away."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself. Call this at the last moment, where the secret is used."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(_utf8(self._text), _utf8(other._text))

    def __hash__(self) -> int:
        raise TypeError("a Secret is never a key or a member of a set")

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "***"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a Secret is never pickled")


class SealBroken(Exception):
    """A sealed value does not open: altered, moved to another place, or sealed with another key."""


class Keyring:
    """Seals and opens secrets, and derives the other keys this installation needs.

    master: 32 random bytes. find: gives a data key that is not known yet, wrapped, by its id; the database sets it.
    """

    def __init__(self, master: bytes) -> None:
        if len(master) != KEY_BYTES:
            raise ValueError(f"a master key has {KEY_BYTES} bytes")
        self._master = master
        self._wrapper = AESGCM(self.derive("wrap"))
        self.key_id = hashlib.sha256(self.derive("key id")).digest()[:_KEY_ID_BYTES]
        self._terms = {self.key_id: AESGCM(self.derive("seal"))}
        self.find: Callable[[bytes], bytes | None] = lambda _key_id: None

    def derive(self, purpose: str) -> bytes:
        """A 32-byte key for one purpose (HKDF-SHA-256, RFC 5869)."""
        return HKDF(SHA256(), KEY_BYTES, salt=None, info=b"keypost/1/" + purpose.encode()).derive(self._master)

    def digest(self, purpose: str, *parts: str) -> str:
        """A keyed fingerprint of ``parts`` (HMAC-SHA-256, hex); worthless to who has the database alone."""
        mac = hmac.new(self.derive(purpose), digestmod="sha256")
        for part in parts:
            encoded = _utf8(part)
            mac.update(len(encoded).to_bytes(8, "big") + encoded)
        return mac.hexdigest()

    def new_term(self) -> tuple[bytes, bytes]:
        """Make a data key at random; gives its id, and the key wrapped by the master key."""
        key = os.urandom(KEY_BYTES)
        key_id = hashlib.sha256(b"keypost/1/term" + key).digest()[:_KEY_ID_BYTES]
        return key_id, self._encrypt(self._wrapper, self.key_id, key, _place("key_terms", key_id.hex(), "wrapped"))

    def learn(self, key_id: bytes, wrapped: bytes) -> None:
        """Unwrap a data key, to open with it and to seal with it. Raises SealBroken."""
        if key_id in self._terms:
            return
        place = _place("key_terms", key_id.hex(), "wrapped")
        if wrapped[:_KEY_ID_END] != header_of(self.key_id):
            raise SealBroken(f"the data key {key_id.hex()} was wrapped by another master key")
        key = self._decrypt(self._wrapper, wrapped, place, f"the data key {key_id.hex()}")
        self._terms[key_id] = AESGCM(key)

    def knows(self, key_id: bytes) -> bool:
        """Whether the data key with this id was learnt already."""
        return key_id in self._terms

    def seal(self, secret: Secret, *, table: str, row: str | int, field: str, term: bytes | None = None) -> bytes:
        """Seal a secret for one place in the database. term: the id of a known data key, the original one unless given.

        Code that has a session seals with ``session.keyring``, which knows the term in force.
        """
        key_id = term or self.key_id
        return self._encrypt(self._terms[key_id], key_id, _utf8(secret.reveal()), _place(table, row, field))

    def unseal(self, sealed: bytes, *, table: str, row: str | int, field: str) -> Secret:
        """Open what seal() made for the same place. Raises SealBroken."""
        what = f"{table}.{field} of row {row}"
        cipher = self._cipher(key_id_of(sealed))
        if cipher is None or sealed[:1] != _FORMAT:
            raise SealBroken(f"{what} was sealed with another key")
        return Secret(self._decrypt(cipher, sealed, _place(table, row, field), what).decode("utf-8", "surrogatepass"))

    def _cipher(self, key_id: bytes) -> AESGCM | None:
        if key_id not in self._terms and len(key_id) == _KEY_ID_BYTES:
            wrapped = self.find(key_id)
            if wrapped is not None:
                self.learn(key_id, wrapped)
        return self._terms.get(key_id)

    @staticmethod
    def _encrypt(cipher: AESGCM, key_id: bytes, plain: bytes, place: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        header = header_of(key_id)
        return header + nonce + cipher.encrypt(nonce, plain, header + place)

    @staticmethod
    def _decrypt(cipher: AESGCM, sealed: bytes, place: bytes, what: str) -> bytes:
        header, nonce, ciphertext = sealed[:_KEY_ID_END], sealed[_KEY_ID_END:_HEADER_BYTES], sealed[_HEADER_BYTES:]
        try:
            return cipher.decrypt(nonce, ciphertext, header + place)
        except (InvalidTag, ValueError):
            raise SealBroken(f"{what} does not open: it was altered or moved") from None


def header_of(key_id: bytes) -> bytes:
    """What everything sealed with this data key begins with."""
    return _FORMAT + key_id


def key_id_of(sealed: bytes) -> bytes:
    """The id of the data key that a value was sealed with."""
    return sealed[len(_FORMAT) : _KEY_ID_END]


def _place(table: str, row: str | int, field: str) -> bytes:
    return "\x1f".join(("keypost", table, str(row), field)).encode()


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def make_key_file(path: Path) -> None:
    """Write a new random master key, 0600, never over an existing file. Raises CannotStart.

    The name appears once the key is on the disk: a crash leaves no half key, and of two who make one at once the
    first one's stays.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _write_through(draft, os.urandom(KEY_BYTES).hex().encode() + b"\n")
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise CannotStart(
            f"The master key {path} cannot be written ({error.strerror}). "
            "Give the folder to the user that runs Keypost, or name another file with KEYPOST_MASTER_KEY_FILE."
        ) from None
    finally:
        draft.unlink(missing_ok=True)


def _write_through(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_key_file(path: Path) -> Keyring:
    """Read the master key. Raises CannotStart when the file is missing, malformed or open to others."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        text, mode = _read_little(handle)
    except OSError as error:
        raise CannotStart(
            f"The master key {path} cannot be read ({error.strerror}). The secrets in this database open with that "
            "key alone: put it back from where you keep its copy, or name it with KEYPOST_MASTER_KEY_FILE."
        ) from None
    if mode & open_to_others(path):
        raise CannotStart(f"The master key {path} is open to other users. Close it with: chmod 600 {path}")
    try:
        master = bytes.fromhex(text.decode("ascii"))
        keyring = Keyring(master)
    except ValueError:
        raise CannotStart(
            f"The master key {path} is damaged: it should be {2 * KEY_BYTES} hexadecimal digits and nothing else. "
            "Put it back from where you keep its copy."
        ) from None
    if _is_sample(master):
        raise CannotStart(
            f"The master key {path} is a sample that everybody knows, not one made at random. "
            "Put the right one back; for a new installation remove it, and Keypost makes one."
        )
    return keyring


def open_to_others(key_file: Path) -> int:
    """The bits of its mode that the file of a master key must not have.

    systemd since 254 lets the service in by an access list, whose mask shows as the group's bit to read.
    """
    return 0o037 if CREDENTIALS in key_file.parents else 0o077


def _is_sample(master: bytes) -> bool:
    """Whether a key is made of few bytes or counts up: of 32 random bytes, hardly ever fewer than 24 differ."""
    steps = {(after - before) % 256 for before, after in itertools.pairwise(master)}
    return len(set(master)) < KEY_BYTES // 2 or len(steps) == 1


def _read_little(handle: int) -> tuple[bytes, int]:
    """The beginning of a file, more than a key is long, and the file's mode; closes it."""
    try:
        return os.read(handle, 200), stat.S_IMODE(os.fstat(handle).st_mode)
    finally:
        os.close(handle)
