"""Resources: servers, applications, devices and services that hold accounts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column, query_expression, with_expression

from webapp.actor import Actor, Role
from webapp.audit import trail
from webapp.db import Base, Session, UtcDateTime
from webapp.errors import Conflict, Invalid, NotFound, Refused
from webapp.identity.users import User
from webapp.vault import fields, uses
from webapp.vault.search import Page, holds_all, key, span, words

KINDS: Final = ("Server", "Application", "Network device", "Database", "Mail service", "Other")
# Between the resource's part and the account's part of an account's label_key: no name can hold it, and it sorts first.
KEY_SEPARATOR: Final = "\x1f"
# Resources come before accounts in the imports, yet counting and renaming reach into their table.
_accounts = sa.table(
    "accounts", sa.column("id", sa.Integer), sa.column("resource_id", sa.Integer), sa.column("label_key", sa.Text)
)


def key_type(length: int) -> sa.String:
    """A column of keys that sorts by code point on both engines, whatever the locale of a PostgreSQL."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


class Resource(Base):
    """Something that holds accounts. ``name_key`` is what is compared, sorted and searched.

    ``account_count`` is filled in by find_resources() alone.
    """

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
    account_count: Mapped[int] = query_expression()


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
            raise Invalid(f"Choose one of these types: {', '.join(KINDS)}.", "kind")
        return ResourceDetails(
            name=fields.line(self.name, "name", called="resource's name"),
            address=fields.line(self.address, "address", called="address", most=fields.LONGEST_ADDRESS, needed=False),
            kind=self.kind,
            notes=fields.notes(self.notes),
        )


def visible_resources(actor: Actor) -> sa.Select[Resource]:
    """The resources this actor may see: the one place that decides it. Whoever sees a resource may change it."""
    seen = sa.select(Resource)
    return seen if actor.everything else seen.where(Resource.owner_id == actor.id)


def find_resources(session: Session, actor: Actor, q: str = "", page: int = 1, per_page: int = 25) -> Page[Resource]:
    """What the actor may see and whose name or address holds every word of ``q``, by name, with ``account_count``."""
    found = visible_resources(actor)
    for word in words(q):
        found = found.where(
            sa.or_(holds_all(Resource.name_key, [word]), holds_all(sa.func.lower(Resource.address), [word]))
        )
    total = session.scalar(found.with_only_columns(sa.func.count(Resource.id))) or 0
    page, pages, per_page = span(total, page, per_page)
    held = sa.select(sa.func.count()).where(_accounts.c.resource_id == Resource.id).scalar_subquery()
    items = session.scalars(
        found.options(with_expression(Resource.account_count, held))
        .order_by(Resource.name_key)
        .limit(per_page)
        .offset((page - 1) * per_page)
        .execution_options(populate_existing=True)
    ).all()
    return Page(items, total, page, pages, q)


def get_resource(session: Session, actor: Actor, id: int) -> Resource:
    """Raises NotFound, also for what the actor may not see."""
    return _get(session, visible_resources(actor), id)


def lock_resource(session: Session, actor: Actor, id: int) -> Resource:
    """get_resource(), held until the end of the transaction: nobody renames or deletes it meanwhile.

    Who changes accounts locks their resource first, so that no two wait for each other.
    """
    return _get(session, visible_resources(actor).with_for_update(), id)


def find_resource(session: Session, actor: Actor, name: str) -> Resource | None:
    """The visible resource of that name, in any case."""
    return session.scalar(visible_resources(actor).where(Resource.name_key == key(name.strip())))


def add_resource(session: Session, actor: Actor, details: ResourceDetails, owner_id: int | None = None) -> Resource:
    """Add a resource; it belongs to the actor, or to ``owner_id`` when the command line says so.

    Raises Refused when the actor's role adds none, Invalid with the field at fault.
    """
    if not actor.adds_resources:
        raise Refused("Only Administrators and Password Administrators add resources. Ask one of them.")
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

    Raises NotFound, Invalid with the field at fault, and Conflict when somebody else changed it since.
    """
    resource = lock_resource(session, actor, id)
    if resource.version != version:
        raise Conflict(
            f"Somebody else changed “{resource.name}” while you were editing it, and nothing of yours was saved. "
            "Open it again and repeat your changes."
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

    Raises NotFound, and Conflict when something uses one of the accounts.
    """
    resource = lock_resource(session, actor, id)
    account_ids = session.scalars(sa.select(_accounts.c.id).where(_accounts.c.resource_id == id)).all()
    for account_id in account_ids:
        uses.refuse_used(session, account_id, f"The resource “{resource.name}”")
    session.delete(resource)
    uses.flush_unused(session, f"The resource “{resource.name}”")
    trail.record(
        session, actor, "resource:delete", subject=f"resource:{id}", name=resource.name, accounts=len(account_ids)
    )


def _get(session: Session, seen: sa.Select[Resource], id: int) -> Resource:
    fields.identifier(id, called="resource")
    resource = session.scalar(seen.where(Resource.id == id).execution_options(populate_existing=True))
    if resource is None:
        raise NotFound("There is no such resource, or it is not shared with you.")
    return resource


def _owner(session: Session, actor: Actor, owner_id: int | None) -> int:
    if not actor.everything:
        if actor.id is None or owner_id not in (None, actor.id):
            raise Refused("A new resource belongs to whoever adds it.")
        return actor.id
    if owner_id is not None:
        return owner_id
    administrators = session.scalars(
        sa.select(User.id).where(User.role == Role.ADMINISTRATOR.value, User.active).limit(2)
    ).all()
    if len(administrators) != 1:
        there = "There is no administrator yet" if not administrators else "There are several administrators"
        raise Invalid(f"{there}, so the resource needs an owner: name one with --owner EMAIL.", "owner")
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
        raise _taken(name)


def _flush(session: Session, name: str) -> None:
    # Two who take one name at the same moment: PostgreSQL tells the second only here.
    try:
        session.flush()
    except IntegrityError:
        raise _taken(name) from None


def _taken(name: str) -> Invalid:
    return Invalid(
        f"There is already a resource named “{name}”, perhaps one that is not shared with you. Choose another name.",
        "name",
    )
