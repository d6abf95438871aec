"""Resources: servers, applications, devices and services that hold accounts."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

from webapp.actor import Actor, Role
from webapp.audit import trail
from webapp.db import Base, Session, UtcDateTime
from webapp.errors import Conflict, Invalid, NotFound, Refused
from webapp.i18n import N_
from webapp.i18n import gettext as _
from webapp.identity.users import User
from webapp.search import Page, holds_all, key, span, words
from webapp.vault import fields, rights, uses
from webapp.vault.rights import Right, Standing

KINDS: Final = (
    N_("Server"),
    N_("Application"),
    N_("Network device"),
    N_("Database"),
    N_("Mail service"),
    N_("Other"),
)
"""The types of resources as they are stored, and as tables and commands carry them."""
NO_RESOURCE: Final = N_("There is no such resource, or it is not shared with you.")
ADDED_BY: Final = N_("Only Administrators and Password Administrators add resources. Ask one of them.")
# Between the resource's part and the account's part of an account's label_key: no name can hold it, and it sorts first.
KEY_SEPARATOR: Final = "\x1f"
# Resources come before accounts in the imports, yet counting and renaming reach into their table.
_accounts = sa.table(
    "accounts", sa.column("id", sa.Integer), sa.column("resource_id", sa.Integer), sa.column("label_key", sa.Text)
)


def kind_label(kind: str) -> str:
    """The type in the reader's language."""
    return _(kind) if kind in KINDS else kind


def key_type(length: int) -> sa.String:
    """A column of keys that sorts by code point on both engines, whatever the locale of a PostgreSQL."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


class Resource(Base):
    """Something that holds accounts. ``name_key`` is what is compared, sorted and searched."""

    __tablename__ = "resources"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(fields.LONGEST_NAME))
    # Case folding makes up to three characters of one.
    name_key: Mapped[str] = mapped_column(key_type(3 * fields.LONGEST_NAME), unique=True)
    address: Mapped[str] = mapped_column(sa.String(fields.LONGEST_ADDRESS))
    kind: Mapped[str] = mapped_column(sa.String(40))
    notes: Mapped[str] = mapped_column(sa.Text)
    owner_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="RESTRICT"), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    version: Mapped[int]


class Whose(enum.StrEnum):
    """Which of the visible resources a list shows."""

    ALL = "all"
    MINE = "mine"
    SHARED = "shared"


@dataclass(frozen=True, slots=True)
class ResourceLine:
    """A line of the list of resources. account_count: of the accounts that the reader may see."""

    id: int
    name: str
    address: str
    kind: str
    owner_name: str
    is_mine: bool
    account_count: int


@dataclass(frozen=True, slots=True)
class ResourceDetails:
    """What a person says about a resource."""

    name: str
    address: str = ""
    kind: str = "Server"
    notes: str = ""

    def checked(self) -> ResourceDetails:
        """The same as it is kept. Raises Invalid with the field at fault."""
        if self.kind not in KINDS:
            raise Invalid(_("Choose one of these types: %(list)s.", list=", ".join(map(kind_label, KINDS))), "kind")
        return ResourceDetails(
            name=fields.line(self.name, "name", called=_("resource's name")),
            address=fields.line(
                self.address, "address", called=_("resource's address"), most=fields.LONGEST_ADDRESS, needed=False
            ),
            kind=self.kind,
            notes=fields.notes(self.notes),
        )


def visible_resources(actor: Actor, right: Right = Right.VIEW) -> sa.Select[Resource]:
    """The resources on which this actor holds a right, or a higher one."""
    return sa.select(Resource).where(rights.on_resource(actor, right, id=Resource.id))


def find_resources(
    session: Session, actor: Actor, q: str = "", page: int = 1, per_page: int = 25, *, whose: Whose = Whose.ALL
) -> Page[ResourceLine]:
    """What the actor may at least recognise and whose name or address holds every word of ``q``, by name."""
    found = visible_resources(actor, Right.RECOGNISE).where(*matching(actor, q, whose))
    total = session.scalar(found.with_only_columns(sa.func.count(Resource.id))) or 0
    page, pages, per_page = span(total, page, per_page)
    seen = rights.on_account(actor, Right.VIEW, id=_accounts.c.id, resource_id=_accounts.c.resource_id)
    lines = (
        found.join(User, User.id == Resource.owner_id)
        .with_only_columns(
            Resource.id,
            Resource.name,
            Resource.address,
            Resource.kind,
            User.name,
            Resource.owner_id == actor.id,
            sa.select(sa.func.count()).where(_accounts.c.resource_id == Resource.id, seen).scalar_subquery(),
        )
        .order_by(Resource.name_key)
        .limit(per_page)
        .offset((page - 1) * per_page)
    )
    return Page([ResourceLine(*line) for line in session.execute(lines)], total, page, pages, q)


def get_resource(session: Session, actor: Actor, id: int, right: Right = Right.VIEW) -> Resource:
    """Raises NotFound, also for what the actor may not see, and Refused when they may see it but hold a lower right."""
    fields.identifier(id, missing=_(NO_RESOURCE))
    found = visible_resources(actor, right).where(Resource.id == id).execution_options(populate_existing=True)
    resource = session.scalar(found)
    if resource is None:
        standing = standing_to_resource(session, actor, id)
        raise rights.refusal(f"“{session.get_one(Resource, id).name}”", standing, right)
    return resource


def standing_to_resource(session: Session, actor: Actor, id: int) -> Standing:
    """What the actor may do with a resource, and who owns it. Raises NotFound."""
    fields.identifier(id, missing=_(NO_RESOURCE))
    held = rights.highest(lambda right: rights.on_resource(actor, right, id=Resource.id))
    found = session.execute(
        sa.select(held, User.name).join_from(Resource, User, User.id == Resource.owner_id).where(Resource.id == id)
    ).one_or_none()
    if found is None or found[0] is None:
        raise NotFound(_(NO_RESOURCE))
    return Standing(Right(found[0]), found[1])


def lock_resource(session: Session, actor: Actor, id: int, right: Right) -> Resource:
    """get_resource(), held until the end of the transaction: nobody renames, shares or deletes it meanwhile.

    Who changes accounts locks their resource first, so that no two wait for each other.
    """
    get_resource(session, actor, id, right)  # Who may not see it must not hold it up.
    session.execute(sa.select(Resource.id).where(Resource.id == id).with_for_update())
    return get_resource(session, actor, id, right)


def find_resource(session: Session, actor: Actor, name: str, right: Right = Right.VIEW) -> Resource | None:
    """The resource of that name, in any case, on which the actor holds a right."""
    return session.scalar(visible_resources(actor, right).where(Resource.name_key == key(name.strip())))


def add_resource(session: Session, actor: Actor, details: ResourceDetails, owner_id: int | None = None) -> Resource:
    """Add a resource; it belongs to the actor, or to ``owner_id`` when the command line says so.

    Raises Refused when the actor's role adds none, Invalid with the field at fault.
    """
    if not actor.adds_resources:
        raise Refused(_(ADDED_BY))
    details, owner_id = details.checked(), _owner(session, actor, owner_id)
    now = session.now()
    resource = Resource(
        name=details.name,
        name_key=key(details.name),
        address=details.address,
        kind=details.kind,
        notes=details.notes,
        owner_id=owner_id,
        created_at=now,
        updated_at=now,
        version=1,
    )
    _refuse_taken(session, details.name)
    session.add(resource)
    _flush(session, details.name)
    trail.record(session, actor, "resource:add", subject=f"resource:{resource.id}", name=resource.name, owner=owner_id)
    return resource


def edit_resource(session: Session, actor: Actor, id: int, details: ResourceDetails, version: int) -> Resource:
    """Change a resource; ``version`` is the one the change was made upon.

    Raises NotFound, Refused, Invalid with the field at fault, and Conflict when somebody else changed it since.
    """
    resource = lock_resource(session, actor, id, Right.MODIFY)
    if resource.version != version:
        raise Conflict(
            _(
                "Somebody else changed “%(name)s” while you were editing it, and nothing of yours was "
                "saved. Open it again and repeat your changes.",
                name=resource.name,
            )
        )
    details = details.checked()
    changed = [
        name for name in ("name", "address", "kind", "notes") if getattr(resource, name) != getattr(details, name)
    ]
    if not changed:
        return resource
    if details.name != resource.name:
        _rename(session, resource, details.name)
    resource.address, resource.kind, resource.notes = details.address, details.kind, details.notes
    resource.version += 1
    resource.updated_at = session.now()
    _flush(session, details.name)
    trail.record(session, actor, "resource:edit", subject=f"resource:{id}", name=resource.name, changed=changed)
    return resource


def delete_resource(session: Session, actor: Actor, id: int) -> None:
    """Delete a resource with its accounts and their passwords.

    Raises NotFound, Refused, and Conflict when something uses one of the accounts.
    """
    resource = lock_resource(session, actor, id, Right.MANAGE)
    refuse_beyond(session, actor, resource, Right.MANAGE)
    account_ids = session.scalars(sa.select(_accounts.c.id).where(_accounts.c.resource_id == id)).all()
    for account_id in account_ids:
        uses.refuse_used(session, account_id, _("The resource “%(name)s”", name=resource.name))
    session.delete(resource)
    uses.flush_unused(session, _("The resource “%(name)s”", name=resource.name))
    trail.record(
        session, actor, "resource:delete", subject=f"resource:{id}", name=resource.name, accounts=len(account_ids)
    )


def refuse_beyond(session: Session, actor: Actor, resource: Resource, right: Right) -> None:
    """Refuse what reaches all accounts of a resource to whom a share of their own leaves less on one of them.

    Without it, who manages a resource could give to others, or destroy, what was kept from them. Raises Refused.
    """
    held = rights.on_account(actor, right, id=_accounts.c.id, resource_id=_accounts.c.resource_id)
    if session.scalar(sa.select(_accounts.c.id).where(_accounts.c.resource_id == resource.id, ~held).limit(1)):
        owner = standing_to_resource(session, actor, resource.id).owner_name
        raise Refused(
            _(
                "“%(name)s” holds an account on which you hold less than the right to %(word)s it, so "
                "this cannot be done for the whole resource. Do it for the others one by one, or ask "
                "%(owner)s, its owner.",
                name=resource.name,
                word=right.said,
                owner=owner,
            )
        )


def matching(actor: Actor, q: str, whose: Whose = Whose.ALL) -> list[sa.ColumnElement[bool]]:
    """The conditions that a resource's name or address holds every word of ``q``, and that it is of the part asked."""
    address = sa.func.lower(Resource.address)
    found = [sa.or_(holds_all(Resource.name_key, [word]), holds_all(address, [word])) for word in words(q)]
    if whose is not Whose.ALL:
        found.append(Resource.owner_id == actor.id if whose is Whose.MINE else Resource.owner_id != actor.id)
    return found


def _owner(session: Session, actor: Actor, owner_id: int | None) -> int:
    if not actor.everything:
        if actor.id is None or owner_id not in (None, actor.id):
            raise Refused(_("A new resource belongs to whoever adds it."))
        return actor.id
    if owner_id is not None:
        return owner_id
    administrators = session.scalars(
        sa.select(User.id).where(User.role == Role.ADMINISTRATOR.value, User.active).limit(2)
    ).all()
    if len(administrators) != 1:
        there = _("There is no administrator yet") if not administrators else _("There are several administrators")
        raise Invalid(
            _("%(there)s, so the resource needs an owner: name one with --owner EMAIL.", there=there), "owner"
        )
    return administrators[0]


def _rename(session: Session, resource: Resource, name: str) -> None:
    old, new = resource.name_key, key(name)
    if new != old:
        _refuse_taken(session, name)
        session.execute(
            sa.update(_accounts)
            .where(_accounts.c.resource_id == resource.id)
            .values(label_key=sa.literal(new).concat(sa.func.substr(_accounts.c.label_key, len(old) + 1)))
        )
    resource.name, resource.name_key = name, new


def _refuse_taken(session: Session, name: str) -> None:
    if session.scalar(sa.select(Resource.id).where(Resource.name_key == key(name))) is not None:
        raise taken(name)


def _flush(session: Session, name: str) -> None:
    # Two who take one name at the same moment: PostgreSQL tells the second only here.
    try:
        session.flush()
    except IntegrityError:
        raise taken(name) from None


def taken(name: str) -> Invalid:
    """That there is one of this name already."""
    return Invalid(
        _(
            "There is already a resource named “%(name)s”, perhaps one that is not shared with you. "
            "Choose another name.",
            name=name,
        ),
        "name",
    )
