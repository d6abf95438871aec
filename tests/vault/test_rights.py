"""The decision in the database is the one that the rule describes, whatever was shared with whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from webapp.actor import Actor, Role, command_line, program
from webapp.db import Database, Session
from webapp.errors import Invalid, NotFound, Refused
from webapp.keyring import Secret
from webapp.vault import accounts, resources, shares
from webapp.vault.resources import ResourceDetails
from webapp.vault.rights import ON_ACCOUNT, ON_RESOURCE, Right

PEOPLE, RESOURCES, ACCOUNTS_EACH = 3, 2, 2
_person = st.integers(0, PEOPLE - 1)
_resource = st.integers(0, RESOURCES - 1)
_account = st.tuples(_resource, st.integers(0, ACCOUNTS_EACH - 1))
_SHARE = st.tuples(st.just("share"), _resource, _person, st.sampled_from(sorted(ON_RESOURCE)))
_SHARE_ONE = st.tuples(st.just("share one"), _account, _person, st.sampled_from(sorted(ON_ACCOUNT)))
_REST = st.one_of(
    st.tuples(st.just("withdraw"), _resource, _person),
    st.tuples(st.just("withdraw one"), _account, _person),
    st.tuples(st.just("transfer"), _resource, _person, st.none() | st.sampled_from(sorted(ON_RESOURCE))),
)
ACTS = st.lists(st.one_of(_SHARE, _SHARE_ONE, _REST), min_size=3, max_size=16)
LOWER = [("share", 0, 1, Right.MANAGE), ("share one", (0, 0), 1, Right.VIEW)]
HIGHER = [("share", 0, 1, Right.VIEW), ("share one", (0, 0), 1, Right.MODIFY)]
HANDED_ON = [*LOWER, ("transfer", 0, 1, Right.VIEW), ("transfer", 0, 2, None)]


@dataclass
class Rule:
    """The rule in its simplest form: the owner may everything, the account's own share beats the resource's."""

    owner: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(RESOURCES), 0))
    whole: dict[tuple[int, int], Right] = field(default_factory=dict)
    single: dict[tuple[tuple[int, int], int], Right] = field(default_factory=dict)

    def on_account(self, person: int, account: tuple[int, int]) -> Right | None:
        if self.owner[account[0]] == person:
            return Right.OWN
        return self.single.get((account, person), self.whole.get((account[0], person)))

    def on_resource(self, person: int, resource: int) -> Right | None:
        if self.owner[resource] == person:
            return Right.OWN
        some = any(account[0] == resource and who == person for account, who in self.single)
        return self.whole.get((resource, person), Right.RECOGNISE if some else None)

    def apply(self, kind: str, thing: Any, person: int, right: Any = None) -> None:
        """What an act changes that the domain did not refuse."""
        if kind == "share":
            self.whole[thing, person] = right
        elif kind == "share one":
            self.single[thing, person] = right
        elif kind == "withdraw":
            del self.whole[thing, person]
        elif kind == "withdraw one":
            del self.single[thing, person]
        else:
            self._transfer(thing, person, right)

    def _transfer(self, resource: int, heir: int, kept: Right | None) -> None:
        former, self.owner[resource] = self.owner[resource], heir
        self.whole.pop((resource, heir), None)
        self.single = {key: right for key, right in self.single.items() if (key[0][0], key[1]) != (resource, heir)}
        if kept is not None:
            self.whole[resource, former] = kept


@dataclass
class World:
    """The same things in the database."""

    session: Session
    people: list[Actor]
    resource_ids: list[int] = field(default_factory=list)
    account_ids: dict[tuple[int, int], int] = field(default_factory=dict)

    def fill(self) -> None:
        for number in range(RESOURCES):
            details = ResourceDetails(f"Host {number}")
            resource = resources.add_resource(self.session, command_line(), details, owner_id=self.people[0].id)
            self.resource_ids.append(resource.id)
            for each in range(ACCOUNTS_EACH):
                account = accounts.add_account(self.session, command_line(), resource.id, f"user{each}", Secret("x"))
                self.account_ids[number, each] = account.id

    def act(self, kind: str, thing: Any, person: int, right: Right | None = None) -> None:
        session, cli, user_id = self.session, command_line(), self.people[person].id
        assert user_id is not None
        id = self.account_ids[thing] if kind.endswith("one") else self.resource_ids[thing]
        if kind == "share":
            shares.share_resource(session, cli, id, user_id, right)
        elif kind == "share one":
            shares.share_account(session, cli, id, user_id, right)
        elif kind == "withdraw":
            shares.withdraw_resource(session, cli, id, user_id)
        elif kind == "withdraw one":
            shares.withdraw_account(session, cli, id, user_id)
        else:
            shares.transfer(session, cli, id, user_id, keep=right)


@pytest.fixture
def people(join: Callable[..., Actor]) -> list[Actor]:
    return [join(name) for name in ("Ann", "Ben", "Cyn")]


def compare(world: World, rule: Rule) -> None:
    session = world.session
    for person, actor in enumerate(world.people):
        accounts_held = {key: rule.on_account(person, key) for key in world.account_ids}
        resources_held = {number: rule.on_resource(person, number) for number in range(RESOURCES)}
        for right in Right:
            seen = {account.id for account in session.scalars(accounts.visible_accounts(actor, right))}
            assert seen == {world.account_ids[key] for key, held in accounts_held.items() if held and held >= right}
            found = {resource.id for resource in session.scalars(resources.visible_resources(actor, right))}
            assert found == {
                world.resource_ids[number]
                for number, held in resources_held.items()
                if held is not None and held >= right
            }
        for key, held in accounts_held.items():
            _compare_one(session, actor, world.account_ids[key], held)
        _compare_lists(world, actor, accounts_held, resources_held)


def _compare_one(session: Session, actor: Actor, id: int, held: Right | None) -> None:
    if held is None:
        with pytest.raises(NotFound):
            accounts.standing_to_account(session, actor, id)
        with pytest.raises(NotFound):
            accounts.get_account(session, actor, id)
        assert accounts.choice(session, actor, id) == []
        return
    assert accounts.standing_to_account(session, actor, id).right is held
    for right in Right:
        if right <= held:
            assert accounts.get_account(session, actor, id, right).id == id
        else:
            with pytest.raises(Refused):
                accounts.get_account(session, actor, id, right)


def _compare_lists(
    world: World,
    actor: Actor,
    accounts_held: dict[tuple[int, int], Right | None],
    resources_held: dict[int, Right | None],
) -> None:
    visible = [world.account_ids[key] for key in sorted(accounts_held) if accounts_held[key] is not None]
    assert [choice.id for choice in accounts.choices(world.session, actor)] == visible
    assert [account.id for account in accounts.each_account(world.session, actor)] == visible
    lines = resources.find_resources(world.session, actor).items
    assert [(line.id, line.account_count) for line in lines] == [
        (world.resource_ids[number], sum(world.account_ids[number, each] in visible for each in range(ACCOUNTS_EACH)))
        for number in range(RESOURCES)
        if resources_held[number] is not None
    ]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(acts=LOWER)
@example(acts=HIGHER)
@example(acts=HANDED_ON)
@given(acts=ACTS)
def test_whatever_was_shared_the_database_decides_by_the_rule(
    database: Database, people: list[Actor], acts: list[tuple[Any, ...]]
) -> None:
    rule = Rule()
    with database.transaction() as session:
        world = World(session, people)
        world.fill()
        for act in acts:
            try:
                world.act(*act)
            except (Invalid, NotFound):
                continue
            rule.apply(*act)
        compare(world, rule)
        session.rollback()


def test_nobody_in_particular_may_see_nothing_and_the_command_line_everything(
    database: Database, people: list[Actor]
) -> None:
    stranger = Actor(None, "nobody", "", Role.ADMINISTRATOR)
    with database.transaction() as session:
        world = World(session, people)
        world.fill()
        for right in Right:
            for nobody in (stranger, program()):
                assert session.scalars(accounts.visible_accounts(nobody, right)).all() == []
                assert session.scalars(resources.visible_resources(nobody, right)).all() == []
            assert len(session.scalars(accounts.visible_accounts(command_line(), right)).all()) == 4
        assert accounts.choices(session, program()) == []
        assert accounts.standing_to_account(session, command_line(), world.account_ids[0, 0]).right is Right.OWN
