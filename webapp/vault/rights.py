"""Who may do what with a resource or an account: the shares as they are kept, and the one decision made from them.

The owner of a resource may do everything with it. Others may do what was shared with them, on the whole resource or on
one account; the account's own share beats the resource's, also when it is the lower one.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp.actor import Actor
from webapp.db import Base, UtcDateTime
from webapp.errors import Refused
from webapp.i18n import N_, lazy
from webapp.i18n import gettext as _

# Rights come before resources and accounts in the imports, yet the decision reaches into their tables.
_resources = sa.table("resources", sa.column("id", sa.Integer), sa.column("owner_id", sa.Integer))
_accounts = sa.table("accounts", sa.column("id", sa.Integer), sa.column("resource_id", sa.Integer))
Number = sa.SQLColumnExpression[int]


class Right(enum.IntEnum):
    """What somebody may do; each holds those before it.

    RECOGNISE is never given: it is what a share on one account lets people see of its resource. OWN is the owner's.
    """

    RECOGNISE = 0
    VIEW = 1
    MODIFY = 2
    MANAGE = 3
    OWN = 4

    @property
    def word(self) -> str:
        """The right as it is stored and typed."""
        return self.name.lower()

    @property
    def said(self) -> str:
        """The right as sentences name it."""
        return _(_SAID[self])

    @property
    def label(self) -> str:
        """The right as pages write it."""
        return _(_LABELS[self])

    @classmethod
    def from_word(cls, word: str) -> Right:
        """The right of a form or a command. Raises KeyError for anything that is none."""
        return cls[word.upper()]


_SAID: Final = {
    Right.RECOGNISE: N_("recognise"),
    Right.VIEW: N_("view"),
    Right.MODIFY: N_("modify"),
    Right.MANAGE: N_("manage"),
    Right.OWN: N_("own"),
}
_LABELS: Final = {
    Right.RECOGNISE: N_("Recognise"),
    Right.VIEW: N_("View"),
    Right.MODIFY: N_("Modify"),
    Right.MANAGE: N_("Manage"),
    Right.OWN: N_("Own"),
}


ON_RESOURCE: Final = {
    Right.VIEW: lazy("Sees the resource with all its accounts, and reveals their passwords, earlier ones too"),
    Right.MODIFY: lazy("Also edits it, sets passwords and adds accounts"),
    Right.MANAGE: lazy("Also shares it, withdraws shares and deletes it"),
}
"""What can be given on a resource, and what whoever has it does."""
ON_ACCOUNT: Final = {
    Right.VIEW: lazy("Sees the account and reveals its password, earlier ones too"),
    Right.MODIFY: lazy("Also edits it and sets its password"),
}
"""What can be given on one account, and what whoever has it does."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How somebody stands to a resource or an account: what they may do, and whom they can ask for more."""

    right: Right
    owner_name: str

    @property
    def views(self) -> bool:
        return self.right >= Right.VIEW

    @property
    def modifies(self) -> bool:
        return self.right >= Right.MODIFY

    @property
    def manages(self) -> bool:
        return self.right >= Right.MANAGE

    @property
    def owns(self) -> bool:
        return self.right is Right.OWN


_Given = sa.Enum(
    Right,
    native_enum=False,
    create_constraint=False,
    length=10,
    values_callable=lambda rights: [right.word for right in rights],
)


class ResourceShare(Base):
    """What one user may do with a resource of somebody else; ``given_by_name`` outlives the user who gave it."""

    __tablename__ = "resource_shares"

    resource_id: Mapped[int] = mapped_column(sa.ForeignKey("resources.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True)
    given: Mapped[Right] = mapped_column(_Given)
    given_at: Mapped[datetime] = mapped_column(UtcDateTime)
    given_by_name: Mapped[str] = mapped_column(sa.String(320))


class AccountShare(Base):
    """What one user may do with one account, whatever they may do with its resource."""

    __tablename__ = "account_shares"

    account_id: Mapped[int] = mapped_column(sa.ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True)
    given: Mapped[Right] = mapped_column(_Given)
    given_at: Mapped[datetime] = mapped_column(UtcDateTime)
    given_by_name: Mapped[str] = mapped_column(sa.String(320))


def on_resource(actor: Actor, right: Right, *, id: Number) -> sa.ColumnElement[bool]:
    """The condition that ``actor`` holds ``right``, or a higher one, on the resource ``id``."""
    if actor.everything:
        return sa.true()
    if actor.id is None:
        return sa.false()
    if right is Right.OWN:
        return id.in_(_owned_by(actor.id))
    held = [_owned_by(actor.id), _shared_with(actor.id, right)]
    if right is Right.RECOGNISE:
        held.append(_recognised_by(actor.id))
    return id.in_(sa.union_all(*held))


def on_account(actor: Actor, right: Right, *, id: Number, resource_id: Number) -> sa.ColumnElement[bool]:
    """The condition that ``actor`` holds ``right``, or a higher one, on the account ``id`` of ``resource_id``."""
    return sa.or_(*ways_to_account(actor, right, id=id, resource_id=resource_id))


def ways_to_account(actor: Actor, right: Right, *, id: Number, resource_id: Number) -> list[sa.ColumnElement[bool]]:
    """The conditions of which one is enough for on_account(): a long search follows each of them by its own index."""
    if actor.everything or actor.id is None:
        return [sa.true() if actor.everything else sa.false()]
    own = sa.select(AccountShare.account_id).where(AccountShare.user_id == actor.id)
    given = id.in_(own.where(AccountShare.given.in_(_at_least(right))))
    if right <= Right.VIEW:
        # Every share holds it, so that none takes it away.
        return [on_resource(actor, Right.VIEW, id=resource_id), given]
    inherited = sa.and_(resource_id.in_(_shared_with(actor.id, right)), id.not_in(own))
    return [resource_id.in_(_owned_by(actor.id)), given, inherited]


def highest(holds: Callable[[Right], sa.ColumnElement[bool]]) -> sa.ColumnElement[Any]:
    """The highest right that ``holds`` is true of, as its number; null when there is none."""
    return sa.case(*((holds(right), int(right)) for right in reversed(Right)), else_=None)


def refusal(what: str, standing: Standing, needed: Right) -> Refused:
    """Why a right is too small for what somebody wants to do with ``what``, and who can help."""
    owner = standing.owner_name
    if standing.right is Right.RECOGNISE:
        return Refused(
            _(
                "Of %(what)s only single accounts are shared with you. Ask %(owner)s, its owner, for more.",
                what=what,
                owner=owner,
            )
        )
    if needed is Right.OWN:
        return Refused(_("Only %(owner)s, the owner of %(what)s, can do this. Ask them.", owner=owner, what=what))
    return Refused(
        _(
            "You may %(word)s %(what)s, and this needs the right to %(word2)s it. Ask %(owner)s, its owner.",
            word=standing.right.said,
            what=what,
            word2=needed.said,
            owner=owner,
        )
    )


def _owned_by(user_id: int) -> sa.Select[int]:
    return sa.select(_resources.c.id).where(_resources.c.owner_id == user_id)


def _shared_with(user_id: int, right: Right) -> sa.Select[int]:
    mine = sa.select(ResourceShare.resource_id).where(ResourceShare.user_id == user_id)
    return mine.where(ResourceShare.given.in_(_at_least(right)))


def _recognised_by(user_id: int) -> sa.Select[int]:
    mine = sa.select(_accounts.c.resource_id).join(AccountShare, AccountShare.account_id == _accounts.c.id)
    return mine.where(AccountShare.user_id == user_id)


def _at_least(right: Right) -> list[Right]:
    return [each for each in ON_RESOURCE if each >= right]
