"""Accounts: a user name and a sealed password on a resource, and the passwords it had before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, contains_eager, mapped_column, relationship

from webapp.actor import Actor
from webapp.audit import trail
from webapp.db import Base, Session, UtcDateTime, sealed_as
from webapp.errors import Conflict, Invalid, NotFound
from webapp.i18n import N_
from webapp.i18n import gettext as _
from webapp.identity.users import User
from webapp.keyring import Secret
from webapp.search import LARGEST_ID, holds_all, key, words
from webapp.vault import fields, rights, uses
from webapp.vault.resources import KEY_SEPARATOR, NO_RESOURCE, Resource, key_type, lock_resource
from webapp.vault.rights import Right, Standing

NO_ACCOUNT = N_("There is no such account, or it is not shared with you.")
_MOST_CHOICES = 100


class Account(Base):
    """A way to sign in to a resource. Its passwords lie in AccountPassword, the current one at ``password_version``.

    ``label_key`` is ``key(resource's name) \\x1f key(username)``: it sorts and searches without a join.
    """

    __tablename__ = "accounts"
    __table_args__ = (
        sa.UniqueConstraint("resource_id", "username"),
        # Both hold all that the picker compares, so that it never reads the rows it passes over.
        sa.Index(None, "label_key", "resource_id"),
        sa.Index(None, "resource_id", "label_key"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    resource_id: Mapped[int] = mapped_column(sa.ForeignKey("resources.id", ondelete="CASCADE"))
    username: Mapped[str] = mapped_column(sa.String(fields.LONGEST_NAME))
    label_key: Mapped[str] = mapped_column(key_type(6 * fields.LONGEST_NAME + len(KEY_SEPARATOR)))
    password_version: Mapped[int]
    notes: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    version: Mapped[int]

    resource: Mapped[Resource] = relationship(lazy="joined", innerjoin=True)

    @property
    def label(self) -> str:
        """The account as pickers and messages write it."""
        return label(self.resource.name, self.username)


class AccountPassword(Base):
    """One password of an account, sealed; ``set_by_name`` outlives the user who set it."""

    __tablename__ = "account_passwords"

    account_id: Mapped[int] = mapped_column(sa.ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sealed: Mapped[bytes] = mapped_column(info=sealed_as("{account_id}/{version}", field="password"))
    set_at: Mapped[datetime] = mapped_column(UtcDateTime)
    set_by_id: Mapped[int | None]
    set_by_name: Mapped[str] = mapped_column(sa.String(320))


@dataclass(frozen=True, slots=True)
class Choice:
    """A line of the account picker."""

    id: int
    label: str


def label(resource: str, username: str) -> str:
    """“resource — username”."""
    return f"{resource} — {username}"


def visible_accounts(actor: Actor, right: Right = Right.VIEW) -> sa.Select[Account]:
    """The accounts on which this actor holds a right, or a higher one."""
    return sa.select(Account).where(rights.on_account(actor, right, id=Account.id, resource_id=Account.resource_id))


def is_any(session: Session) -> bool:
    """Whether this vault holds any account, whoever sees it."""
    return session.scalar(sa.select(sa.exists().where(Account.id.is_not(None)))) or False


def get_account(session: Session, actor: Actor, id: int, right: Right = Right.VIEW) -> Account:
    """An account with its resource.

    Raises NotFound, also for what the actor may not see, and Refused when they may see it but hold a lower right.
    """
    return _get(session, actor, id, right, visible_accounts(actor, right))


def standing_to_account(session: Session, actor: Actor, id: int) -> Standing:
    """What the actor may do with an account, and who owns its resource. Raises NotFound."""
    fields.identifier(id, missing=_(NO_ACCOUNT))
    held = rights.highest(lambda right: rights.on_account(actor, right, id=Account.id, resource_id=Account.resource_id))
    owned = sa.select(held, User.name).join_from(Account, Resource).join(User, User.id == Resource.owner_id)
    found = session.execute(owned.where(Account.id == id)).one_or_none()
    if found is None or found[0] is None:
        raise NotFound(_(NO_ACCOUNT))
    return Standing(Right(found[0]), found[1])


def accounts_of(session: Session, actor: Actor, resource_id: int) -> Sequence[Account]:
    """The visible accounts on one resource, by user name."""
    fields.identifier(resource_id, missing=_(NO_RESOURCE))
    return session.scalars(
        visible_accounts(actor).where(Account.resource_id == resource_id).order_by(Account.label_key, Account.id)
    ).all()


def find_account(session: Session, actor: Actor, resource_id: int, username: str) -> Account | None:
    """The visible account of that name on a resource."""
    found = visible_accounts(actor).where(Account.resource_id == resource_id, Account.username == username)
    return session.scalar(found)


def each_account(session: Session, actor: Actor, q: str = "") -> Iterator[Account]:
    """All visible accounts whose label holds every word of ``q``, by label, read as they are taken."""
    found = visible_accounts(actor).where(holds_all(Account.label_key, words(q)))
    yield from session.scalars(found.order_by(Account.label_key, Account.id).execution_options(yield_per=1000))


def choices(session: Session, actor: Actor, q: str = "", limit: int = 20) -> list[Choice]:
    """The first ``limit`` visible accounts, by label, whose label holds every word of ``q``."""
    most = min(max(limit, 1), _MOST_CHOICES)
    found = sa.select(Account.id, Account.label_key).where(holds_all(Account.label_key, words(q)))
    ways = rights.ways_to_account(actor, Right.VIEW, id=Account.id, resource_id=Account.resource_id)
    # Each way by itself: an OR of them keeps SQLite from the index that holds all it compares.
    firsts = [found.where(way).order_by(Account.label_key, Account.id).limit(most).subquery() for way in ways]
    first = sa.union(*(sa.select(each) for each in firsts)).subquery()
    named = (
        sa.select(Account.id, Resource.name, Account.username)
        .join(first, first.c.id == Account.id)
        .join(Resource, Resource.id == Account.resource_id)
        .order_by(first.c.label_key, first.c.id)
        .limit(most)
    )
    return [Choice(id, label(name, username)) for id, name, username in session.execute(named)]


def choice(session: Session, actor: Actor, id: int) -> list[Choice]:
    """The picker's line for one account, or nothing when the actor may not see it."""
    if not 0 < id <= LARGEST_ID:
        return []
    account = session.scalar(visible_accounts(actor).where(Account.id == id))
    return [Choice(account.id, account.label)] if account is not None else []


def add_account(
    session: Session, actor: Actor, resource_id: int, username: str, password: Secret, *, notes: str = ""
) -> Account:
    """Add an account to a resource that the actor may modify.

    Raises NotFound, Refused, Invalid with the field at fault.
    """
    resource = lock_resource(session, actor, resource_id, Right.MODIFY)
    username, notes, password = _checked_username(username), fields.notes(notes), fields.password(password)
    _refuse_taken(session, resource, username)
    now = session.now()
    account = Account(
        resource=resource,
        username=username,
        label_key=_label_key(resource, username),
        password_version=1,
        notes=notes,
        created_at=now,
        updated_at=now,
        version=1,
    )
    session.add(account)
    _flush(session, resource, username)
    _keep_password(session, actor, account, password)
    trail.record(
        session, actor, "account:add", subject=f"account:{account.id}", resource=resource.id, username=username
    )
    return account


def edit_account(
    session: Session, actor: Actor, id: int, username: str, notes: str, *, version: int | None = None
) -> Account:
    """Change user name and notes; ``version``, when given, is the one the change was made upon.

    Raises NotFound, Refused, Invalid with the field at fault, and Conflict when somebody else changed it since.
    """
    account = lock_account(session, actor, id, Right.MODIFY)
    if version is not None and version != account.version:
        raise Conflict(
            _(
                "Somebody else changed “%(label)s” while you were editing it, and nothing of yours was "
                "saved. Open it again and repeat your changes.",
                label=account.label,
            )
        )
    username, notes = _checked_username(username), fields.notes(notes)
    changed = [name for name, old, new in (
        ("username", account.username, username), ("notes", account.notes, notes)
    ) if old != new]  # fmt: skip
    if not changed:
        return account
    if username != account.username:
        _refuse_taken(session, account.resource, username)
    account.username, account.notes = username, notes
    account.label_key = _label_key(account.resource, username)
    account.version += 1
    account.updated_at = session.now()
    _flush(session, account.resource, username)
    trail.record(session, actor, "account:edit", subject=f"account:{id}", username=username, changed=changed)
    return account


def delete_account(session: Session, actor: Actor, id: int) -> None:
    """Delete an account with all its passwords. Raises NotFound, Refused, and Conflict when something uses it."""
    account = lock_account(session, actor, id, Right.MANAGE)
    what = _("The account “%(label)s”", label=account.label)
    uses.refuse_used(session, id, what)
    session.delete(account)
    uses.flush_unused(session, what)
    trail.record(
        session, actor, "account:delete", subject=f"account:{id}", resource=account.resource_id,
        username=account.username,
    )  # fmt: skip


def set_password(session: Session, actor: Actor, id: int, password: Secret) -> Account:
    """Give an account a new password, keep the old ones, and tell who uses it.

    Raises NotFound, Refused, Invalid.
    """
    account = lock_account(session, actor, id, Right.MODIFY)
    fields.password(password)
    account.password_version += 1
    account.updated_at = session.now()
    _keep_password(session, actor, account, password)
    trail.record(
        session, actor, "account:set-password", subject=f"account:{id}", password_version=account.password_version
    )
    uses.tell_password_changed(session, actor, id)
    return account


def current_password(session: Session, account: Account) -> Secret:
    """The password in force. Nobody's rights are checked: the caller has proved them, or is the delivery of mail."""
    return _password(session, account, account.password_version)


def reveal(session: Session, actor: Actor, id: int, version: int | None = None) -> Secret:
    """Show a password, the current one unless ``version`` is given, and leave an audit line. Raises NotFound."""
    account = get_account(session, actor, id)
    version = account.password_version if version is None else version
    secret = _password(session, account, version)
    trail.record(session, actor, "account:reveal", subject=f"account:{id}", password_version=version)
    return secret


def history(session: Session, actor: Actor, id: int) -> list[AccountPassword]:
    """Who set which password when, the current one first. Raises NotFound."""
    account = get_account(session, actor, id)
    kept = sa.select(AccountPassword).where(AccountPassword.account_id == account.id)
    return list(session.scalars(kept.order_by(AccountPassword.version.desc())))


def _get(session: Session, actor: Actor, id: int, right: Right, found: sa.Select[Account]) -> Account:
    fields.identifier(id, missing=_(NO_ACCOUNT))
    one = found.join(Resource, Resource.id == Account.resource_id).options(contains_eager(Account.resource))
    account = session.scalar(one.where(Account.id == id).execution_options(populate_existing=True))
    if account is None:
        standing = standing_to_account(session, actor, id)
        raise rights.refusal(f"“{session.get_one(Account, id).label}”", standing, right)
    return account


def lock_account(session: Session, actor: Actor, id: int, right: Right) -> Account:
    """get_account(), held until the end of the transaction together with its resource."""
    lock_resource(session, actor, get_account(session, actor, id, right).resource_id, Right.RECOGNISE)
    return _get(session, actor, id, right, visible_accounts(actor, right).with_for_update(of=Account))


def _checked_username(username: str) -> str:
    return fields.line(username, "username", called=_("user name"))


def _label_key(resource: Resource, username: str) -> str:
    return resource.name_key + KEY_SEPARATOR + key(username)


def _keep_password(session: Session, actor: Actor, account: Account, password: Secret) -> None:
    version = account.password_version
    session.add(
        AccountPassword(
            account_id=account.id,
            version=version,
            sealed=session.keyring.seal(
                password, table="account_passwords", row=f"{account.id}/{version}", field="password"
            ),
            set_at=session.now(),
            set_by_id=actor.id,
            set_by_name=actor.name[:320],
        )
    )
    session.flush()


def _password(session: Session, account: Account, version: int) -> Secret:
    kept = session.get(AccountPassword, (account.id, version)) if 0 < version <= LARGEST_ID else None
    if kept is None:
        raise NotFound(_("There is no such password."))
    return session.keyring.unseal(
        kept.sealed, table="account_passwords", row=f"{account.id}/{version}", field="password"
    )


def _refuse_taken(session: Session, resource: Resource, username: str) -> None:
    if session.scalar(sa.select(Account.id).where(Account.resource_id == resource.id, Account.username == username)):
        raise _taken(resource.name, username)


def _flush(session: Session, resource: Resource, username: str) -> None:
    # Two who take one user name at the same moment: PostgreSQL tells the second only here.
    name = resource.name
    try:
        session.flush()
    except IntegrityError:
        raise _taken(name, username) from None


def _taken(resource: str, username: str) -> Invalid:
    return Invalid(
        _(
            "“%(resource)s” already has an account named “%(username)s”. Choose another name.",
            resource=resource,
            username=username,
        ),
        "username",
    )
