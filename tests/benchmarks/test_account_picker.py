"""The account picker's promise: with 100,000 accounts visible it answers in under 50 ms (p99)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from statistics import median

import pytest
import sqlalchemy as sa

import webapp.models  # noqa: F401 - makes all tables known
from webapp.actor import Role, command_line
from webapp.audit.trail import AuditHead
from webapp.db import Base, Database
from webapp.identity.users import add_user, find_user
from webapp.keyring import Keyring
from webapp.search import key
from webapp.vault.accounts import Account, choices, visible_accounts
from webapp.vault.resources import Resource
from webapp.vault.rights import AccountShare, ResourceShare, Right

RESOURCES, ACCOUNTS_EACH = 2_000, 50
ROUNDS = 20
OWNER, SHARER = "owner@example.com", "sharer@example.com"
PROMISE_MS = 50
# From nothing typed to nothing found, which is the longest way: every account is looked at.
QUERIES = ("", "m", "mail", "host-01999", "svc 1234", "admin-49 host-1999", "ost-19 min-4", "nowhere")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database whose every account is visible to two users: Ada owns all, and with Ben all is shared."""
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('picker') / 'keypost.db'}", Keyring(bytes(32)))
    Base.metadata.create_all(database.engine)
    _fill(database)
    yield database
    database.dispose()


def _fill(database: Database) -> None:
    with database.transaction() as session:
        user, ben = (
            add_user(session, command_line(), email=email, name="N", role=Role.PASSWORD_ADMINISTRATOR)
            for email in (OWNER, SHARER)
        )
        now = session.now()
        stamps = {"notes": "", "created_at": now, "updated_at": now, "version": 1}
        names = {id: f"Mail host-{id:05} of the service" for id in range(1, RESOURCES + 1)}
        session.execute(
            sa.insert(Resource),
            [
                {"id": id, "name": name, "name_key": key(name), "address": "", "kind": "Server", "owner_id": user.id}
                | stamps
                for id, name in names.items()
            ],
        )
        session.execute(
            sa.insert(Account),
            [
                {"resource_id": id, "username": username, "password_version": 1}
                | {"label_key": f"{key(name)}\x1f{username}"}
                | stamps
                for id, name in names.items()
                for username in (f"svc-admin-{number:02}" for number in range(ACCOUNTS_EACH))
            ],
        )
        given = {"user_id": ben.id, "given_at": now, "given_by_name": "Ada"}
        session.execute(sa.insert(ResourceShare), [{"resource_id": id, "given": Right.VIEW, **given} for id in names])
        # On one account of each resource a share of its own as well.
        session.execute(
            sa.insert(AccountShare),
            [{"account_id": id, "given": Right.MODIFY, **given} for id in range(1, RESOURCES * ACCOUNTS_EACH, 50)],
        )
        assert session.get(AuditHead, 1) is not None


def _milliseconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1000


def _p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]


def _slowest(times: dict[str, list[float]]) -> float:
    """The usual time of the query that takes longest: what else the machine does hardly moves a median."""
    return max(median(each) for each in times.values())


@pytest.mark.benchmark
@pytest.mark.parametrize("email", [OWNER, SHARER])
def test_the_picker_beats_a_plain_search_through_the_orm(
    database: Database, email: str, capsys: pytest.CaptureFixture[str]
) -> None:
    picker: dict[str, list[float]] = {q: [] for q in QUERIES}
    plain: dict[str, list[float]] = {q: [] for q in QUERIES}
    with database.reading() as session:
        user = find_user(session, email)
        assert user is not None
        actor = user.actor("127.0.0.1")

        def search(q: str) -> object:
            found = visible_accounts(actor).join(Resource, Resource.id == Account.resource_id)
            for word in q.split():
                found = found.where(Resource.name.ilike(f"%{word}%") | Account.username.ilike(f"%{word}%"))
            return session.scalars(found.order_by(sa.func.lower(Resource.name), Account.username).limit(20)).all()

        for round_ in range(ROUNDS + 1):
            for q in QUERIES:
                taken = _milliseconds(lambda q=q: choices(session, actor, q=q))  # type: ignore[misc]
                if round_:
                    picker[q].append(taken)
                if round_ % 5 == 1:
                    plain[q].append(_milliseconds(lambda q=q: search(q)))  # type: ignore[misc]
    all_times = [taken for times in picker.values() for taken in times]
    ours, theirs = _slowest(picker), _slowest(plain)
    with capsys.disabled():
        print(
            f"\naccount picker, {RESOURCES * ACCOUNTS_EACH:,} visible accounts, {email}, SQLite: p50 "
            f"{median(all_times):.1f} ms, p99 {_p99(all_times):.1f} ms (promise: {PROMISE_MS} ms); the slowest query "
            f"{ours:.1f} ms, plain ilike through the ORM {theirs:.1f} ms; ratio {ours / theirs:.2f}"
        )
    # A share of what the same machine needs in the same minute tells a regression from a slow machine.
    assert ours < theirs / 2
