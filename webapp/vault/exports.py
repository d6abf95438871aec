"""Exporting what somebody may reveal: one table with passwords in clear, which an import takes back without loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from webapp import spreadsheet
from webapp.actor import Actor
from webapp.audit import trail
from webapp.db import Database, Session
from webapp.keyring import Secret
from webapp.vault import inventory, rights
from webapp.vault.accounts import Account, AccountPassword, visible_accounts
from webapp.vault.inventory import Entry
from webapp.vault.resources import Resource, ResourceDetails, Whose, matching, visible_resources
from webapp.vault.rights import Right

_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which part of what may be revealed. q: words in the resource’s name or address; owner_id: whose it must be."""

    q: str = ""
    whose: Whose = Whose.ALL
    owner_id: int | None = None

    def conditions(self, actor: Actor) -> list[sa.ColumnElement[bool]]:
        """The same as conditions on resources."""
        found = matching(actor, self.q, self.whose)
        return found if self.owner_id is None else [*found, Resource.owner_id == self.owner_id]


@dataclass(frozen=True, slots=True)
class Export:
    """A table, and how many accounts with their passwords, and resources without any, are in it."""

    text: str
    accounts: int
    empty: int


def count(session: Session, actor: Actor, wanted: Wanted) -> int:
    """How many passwords an export would hold."""
    found = _accounts(actor, wanted).with_only_columns(sa.func.count(Account.id)).order_by(None)
    return session.scalar(found) or 0


def export(database: Database, actor: Actor, wanted: Wanted) -> Export:
    """Reveal everything that is wanted, and leave an audit line that says how much; without the line there is nothing.

    Raises NotRecorded. It is read first and noted after, so that nobody waits for a long export and the line counts
    what was taken.
    """
    with database.reading() as session:
        held, empty = list(_held(session, actor, wanted)), list(_empty(session, actor, wanted))
    made = Export("\ufeff" + "".join(spreadsheet.lines(inventory.rows(held + empty))), len(held), len(empty))
    with database.transaction() as session:
        trail.record(
            session, actor, "resource:export", accounts=made.accounts, search=wanted.q, whose=wanted.whose.value,
        )  # fmt: skip
    return made


def _held(session: Session, actor: Actor, wanted: Wanted) -> Iterator[Entry]:
    """Each account with its current password, by label."""
    current = sa.and_(AccountPassword.account_id == Account.id, AccountPassword.version == Account.password_version)
    sees_all = rights.on_resource(actor, Right.VIEW, id=Resource.id)
    found = (
        _accounts(actor, wanted)
        .join(AccountPassword, current)
        .with_only_columns(
            Account.id, Account.username, Account.notes, Account.password_version, AccountPassword.sealed,
            Resource.name, Resource.address, Resource.kind, sa.case((sees_all, Resource.notes), else_=""),
        )
    )  # fmt: skip
    for id, username, notes, version, sealed, *details in session.execute(found.execution_options(yield_per=_AT_ONCE)):
        password = session.keyring.unseal(sealed, table="account_passwords", row=f"{id}/{version}", field="password")
        yield Entry(0, ResourceDetails(*details), username, password, notes)


def _empty(session: Session, actor: Actor, wanted: Wanted) -> Iterator[Entry]:
    """Each resource that holds no account, by name."""
    some = sa.exists().where(Account.resource_id == Resource.id)
    found = visible_resources(actor).where(~some, *wanted.conditions(actor)).order_by(Resource.name_key)
    for each in session.scalars(found):
        yield Entry(0, ResourceDetails(each.name, each.address, each.kind, each.notes), "", Secret(""), "")


def _accounts(actor: Actor, wanted: Wanted) -> sa.Select[Account]:
    found = visible_accounts(actor).join(Resource, Resource.id == Account.resource_id)
    return found.where(*wanted.conditions(actor)).order_by(Account.label_key, Account.id)
