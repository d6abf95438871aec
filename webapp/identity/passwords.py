"""Passwords of users: their rules and their hashes (Argon2id, RFC 9106)."""

from __future__ import annotations

import contextlib
import functools
import re
import threading
import unicodedata
from collections.abc import Iterator, Sequence

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from webapp.errors import Invalid, Unavailable
from webapp.i18n import gettext as _
from webapp.keyring import Secret

LEAST_CHARACTERS = 15
MOST_CHARACTERS = 1024
_hasher = PasswordHasher()
# Each hash takes 64 MiB and a core for a tenth of a second: a flood of sign-ins must queue, not exhaust the machine.
_at_once = threading.BoundedSemaphore(2)
# … and the queue must leave threads to answer other pages: who comes when it is full is told to come again.
_in_line = threading.BoundedSemaphore(5)
# What fewer than a hundred million guesses find is refused: the bound that zxcvbn itself draws.
_FEWEST_GUESSES = 100_000_000
# Characters judged at each end; the time it takes grows steeply, to a second for forty odd characters.
_JUDGED = 32
# zxcvbn keeps what it is told about a person in a place that all share.
_judging = threading.Lock()


@functools.cache
def _nobodys_hash() -> str:
    """A hash with the parameters of today, for addresses that nobody has."""
    return _hasher.hash("nobody has this password")


def check_new(password: Secret, *, about: Sequence[str] = (), field: str = "password") -> None:
    """Refuse a password that is too short, absurdly long, or among the first that are guessed. Raises Invalid.

    There are no rules of composition (NIST SP 800-63B-4, 3.1.1.2). One length holds for all: the password alone
    confirms within a session who one is, so it never is just one factor of two.

    about: what is known of its owner, such as name and address; a password made of these is refused as well.
    """
    text = _normal(password)
    length = len(text)
    if length < LEAST_CHARACTERS:
        raise Invalid(
            _(
                "Use at least %(least_characters)s characters; a few words you can remember are best. "
                "This has %(length)s.",
                least_characters=LEAST_CHARACTERS,
                length=length,
            ),
            field,
        )
    if length > MOST_CHARACTERS:
        raise Invalid(
            _(
                "A password can have at most %(most_characters)s characters. This has %(length)s.",
                most_characters=MOST_CHARACTERS,
                length=length,
            ),
            field,
        )
    if _is_made_of(text, about):
        raise Invalid(
            _(
                "This is made of your name, your address or the name Keypost, which are tried first. Use "
                "a few words that have nothing to do with you."
            ),
            field,
        )
    if _is_common(text):
        raise Invalid(
            _(
                "This is among the first passwords that are tried: a known one, a repetition or a simple "
                "row. Use a few words that do not belong together."
            ),
            field,
        )


def _is_made_of(text: str, about: Sequence[str]) -> bool:
    """Whether little is left without the words known of the person, digits and signs."""
    rest = text.casefold()
    words = {word for known in (*about, "keypost") for word in re.split(r"[\W_\d]+", known.casefold())}
    for word in sorted((word for word in words if len(word) > 2), key=len, reverse=True):
        rest = rest.replace(word, "")
    return len(rest) < len(text) and sum(sign.isalpha() for sign in rest) < 4


def _is_common(text: str) -> bool:
    """Whether both ends of the text would be guessed soon, by the lists of passwords, names and words in zxcvbn."""
    from zxcvbn import zxcvbn  # noqa: PLC0415 - loads 100,000 words, in a tenth of a second

    with _judging:
        return all(zxcvbn(part)["guesses"] < _FEWEST_GUESSES for part in {text[:_JUDGED], text[-_JUDGED:]})


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


@contextlib.contextmanager
def place_in_line() -> Iterator[None]:
    """Stay in line to prove who one is, which takes a hash. Raises Unavailable, before any work, when it is full."""
    if not _in_line.acquire(blocking=False):
        raise Unavailable(_("Many people are signing in at this moment. Wait a few seconds and try again."))
    try:
        yield
    finally:
        _in_line.release()


def stronger_hash(hashed: str | None, password: Secret) -> str | None:
    """A new hash of the password when its own was made with other parameters than new ones are, else None."""
    return hash_password(password) if hashed is not None and _hasher.check_needs_rehash(hashed) else None


def _normal(password: Secret) -> str:
    return unicodedata.normalize("NFC", password.reveal())
