"""Who uses an account. Users of accounts, such as mail, register here: the vault never imports them."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy.exc import IntegrityError

from webapp.db import Session
from webapp.errors import Conflict

Use = Callable[[Session, int], str | None]
PasswordListener = Callable[[Session, int], None]

_uses: list[Use] = []
_listeners: list[PasswordListener] = []


def register_use(check: Use) -> None:
    """Add a question: given an account's id, the name of what uses it (“Mail Server Settings”), else None."""
    if check not in _uses:
        _uses.append(check)


def uses_of(session: Session, account_id: int) -> list[str]:
    """The names of all that uses an account."""
    return [name for name in (check(session, account_id) for check in _uses) if name]


def on_password_change(listener: PasswordListener) -> None:
    """Have ``listener`` told of each new password of any account.

    It is called in the transaction of the change, with the account's id, and before the commit: what must wait for the
    commit goes into ``session.after_commit()``.
    """
    if listener not in _listeners:
        _listeners.append(listener)


def tell_password_changed(session: Session, account_id: int) -> None:
    """Tell the listeners."""
    for listener in list(_listeners):
        listener(session, account_id)


def refuse_used(session: Session, account_id: int, what: str) -> None:
    """Raises Conflict when something uses the account; ``what`` begins its sentence."""
    names = uses_of(session, account_id)
    if names:
        raise Conflict(
            f"{what} cannot be deleted: it is used by {' and '.join(names)}. "
            "Choose another account there first, then delete it."
        )


def flush_unused(session: Session, what: str) -> None:
    """Send a deletion to the database. Raises Conflict when something began to use the account in that moment."""
    try:
        session.flush()
    except IntegrityError:
        raise Conflict(f"{what} cannot be deleted: something has just begun to use it. Reload the page.") from None
