"""Passwords of users: their rules and their hashes (Argon2id, RFC 9106)."""

from __future__ import annotations

import functools
import threading
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from webapp.errors import Invalid
from webapp.keyring import Secret

LEAST_CHARACTERS = 15
MOST_CHARACTERS = 1024
_hasher = PasswordHasher()
# Each hash takes 64 MiB and a core for a tenth of a second: a flood of sign-ins must queue, not exhaust the machine.
_at_once = threading.BoundedSemaphore(2)


@functools.cache
def _nobodys_hash() -> str:
    """A hash with the parameters of today, for addresses that nobody has."""
    return _hasher.hash("nobody has this password")


def check_new(password: Secret, *, field: str = "password") -> None:
    """Refuse a password that is too short or absurdly long (NIST SP 800-63B-4, 3.1.1.2). Raises Invalid."""
    length = len(_normal(password))
    if length < LEAST_CHARACTERS:
        raise Invalid(
            f"Use at least {LEAST_CHARACTERS} characters; a few words you can remember are best. This has {length}.",
            field,
        )
    if length > MOST_CHARACTERS:
        raise Invalid(f"A password can have at most {MOST_CHARACTERS} characters. This has {length}.", field)


def hash_password(password: Secret) -> str:
    """The Argon2id hash to store."""
    with _at_once:
        return _hasher.hash(_normal(password))


def verify_password(hashed: str | None, password: Secret) -> bool:
    """Compare, taking as long for nobody (None) as for somebody, so that time tells not who exists."""
    given = _normal(password)
    if len(given) > MOST_CHARACTERS:
        return False
    with _at_once:
        try:
            return _hasher.verify(hashed or _nobodys_hash(), given) and hashed is not None
        except (VerificationError, InvalidHashError):
            return False


def is_outdated(hashed: str) -> bool:
    """Whether the hash was made with weaker parameters than new ones are."""
    return _hasher.check_needs_rehash(hashed)


def _normal(password: Secret) -> str:
    return unicodedata.normalize("NFC", password.reveal())
