"""Whether a key alone does something on the pages: who speaks to the machine switches it off."""

from __future__ import annotations

from webapp.actor import Actor
from webapp.audit import trail
from webapp.db import Session
from webapp.identity.users import User


def choose(session: Session, actor: Actor, user: User, *, single_keys: bool) -> None:
    """Have single keys do something from now on, or nothing (WCAG 2.1.4)."""
    if user.single_keys == single_keys:
        return
    user.single_keys = single_keys
    trail.record(session, actor, "user:choose-keys", subject=f"user:{user.id}", single_keys=single_keys)
