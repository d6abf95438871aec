"""The ways to sign in to a mail server, one per attempt.

PLAIN (RFC 4616), LOGIN (draft-murchison-sasl-login), CRAM-MD5 (RFC 2195) and SCRAM-SHA-256 (RFC 7677); user names and
passwords are sent in UTF-8. A wrong password must count as one failed login, so exactly one mechanism is chosen from
what the server offers. Over TLS the plain ones are preferred, because every server stores what they need; without TLS
those come first that do not send the password itself.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import stringprep
import unicodedata
from collections.abc import Callable, Generator, Iterable
from typing import Final

Exchange = Generator[bytes, bytes, None]
"""Yields what to answer; receives the server's next challenge, decoded. Ends when nothing more is to be sent."""

_ITERATIONS_AT_MOST: Final = 1_000_000


class BadChallenge(Exception):
    """The server's challenge breaks the rules of the mechanism, or does not prove that it knows the password."""


def choose(offered: Iterable[str], encrypted: bool, *, token: bool = False) -> str | None:
    """The one mechanism to use, or None when none of those offered fits. token: a token is sent, not a password."""
    names = {name.upper() for name in offered}
    if token:
        return "XOAUTH2" if "XOAUTH2" in names else None
    order = ("PLAIN", "LOGIN", "SCRAM-SHA-256", "CRAM-MD5") if encrypted else _WITHOUT_TLS
    return next((name for name in order if name in names), None)


_WITHOUT_TLS: Final = ("SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN")


def plain(username: str, password: str) -> Exchange:
    """RFC 4616: one message, ``NUL username NUL password``; said again to a server that overlooked it."""
    yield b"\x00" + username.encode() + b"\x00" + password.encode()
    yield b"\x00" + username.encode() + b"\x00" + password.encode()


def login(username: str, password: str) -> Exchange:
    """The older LOGIN: the user name and the password, each in answer to a prompt."""
    yield b""
    yield username.encode()
    yield password.encode()


def cram_md5(username: str, password: str) -> Exchange:
    """RFC 2195: the challenge, keyed with the password."""
    challenge = yield b""
    digest = hmac.new(password.encode(), challenge, "md5").hexdigest()
    yield username.encode() + b" " + digest.encode()


def scram_sha_256(username: str, password: str) -> Exchange:
    """RFC 5802 and RFC 7677, without channel binding. Raises BadChallenge, also for a server that proves nothing."""
    nonce = base64.b64encode(secrets.token_bytes(18)).decode()
    name = prepared(username).replace("=", "=3D").replace(",", "=2C")
    first_bare = f"n={name},r={nonce}"
    server_first = yield b"n,," + first_bare.encode()
    salt, iterations, joint_nonce = _read_server_first(server_first, nonce)
    salted = hashlib.pbkdf2_hmac("sha256", prepared(password).encode(), salt, iterations)
    final_bare = f"c=biws,r={joint_nonce}"
    signed = ",".join((first_bare, server_first.decode(), final_bare)).encode()
    client_key = _mac(salted, b"Client Key")
    proof = bytes(a ^ b for a, b in zip(client_key, _mac(hashlib.sha256(client_key).digest(), signed), strict=True))
    server_final = yield f"{final_bare},p={base64.b64encode(proof).decode()}".encode()
    expected = b"v=" + base64.b64encode(_mac(_mac(salted, b"Server Key"), signed))
    if not hmac.compare_digest(server_final.split(b",")[0], expected):
        raise BadChallenge("the server did not prove that it knows the password")
    yield b""


def xoauth2(username: str, token: str) -> Exchange:
    """XOAUTH2 of Google and Microsoft; a challenge holds the reason of a refusal and wants an empty line."""
    yield f"user={username}\x01auth=Bearer {token}\x01\x01".encode()
    yield b""


MECHANISMS: Final[dict[str, Callable[[str, str], Exchange]]] = {
    "PLAIN": plain,
    "LOGIN": login,
    "CRAM-MD5": cram_md5,
    "SCRAM-SHA-256": scram_sha_256,
    "XOAUTH2": xoauth2,
}
SENDS_FIRST: Final = frozenset({"PLAIN", "SCRAM-SHA-256", "XOAUTH2"})
"""The mechanisms whose first message travels in the AUTH command itself (RFC 4954)."""


def decode_challenge(text: bytes) -> bytes:
    """The bytes of a 334 reply. Raises BadChallenge."""
    try:
        return base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        raise BadChallenge("the challenge is not base64") from None


def prepared(text: str) -> str:
    """SASLprep (RFC 4013), leniently: a text it forbids is used as it is."""
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in text
        if not stringprep.in_table_b1(character)
    )
    return unicodedata.normalize("NFKC", mapped)


def _read_server_first(message: bytes, nonce: str) -> tuple[bytes, int, str]:
    try:
        fields = dict(field.split("=", 1) for field in message.decode().split(","))
        salt, iterations = base64.b64decode(fields["s"], validate=True), int(fields["i"])
        joint_nonce = fields["r"]
    except (ValueError, KeyError):
        raise BadChallenge("the first SCRAM message cannot be read") from None
    if not joint_nonce.startswith(nonce) or len(joint_nonce) == len(nonce):
        raise BadChallenge("the server's nonce is not an extension of ours")
    if not 1 <= iterations <= _ITERATIONS_AT_MOST:
        raise BadChallenge("the iteration count is out of bounds")
    return salt, iterations, joint_nonce


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
