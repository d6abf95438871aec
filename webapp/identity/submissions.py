"""Forms that were sent: the same one sent twice, by a second click, is done once and answered twice."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp.db import Base, Session, UtcDateTime

_REMEMBERED: Final = timedelta(hours=1)
_LONGEST: Final = timedelta(minutes=1)


class Submission(Base):
    """One form as one person sent it. key: a keyed hash of who, where to and what; answer: empty while it is done."""

    __tablename__ = "submissions"

    key: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    answer: Mapped[str] = mapped_column(sa.Text, default="")


def begin(session: Session, key: str) -> bool:
    """Take this form on; False when it is being done or was done within the hour. What a crash left is forgotten."""
    now = session.now()
    over = sa.and_(Submission.answer == "", Submission.at < now - _LONGEST)
    session.execute(sa.delete(Submission).where(sa.or_(Submission.at < now - _REMEMBERED, over)))
    return session.add_unless_there(Submission, key=key, at=now, answer="")


def answered(session: Session, key: str) -> str | None:
    """What the form was answered; empty while it is being done, None when it came to nothing."""
    return session.scalar(sa.select(Submission.answer).where(Submission.key == key))


def end(session: Session, key: str, answer: str) -> None:
    """Keep the answer for a second click; an empty one lets the form be sent again."""
    if answer:
        session.execute(sa.update(Submission).where(Submission.key == key).values(answer=answer))
    else:
        session.execute(sa.delete(Submission).where(Submission.key == key))
