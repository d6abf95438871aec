"""Accounts: their passwords, their history, who sees them, and the picker."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from webapp.actor import Actor, Role, command_line
from webapp.audit.trail import AuditLine, verify
from webapp.db import Database, Session
from webapp.errors import Conflict, Invalid, NotFound
from webapp.identity.users import add_user
from webapp.keyring import SealBroken, Secret
from webapp.vault import accounts, uses
from webapp.vault.accounts import Account, AccountPassword
from webapp.vault.resources import Resource, ResourceDetails, add_resource, edit_resource, get_resource

OLD, NEW = Secret("Tr0ub4dor&3"), Secret("correct horse battery staple")


def test_a_password_comes_back_as_it_was_given(database: Database, ada: Actor, postmaster: Account) -> None:
    with database.transaction() as session:
        assert accounts.reveal(session, ada, postmaster.id) == OLD


def test_a_password_does_not_lie_readable_in_the_database(database: Database, postmaster: Account) -> None:
    with database.reading() as session:
        sealed = session.scalars(sa.select(AccountPassword.sealed)).one()
    assert OLD.reveal().encode() not in sealed


def test_a_password_moved_to_another_account_no_longer_opens(
    database: Database, ada: Actor, mail_host: Resource, postmaster: Account
) -> None:
    with database.transaction() as session:
        other = accounts.add_account(session, ada, mail_host.id, "abuse", NEW)
        stolen = session.scalars(sa.select(AccountPassword.sealed).filter_by(account_id=postmaster.id)).one()
        session.execute(sa.update(AccountPassword).filter_by(account_id=other.id).values(sealed=stolen))
    with database.transaction() as session, pytest.raises(SealBroken):
        accounts.reveal(session, ada, other.id)


def test_an_older_password_put_in_place_of_the_new_one_does_not_open(
    database: Database, ada: Actor, postmaster: Account
) -> None:
    with database.transaction() as session:
        accounts.set_password(session, ada, postmaster.id, NEW)
        older = session.scalars(sa.select(AccountPassword.sealed).filter_by(version=1)).one()
        session.execute(sa.update(AccountPassword).filter_by(version=2).values(sealed=older))
    with database.transaction() as session, pytest.raises(SealBroken):
        accounts.reveal(session, ada, postmaster.id)


def test_a_changed_password_stays_in_the_history(database: Database, ada: Actor, postmaster: Account) -> None:
    with database.transaction() as session:
        accounts.set_password(session, command_line(), postmaster.id, NEW)
    with database.transaction() as session:
        kept = accounts.history(session, ada, postmaster.id)
        assert [(entry.version, entry.set_by_id) for entry in kept] == [(2, None), (1, ada.id)]
        assert kept[1].set_by_name == "Ada"
        assert accounts.reveal(session, ada, postmaster.id, version=1) == OLD
        assert accounts.current_password(session, accounts.get_account(session, ada, postmaster.id)) == NEW


@pytest.mark.parametrize("version", [0, 2, -1, 2**40])
def test_a_password_that_never_was_is_not_found(
    database: Database, ada: Actor, postmaster: Account, version: int
) -> None:
    with database.transaction() as session, pytest.raises(NotFound):
        accounts.reveal(session, ada, postmaster.id, version=version)


def test_who_uses_a_password_is_told_of_a_new_one_once_it_is_kept(
    database: Database, ada: Actor, postmaster: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uses, "_listeners", [])
    told: list[int] = []
    uses.on_password_change(lambda session, _actor, id: session.after_commit(lambda: told.append(id)))
    with database.transaction() as session:
        accounts.set_password(session, ada, postmaster.id, NEW)
        assert told == []
    assert told == [postmaster.id]


@pytest.mark.parametrize("text", ["", "x" * 1025, "a\0b", "a\ud800b", "••••••••", "•"])
def test_it_refuses_what_is_no_password(database: Database, ada: Actor, postmaster: Account, text: str) -> None:
    with database.transaction() as session, pytest.raises(Invalid) as refused:
        accounts.set_password(session, ada, postmaster.id, Secret(text))
    assert refused.value.field == "password"
    assert not text or text not in str(refused.value)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(min_size=1, max_size=1024).filter(lambda text: "\0" not in text and set(text) != {"•"}))
def test_any_text_can_be_a_password(database: Database, ada: Actor, postmaster: Account, text: str) -> None:
    with database.transaction() as session:
        account = accounts.set_password(session, ada, postmaster.id, Secret(text))
        assert accounts.current_password(session, account) == Secret(text)


def test_an_administrator_sees_no_account_of_somebody_else(
    database: Database, bob: Actor, mail_host: Resource, postmaster: Account
) -> None:
    with database.transaction() as session:
        for attempt in (
            lambda: accounts.get_account(session, bob, postmaster.id),
            lambda: accounts.reveal(session, bob, postmaster.id),
            lambda: accounts.history(session, bob, postmaster.id),
            lambda: accounts.set_password(session, bob, postmaster.id, NEW),
            lambda: accounts.edit_account(session, bob, postmaster.id, "mine", ""),
            lambda: accounts.delete_account(session, bob, postmaster.id),
            lambda: accounts.add_account(session, bob, mail_host.id, "abuse", NEW),
        ):
            with pytest.raises(NotFound):
                attempt()
        assert accounts.choices(session, bob) == []
        assert accounts.choice(session, bob, postmaster.id) == []
        assert not accounts.accounts_of(session, bob, mail_host.id)
        assert list(accounts.each_account(session, bob)) == []


@pytest.mark.parametrize("id", [0, -1, 2**31, 10**30])
def test_a_number_that_is_no_account_is_not_found(database: Database, ada: Actor, id: int) -> None:
    with database.reading() as session:
        assert accounts.choice(session, ada, id) == []
        with pytest.raises(NotFound):
            accounts.get_account(session, ada, id)


def test_a_resource_has_each_user_name_once(
    database: Database, ada: Actor, mail_host: Resource, postmaster: Account
) -> None:
    with database.transaction() as session:
        other = accounts.add_account(session, ada, mail_host.id, "abuse", NEW)
        with pytest.raises(Invalid, match="already has an account"):
            accounts.add_account(session, ada, mail_host.id, "postmaster", NEW)
        with pytest.raises(Invalid, match="already has an account"):
            accounts.edit_account(session, ada, other.id, "postmaster", "")


def test_a_renamed_account_is_found_by_its_new_name(database: Database, ada: Actor, postmaster: Account) -> None:
    with database.transaction() as session:
        accounts.edit_account(session, ada, postmaster.id, "Übermittler", "sends the mail")
    with database.reading() as session:
        found = accounts.choices(session, ada, q="ÜBER host")
        assert [(choice.id, choice.label) for choice in found] == [(postmaster.id, "Mail host — Übermittler")]
        assert accounts.choices(session, ada, q="postmaster") == []
        assert accounts.get_account(session, ada, postmaster.id).notes == "sends the mail"


def test_an_edit_of_an_account_upon_an_older_version_is_refused(
    database: Database, ada: Actor, postmaster: Account
) -> None:
    with database.transaction() as session:
        accounts.edit_account(session, ada, postmaster.id, "first", "", version=1)
        with pytest.raises(Conflict):
            accounts.edit_account(session, ada, postmaster.id, "second", "", version=1)


def test_an_account_in_use_is_not_deleted(
    database: Database, ada: Actor, postmaster: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uses, "_uses", [])
    uses.register_use(lambda _session, id: "Mail Server Settings" if id == postmaster.id else None)
    with database.transaction() as session, pytest.raises(Conflict, match="used by Mail Server Settings"):
        accounts.delete_account(session, ada, postmaster.id)


def test_a_deleted_account_takes_its_passwords_along(database: Database, ada: Actor, postmaster: Account) -> None:
    with database.transaction() as session:
        accounts.delete_account(session, ada, postmaster.id)
    with database.reading() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(AccountPassword)) == 0


def test_every_act_leaves_a_line_that_holds_no_password(database: Database, ada: Actor, postmaster: Account) -> None:
    with database.transaction() as session:
        accounts.edit_account(session, ada, postmaster.id, "postmaster2", "")
        accounts.set_password(session, ada, postmaster.id, NEW)
        accounts.reveal(session, ada, postmaster.id)
        accounts.delete_account(session, ada, postmaster.id)
    with database.reading() as session:
        lines = session.scalars(sa.select(AuditLine).order_by(AuditLine.id)).all()
        assert verify(session).sound
    acts = ["add", "edit", "set-password", "reveal", "delete"]
    assert [line.action for line in lines][-5:] == [f"account:{act}" for act in acts]
    assert not any(secret.reveal() in line.details for line in lines for secret in (OLD, NEW))


def test_choices_come_by_resource_then_user_name(database: Database, ada: Actor) -> None:
    with database.transaction() as session:
        for resource, username in (("b", "z"), ("a-long", "m"), ("B", None), ("a", "z"), ("a", "É"), ("a", "f")):
            held = session.scalar(sa.select(Resource).filter_by(name_key=resource.casefold()))
            held = held or add_resource(session, ada, ResourceDetails(resource))
            if username:
                accounts.add_account(session, ada, held.id, username, NEW)
        labels = [choice.label for choice in accounts.choices(session, ada)]
        assert [account.label for account in accounts.each_account(session, ada, q="A")] == labels[:4]
    assert labels == ["a — f", "a — z", "a — É", "a-long — m", "b — z"]


def test_no_more_choices_come_than_were_asked_for(database: Database, ada: Actor, mail_host: Resource) -> None:
    with database.transaction() as session:
        for number in range(105):
            accounts.add_account(session, ada, mail_host.id, f"user{number:03}", NEW)
        assert [choice.label[-3:] for choice in accounts.choices(session, ada, limit=2)] == ["000", "001"]
        assert len(accounts.choices(session, ada, limit=10**9)) == 100
        assert len(accounts.choices(session, ada, limit=-1)) == 1


def test_a_picker_line_is_given_for_the_account_that_is_chosen(
    database: Database, ada: Actor, postmaster: Account
) -> None:
    with database.reading() as session:
        assert [choice.label for choice in accounts.choice(session, ada, postmaster.id)] == ["Mail host — postmaster"]


def test_the_command_line_may_change_a_password_of_anybody(database: Database, postmaster: Account) -> None:
    with database.transaction() as session:
        assert accounts.set_password(session, command_line(), postmaster.id, NEW).password_version == 2


def test_a_user_of_the_lowest_role_still_manages_what_they_own(database: Database) -> None:
    with database.transaction() as session:
        dan = add_user(session, command_line(), email="dan@example.com", name="Dan", role=Role.PASSWORD_USER)
        owned = add_resource(session, command_line(), ResourceDetails("Printer"), owner_id=dan.id)
        account = accounts.add_account(session, dan.actor("127.0.0.1"), owned.id, "admin", NEW)
        assert accounts.reveal(session, dan.actor("127.0.0.1"), account.id) == NEW


def test_renaming_a_resource_while_its_accounts_change_leaves_no_stale_label(
    database: Database, ada: Actor, mail_host: Resource, postmaster: Account
) -> None:
    start = threading.Barrier(3)
    failures: list[BaseException] = []

    def repeat(change: Callable[[Session, int], object]) -> None:
        start.wait(10)
        try:
            for turn in range(8):
                with database.transaction() as session:
                    change(session, turn)
        except BaseException as failure:
            failures.append(failure)

    def rename(session: Session, turn: int) -> None:
        version = get_resource(session, ada, mail_host.id).version
        edit_resource(session, ada, mail_host.id, ResourceDetails(f"Host {turn}"), version)

    work = (
        rename,
        lambda session, turn: accounts.edit_account(session, ada, postmaster.id, f"post{turn}", ""),
        lambda session, turn: accounts.add_account(session, ada, mail_host.id, f"extra{turn}", NEW),
    )
    threads = [threading.Thread(target=repeat, args=(change,)) for change in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    with database.reading() as session:
        keys = [account.label_key for account in accounts.each_account(session, ada)]
    assert keys == sorted(["host 7\x1fpost7", *(f"host 7\x1fextra{turn}" for turn in range(8))])
