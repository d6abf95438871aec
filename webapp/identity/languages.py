"""In which language and time zone a person reads: what they chose, or else what their browser said last.

Pages follow the choice, and without one the browser that asks. Mails leave when no browser is there, so they follow
the choice, and without one what the person's browser said at their last visit. Before the first visit that is what
holds for the administrator who added them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webapp.actor import Actor
from webapp.audit import trail
from webapp.db import Session
from webapp.errors import Invalid
from webapp.i18n import LANGUAGES, Reader, valid_language, valid_zone
from webapp.i18n import gettext as _

if TYPE_CHECKING:
    from webapp.identity.users import User


def reader_of(user: User) -> Reader:
    """For whom a mail to this person is written."""
    language = valid_language(user.language) or valid_language(user.seen_language) or Reader().language
    return Reader(language, valid_zone(user.time_zone) or valid_zone(user.seen_zone) or Reader().zone)


def choose(session: Session, actor: Actor, user: User, *, language: str, time_zone: str) -> None:
    """Read in this language and zone from now on; blank follows the browser. Raises Invalid with the field at fault."""
    if language and language not in LANGUAGES:
        raise Invalid(_("Choose one of the languages in the list."), "language")
    if time_zone and not valid_zone(time_zone):
        raise Invalid(_("Choose one of the time zones in the list."), "time_zone")
    if (user.language, user.time_zone) == (language, time_zone):
        return
    user.language, user.time_zone = language, time_zone
    trail.record(
        session, actor, "user:choose-language", subject=f"user:{user.id}", language=language, time_zone=time_zone
    )


def note(user: User, *, language: str, time_zone: str) -> None:
    """Remember what the person's browser said; blank says nothing."""
    user.seen_language = valid_language(language) or user.seen_language
    user.seen_zone = valid_zone(time_zone) or user.seen_zone
