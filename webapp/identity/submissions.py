"""Forms that were sent: the same one sent twice, by a second click, is done once and answered twice."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp.db import Base, Session, UtcDateTime, sealed_as
from webapp.keyring import Secret

_REMEMBERED: Final = timedelta(hours=1)
_LONGEST: Final = timedelta(minutes=1)


class Submission(Base):
    """One form as one browser sent it. key: a keyed hash of which browser, where to and what.

    sealed: what it was answered, which may open a session; None while it is done.
    """

    __tablename__ = "submissions"

    key: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    sealed: Mapped[bytes | None] = mapped_column(info=sealed_as("{key}", field="answer"))


@dataclass(frozen=True, slots=True)
class Answered:
    """A form that was sent before. answer: None while it is done; at: when it was begun."""

    answer: Secret | None
    at: datetime


def begin(session: Session, key: str) -> bool:
    """Take this form on; False when it is being done or was done within the hour. What a crash left is forgotten."""
    forget_old(session)
    return session.add_unless_there(Submission, key=key, at=session.now(), sealed=None)


def forget_old(session: Session) -> None:
    """Delete what was done more than an hour ago, and what a crash left."""
    now = session.now()
    over = sa.and_(Submission.sealed.is_(None), Submission.at < now - _LONGEST)
    session.execute(sa.delete(Submission).where(sa.or_(Submission.at < now - _REMEMBERED, over)))


def look_up(session: Session, key: str) -> Answered | None:
    """What became of the form; None when it came to nothing, or was never sent. Raises SealBroken."""
    row = session.get(Submission, key)
    if row is None:
        return None
    answer = session.keyring.unseal(row.sealed, **_place(key)) if row.sealed is not None else None
    return Answered(answer, row.at)


def end(session: Session, key: str, answer: Secret | None) -> None:
    """Keep the answer for a second click; without one the form may be sent again."""
    this = Submission.key == key
    if answer is None:
        session.execute(sa.delete(Submission).where(this))
    else:
        session.execute(sa.update(Submission).where(this).values(sealed=session.keyring.seal(answer, **_place(key))))


def _place(key: str) -> dict[str, Any]:
    return {"table": Submission.__tablename__, "row": key, "field": "answer"}
