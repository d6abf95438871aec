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

ACTION: Final = "access:refuse"


def record(session: Session, actor: Actor, what: str) -> None:
    """Leave a line about a refused act, unless there were many of late. what: what was asked for."""
    who = AuditLine.actor_id == actor.id if actor.id is not None else AuditLine.source == actor.source[:100]
    recent = sa.select(AuditLine.id).where(
        AuditLine.action == ACTION, who, AuditLine.at > session.now() - timedelta(hours=1)
    )
    count = len(session.scalars(recent.limit(MOST)).all())
    if count < MOST:
        more = {"note": "more of these are left out for up to an hour"} if count == MOST - 1 else {}
        trail.record(session, actor, ACTION, outcome="refused", asked=what[:300], **more)
