"""What may stand in the fields of resources and accounts."""

from __future__ import annotations

import unicodedata

from webapp.errors import Invalid, NotFound
from webapp.i18n import gettext as _
from webapp.keyring import Secret
from webapp.search import LARGEST_ID

LONGEST_NAME = 200
LONGEST_ADDRESS = 300
LONGEST_NOTES = 4000
LONGEST_PASSWORD = 1024
MASK = "•"


def line(text: str, field: str, *, called: str, most: int = LONGEST_NAME, needed: bool = True) -> str:
    """One line of printable text without blanks around it, composed (NFC). Raises Invalid."""
    text = unicodedata.normalize("NFC", text).strip()
    if needed and not text:
        raise Invalid(_("Give the %(called)s.", called=called), field)
    if len(text) > most:
        raise Invalid(
            _(
                "The %(called)s can have at most %(most)s characters. This has %(number)s.",
                called=called,
                most=most,
                number=len(text),
            ),
            field,
        )
    if not text.isprintable():
        raise Invalid(
            _("The %(called)s holds a character that cannot be seen. Type it again by hand.", called=called), field
        )
    return text


def notes(text: str) -> str:
    """Lines of text, ended by ``\\n``. Raises Invalid."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    if len(text) > LONGEST_NOTES:
        raise Invalid(
            _(
                "Notes can have at most %(longest_notes)s characters. These have %(number)s.",
                longest_notes=LONGEST_NOTES,
                number=len(text),
            ),
            "notes",
        )
    if any(unicodedata.category(sign) in ("Cc", "Cs") and sign not in "\n\t" for sign in text):
        raise Invalid(_("The notes hold a control character. Type them again by hand."), "notes")
    return text


def password(secret: Secret) -> Secret:
    """An account's password as it is: any Unicode text of 1 to 1024 characters, blanks included. Raises Invalid."""
    text = secret.reveal()
    if not text:
        raise Invalid(_("Give the account's password."), "password")
    if len(text) > LONGEST_PASSWORD:
        raise Invalid(
            _(
                "A password can have at most %(longest_password)s characters. This has %(number)s.",
                longest_password=LONGEST_PASSWORD,
                number=len(text),
            ),
            "password",
        )
    if "\0" in text:
        raise Invalid(
            _("The password holds a NUL character, which no server accepts. Type it again by hand."), "password"
        )
    if any("\ud800" <= sign <= "\udfff" for sign in text):
        raise Invalid(_("The password holds half a character, which is no text. Type it again by hand."), "password")
    if set(text) == {MASK}:
        raise Invalid(_("That is the row of dots shown in place of a password. Type the password itself."), "password")
    return secret


def identifier(number: int, *, missing: str) -> int:
    """A number that can be a row's. Raises NotFound with the sentence ``missing``."""
    if not 0 < number <= LARGEST_ID:
        raise NotFound(missing)
    return number
