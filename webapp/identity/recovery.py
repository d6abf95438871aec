"""Recovery codes: ten, each good once in place of a second factor that is lost. Only their hashes are kept."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy.orm import Mapped, mapped_column

from webapp.actor import Actor
from webapp.audit import trail
from webapp.db import Base, Session, UtcDateTime
from webapp.identity.users import User
from webapp.keyring import Secret

HOW_MANY: Final = 10
_LENGTH: Final = 12
# No letter or digit that looks like another: 12 of these are 58 bits.
_ALPHABET: Final = "ABCDEFGHJKMNPQRSTVWXYZ23456789"
# Codes are random, so a cheaper hash does than for passwords; ten are made, and up to ten compared, at a time.
_hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)


class RecoveryCode(Base):
    """One code. It stays when it was used, so that it can be counted."""

    __tablename__ = "recovery_codes"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    code_hash: Mapped[str] = mapped_column(sa.String(300))
    used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


def renew(session: Session, actor: Actor, user: User) -> list[Secret]:
    """Ten new codes, to be shown once; those before are worth nothing from now on."""
    codes = ["".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH)) for _ in range(HOW_MANY)]
    forget(session, user.id)
    session.add_all(RecoveryCode(user_id=user.id, code_hash=_hasher.hash(code)) for code in codes)
    trail.record(session, actor, "recovery-codes:renew", subject=f"user:{user.id}")
    return [Secret("-".join(code[at : at + 4] for at in range(0, _LENGTH, 4))) for code in codes]


def left(session: Session, user_id: int) -> int:
    """How many codes have not been used."""
    return session.scalar(sa.select(sa.func.count()).where(_unused(user_id))) or 0


def look_up(session: Session, user_id: int, code: str) -> int | None:
    """The number of the unused code that fits, if any; comparing takes time, so do it outside a transaction."""
    given = "".join(code.split()).replace("-", "").upper()
    if len(given) != _LENGTH:
        return None
    for row in session.scalars(sa.select(RecoveryCode).where(_unused(user_id)).order_by(RecoveryCode.id)).all():
        if _fits(row.code_hash, given):
            return row.id
    return None


def spend(session: Session, user_id: int, number: int) -> bool:
    """Use up the code that look_up() found; False when it has been used in the meantime."""
    spent = sa.update(RecoveryCode).where(RecoveryCode.id == number, _unused(user_id)).values(used_at=session.now())
    return session.connection().execute(spent).rowcount == 1


def forget(session: Session, user_id: int) -> None:
    session.execute(sa.delete(RecoveryCode).where(RecoveryCode.user_id == user_id))


def _unused(user_id: int) -> sa.ColumnElement[bool]:
    return sa.and_(RecoveryCode.user_id == user_id, RecoveryCode.used_at.is_(None))


def _fits(hashed: str, code: str) -> bool:
    try:
        return _hasher.verify(hashed, code)
    except (VerificationError, InvalidHashError):
        return False
