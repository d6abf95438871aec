"""Lines about what was refused: few enough that nobody fills the trail by knocking."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import sqlalchemy as sa

from webapp.actor import Actor
from webapp.audit import trail
from webapp.audit.trail import AuditLine
from webapp.db import Session

MOST: Final = 20
"""So many lines of one person, or from one address, in an hour; the last says that more are left out."""

MOST_OF_STRANGERS: Final = 200
"""So many of all together who are not signed in: whoever has a network of IPv6 knocks from ever new addresses."""

ACTION: Final = "access:refuse"


def record(session: Session, actor: Actor, what: str) -> None:
    """Leave a line about a refused act, unless there were many of late. what: what was asked for."""
    who = AuditLine.actor_id == actor.id if actor.id is not None else AuditLine.source == actor.source[:100]
    left = MOST - _recent(session, who, MOST)
    if actor.id is None:
        left = min(left, MOST_OF_STRANGERS - _recent(session, AuditLine.actor_id.is_(None), MOST_OF_STRANGERS))
    if left > 0:
        more = {"note": "more of these are left out for up to an hour"} if left == 1 else {}
        trail.record(session, actor, ACTION, outcome="refused", asked=what[:300], **more)


def _recent(session: Session, who: sa.ColumnElement[bool], most: int) -> int:
    """How many such lines there are of the last hour, ``most`` at most."""
    lately = sa.and_(AuditLine.action == ACTION, AuditLine.at > session.now() - timedelta(hours=1))
    return len(session.scalars(sa.select(AuditLine.id).where(lately, who).limit(most)).all())
