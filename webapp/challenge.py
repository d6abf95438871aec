"""What a browser is asked to answer with a passkey: which site asks, and a challenge that is good for one answer."""

from __future__ import annotations

import base64
import binascii
import enum
import secrets
import time
from typing import Final
from urllib.parse import urlsplit

from flask import request, session

from webapp.db import Session
from webapp.identity import passkeys
from webapp.identity.passkeys import RelyingParty
from webapp.mail import settings

_CHALLENGE: Final = "challenge"


class Purpose(enum.StrEnum):
    """What an answer is for; a challenge given for one is worth nothing for another."""

    MADE = "made"
    SIGN_IN = "used"
    PROOF = "proof"


def party(reading: Session) -> RelyingParty:
    """This site as browsers know it: by the address that users are told to open, or else by the one they opened."""
    saved = settings.current(reading)
    address = urlsplit(saved.access_url if saved else request.host_url)
    return RelyingParty(address.hostname or "localhost", f"{address.scheme}://{address.netloc}")


def give(purpose: Purpose) -> bytes:
    """A challenge that this browser's signed cookie remembers until it is answered."""
    challenge = secrets.token_bytes(32)
    session[_CHALLENGE] = [purpose, int(time.time()), base64.b64encode(challenge).decode()]
    return challenge


def take(purpose: Purpose) -> bytes | None:
    """The challenge given to this browser within five minutes for the purpose; it is forgotten by being asked for."""
    try:
        given_for, at, challenge = session.pop(_CHALLENGE)
        if given_for == purpose and 0 <= time.time() - at <= passkeys.VALID_FOR.total_seconds():
            return base64.b64decode(challenge)
    except (KeyError, TypeError, ValueError, binascii.Error):
        pass
    return None
