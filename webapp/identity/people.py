"""People as administrators see them: found by name, role and standing, and changed with all that follows from it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from webapp.actor import Actor, Role
from webapp.db import Session
from webapp.i18n import N_
from webapp.i18n import gettext as _
from webapp.identity import links
from webapp.identity.invitations import Story, not_told, stories
from webapp.identity.users import User, edit_user
from webapp.search import Page, holds_all, span, words

PER_PAGE = 50


class Standing(enum.StrEnum):
    """What the list can be narrowed to; the value stands in its address."""

    EVERYBODY = "everybody"
    NOT_TOLD = "not-told"
    NO_PASSWORD = "no-password"  # noqa: S105 - a standing, not a password
    DISABLED = "disabled"

    @property
    def label(self) -> str:
        """The standing as the list's choices write it."""
        return _(_STANDINGS[self])


_STANDINGS = {
    Standing.EVERYBODY: N_("Everybody"),
    Standing.NOT_TOLD: N_("Not told"),
    Standing.NO_PASSWORD: N_("Without a password"),
    Standing.DISABLED: N_("Disabled"),
}


@dataclass(frozen=True, slots=True)
class People:
    """One page of users, and what became of telling each, by the user's number."""

    page: Page[User]
    stories: Mapping[int, Story]


def find_people(
    session: Session,
    *,
    q: str = "",
    role: Role | None = None,
    standing: Standing = Standing.EVERYBODY,
    page: int = 1,
    per_page: int = PER_PAGE,
) -> People:
    """Who matches all of it, by name; the words of ``q`` are looked for in name and address."""
    found = sa.select(User).where(holds_all(User.search_key, words(q)))
    if role is not None:
        found = found.where(User.role == role.value)
    if standing is Standing.NOT_TOLD:
        found = found.where(not_told())
    elif standing is Standing.NO_PASSWORD:
        found = found.where(User.active, User.password_hash.is_(None))
    elif standing is Standing.DISABLED:
        found = found.where(~User.active)
    total = session.scalar(found.with_only_columns(sa.func.count(User.id))) or 0
    page, pages, per_page = span(total, page, per_page)
    ordered = found.order_by(sa.func.lower(User.name), User.id).limit(per_page).offset((page - 1) * per_page)
    items = session.scalars(ordered).all()
    return People(Page(items, total, page, pages, q), stories(session, items))


def change(session: Session, actor: Actor, user_id: int, *, name: str, role: Role, active: bool) -> User:
    """Change a user, and end the links of one who is disabled.

    Raises NotFound, Invalid with the field at fault, and Conflict for the last administrator.
    """
    user = edit_user(session, actor, user_id, name=name, role=role, active=active)
    if not active:
        links.end_links(session, user)
    return user
