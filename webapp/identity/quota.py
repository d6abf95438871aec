"""How often something may be asked for within a while: counted in the database, so that a restart forgives nothing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp.db import Base, Session, UtcDateTime
from webapp.errors import Invalid
from webapp.i18n import ngettext

_FORGET = timedelta(days=1)


class QuotaCount(Base):
    """How much of one quota was used since ``began_at``; ``key`` is a hash, so that no address stands here."""

    __tablename__ = "quota_counts"

    key: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    began_at: Mapped[datetime] = mapped_column(UtcDateTime)
    count: Mapped[int]


@dataclass(frozen=True, slots=True)
class Quota:
    """``most`` times in ``per``, a day at most. sentence: what whoever asks more often is told, before when to try."""

    name: str
    most: int
    per: timedelta
    sentence: str


def take(session: Session, quota: Quota, *about: str) -> None:
    """Use the quota of ``about`` once more. Raises Invalid when there is nothing left of it."""
    now = session.now()
    key = hashlib.sha256("\x1f".join((quota.name, *about)).encode("utf-8", "surrogatepass")).hexdigest()
    session.add_unless_there(QuotaCount, key=key, began_at=now, count=0)
    row = session.get_one(QuotaCount, key, with_for_update=True, populate_existing=True)
    if not row.began_at <= now < row.began_at + quota.per:  # Over, or begun by a clock that was wrong.
        row.began_at, row.count = now, 0
    if row.count >= quota.most:
        minutes = int((row.began_at + quota.per - now).total_seconds() // 60) + 1
        then = ngettext("Try again in %(num)s minute.", "Try again in %(num)s minutes.", minutes)
        raise Invalid(f"{quota.sentence} {then}")
    row.count += 1
    session.flush()


def forget_old(session: Session) -> None:
    """Delete counts of quotas that have begun anew since."""
    session.execute(sa.delete(QuotaCount).where(QuotaCount.began_at < session.now() - _FORGET))
