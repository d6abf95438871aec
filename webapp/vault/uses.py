"""Who uses an account. Users of accounts, such as mail, register here: the vault never imports them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sqlalchemy.exc import IntegrityError

from webapp.actor import Actor
from webapp.db import Session
from webapp.errors import Conflict
from webapp.i18n import gettext as _
from webapp.i18n import joined

Use = Callable[[Session, int], str | None]
Reliance = Callable[[Session, int], Iterable[tuple[int, str]]]
PasswordListener = Callable[[Session, Actor, int], None]

_uses: list[Use] = []
_reliances: list[Reliance] = []
_listeners: list[PasswordListener] = []


def register_use(check: Use) -> None:
    """Add a question: given an account's id, the name of what uses it (“Mail Server Settings”), else None."""
    if check not in _uses:
        _uses.append(check)


def uses_of(session: Session, account_id: int) -> list[str]:
    """The names of all that uses an account."""
    return [name for name in (check(session, account_id) for check in _uses) if name]


def register_reliance(check: Reliance) -> None:
    """Add a question: given a user's id, the accounts that are used because that user chose them, each with the name
    of what uses it."""
    if check not in _reliances:
        _reliances.append(check)


def relying_on(session: Session, user_id: int) -> dict[int, str]:
    """The accounts that something uses because this user chose them, and its name."""
    return {account_id: name for check in _reliances for account_id, name in check(session, user_id)}


def on_password_change(listener: PasswordListener) -> None:
    """Have ``listener`` told of each new password of any account.

    It is called in the transaction of the change, with who changed it and the account's id, and before the commit: what
    must wait for the commit goes into ``session.after_commit()``.
    """
    if listener not in _listeners:
        _listeners.append(listener)


def tell_password_changed(session: Session, actor: Actor, account_id: int) -> None:
    """Tell the listeners."""
    for listener in list(_listeners):
        listener(session, actor, account_id)


def refuse_used(session: Session, account_id: int, what: str) -> None:
    """Raises Conflict when something uses the account; ``what`` begins its sentence."""
    names = uses_of(session, account_id)
    if names:
        raise Conflict(
            _(
                "%(what)s cannot be deleted: it is used by %(list)s. Choose another account there first, "
                "then delete it.",
                what=what,
                list=joined(names),
            )
        )


def flush_unused(session: Session, what: str) -> None:
    """Send a deletion to the database. Raises Conflict when something began to use the account in that moment."""
    try:
        session.flush()
    except IntegrityError:
        raise Conflict(
            _("%(what)s cannot be deleted: something has just begun to use it. Reload the page.", what=what)
        ) from None
