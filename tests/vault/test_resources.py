"""Resources: who sees them, how they are found, and how they change."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

import pytest
import sqlalchemy as sa

from webapp.actor import Actor, Role, command_line
from webapp.audit.trail import AuditLine, verify
from webapp.db import Database, Session
from webapp.errors import Conflict, Invalid, NotFound, Refused
from webapp.keyring import Secret
from webapp.vault import accounts, resources, uses
from webapp.vault.accounts import Account, AccountPassword
from webapp.vault.resources import Resource, ResourceDetails


def details_of(resource: Resource, **changes: str) -> ResourceDetails:
    kept = {"name": resource.name, "address": resource.address, "kind": resource.kind, "notes": resource.notes}
    return ResourceDetails(**{**kept, **changes})


def actions(session: Session) -> list[str]:
    return list(session.scalars(sa.select(AuditLine.action).order_by(AuditLine.id)))


def test_an_owner_finds_their_resource_with_its_number_of_accounts(
    database: Database, ada: Actor, postmaster: Account
) -> None:
    with database.reading() as session:
        page = resources.find_resources(session, ada)
    assert [(item.name, item.account_count) for item in page.items] == [("Mail host", 1)]
    assert (page.total, page.page, page.pages) == (1, 1, 1)


def test_an_administrator_does_not_see_what_somebody_else_owns(
    database: Database, bob: Actor, mail_host: Resource
) -> None:
    with database.reading() as session:
        assert resources.find_resources(session, bob).total == 0
        with pytest.raises(NotFound):
            resources.get_resource(session, bob, mail_host.id)


def test_the_command_line_sees_everything(database: Database, mail_host: Resource) -> None:
    with database.reading() as session:
        assert resources.get_resource(session, command_line(), mail_host.id).name == "Mail host"


@pytest.mark.parametrize("id", [0, -1, 2**31, 2**63, 10**30])
def test_a_number_that_is_no_row_is_not_found(database: Database, ada: Actor, id: int) -> None:
    with database.reading() as session, pytest.raises(NotFound):
        resources.get_resource(session, ada, id)


def test_nobody_changes_what_they_do_not_see(database: Database, bob: Actor, mail_host: Resource) -> None:
    with database.transaction() as session:
        with pytest.raises(NotFound):
            resources.edit_resource(session, bob, mail_host.id, details_of(mail_host, notes="mine now"), 1)
        with pytest.raises(NotFound):
            resources.delete_resource(session, bob, mail_host.id)
    with database.reading() as session:
        assert resources.get_resource(session, command_line(), mail_host.id).notes == ""


@pytest.mark.parametrize("role", [Role.PASSWORD_AUDITOR, Role.PASSWORD_USER])
def test_a_user_without_the_role_adds_no_resource(database: Database, join: Callable[..., Actor], role: Role) -> None:
    carol = join("Carol", role)
    with database.transaction() as session, pytest.raises(Refused, match="Ask one of them"):
        resources.add_resource(session, carol, ResourceDetails("Printer"))


def test_nobody_makes_somebody_else_an_owner(database: Database, ada: Actor, bob: Actor) -> None:
    with database.transaction() as session, pytest.raises(Refused):
        resources.add_resource(session, bob, ResourceDetails("Printer"), owner_id=ada.id)


def test_the_command_line_gives_a_resource_to_the_only_administrator(
    database: Database, ada: Actor, bob: Actor
) -> None:
    with database.transaction() as session:
        assert resources.add_resource(session, command_line(), ResourceDetails("Printer")).owner_id == bob.id


def test_the_command_line_must_name_the_owner_among_several_administrators(
    database: Database, bob: Actor, join: Callable[..., Actor]
) -> None:
    join("Carol", Role.ADMINISTRATOR)
    with database.transaction() as session, pytest.raises(Invalid, match="--owner") as refused:
        resources.add_resource(session, command_line(), ResourceDetails("Printer"))
    assert refused.value.field == "owner"


def test_a_name_is_taken_in_any_case_and_composition(database: Database, ada: Actor, bob: Actor) -> None:
    with database.transaction() as session:
        resources.add_resource(session, ada, ResourceDetails("Straße é"))
        with pytest.raises(Invalid, match="already") as refused:
            resources.add_resource(session, bob, ResourceDetails("STRASSE e\u0301"))
    assert refused.value.field == "name"


@pytest.mark.parametrize(
    ("details", "field"),
    [
        (ResourceDetails("  "), "name"),
        (ResourceDetails("x" * 201), "name"),
        (ResourceDetails("a\x1fb"), "name"),
        (ResourceDetails("a\nb"), "name"),
        (ResourceDetails("invoice\u202efdp"), "name"),
        (ResourceDetails("a\ud800"), "name"),
        (ResourceDetails("a", address="x" * 301), "address"),
        (ResourceDetails("a", address="a\0"), "address"),
        (ResourceDetails("a", kind="Spaceship"), "kind"),
        (ResourceDetails("a", notes="a\0"), "notes"),
        (ResourceDetails("a", notes="x" * 4001), "notes"),
    ],
)
def test_it_refuses_what_cannot_be_kept(database: Database, ada: Actor, details: ResourceDetails, field: str) -> None:
    with database.transaction() as session, pytest.raises(Invalid) as refused:
        resources.add_resource(session, ada, details)
    assert refused.value.field == field


def test_the_longest_name_that_grows_most_is_kept_and_found(database: Database, ada: Actor) -> None:
    longest = "\u0390" * 200
    with database.transaction() as session:
        resource = resources.add_resource(session, ada, ResourceDetails(longest))
        accounts.add_account(session, ada, resource.id, longest, Secret("secret"))
    with database.reading() as session:
        assert resources.find_resources(session, ada, q=longest).total == 1
        assert len(accounts.choices(session, ada, q="\u0390" * 3)) == 1


def test_every_word_must_be_in_the_name_or_the_address(database: Database, ada: Actor, mail_host: Resource) -> None:
    with database.transaction() as session:
        resources.add_resource(session, ada, ResourceDetails("Mail archive", address="archive.example.com"))
    with database.reading() as session:
        for q, names in {
            "MAIL": ["Mail archive", "Mail host"],
            "example mail host": ["Mail host"],
            "mail nowhere": [],
            "%": [],
            "_": [],
        }.items():
            assert [item.name for item in resources.find_resources(session, ada, q=q).items] == names


@pytest.mark.parametrize("q", ["\0", "'; --", "\\", "x" * 100_000, "\ud800", "\x1f", "\u202e"])
def test_any_query_is_answered(database: Database, ada: Actor, mail_host: Resource, q: str) -> None:
    with database.reading() as session:
        assert resources.find_resources(session, ada, q=q).pages == 1
        assert len(accounts.choices(session, ada, q=q)) == 0


def test_a_page_beyond_the_last_is_the_last(database: Database, ada: Actor) -> None:
    with database.transaction() as session:
        for number in range(7):
            resources.add_resource(session, ada, ResourceDetails(f"Host {number}"))
    with database.reading() as session:
        page = resources.find_resources(session, ada, page=10**30, per_page=3)
        first = resources.find_resources(session, ada, page=-5, per_page=3)
    assert ([item.name for item in page.items], page.page, page.pages, page.total) == (["Host 6"], 3, 3, 7)
    assert [item.name for item in first.items] == ["Host 0", "Host 1", "Host 2"]


def test_a_renamed_resource_takes_its_accounts_along(
    database: Database, ada: Actor, mail_host: Resource, postmaster: Account
) -> None:
    with database.transaction() as session:
        resources.edit_resource(session, ada, mail_host.id, details_of(mail_host, name="Étoile 🚀"), 1)
    with database.reading() as session:
        assert [choice.label for choice in accounts.choices(session, ada, q="étoile post")] == [
            "Étoile 🚀 — postmaster"
        ]
        assert accounts.choices(session, ada, q="mail") == []
        assert accounts.get_account(session, ada, postmaster.id).label_key == "étoile 🚀\x1fpostmaster"


def test_a_resource_keeps_its_own_name_in_another_case(database: Database, ada: Actor, mail_host: Resource) -> None:
    with database.transaction() as session:
        changed = resources.edit_resource(session, ada, mail_host.id, details_of(mail_host, name="MAIL HOST"), 1)
        assert (changed.name, changed.version) == ("MAIL HOST", 2)


def test_an_edit_upon_an_older_version_is_refused(database: Database, ada: Actor, mail_host: Resource) -> None:
    with database.transaction() as session:
        resources.edit_resource(session, ada, mail_host.id, details_of(mail_host, notes="first"), 1)
    with database.transaction() as session, pytest.raises(Conflict, match="nothing of yours was saved"):
        resources.edit_resource(session, ada, mail_host.id, details_of(mail_host, notes="second"), 1)
    with database.reading() as session:
        assert resources.get_resource(session, ada, mail_host.id).notes == "first"


def test_of_two_edits_at_once_one_is_kept_and_one_refused(database: Database, ada: Actor, mail_host: Resource) -> None:
    outcomes: list[str] = []
    start = threading.Barrier(2)

    def edit(notes: str) -> None:
        start.wait(10)
        with suppress(Conflict), database.transaction() as session:
            resources.edit_resource(session, ada, mail_host.id, details_of(mail_host, notes=notes), 1)
            outcomes.append(notes)

    threads = [threading.Thread(target=edit, args=(notes,)) for notes in ("left", "right")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    with database.reading() as session:
        assert [resources.get_resource(session, ada, mail_host.id).notes] == outcomes


def test_of_two_who_take_one_name_at_once_one_is_told(database: Database, ada: Actor) -> None:
    told: list[str | None] = []
    start = threading.Barrier(2)

    def add() -> None:
        start.wait(10)
        try:
            with database.transaction() as session:
                resources.add_resource(session, ada, ResourceDetails("Printer"))
        except Invalid as refused:
            told.append(refused.field)

    threads = [threading.Thread(target=add) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert told == ["name"]


def test_a_deleted_resource_takes_its_accounts_and_passwords_along(
    database: Database, ada: Actor, mail_host: Resource, postmaster: Account
) -> None:
    with database.transaction() as session:
        resources.delete_resource(session, ada, mail_host.id)
    with database.reading() as session:
        for table in (Resource, Account, AccountPassword):
            assert session.scalar(sa.select(sa.func.count()).select_from(table)) == 0


def test_a_resource_whose_account_is_in_use_is_not_deleted(
    database: Database, ada: Actor, mail_host: Resource, postmaster: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uses, "_uses", [])
    uses.register_use(lambda _session, id: "Mail Server Settings" if id == postmaster.id else None)
    with database.transaction() as session, pytest.raises(Conflict, match="used by Mail Server Settings"):
        resources.delete_resource(session, ada, mail_host.id)
    with database.reading() as session:
        assert accounts.get_account(session, ada, postmaster.id).username == "postmaster"


def test_every_change_leaves_a_line_in_the_audit_trail(database: Database, ada: Actor, mail_host: Resource) -> None:
    with database.transaction() as session:
        resources.edit_resource(session, ada, mail_host.id, details_of(mail_host, notes="new"), 1)
        resources.delete_resource(session, ada, mail_host.id)
    with database.reading() as session:
        assert actions(session)[-3:] == ["resource:add", "resource:edit", "resource:delete"]
        assert verify(session).sound


def test_an_edit_that_changes_nothing_leaves_nothing(database: Database, ada: Actor, mail_host: Resource) -> None:
    with database.transaction() as session:
        assert resources.edit_resource(session, ada, mail_host.id, details_of(mail_host), 1).version == 1
        assert "resource:edit" not in actions(session)
