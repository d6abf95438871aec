"""Random passwords."""

from __future__ import annotations

import secrets
import string

from webapp.errors import Invalid
from webapp.i18n import gettext as _
from webapp.keyring import Secret
from webapp.vault.fields import LONGEST_PASSWORD

# Without quotes, backslash, $, ` and blanks, which shells, connection strings and configuration files take amiss.
SYMBOLS = "!#%&()*+,-./:;<=>?@[]^_{|}~"
SHORTEST = 8


def generate(length: int = 20, symbols: bool = True) -> Secret:
    """A uniformly random password of ASCII letters, digits and (on request) symbols, at least one of each.

    length: characters, 8 to 1024. Raises Invalid outside of it.
    """
    if not SHORTEST <= length <= LONGEST_PASSWORD:
        raise Invalid(
            _(
                "A generated password has %(shortest)s to %(longest_password)s characters.",
                shortest=SHORTEST,
                longest_password=LONGEST_PASSWORD,
            ),
            "length",
        )
    kinds = [string.ascii_lowercase, string.ascii_uppercase, string.digits, *([SYMBOLS] if symbols else [])]
    alphabet = "".join(kinds)
    # Drawing anew keeps every acceptable password equally likely; putting one of each in place would not.
    while True:
        drawn = [secrets.choice(alphabet) for _ in range(length)]
        if all(any(sign in kind for sign in drawn) for kind in kinds):
            return Secret("".join(drawn))
