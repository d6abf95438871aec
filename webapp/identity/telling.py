"""Tells people by mail what concerns them: the one way in which a change queues a message."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from webapp.actor import Actor
from webapp.db import Session
from webapp.i18n import reading_as
from webapp.identity import preferences
from webapp.identity.languages import reader_of
from webapp.outbox import messages
from webapp.outbox.messages import LIFE, Kind

if TYPE_CHECKING:
    from webapp.identity.users import User


def tell(
    session: Session,
    actor: Actor,
    user: User,
    kind: Kind,
    *,
    about: str = "",
    life: timedelta = LIFE,
    again_of: int | None = None,
    **facts: str,
) -> str | None:
    """Queue a message to ``user`` in the caller's transaction, about what ``actor`` did; gives its token.

    about: ``noun:id`` of what it tells of. facts: the placeholders of the kind's text that only the caller knows; those
    made by lazy() or later() are worded for the user. The language and zone of this moment go along, so that the same
    message always becomes the same bytes.
    life: how long it is worth sending. again_of: the message it repeats. Nothing is queued for a disabled user, nor
    what a user does not want.
    """
    if not user.active or not preferences.wants(session, user.id, kind):
        return None
    reader = reader_of(user)
    with reading_as(reader):
        data = {name: str(fact) for name, fact in facts.items()}
    return messages.queue(
        session,
        actor,
        kind,
        recipient=user.email,
        recipient_name=user.name,
        user_id=user.id,
        about=about,
        data=data | {"language": reader.language, "zone": reader.zone},
        life=life,
        again_of=again_of,
    )
