"""How long the outbox keeps what has ended."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp.actor import Actor
from webapp.audit import trail
from webapp.db import Base, Session
from webapp.errors import Invalid
from webapp.i18n import gettext as _
from webapp.outbox.outcomes import KEPT_DAYS

MOST_DAYS: Final = 730
_ONLY: Final = 1


class OutboxSettings(Base):
    """What an administrator chose; there is no row before. kept_days: so long an ended message is kept."""

    __tablename__ = "outbox_settings"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kept_days: Mapped[int]


def kept_days(session: Session) -> int:
    """How many days an ended message is kept."""
    return session.scalar(sa.select(OutboxSettings.kept_days)) or KEPT_DAYS


def keep(session: Session, actor: Actor, days: int) -> None:
    """Keep ended messages for so many days from now on. Raises Invalid."""
    if not 1 <= days <= MOST_DAYS:
        raise Invalid(_("Give a number of days from 1 to %(most_days)s.", most_days=MOST_DAYS), "kept_days")
    before = kept_days(session)
    if days == before:
        return
    session.add_unless_there(OutboxSettings, id=_ONLY, kept_days=days)
    session.execute(sa.update(OutboxSettings).values(kept_days=days))
    trail.record(session, actor, "outbox:keep", subject="outbox", days=days, before=before)
