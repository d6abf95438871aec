"""Which mails a person does not want. What somebody needs to sign in cannot be switched off."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp.actor import Actor
from webapp.audit import trail
from webapp.db import Base, Session
from webapp.outbox.messages import Kind


class SwitchedOff(Base):
    """One kind of mail that one user does not want."""

    __tablename__ = "switched_off_mails"

    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(sa.String(40), primary_key=True)


def switched_off(session: Session, user_id: int) -> frozenset[Kind]:
    """What this user does not want."""
    stored = set(session.scalars(sa.select(SwitchedOff.kind).where(SwitchedOff.user_id == user_id)))
    return frozenset(kind for kind in Kind if kind.value in stored and not kind.is_essential)


def wants(session: Session, user_id: int, kind: Kind) -> bool:
    """Whether a mail of this kind is to be queued for this user."""
    return kind.is_essential or session.get(SwitchedOff, (user_id, kind.value)) is None


def switch(session: Session, actor: Actor, user_id: int, kinds: Collection[Kind], off: Collection[Kind]) -> None:
    """Among ``kinds``, let the user get all but those in ``off``; other kinds, and essential ones, stay as they are."""
    before = switched_off(session, user_id)
    after = (before - set(kinds)) | {kind for kind in kinds if kind in off and not kind.is_essential}
    if after == before:
        return
    session.execute(sa.delete(SwitchedOff).where(SwitchedOff.user_id == user_id))
    for kind in after:
        session.add_unless_there(SwitchedOff, user_id=user_id, kind=kind.value)
    trail.record(session, actor, "user:choose-mails", subject=f"user:{user_id}", switched_off=sorted(after))
