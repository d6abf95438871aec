"""A second proof beside the password: an authenticator app, passkeys, and recovery codes for the day both are lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from webapp.actor import Actor, Role
from webapp.audit import trail
from webapp.db import Session
from webapp.errors import Conflict
from webapp.i18n import gettext as _
from webapp.identity import passkeys, recovery, totp
from webapp.identity.passkeys import Passkey
from webapp.identity.totp import TotpSecret
from webapp.identity.users import User, sign_out_everywhere
from webapp.keyring import Secret


@dataclass(frozen=True, slots=True)
class SecondFactors:
    """What one user has set up."""

    app: bool
    passkeys: Sequence[Passkey]
    recovery_codes: int

    def __bool__(self) -> bool:
        return self.app or bool(self.passkeys)


def of(session: Session, user_id: int) -> SecondFactors:
    return SecondFactors(
        app=totp.is_confirmed(session, user_id),
        passkeys=passkeys.passkeys_of(session, user_id),
        recovery_codes=recovery.left(session, user_id),
    )


def is_set_up(user_id: sa.SQLColumnExpression[int] | int) -> sa.ColumnElement[bool]:
    """Whether a user has a second factor, as a part of a query."""
    app = sa.exists().where(TotpSecret.user_id == user_id, TotpSecret.confirmed_at.is_not(None))
    return sa.or_(app, has_passkey(user_id))


def has_passkey(user_id: sa.SQLColumnExpression[int] | int) -> sa.ColumnElement[bool]:
    """Whether a user has a passkey, as a part of a query."""
    return sa.exists().where(Passkey.user_id == user_id)


def has_one(session: Session, user_id: int) -> bool:
    return bool(session.scalar(sa.select(is_set_up(user_id))))


def accept(session: Session, user_id: int, code: str, recovery_code: int | None) -> str:
    """How the code proves the second factor, or nothing when it does not; it is used up by it.

    recovery_code: what recovery.look_up() found for the code.
    """
    if recovery_code is not None:
        return "recovery code" if recovery.spend(session, user_id, recovery_code) else ""
    return "authenticator app" if totp.accept(session, user_id, code) else ""


def add_app(session: Session, actor: Actor, user: User, code: str) -> list[Secret]:
    """Take in the app that shows the code; gives new recovery codes if there are none. Raises Conflict, Invalid."""
    totp.confirm(session, actor, user, code)
    return codes_if_none(session, actor, user)


def codes_if_none(session: Session, actor: Actor, user: User) -> list[Secret]:
    """Recovery codes for somebody whose first second factor this is."""
    return [] if recovery.left(session, user.id) else recovery.renew(session, actor, user)


def renew_codes(session: Session, actor: Actor, user: User) -> list[Secret]:
    """New recovery codes. Raises Conflict when there is no second factor they could stand for."""
    if not has_one(session, user.id):
        raise Conflict(_("Recovery codes stand in for a second factor, and none is set up. Set one up first."))
    return recovery.renew(session, actor, user)


def remove_app(session: Session, actor: Actor, user: User) -> None:
    """Take the app away again. It ends the user's sessions."""
    session.execute(sa.delete(TotpSecret).where(TotpSecret.user_id == user.id))
    _removed(session, actor, user, "authenticator app")


def remove_passkey(session: Session, actor: Actor, user: User, passkey_id: int) -> None:
    """Take one passkey away. It ends the user's sessions. Raises NotFound."""
    name = passkeys.remove(session, user.id, passkey_id)
    _removed(session, actor, user, f"passkey {name}")


def remove_all(session: Session, actor: Actor, user: User) -> None:
    """Take every second factor and recovery code from a user, who lost them, and end their sessions.

    Raises Conflict when there is nothing to remove.
    """
    if not has_one(session, user.id):
        raise Conflict(_("%(name)s has no second factor.", name=user.name))
    session.execute(sa.delete(TotpSecret).where(TotpSecret.user_id == user.id))
    session.execute(sa.delete(Passkey).where(Passkey.user_id == user.id))
    _removed(session, actor, user, "all")


def lacking(session: Session) -> dict[Role, tuple[int, int]]:
    """Of each role, how many active users lack a second factor, and how many there are."""
    lacks = sa.case((is_set_up(User.id), 0), else_=1)
    rows = session.execute(
        sa.select(User.role, sa.func.sum(lacks), sa.func.count()).where(User.active).group_by(User.role)
    ).all()
    found = {Role(role): (int(without), int(everybody)) for role, without, everybody in rows}
    return {role: found.get(role, (0, 0)) for role in Role}


def _removed(session: Session, actor: Actor, user: User, kind: str) -> None:
    if not has_one(session, user.id):
        recovery.forget(session, user.id)
    sign_out_everywhere(session, user)
    trail.record(session, actor, "second-factor:remove", subject=f"user:{user.id}", kind=kind)
