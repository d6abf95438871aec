"""Tells administrators that a certificate will end which mail may rely on: at 30, 14, 7 and 1 days, once each.

What was told is written down in the transaction that queues the mails, so that neither a restart nor a second worker
tells it again.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp.actor import Actor
from webapp.db import Base, Session, UtcDateTime
from webapp.i18n import gettext as _
from webapp.i18n import later
from webapp.identity.telling import tell
from webapp.identity.users import active_administrators
from webapp.mail import reliance
from webapp.mail.reliance import Ending
from webapp.outbox.messages import Kind

_FORGET_AFTER: Final = timedelta(days=60)


class ToldEnding(Base):
    """One warning that was queued. sha256: of the certificate; days: which of the warnings."""

    __tablename__ = "told_endings"

    sha256: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    days: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    told_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


def warn(session: Session, actor: Actor) -> int:
    """Queue the warnings that are due, in the caller's transaction; gives for how many certificates."""
    near = sorted(reliance.endings(session), key=lambda each: not each.in_use)
    due = [each for each in near if each.term.warning and _is_new(session, each)]
    for ending in due:
        _tell(session, actor, ending)
    session.execute(sa.delete(ToldEnding).where(ToldEnding.told_at < session.now() - _FORGET_AFTER))
    return len(due)


def _is_new(session: Session, ending: Ending) -> bool:
    """Write down that this is told, unless it is already: of two workers at once, one waits and finds it done."""
    return session.add_unless_there(
        ToldEnding, sha256=ending.certificate, days=ending.term.warning, told_at=session.now()
    )


def _tell(session: Session, actor: Actor, ending: Ending) -> None:
    for administrator in active_administrators(session):
        tell(
            session,
            actor,
            administrator,
            Kind.CERTIFICATE_EXPIRING,
            about=f"certificate:{ending.sha256}" if ending.sha256 else "certificate",
            life=ending.term.not_after - session.now(),
            certificate=ending.about,
            days=str(ending.term.days),
            ends=ending.term.not_after.isoformat(),
            effect=later(_effect, ending),
        )


def _effect(ending: Ending) -> str:
    if not ending.in_use:
        return _("Nothing is known to use it: remove it if it is no longer needed.")
    if ending.sha256 is None:
        return _("Once it has ended, no mail can be sent: have it renewed on the mail server, and test again.")
    return _("Once it has ended, no mail can be sent: import its successor before that.")
