"""Sharing in the browser: given, changed, withdrawn, handed over, and what each person sees of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from flask import Flask

from tests.support.mail_form import PAGE, typed
from tests.support.people import Person, add_person, sign_in
from webapp.actor import Role, command_line
from webapp.db import Database
from webapp.vault import accounts, resources, shares
from webapp.vault.rights import Right

CANARY = "c4n4ry-sings-Ünder-ground"
NOTES = "n0tes-0f-the-owner"


@dataclass
class Office:
    """Alice, an administrator, owns the mail host with two accounts; Carol may own things, Dave only uses them."""

    alice: Person
    carol: Person
    dave: Person
    database: Database
    resource: str = "/resources/1"
    account: str = "/accounts/1"
    other: str = "/accounts/2"

    def share(self, thing: str, to: Person, right: str) -> None:
        response = self.alice.post(f"{thing}/sharing", {"who": to.user.id, "right": right})
        assert response.status_code == 303, response.text


@pytest.fixture
def office(app: Flask, database: Database, alice: Person) -> Office:
    fields = {"name": "Mail host", "kind": "Server", "address": "mail.example.com", "notes": NOTES}
    assert alice.post("/resources/new", fields).status_code == 303
    for username in ("postmaster", "abuse"):
        added = alice.post("/resources/1/accounts/new", {"username": username, "password": CANARY})
        assert added.status_code == 303
    carol = add_person(app, database, email="carol@example.com", name="Carol", role=Role.PASSWORD_ADMINISTRATOR)
    dave = add_person(app, database, email="dave@example.com", name="Dave", role=Role.PASSWORD_USER)
    return Office(alice, carol, dave, database)


def people_offered(page: str) -> list[str]:
    return re.findall(r'<option [^>]*value="\d+"[^>]*>(\w+), \w+@example\.com', page)


def test_what_is_shared_appears_with_its_owner_and_is_revealed(office: Office) -> None:
    assert office.dave.get(office.resource).status_code == 404
    office.share(office.resource, office.dave, "view")
    assert "Alice Admin" in office.dave.get("/resources").text
    page = office.dave.get(office.resource).text
    assert NOTES in page
    for button in ("Edit</a>", "Add account", "Delete this resource", "Sharing"):
        assert button not in page
    assert CANARY in office.dave.post(f"{office.account}/reveal").text


def test_a_share_on_one_account_shows_it_and_just_enough_of_its_resource(office: Office) -> None:
    office.share(office.account, office.dave, "view")
    listed = office.dave.get("/resources").text
    assert "mail.example.com" in listed
    page = office.dave.get(office.resource).text
    assert "postmaster" in page
    assert "Only the accounts that are shared with you" in page
    for hidden in (NOTES, "abuse"):
        assert hidden not in page + listed
    assert office.dave.get(office.other).status_code == 404
    assert office.dave.post(f"{office.other}/reveal").status_code == 404


def test_a_right_too_small_is_refused_with_who_can_help(office: Office) -> None:
    office.share(office.resource, office.dave, "view")
    for path in (f"{office.resource}/edit", f"{office.account}/password", f"{office.resource}/sharing"):
        response = office.dave.get(path)
        assert response.status_code == 403
        assert "Ask Alice Admin, its owner." in response.text
    for path, fields in ((office.account, {"username": "x"}), (f"{office.account}/password", {"password": "x"})):
        assert office.dave.post(path, fields).status_code == 403


def test_resources_are_filtered_by_whose_they_are(office: Office) -> None:
    office.carol.post("/resources/new", {"name": "Printer", "kind": "Server"})
    office.share(office.resource, office.carol, "view")
    for whose, there, not_there in (("mine", "Printer", "Mail host"), ("shared", "Mail host", "Printer")):
        page = office.carol.get(f"/resources?whose={whose}").text
        assert there in page
        assert not_there not in page
    assert "Printer" in office.carol.get("/resources?whose=nonsense").text


@pytest.mark.parametrize("htmx", [True, False], ids=["part", "page"])
def test_people_are_found_by_name_or_address(office: Office, htmx: bool) -> None:
    for thing in (office.resource, office.account):
        path = f"{thing}/sharing" + ("/_people" if htmx else "")
        assert people_offered(office.alice.get(path, htmx=htmx).text) == ["Carol", "Dave"]
        assert people_offered(office.alice.get(f"{path}?q=DAVE+example", htmx=htmx).text) == ["Dave"]
        assert "Nobody matches" in office.alice.get(f"{path}?q=zoe", htmx=htmx).text


def test_a_right_is_changed_and_withdrawn_where_it_is_listed(office: Office) -> None:
    office.share(office.resource, office.dave, "view")
    office.share(office.resource, office.dave, "modify")
    page = office.alice.get(f"{office.resource}/sharing").text
    assert re.search(r'<option value="modify" selected>Modify', page)
    withdrawn = office.alice.post(f"{office.resource}/sharing/{office.dave.user.id}/withdraw")
    assert withdrawn.status_code == 303
    assert office.dave.get(office.resource).status_code == 404
    assert office.alice.post(f"{office.resource}/sharing/{office.dave.user.id}/withdraw").status_code == 404


def test_an_account_tells_where_each_right_comes_from(office: Office) -> None:
    office.share(office.resource, office.carol, "manage")
    office.share(office.account, office.carol, "view")
    page = office.alice.get(f"{office.account}/sharing").text
    assert "Manage on the resource, once this is withdrawn" in page


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"right": "view"}, "who"),
        ({"who": "", "right": "view"}, "who"),
        ({"who": "x", "right": "view"}, "who"),
        ({"who": "9" * 30, "right": "view"}, "who"),
        ({"who": "-1", "right": "view"}, "who"),
        ({"who": "4711", "right": "view"}, "who"),
        ({"who": "1", "right": "view"}, "who"),
        ({"who": "3"}, "right"),
        ({"who": "3", "right": "own"}, "right"),
        ({"who": "3", "right": "recognise"}, "right"),
        ({"who": "3", "right": "manage"}, "right"),
    ],
)
def test_a_mistake_is_shown_at_its_field(office: Office, fields: dict[str, str], field: str) -> None:
    assert office.dave.user.id == 3
    for thing in (office.resource, office.account):
        response = office.alice.post(f"{thing}/sharing", fields)
        assert response.status_code == 422
        assert re.search(rf'id="{field}-error"', response.text), response.text
    assert office.dave.get("/resources").text.count("Mail host") == 0


def test_it_is_handed_over_to_another_owner(office: Office) -> None:
    assert people_offered(office.alice.get(f"{office.resource}/transfer").text) == ["Carol"]
    response = office.alice.post(f"{office.resource}/transfer", {"who": office.carol.user.id, "keep": "view"})
    assert (response.status_code, response.headers["Location"]) == (303, office.resource)
    assert office.alice.get(f"{office.resource}/transfer").status_code == 403
    response = office.carol.post(f"{office.resource}/transfer", {"who": office.alice.user.id})
    assert (response.status_code, response.headers["Location"]) == (303, "/resources")
    assert office.carol.get(office.resource).status_code == 404


def test_it_is_not_handed_over_to_somebody_whose_role_owns_nothing(office: Office) -> None:
    response = office.alice.post(f"{office.resource}/transfer", {"who": office.dave.user.id})
    assert response.status_code == 422
    assert "Password User, and only Administrators and Password Administrators own" in response.text


def bind(office: Office, person: Person) -> None:
    """Have mail sign in with the account, chosen by this person."""
    fields = typed(2525, credential_source="account", account_id="1", username="", password="")
    response = person.post(PAGE, fields)
    assert response.status_code == 303, response.text


def test_withdrawing_the_access_that_mail_rests_on_is_told_first(app: Flask, office: Office) -> None:
    bob = add_person(app, office.database, email="bob@example.com", name="Bob", role=Role.ADMINISTRATOR)
    office.share(office.resource, bob, "view")
    bind(office, bob)
    withdraw = f"{office.resource}/sharing/{bob.user.id}/withdraw"
    told = office.alice.post(withdraw)
    assert told.status_code == 409
    assert "used by Mail Server Settings, where Bob chose it" in told.text
    assert bob.get(office.account).status_code == 200
    assert "no longer has access" not in office.alice.get(PAGE).text
    assert office.alice.post(withdraw, {"although_used": "y"}).status_code == 303
    assert bob.get(office.account).status_code == 404
    for person in (office.alice, bob):
        assert "bound by Bob, who no longer has access to it" in person.get(PAGE).text


def test_handing_over_what_mail_rests_on_is_told_first(office: Office) -> None:
    bind(office, office.alice)
    heir = {"who": office.carol.user.id}
    told = office.alice.post(f"{office.resource}/transfer", heir)
    assert told.status_code == 409
    assert "used by Mail Server Settings, where Alice Admin chose it" in told.text
    assert 'name="although_used"' in told.text
    assert office.alice.post(f"{office.resource}/transfer", heir | {"although_used": "y"}).status_code == 303
    assert "bound by Alice Admin, who no longer has access to it" in office.alice.get(PAGE).text


def test_disabling_whoever_bound_the_account_is_told(app: Flask, office: Office) -> None:
    bob = add_person(app, office.database, email="bob@example.com", name="Bob", role=Role.ADMINISTRATOR)
    office.share(office.account, bob, "view")
    bind(office, bob)
    office.alice.post(f"/admin/users/{bob.user.id}", {"name": "Bob", "role": "administrator"})
    assert "chose the account that is used by Mail Server Settings" in office.alice.get("/admin/users").text


def test_names_of_people_are_text_and_never_markup(app: Flask, office: Office) -> None:
    mallory = add_person(
        app, office.database, email="m@example.com", name="<script>alert(1)</script>", role=Role.ADMINISTRATOR
    )
    for shared in (False, True):
        if shared:
            office.share(office.resource, mallory, "manage")
        for path in ("sharing", "sharing/_people", "transfer", ""):
            text = office.alice.get(f"{office.resource}/{path}".rstrip("/")).text
            assert "<script>alert" not in text


def test_who_gives_up_a_share_of_their_own_goes_home(office: Office) -> None:
    office.share(office.resource, office.carol, "manage")
    response = office.carol.post(f"{office.resource}/sharing/{office.carol.user.id}/withdraw")
    assert (response.status_code, response.headers["Location"]) == (303, "/resources")


def test_a_demoted_manager_shares_no_more_and_can_still_withdraw(app: Flask, office: Office) -> None:
    office.share(office.resource, office.carol, "manage")
    office.share(office.resource, office.dave, "view")
    office.alice.post(f"/admin/users/{office.carol.user.id}", {"name": "C", "role": "password-user", "active": "y"})
    carol = sign_in(app, office.carol.user)
    page = carol.get(f"{office.resource}/sharing")
    assert page.status_code == 200
    assert "Share with somebody" not in page.text
    assert carol.post(f"{office.resource}/sharing", {"who": 3, "right": "view"}).status_code == 403
    assert carol.post(f"{office.resource}/sharing/{office.dave.user.id}/withdraw").status_code == 303


def test_the_picker_of_the_mail_settings_offers_what_is_shared_and_nothing_else(app: Flask, office: Office) -> None:
    bob = add_person(app, office.database, email="bob@example.com", name="Bob", role=Role.ADMINISTRATOR)
    options = f"{PAGE}/_accounts?q=host"
    assert "postmaster" not in bob.get(options, htmx=True).text
    office.share(office.account, bob, "view")
    found = bob.get(options, htmx=True).text
    assert "Mail host — postmaster" in found
    assert "abuse" not in found
    refused = bob.post(PAGE, typed(2525, credential_source="account", account_id="2", username="", password=""))
    assert refused.status_code == 422
    assert "abuse" not in refused.text


def test_the_share_of_a_disabled_user_stays_and_is_marked(office: Office) -> None:
    office.share(office.resource, office.dave, "view")
    office.alice.post(f"/admin/users/{office.dave.user.id}", {"name": "Dave", "role": "password-user"})
    assert "disabled" in office.alice.get(f"{office.resource}/sharing").text
    assert office.dave.get(office.resource).status_code == 302
    office.alice.post(f"/admin/users/{office.dave.user.id}", {"name": "Dave", "role": "password-user", "active": "y"})
    with office.database.reading() as session:
        standing = resources.standing_to_resource(session, office.dave.user.actor(""), 1)
        assert standing.right is Right.VIEW
        assert len(shares.holders_of_resource(session, command_line(), 1)) == 2
        assert accounts.get_account(session, office.dave.user.actor(""), 1)
