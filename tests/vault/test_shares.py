"""Sharing: who may do what with whose things, and how that begins, changes and ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest
import sqlalchemy as sa

from webapp.actor import Actor, Role, command_line
from webapp.audit.trail import AuditLine, verify
from webapp.db import Database, Session
from webapp.errors import Conflict, Invalid, NotFound, Refused
from webapp.identity.users import User
from webapp.keyring import Secret
from webapp.outbox.messages import Message
from webapp.vault import accounts, resources, shares, uses
from webapp.vault.accounts import Account
from webapp.vault.resources import Resource, ResourceDetails, Whose
from webapp.vault.rights import Right

NEW = Secret("correct horse battery staple")


@dataclass
class Office:
    """Ada owns the mail host with two accounts; Bob is an administrator, Carol may own things, Dave only uses them."""

    database: Database
    ada: Actor
    bob: Actor
    carol: Actor
    dave: Actor
    mail_host: Resource
    postmaster: Account
    abuse: Account

    def share(self, by: Actor, thing: Resource | Account, to: Actor, right: Right) -> None:
        assert to.id is not None
        give = shares.share_resource if isinstance(thing, Resource) else shares.share_account
        with self.database.transaction() as session:
            give(session, by, thing.id, to.id, right)

    def withdraw(self, by: Actor, thing: Resource | Account, of: Actor, *, although_used: bool = False) -> None:
        assert of.id is not None
        take = shares.withdraw_resource if isinstance(thing, Resource) else shares.withdraw_account
        with self.database.transaction() as session:
            take(session, by, thing.id, of.id, although_used=although_used)

    def hand_over(self, by: Actor, to: Actor, *, keep: Right | None = None) -> None:
        assert to.id is not None
        with self.database.transaction() as session:
            shares.transfer(session, by, self.mail_host.id, to.id, keep=keep)

    def disable(self, user: Actor) -> None:
        with self.database.transaction() as session:
            session.execute(sa.update(User).where(User.id == user.id).values(active=False))

    def right_to(self, thing: Resource | Account, actor: Actor) -> Right | None:
        stand = resources.standing_to_resource if isinstance(thing, Resource) else accounts.standing_to_account
        with suppress(NotFound), self.database.reading() as session:
            return stand(session, actor, thing.id).right
        return None


@pytest.fixture
def office(
    database: Database, join: Callable[..., Actor], ada: Actor, mail_host: Resource, postmaster: Account
) -> Office:
    bob, carol, dave = join("Bob", Role.ADMINISTRATOR), join("Carol"), join("Dave", Role.PASSWORD_USER)
    with database.transaction() as session:
        abuse = accounts.add_account(session, ada, mail_host.id, "abuse", Secret("second"))
    return Office(database, ada, bob, carol, dave, mail_host, postmaster, abuse)


def acts_on_account(session: Session, actor: Actor, account: Account) -> Iterator[tuple[Right, Callable[[], object]]]:
    """What can be done with an account, and the right that each needs; deleting comes last."""
    yield Right.VIEW, lambda: accounts.get_account(session, actor, account.id)
    yield Right.VIEW, lambda: accounts.reveal(session, actor, account.id)
    yield Right.VIEW, lambda: accounts.history(session, actor, account.id)
    yield Right.MODIFY, lambda: accounts.set_password(session, actor, account.id, NEW)
    yield Right.MODIFY, lambda: accounts.edit_account(session, actor, account.id, "changed", "")
    yield Right.MANAGE, lambda: shares.holders_of_account(session, actor, account.id)
    yield Right.MANAGE, lambda: accounts.delete_account(session, actor, account.id)


def acts_on_resource(
    session: Session, actor: Actor, resource: Resource, other: Actor
) -> Iterator[tuple[Right, Callable[[], object]]]:
    """What can be done with a resource, and the right that each needs; deleting comes last."""
    assert other.id is not None
    heir = other.id
    yield Right.RECOGNISE, lambda: resources.get_resource(session, actor, resource.id, Right.RECOGNISE)
    yield Right.VIEW, lambda: resources.get_resource(session, actor, resource.id)
    yield Right.MODIFY, lambda: resources.edit_resource(session, actor, resource.id, ResourceDetails("New name"), 1)
    yield Right.MODIFY, lambda: accounts.add_account(session, actor, resource.id, "added", NEW)
    yield Right.MANAGE, lambda: shares.share_resource(session, actor, resource.id, heir, Right.VIEW)
    yield Right.MANAGE, lambda: shares.withdraw_resource(session, actor, resource.id, heir)
    yield Right.OWN, lambda: shares.transfer(session, actor, resource.id, heir)
    yield Right.MANAGE, lambda: resources.delete_resource(session, actor, resource.id)


@pytest.mark.parametrize("right", [Right.VIEW, Right.MODIFY, Right.MANAGE])
def test_a_share_on_a_resource_lets_people_do_what_it_says_and_no_more(office: Office, right: Right) -> None:
    office.share(office.ada, office.mail_host, office.carol, right)
    assert office.right_to(office.mail_host, office.carol) is right
    assert office.right_to(office.postmaster, office.carol) is right
    with office.database.transaction() as session:
        for needed, act in (
            *acts_on_account(session, office.carol, office.postmaster),
            *acts_on_resource(session, office.carol, office.mail_host, office.bob),
        ):
            if needed <= right:
                act()
            else:
                with pytest.raises(Refused, match=r"Ada"):
                    act()


@pytest.mark.parametrize("right", [Right.VIEW, Right.MODIFY])
def test_a_share_on_one_account_lets_people_do_what_it_says_with_it_alone(office: Office, right: Right) -> None:
    office.share(office.ada, office.postmaster, office.carol, right)
    with office.database.transaction() as session:
        for needed, act in acts_on_account(session, office.carol, office.postmaster):
            if needed <= right:
                act()
            else:
                with pytest.raises(Refused, match="Ask Ada, its owner"):
                    act()
        for _needed, act in acts_on_account(session, office.carol, office.abuse):
            with pytest.raises(NotFound):
                act()
        for needed, act in acts_on_resource(session, office.carol, office.mail_host, office.bob):
            if needed is Right.RECOGNISE:
                act()
            else:
                with pytest.raises(Refused, match="single accounts are shared with you"):
                    act()


def test_who_sees_one_account_sees_its_resource_and_nothing_else_on_it(office: Office) -> None:
    office.share(office.ada, office.postmaster, office.dave, Right.VIEW)
    with office.database.reading() as session:
        [line] = resources.find_resources(session, office.dave).items
        assert (line.name, line.address, line.owner_name, line.is_mine) == (
            "Mail host",
            "mail.example.com",
            "Ada",
            False,
        )
        assert line.account_count == 1
        held = accounts.accounts_of(session, office.dave, office.mail_host.id)
        assert [account.id for account in held] == [office.postmaster.id]
        assert [choice.id for choice in accounts.choices(session, office.dave)] == [office.postmaster.id]
        assert accounts.choice(session, office.dave, office.abuse.id) == []
        assert resources.find_resource(session, office.dave, "Mail host") is None


@pytest.mark.parametrize("whole", [Right.VIEW, Right.MODIFY, Right.MANAGE])
@pytest.mark.parametrize("single", [Right.VIEW, Right.MODIFY])
def test_the_accounts_own_share_beats_the_one_on_its_resource(office: Office, whole: Right, single: Right) -> None:
    office.share(office.ada, office.mail_host, office.carol, whole)
    office.share(office.ada, office.postmaster, office.carol, single)
    assert office.right_to(office.postmaster, office.carol) is single
    assert office.right_to(office.abuse, office.carol) is whole
    office.withdraw(office.ada, office.postmaster, office.carol)
    assert office.right_to(office.postmaster, office.carol) is whole


def test_who_manages_a_resource_cannot_reach_past_a_lower_share_of_their_own(office: Office) -> None:
    office.share(office.ada, office.mail_host, office.carol, Right.MANAGE)
    office.share(office.ada, office.postmaster, office.carol, Right.VIEW)
    for right in (Right.MODIFY, Right.MANAGE):
        with pytest.raises(Refused, match="one by one"):
            office.share(office.carol, office.mail_host, office.bob, right)
    with pytest.raises(Refused, match="one by one"), office.database.transaction() as session:
        resources.delete_resource(session, office.carol, office.mail_host.id)
    with pytest.raises(Refused):
        office.withdraw(office.carol, office.postmaster, office.carol)
    office.share(office.carol, office.mail_host, office.bob, Right.VIEW)
    office.share(office.carol, office.abuse, office.bob, Right.MODIFY)


def test_a_share_ends_when_it_is_withdrawn(office: Office) -> None:
    office.share(office.ada, office.mail_host, office.carol, Right.MODIFY)
    office.share(office.ada, office.postmaster, office.carol, Right.VIEW)
    office.withdraw(office.ada, office.mail_host, office.carol)
    assert office.right_to(office.postmaster, office.carol) is Right.VIEW
    office.withdraw(office.ada, office.postmaster, office.carol)
    assert office.right_to(office.postmaster, office.carol) is None
    with office.database.reading() as session:
        assert resources.find_resources(session, office.carol).total == 0
    with pytest.raises(NotFound, match="no such share any more"):
        office.withdraw(office.ada, office.postmaster, office.carol)


def test_a_new_right_takes_the_place_of_the_one_before(office: Office) -> None:
    office.share(office.ada, office.mail_host, office.carol, Right.MANAGE)
    office.share(office.ada, office.mail_host, office.carol, Right.VIEW)
    assert office.right_to(office.mail_host, office.carol) is Right.VIEW


def test_those_with_a_right_are_listed_with_where_it_comes_from(office: Office) -> None:
    office.share(office.ada, office.mail_host, office.carol, Right.MANAGE)
    office.share(office.ada, office.postmaster, office.carol, Right.VIEW)
    office.share(office.ada, office.postmaster, office.dave, Right.MODIFY)
    with office.database.reading() as session:
        whole = shares.holders_of_resource(session, office.ada, office.mail_host.id)
        single = shares.holders_of_account(session, office.ada, office.postmaster.id)
    assert [(each.user.name, each.right) for each in whole] == [("Ada", Right.OWN), ("Carol", Right.MANAGE)]
    assert [(each.user.name, each.right, each.on_resource, each.on_account) for each in single] == [
        ("Ada", Right.OWN, None, None),
        ("Carol", Right.VIEW, Right.MANAGE, Right.VIEW),
        ("Dave", Right.MODIFY, None, Right.MODIFY),
    ]


def test_everybody_who_may_use_an_account_is_known_unless_disabled(office: Office) -> None:
    office.share(office.ada, office.mail_host, office.carol, Right.VIEW)
    office.share(office.ada, office.mail_host, office.bob, Right.VIEW)
    office.share(office.ada, office.postmaster, office.dave, Right.VIEW)
    office.disable(office.bob)
    with office.database.reading() as session:
        people = shares.people_with_access(session, office.postmaster.id)
    assert [user.name for user in people] == ["Ada", "Carol", "Dave"]


@pytest.mark.parametrize("role", [Role.PASSWORD_USER, Role.PASSWORD_AUDITOR])
def test_who_may_only_use_things_neither_shares_nor_manages_nor_owns(
    office: Office, role: Role, join: Callable[..., Actor]
) -> None:
    eve = join("Eve", role)
    with pytest.raises(Invalid, match="Choose a lower right") as refused:
        office.share(office.ada, office.mail_host, eve, Right.MANAGE)
    assert refused.value.field == "right"
    with pytest.raises(Invalid, match="own resources") as refused:
        office.hand_over(office.ada, eve)
    assert refused.value.field == "who"
    office.share(office.ada, office.mail_host, eve, Right.MODIFY)
    with pytest.raises(Refused, match="Only Administrators and Password"), office.database.reading() as session:
        shares.find_people(session, eve, "", besides=[])


def test_nothing_is_shared_with_the_owner_oneself_the_disabled_or_nobody(office: Office) -> None:
    office.share(office.ada, office.mail_host, office.carol, Right.MANAGE)
    office.disable(office.bob)
    nobody = Actor(4711, "Nobody", "", Role.PASSWORD_USER)
    for thing in (office.mail_host, office.postmaster):
        for to in (office.ada, office.bob, office.carol, nobody):
            with pytest.raises(Invalid) as refused:
                office.share(office.carol, thing, to, Right.VIEW)
            assert refused.value.field == "who"


@pytest.mark.parametrize("right", [Right.RECOGNISE, Right.OWN])
def test_what_cannot_be_given_is_refused(office: Office, right: Right) -> None:
    for thing, given in ((office.mail_host, right), (office.postmaster, right), (office.postmaster, Right.MANAGE)):
        with pytest.raises(Invalid) as refused:
            office.share(office.ada, thing, office.carol, given)
        assert refused.value.field == "right"


def test_the_new_owner_owns_and_the_old_one_keeps_what_was_agreed(office: Office) -> None:
    office.share(office.ada, office.mail_host, office.carol, Right.VIEW)
    office.share(office.ada, office.postmaster, office.carol, Right.VIEW)
    office.hand_over(office.ada, office.carol, keep=Right.MODIFY)
    assert office.right_to(office.postmaster, office.carol) is Right.OWN
    assert office.right_to(office.postmaster, office.ada) is Right.MODIFY
    office.hand_over(office.carol, office.ada)
    assert office.right_to(office.mail_host, office.ada) is Right.OWN
    assert office.right_to(office.mail_host, office.carol) is None
    assert office.right_to(office.postmaster, office.carol) is None


def test_only_the_owner_and_the_command_line_hand_over(office: Office) -> None:
    office.share(office.ada, office.mail_host, office.carol, Right.MANAGE)
    with pytest.raises(Refused, match="Only Ada, the owner"):
        office.hand_over(office.carol, office.carol)
    with pytest.raises(NotFound):
        office.hand_over(office.bob, office.bob)
    with pytest.raises(Invalid, match="already"):
        office.hand_over(office.ada, office.ada)
    office.hand_over(command_line(), office.bob)
    assert office.right_to(office.mail_host, office.bob) is Right.OWN


def test_resources_are_listed_by_whose_they_are(office: Office) -> None:
    office.share(office.ada, office.mail_host, office.carol, Right.VIEW)
    with office.database.transaction() as session:
        resources.add_resource(session, office.carol, ResourceDetails("Printer"))
        for whose, names in {
            Whose.ALL: ["Mail host", "Printer"],
            Whose.MINE: ["Printer"],
            Whose.SHARED: ["Mail host"],
        }.items():
            found = resources.find_resources(session, office.carol, whose=whose)
            assert ([line.name for line in found.items], found.total) == (names, len(names))


def test_people_are_found_by_name_and_address_in_any_case(office: Office, join: Callable[..., Actor]) -> None:
    join("Ärne")
    office.share(office.ada, office.mail_host, office.carol, Right.VIEW)
    with office.database.reading() as session:
        besides = shares.holders_of_resource(session, office.ada, office.mail_host.id)
        for q, names in {"": ["Bob", "Dave", "Ärne"], "ÄRN": ["Ärne"], "dave EXAMPLE": ["Dave"], "carol": []}.items():
            found = shares.find_people(session, office.ada, q, besides=besides)
            assert sorted(user.name for user in found) == names


def test_every_act_of_sharing_leaves_a_line(office: Office) -> None:
    office.share(office.ada, office.mail_host, office.carol, Right.VIEW)
    office.share(office.ada, office.mail_host, office.carol, Right.VIEW)
    office.share(office.ada, office.mail_host, office.carol, Right.MODIFY)
    office.share(office.ada, office.postmaster, office.carol, Right.VIEW)
    office.withdraw(office.ada, office.postmaster, office.carol)
    office.withdraw(office.ada, office.mail_host, office.carol)
    office.hand_over(office.ada, office.carol, keep=Right.VIEW)
    with office.database.reading() as session:
        lines = session.scalars(sa.select(AuditLine).order_by(AuditLine.id.desc()).limit(6)).all()[::-1]
        assert verify(session).sound
    assert [(line.action, dict(line.facts()).get("right"), dict(line.facts()).get("before")) for line in lines] == [
        ("resource:share", "view", None),
        ("resource:share", "modify", "view"),
        ("account:share", "view", None),
        ("account:withdraw", None, "view"),
        ("resource:withdraw", None, "modify"),
        ("resource:transfer", None, "ada@example.com"),
    ]
    assert dict(lines[-1].facts()).items() >= {"owner": "carol@example.com", "kept": "view"}.items()


def test_people_are_told_of_what_is_shared_with_them_and_of_new_passwords(office: Office) -> None:
    office.share(office.ada, office.mail_host, office.carol, Right.MODIFY)
    office.share(office.ada, office.postmaster, office.dave, Right.VIEW)
    with office.database.transaction() as session:
        accounts.set_password(session, office.carol, office.postmaster.id, NEW)
    with office.database.reading() as session:
        told = session.execute(sa.select(Message.kind, Message.user_id, Message.about).order_by(Message.id)).all()
    account = f"account:{office.postmaster.id}"
    assert [tuple(each) for each in told] == [
        ("resource-shared", office.carol.id, f"resource:{office.mail_host.id}"),
        ("account-shared", office.dave.id, account),
        ("password-changed", office.ada.id, account),
        ("password-changed", office.dave.id, account),
    ]


def test_whoever_ends_an_access_that_something_rests_on_is_told_first(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uses, "_reliances", [])
    office.share(office.ada, office.mail_host, office.carol, Right.VIEW)
    office.share(office.ada, office.postmaster, office.carol, Right.VIEW)
    uses.register_reliance(
        lambda _session, user_id: [(office.postmaster.id, "Mail Server Settings")] if user_id == office.carol.id else []
    )
    office.withdraw(office.ada, office.postmaster, office.carol)
    with pytest.raises(Conflict, match="used by Mail Server Settings, where Carol chose it"):
        office.withdraw(office.ada, office.mail_host, office.carol)
    assert office.right_to(office.postmaster, office.carol) is Right.VIEW
    office.withdraw(office.ada, office.mail_host, office.carol, although_used=True)
    assert office.right_to(office.postmaster, office.carol) is None


def test_an_owner_on_whose_access_something_rests_is_told_before_handing_over(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uses, "_reliances", [])
    mail = (office.postmaster.id, "Mail")
    uses.register_reliance(lambda _session, user_id: [mail] if user_id == office.ada.id else [])
    with pytest.raises(shares.StillUsed, match="used by Mail"):
        office.hand_over(office.ada, office.carol)
    office.hand_over(office.ada, office.carol, keep=Right.VIEW)


def test_what_waits_for_a_withdrawal_is_refused_after_it(office: Office) -> None:
    office.share(office.ada, office.mail_host, office.carol, Right.MODIFY)
    refused: list[type[Exception]] = []
    begun = threading.Event()

    def change() -> None:
        begun.set()
        try:
            with office.database.transaction() as session:
                accounts.set_password(session, office.carol, office.postmaster.id, NEW)
        except NotFound as error:
            refused.append(type(error))

    thread = threading.Thread(target=change)
    assert office.carol.id is not None
    with office.database.transaction() as session:
        shares.withdraw_resource(session, office.ada, office.mail_host.id, office.carol.id)
        thread.start()
        assert begun.wait(10)
    thread.join(30)
    assert refused == [NotFound]
