"""Shows how a mail would look, with made-up people: written by the same Letters as the real ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from webapp.db import Session
from webapp.errors import Invalid
from webapp.i18n import SOURCE, Reader, reader, reading_as
from webapp.i18n import gettext as _
from webapp.mail import rewording, settings, wording
from webapp.mail.address import valid_address, valid_header_text
from webapp.mail.kinds import OUTLINES
from webapp.mail.letters import Letters, Unwritable
from webapp.mail.settings import valid_access_url
from webapp.mail.wording import Wording
from webapp.outbox.lease import Leased
from webapp.outbox.messages import Kind

_MADE_UP: Final = ("keypost@example.com", "Keypost", "https://keypost.example.com")
_TOKEN: Final = "0" * 32


@dataclass(frozen=True, slots=True)
class Preview:
    """A mail as its reader sees it. html: a whole page; language: in which it is written."""

    sender: str
    recipient: str
    subject: str
    text: str
    html: str
    language: str


def of_wording(session: Session, kind: Kind, subject: str, text: str, language: str = SOURCE) -> Preview:
    """The mail in these words, under the saved settings, or made-up ones before. Raises Invalid, as saving does."""
    given, saved = rewording.checked(kind, subject, text), settings.current(session)
    # The default has HTML of its own, as long as it is the default.
    edited = {} if given == wording.default(kind, language) else {(kind, language): given}
    if saved is None:
        return _preview(_example(session, kind), *_MADE_UP, edited, language=language)
    return _preview(
        _example(session, kind), saved.sender_address, saved.sender_name, saved.access_url, edited, language=language
    )


def of_settings(
    session: Session, *, sender_address: str, sender_name: str, access_url: str, kind: Kind = Kind.ACCOUNT_CREATED
) -> Preview:
    """The mail in the saved words, as it would leave with these settings. Raises Invalid with the field at fault."""
    address = valid_address(sender_address, field="sender_address")
    name = valid_header_text(sender_name, field="sender_name")
    url, edited = valid_access_url(access_url), rewording.edited(session)
    return _preview(_example(session, kind), address, name, url, edited, language=reader().language)


def _preview(
    message: Leased, address: str, name: str, access_url: str, edited: dict[tuple[Kind, str], Wording], *, language: str
) -> Preview:
    letters = Letters(sender_address=address, sender_name=name, access_url=access_url, edited=edited)
    who = Reader(language, reader().zone)
    with reading_as(who):
        data = {fact: _(value) for fact, value in OUTLINES[Kind(message.kind)].data.items()}
    data |= {"language": who.language, "zone": who.zone}
    try:
        letters.write(message, data)
        words = letters.word(message, data)
    except Unwritable as unwritable:
        raise Invalid(unwritable.sentence) from None
    sender = f"{name} <{address}>" if name else address
    recipient = f"{message.recipient_name} <{message.recipient}>"
    return Preview(sender, recipient, words.subject, words.text, words.html, language)


def _example(session: Session, kind: Kind) -> Leased:
    """A message queued this moment, which nobody will ever get."""
    now = session.now()
    return Leased(
        id=0,
        token=_TOKEN,
        kind=kind.value,
        user_id=None,
        recipient="robin.berger@example.com",
        recipient_name="Robin Berger",
        about=OUTLINES[kind].about,
        cause="Alex Meyer",
        sealed=None,
        attempts=0,
        queued_at=now,
        expires_at=now,
        message_id=f"<{_TOKEN}@example.com>",
        lease="",
    )
