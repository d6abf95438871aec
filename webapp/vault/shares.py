"""Sharing: who may use what of somebody else, given, changed, withdrawn, and handed over to another owner."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeVar

import sqlalchemy as sa

from webapp.actor import Actor, Role
from webapp.audit import trail
from webapp.db import Session
from webapp.errors import Conflict, Invalid, NotFound, Refused
from webapp.i18n import gettext as _
from webapp.i18n import later
from webapp.identity.telling import tell
from webapp.identity.users import User, get_user
from webapp.outbox.messages import Kind
from webapp.search import key, words
from webapp.vault import uses
from webapp.vault.accounts import Account, get_account, lock_account, visible_accounts
from webapp.vault.resources import Resource, get_resource, lock_resource, refuse_beyond
from webapp.vault.rights import ON_ACCOUNT, ON_RESOURCE, AccountShare, ResourceShare, Right

MOST_PEOPLE: Final = 20
Share = TypeVar("Share", ResourceShare, AccountShare)


@dataclass(frozen=True, slots=True)
class Holder:
    """What one person may do. on_account: by a share on the account itself; on_resource: by one on its resource."""

    user: User
    right: Right
    on_resource: Right | None = None
    on_account: Right | None = None


class StillUsed(Conflict):
    """Something uses an account because of an access that is about to end: to be told first, and done if confirmed."""


def holders_of_resource(session: Session, actor: Actor, id: int) -> list[Holder]:
    """The owner, then by name who else has a right on the whole resource. Raises NotFound, Refused."""
    resource = get_resource(session, actor, id, Right.MANAGE)
    shared = {share.user_id: share.given for share in _shares_of_resource(session, id)}
    return [_owner(session, resource)] + [
        Holder(user, shared[user.id], shared[user.id]) for user in _named(session, shared)
    ]


def holders_of_account(session: Session, actor: Actor, id: int) -> list[Holder]:
    """The owner, then by name who else has a right on the account, from wherever. Raises NotFound, Refused."""
    account = get_account(session, actor, id, Right.MANAGE)
    whole = {share.user_id: share.given for share in _shares_of_resource(session, account.resource_id)}
    single = {share.user_id: share.given for share in _shares_of_account(session, id)}
    right = whole | single
    return [_owner(session, account.resource)] + [
        Holder(user, right[user.id], whole.get(user.id), single.get(user.id)) for user in _named(session, right)
    ]


def people_with_access(session: Session, account_id: int) -> Sequence[User]:
    """Everybody who may see an account and is not disabled, by number. Nobody's rights are checked."""
    resource_id = sa.select(Account.resource_id).where(Account.id == account_id).scalar_subquery()
    ids = sa.union(
        sa.select(Resource.owner_id).where(Resource.id == resource_id),
        sa.select(ResourceShare.user_id).where(ResourceShare.resource_id == resource_id),
        sa.select(AccountShare.user_id).where(AccountShare.account_id == account_id),
    )
    return session.scalars(sa.select(User).where(User.id.in_(ids), User.active).order_by(User.id)).all()


def find_people(session: Session, actor: Actor, q: str, *, besides: Sequence[Holder]) -> list[User]:
    """The first people, by name, whom something can be shared with and whose name or address holds each word of ``q``.

    besides: who has a right already. Raises Refused when the actor's role shares nothing.
    """
    _refuse_role(actor)
    taken = {holder.user.id for holder in besides} | {actor.id}
    return _first(user for user in _active_people(session) if user.id not in taken and _holds(user, words(q)))


def find_heirs(session: Session, actor: Actor, id: int, q: str) -> list[User]:
    """The first people, by name, who can become the owner of a resource and whose name or address holds each word.

    Raises NotFound, and Refused unless the actor is its owner.
    """
    owner_id = get_resource(session, actor, id, Right.OWN).owner_id
    able = (user for user in _active_people(session) if user.id != owner_id and user.actor("").adds_resources)
    return _first(user for user in able if _holds(user, words(q)))


def share_resource(session: Session, actor: Actor, id: int, user_id: int, right: Right) -> None:
    """Give somebody a right on a resource with all its accounts, in place of the one they had on it.

    Raises NotFound, Refused, Invalid with the field at fault.
    """
    resource = lock_resource(session, actor, id, Right.MANAGE)
    _refuse_role(actor)
    user = _recipient(session, actor, resource, user_id)
    _check_right(right, ON_RESOURCE, user)
    refuse_beyond(session, actor, resource, right)
    share = session.get(ResourceShare, (id, user_id), populate_existing=True)
    before = share.given if share is not None else None
    if before is right:
        return
    share = share or ResourceShare(resource_id=id, user_id=user_id)
    _give(session, actor, share, right)
    _record(session, actor, "share", f"resource:{id}", user, right=right, before=before, name=resource.name)
    tell(
        session,
        actor,
        user,
        Kind.RESOURCE_SHARED,
        about=f"resource:{id}",
        resource=resource.name,
        right=later(getattr, right, "label"),
    )


def share_account(session: Session, actor: Actor, id: int, user_id: int, right: Right) -> None:
    """Give somebody a right on one account; it beats the one they may have on its resource, also when it is lower.

    Raises NotFound, Refused, Invalid with the field at fault.
    """
    account = lock_account(session, actor, id, Right.MANAGE)
    _refuse_role(actor)
    user = _recipient(session, actor, account.resource, user_id)
    _check_right(right, ON_ACCOUNT, user)
    share = session.get(AccountShare, (id, user_id), populate_existing=True)
    before = share.given if share is not None else None
    if before is right:
        return
    share = share or AccountShare(account_id=id, user_id=user_id)
    _give(session, actor, share, right)
    _record(session, actor, "share", f"account:{id}", user, right=right, before=before, name=account.label)
    tell(
        session,
        actor,
        user,
        Kind.ACCOUNT_SHARED,
        about=f"account:{id}",
        account=account.label,
        right=later(getattr, right, "label"),
    )


def withdraw_resource(session: Session, actor: Actor, id: int, user_id: int, *, although_used: bool = False) -> None:
    """Take a share on a resource back; shares on single accounts stay.

    Raises NotFound, Refused, and StillUsed unless ``although_used``.
    """
    resource = lock_resource(session, actor, id, Right.MANAGE)
    share, user = _given(session, ResourceShare, id, user_id)
    with _told(session, user, although_used):
        session.delete(share)
        session.flush()
    _record(session, actor, "withdraw", f"resource:{id}", user, before=share.given, name=resource.name)


def withdraw_account(session: Session, actor: Actor, id: int, user_id: int, *, although_used: bool = False) -> None:
    """Take a share on an account back; what the person may do with the whole resource holds again.

    Raises NotFound, Refused, and StillUsed unless ``although_used``.
    """
    account = lock_account(session, actor, id, Right.MANAGE)
    share, user = _given(session, AccountShare, id, user_id)
    with _told(session, user, although_used):
        session.delete(share)
        session.flush()
    _record(session, actor, "withdraw", f"account:{id}", user, before=share.given, name=account.label)


def transfer(
    session: Session, actor: Actor, id: int, user_id: int, *, keep: Right | None = None, although_used: bool = False
) -> Resource:
    """Make somebody else the owner of a resource. keep: what the owner until now may still do with it.

    Raises NotFound, Refused, Invalid with the field at fault, and StillUsed unless ``although_used``.
    """
    resource = lock_resource(session, actor, id, Right.OWN)
    owner, heir = get_user(session, resource.owner_id), _heir(session, resource, user_id)
    if keep is not None:
        _check_right(keep, ON_RESOURCE, owner, field="keep")
    with _told(session, owner, although_used):
        resource.owner_id = heir.id
        _forget_shares(session, id, heir.id)
        if keep is not None:
            _give(session, actor, ResourceShare(resource_id=id, user_id=owner.id), keep)
        session.flush()
    trail.record(
        session, actor, "resource:transfer", subject=f"resource:{id}", name=resource.name, before=owner.email,
        owner=heir.email, kept=keep.word if keep is not None else "",
    )  # fmt: skip
    if heir.id != actor.id:
        tell(
            session, actor, heir, Kind.RESOURCE_SHARED, about=f"resource:{id}", resource=resource.name,
            right=later(getattr, Right.OWN, "label"),
        )  # fmt: skip
    return resource


def _active_people(session: Session) -> Iterable[User]:
    return session.scalars(sa.select(User).where(User.active).order_by(sa.func.lower(User.name), User.id))


def _holds(user: User, wanted: Sequence[str]) -> bool:
    # Not in the database, which cannot fold the case of every name; there are some thousands of people at most.
    text = key(f"{user.name} {user.email}")
    return all(word in text for word in wanted)


def _first(people: Iterable[User]) -> list[User]:
    return list(islice(people, MOST_PEOPLE))


def _shares_of_resource(session: Session, id: int) -> Sequence[ResourceShare]:
    return session.scalars(sa.select(ResourceShare).where(ResourceShare.resource_id == id)).all()


def _shares_of_account(session: Session, id: int) -> Sequence[AccountShare]:
    return session.scalars(sa.select(AccountShare).where(AccountShare.account_id == id)).all()


def _owner(session: Session, resource: Resource) -> Holder:
    return Holder(get_user(session, resource.owner_id), Right.OWN)


def _named(session: Session, rights: dict[int, Right]) -> Sequence[User]:
    return session.scalars(sa.select(User).where(User.id.in_(rights)).order_by(sa.func.lower(User.name), User.id)).all()


def _refuse_role(actor: Actor) -> None:
    if not actor.adds_resources:
        raise Refused(_("Only Administrators and Password Administrators share with others. Ask one of them."))


def _recipient(session: Session, actor: Actor, resource: Resource, user_id: int) -> User:
    user = _active(session, user_id)
    if user.id == resource.owner_id:
        raise Invalid(
            _(
                "%(name)s owns “%(name2)s” and may do everything with it. Choose somebody else.",
                name=user.name,
                name2=resource.name,
            ),
            "who",
        )
    if user.id == actor.id:
        raise Invalid(_("You cannot change your own right. Ask the owner, or choose somebody else."), "who")
    return user


def _heir(session: Session, resource: Resource, user_id: int) -> User:
    user = _active(session, user_id)
    if user.id == resource.owner_id:
        raise Invalid(
            _("%(name)s owns “%(name2)s” already. Choose somebody else.", name=user.name, name2=resource.name), "who"
        )
    if not user.actor("").adds_resources:
        raise Invalid(
            _(
                "%(name)s is a %(label)s, and only Administrators and Password Administrators own "
                "resources. Choose somebody else, or have an administrator change the role first.",
                name=user.name,
                label=Role(user.role).label,
            ),
            "who",
        )
    return user


def _active(session: Session, user_id: int) -> User:
    user = session.get(User, user_id)
    if user is None:
        raise Invalid(_("Choose a person out of the list."), "who")
    if not user.active:
        raise Invalid(_("%(name)s is disabled and cannot sign in. Choose somebody else.", name=user.name), "who")
    return user


def _check_right(right: Right, among: Collection[Right], user: User, *, field: str = "right") -> None:
    if right not in among:
        raise Invalid(_("Choose one of these rights: %(list)s.", list=", ".join(each.word for each in among)), field)
    if right is Right.MANAGE and not user.actor("").adds_resources:
        raise Invalid(
            _(
                "%(name)s is a %(label)s, and only Administrators and Password Administrators manage "
                "what they share. Choose a lower right, or have an administrator change the role first.",
                name=user.name,
                label=Role(user.role).label,
            ),
            field,
        )


def _give(session: Session, actor: Actor, share: ResourceShare | AccountShare, right: Right) -> None:
    share.given, share.given_at, share.given_by_name = right, session.now(), actor.name[:320]
    session.add(share)
    session.flush()


def _given(session: Session, kind: type[Share], id: int, user_id: int) -> tuple[Share, User]:
    share = session.get(kind, (id, user_id), populate_existing=True)
    if share is None:
        raise NotFound(_("There is no such share any more. Reload the page."))
    return share, get_user(session, user_id)


def _forget_shares(session: Session, resource_id: int, user_id: int) -> None:
    """An owner needs no shares, and one that stayed behind would come back into force with the next owner."""
    held = sa.select(Account.id).where(Account.resource_id == resource_id)
    for gone in (
        sa.delete(ResourceShare).where(ResourceShare.resource_id == resource_id, ResourceShare.user_id == user_id),
        sa.delete(AccountShare).where(AccountShare.account_id.in_(held), AccountShare.user_id == user_id),
    ):
        session.execute(gone, execution_options={"synchronize_session": "fetch"})


def _record(
    session: Session,
    actor: Actor,
    verb: str,
    subject: str,
    user: User,
    *,
    name: str,
    right: Right | None = None,
    before: Right | None = None,
) -> None:
    trail.record(
        session,
        actor,
        f"{subject.partition(':')[0]}:{verb}",
        subject=subject,
        name=name,
        user=user.email,
        right=right.word if right else "",
        before=before.word if before else "",
    )


@contextmanager
def _told(session: Session, user: User, although_used: bool) -> Iterator[None]:
    """Compare what is used because ``user`` may see it, before and after. Raises StillUsed unless ``although_used``."""
    before = _used_through(session, user)
    yield
    if although_used or not before:
        return
    lost = before.keys() - _used_through(session, user).keys()
    if lost:
        account = session.get_one(Account, min(lost))
        raise StillUsed(
            _(
                "“%(label)s” is used by %(before)s, where %(name)s chose it and would no longer have "
                "access to it. If you go on, it stays in use, and administrators are told so until "
                "somebody with access chooses an account there. Nothing has been changed yet.",
                label=account.label,
                before=before[account.id],
                name=user.name,
            )
        )


def _used_through(session: Session, user: User) -> dict[int, str]:
    """What is used because this user chose it and may see it: account and name of the use."""
    relying = uses.relying_on(session, user.id) if user.active else {}
    seen = session.scalars(
        visible_accounts(user.actor("")).with_only_columns(Account.id).where(Account.id.in_(relying))
    )
    return {id: relying[id] for id in seen} if relying else {}


def _tell_password_changed(session: Session, actor: Actor, account_id: int) -> None:
    account = session.get_one(Account, account_id)
    for user in people_with_access(session, account_id):
        if user.id != actor.id:
            tell(session, actor, user, Kind.PASSWORD_CHANGED, about=f"account:{account_id}", account=account.label)


uses.on_password_change(_tell_password_changed)
