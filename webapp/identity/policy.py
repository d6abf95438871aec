"""The sign-in policy: who needs a second factor, how long a session lasts, how many wrong attempts are free."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp.actor import Actor, Role
from webapp.audit import trail
from webapp.db import Base, Session, UtcDateTime
from webapp.errors import Conflict, Invalid
from webapp.i18n import gettext as _

# Bounds of what can be chosen: NIST SP 800-63B-4, 2.2.3, allows 60 minutes unused and 24 hours in all.
IDLE_MINUTES: Final = (5, 60)
LONGEST_HOURS: Final = (1, 24)
FREE_ATTEMPTS: Final = (3, 10)


class SignInPolicy(Base):
    """One row once somebody has saved it; until then the defaults.

    second_factor_roles: the roles whose users need a second factor, separated by blanks.
    """

    __tablename__ = "sign_in_policy"

    id: Mapped[int] = mapped_column(primary_key=True)
    second_factor_roles: Mapped[str] = mapped_column(sa.String(200))
    idle_minutes: Mapped[int]
    longest_hours: Mapped[int]
    free_attempts: Mapped[int]
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_by_name: Mapped[str] = mapped_column(sa.String(320))
    version: Mapped[int]

    @property
    def idle(self) -> timedelta:
        """A session unused for longer is over."""
        return timedelta(minutes=self.idle_minutes)

    @property
    def longest(self) -> timedelta:
        """A session older than this is over, however much it is used."""
        return timedelta(hours=self.longest_hours)

    def needs_second_factor(self, role: str) -> bool:
        return role in self.second_factor_roles.split()


def default() -> SignInPolicy:
    """What holds until somebody decides otherwise."""
    return SignInPolicy(
        id=1, second_factor_roles="", idle_minutes=30, longest_hours=12, free_attempts=5, updated_by_name="", version=0
    )


def current(session: Session) -> SignInPolicy:
    return session.get(SignInPolicy, 1) or default()


def save(
    session: Session,
    actor: Actor,
    *,
    roles: Collection[Role],
    idle_minutes: int,
    longest_hours: int,
    free_attempts: int,
    version: int,
) -> None:
    """Replace the policy of that version. Raises Invalid with the field, Conflict when somebody else was faster."""
    _check("idle_minutes", idle_minutes, IDLE_MINUTES, "minutes")
    _check("longest_hours", longest_hours, LONGEST_HOURS, "hours")
    _check("free_attempts", free_attempts, FREE_ATTEMPTS, "attempts")
    values: dict[str, str | int] = {
        "second_factor_roles": " ".join(role.value for role in Role if role in roles),
        "idle_minutes": idle_minutes,
        "longest_hours": longest_hours,
        "free_attempts": free_attempts,
    }
    session.add_unless_there(
        SignInPolicy, id=1, **values, updated_at=session.now(), updated_by_name=actor.name[:320], version=0
    )
    now = session.get_one(SignInPolicy, 1, with_for_update=True, populate_existing=True)
    if now.version != version:
        raise Conflict(
            _(
                "%(updated_by_name)s saved another sign-in policy while this was open. Nothing of yours "
                "was saved: reload the page, then decide again.",
                updated_by_name=now.updated_by_name,
            )
        )
    for name, value in values.items():
        setattr(now, name, value)
    now.updated_at, now.updated_by_name, now.version = session.now(), actor.name[:320], version + 1
    trail.record(session, actor, "sign-in-policy:save", subject="", outcome="done", **values)


def _check(field: str, value: int, bounds: tuple[int, int], unit: str) -> None:
    least, most = bounds
    if not least <= value <= most:
        raise Invalid(_("Choose from %(least)s to %(most)s %(unit)s.", least=least, most=most, unit=unit), field)
