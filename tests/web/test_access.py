"""The matrix: every address of the URL map, called by every role with every right, by strangers and by visitors.

Who may call what is written down here a second time, independent of what the views declare. An address without a line
here fails, so that nobody adds one without deciding who may call it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.people import HTMX, Person, add_person, csrf_token
from webapp import access, create_app
from webapp.actor import Role, command_line
from webapp.db import Database
from webapp.identity.users import User, add_user
from webapp.installation import Installation
from webapp.keyring import Secret
from webapp.vault.accounts import add_account
from webapp.vault.resources import ResourceDetails, add_resource
from webapp.vault.rights import AccountShare, ResourceShare, Right

CANARY = "c4n4ry-sings-Ünder-ground"


@dataclass(frozen=True)
class Needs:
    """What a caller must have.

    roles: one of these; none for everybody, signed in or not. right: on the resource or the account in the address, or
    a higher one. each: that right on each account of the resource too. fields: a form that is valid.
    """

    roles: frozenset[Role] = frozenset(Role)
    right: Right | None = None
    each: bool = False
    fields: dict[str, str] = field(default_factory=dict)


EVERYBODY = Needs(frozenset())
SIGNED_IN = Needs()
ADDING = Needs(frozenset({Role.ADMINISTRATOR, Role.PASSWORD_ADMINISTRATOR}))
AUDITING = Needs(frozenset({Role.ADMINISTRATOR, Role.PASSWORD_AUDITOR}))
ADMINISTRATING = Needs(frozenset({Role.ADMINISTRATOR}))
RECOGNISING, VIEWING, MODIFYING = Needs(right=Right.RECOGNISE), Needs(right=Right.VIEW), Needs(right=Right.MODIFY)
MANAGING, OWNING = Needs(right=Right.MANAGE), Needs(right=Right.OWN)
# Who finds people, or shares with them, needs the role as well.
FINDING = Needs(ADDING.roles, Right.MANAGE)
SHARING = Needs(ADDING.roles, Right.MANAGE, fields={"right": "view"})
ROUTES = {
    "GET /": EVERYBODY,
    "POST /language": EVERYBODY,
    "GET /profile/language": SIGNED_IN,
    "POST /profile/language": SIGNED_IN,
    "GET /profile/keyboard": SIGNED_IN,
    "POST /profile/keyboard": SIGNED_IN,
    "GET /accounts/<id:account_id>": VIEWING,
    "POST /accounts/<id:account_id>": Needs(right=Right.MODIFY, fields={"username": "changed", "version": "1"}),
    "POST /accounts/<id:account_id>/delete": MANAGING,
    "GET /accounts/<id:account_id>/password": MODIFYING,
    "POST /accounts/<id:account_id>/password": Needs(right=Right.MODIFY, fields={"password": "another password"}),
    "POST /accounts/<id:account_id>/reveal": VIEWING,
    "GET /accounts/<id:account_id>/sharing": MANAGING,
    "POST /accounts/<id:account_id>/sharing": SHARING,
    "POST /accounts/<id:account_id>/sharing/<id:user_id>/withdraw": MANAGING,
    "GET /accounts/<id:account_id>/sharing/_people": FINDING,
    "POST /accounts/_generated": SIGNED_IN,
    "GET /admin": ADMINISTRATING,
    "GET /admin/_first-steps": ADMINISTRATING,
    "GET /admin/_mail-card": ADMINISTRATING,
    "GET /admin/_certificates-card": ADMINISTRATING,
    "GET /admin/_expiry": ADMINISTRATING,
    "GET /admin/audit": AUDITING,
    "POST /admin/audit/export": AUDITING,
    "GET /admin/certificates": ADMINISTRATING,
    "POST /admin/certificates": ADMINISTRATING,
    "GET /admin/certificates/<sha256>": ADMINISTRATING,
    "POST /admin/certificates/<sha256>/remove": ADMINISTRATING,
    "GET /admin/mail-texts": ADMINISTRATING,
    "GET /admin/mail-texts/<kind>": ADMINISTRATING,
    "POST /admin/mail-texts/<kind>": ADMINISTRATING,
    "POST /admin/mail-texts/<kind>/preview": ADMINISTRATING,
    "POST /admin/mail-texts/<kind>/restore": ADMINISTRATING,
    "GET /admin/outbox": ADMINISTRATING,
    "GET /admin/outbox/<id:message_id>": ADMINISTRATING,
    "POST /admin/outbox/<id:message_id>/again": ADMINISTRATING,
    "POST /admin/outbox/<id:message_id>/cancel": ADMINISTRATING,
    "POST /admin/outbox/<id:message_id>/retry": ADMINISTRATING,
    "GET /admin/outbox/_list": ADMINISTRATING,
    "POST /admin/outbox/ask-now": ADMINISTRATING,
    "GET /admin/outbox/cancel-all": ADMINISTRATING,
    "POST /admin/outbox/cancel-all": ADMINISTRATING,
    "POST /admin/outbox/retry-all": ADMINISTRATING,
    "GET /admin/outbox/settings": ADMINISTRATING,
    "POST /admin/outbox/settings": ADMINISTRATING,
    "GET /admin/settings/mail": ADMINISTRATING,
    "POST /admin/settings/mail": ADMINISTRATING,
    "GET /admin/settings/mail/_accounts": ADMINISTRATING,
    "GET /admin/settings/mail/_auth-section": ADMINISTRATING,
    "POST /admin/settings/mail/check-access-url": ADMINISTRATING,
    "GET /admin/settings/mail/confirm": ADMINISTRATING,
    "POST /admin/settings/mail/confirm": ADMINISTRATING,
    "POST /admin/settings/mail/find": ADMINISTRATING,
    "POST /admin/settings/mail/form": ADMINISTRATING,
    "POST /admin/settings/mail/preview": ADMINISTRATING,
    "POST /admin/settings/mail/test": ADMINISTRATING,
    "POST /admin/settings/mail/trust": ADMINISTRATING,
    "GET /admin/sign-in": ADMINISTRATING,
    "POST /admin/sign-in": ADMINISTRATING,
    "GET /admin/users": ADMINISTRATING,
    "GET /admin/users/<id:user_id>": ADMINISTRATING,
    "POST /admin/users/<id:user_id>": ADMINISTRATING,
    "POST /admin/users/<id:user_id>/link": ADMINISTRATING,
    "POST /admin/users/<id:user_id>/second-factor/remove": ADMINISTRATING,
    "GET /admin/users/new": ADMINISTRATING,
    "POST /admin/users/new": ADMINISTRATING,
    "GET /admin/users/import": ADMINISTRATING,
    "GET /admin/users/import/<id:import_id>": ADMINISTRATING,
    "GET /admin/users/import/<id:import_id>/_progress": ADMINISTRATING,
    "GET /admin/users/import/<id:import_id>/results.csv": ADMINISTRATING,
    "GET /go": SIGNED_IN,
    "GET /forgotten": EVERYBODY,
    "GET /forgotten/asked": EVERYBODY,
    "POST /admin/users/<id:user_id>/tell": ADMINISTRATING,
    "POST /admin/users/import": ADMINISTRATING,
    "POST /admin/users/import/<id:import_id>/columns": ADMINISTRATING,
    "POST /admin/users/import/<id:import_id>/start": ADMINISTRATING,
    "POST /admin/users/import/<id:import_id>/stop": ADMINISTRATING,
    "POST /admin/users/tell": ADMINISTRATING,
    "POST /forgotten": EVERYBODY,
    "GET /confirm": SIGNED_IN,
    "POST /confirm": SIGNED_IN,
    "POST /confirm/passkey/options": SIGNED_IN,
    "GET /healthz": EVERYBODY,
    "GET /healthz/live": EVERYBODY,
    "GET /healthz/ready": EVERYBODY,
    "GET /identity-check": EVERYBODY,
    "GET /metrics": EVERYBODY,
    "GET /profile": SIGNED_IN,
    "POST /profile": SIGNED_IN,
    "GET /profile/mails": SIGNED_IN,
    "POST /profile/mails": SIGNED_IN,
    "GET /profile/second-factor": SIGNED_IN,
    "GET /profile/second-factor/app": SIGNED_IN,
    "POST /profile/second-factor/app": SIGNED_IN,
    "POST /profile/second-factor/app/confirm": SIGNED_IN,
    "POST /profile/second-factor/app/remove": SIGNED_IN,
    "POST /profile/second-factor/passkeys": SIGNED_IN,
    "POST /profile/second-factor/passkeys/<id:passkey_id>/remove": SIGNED_IN,
    "POST /profile/second-factor/passkeys/<id:passkey_id>/rename": SIGNED_IN,
    "POST /profile/second-factor/passkeys/options": SIGNED_IN,
    "POST /profile/second-factor/recovery-codes": SIGNED_IN,
    "POST /profile/sessions/<id:sign_in_id>/end": SIGNED_IN,
    "GET /resources": SIGNED_IN,
    "GET /resources/<id:resource_id>": RECOGNISING,
    "GET /resources/<id:resource_id>/accounts/new": MODIFYING,
    "POST /resources/<id:resource_id>/accounts/new": Needs(
        right=Right.MODIFY, fields={"username": "added", "password": "another password"}
    ),
    "POST /resources/<id:resource_id>/delete": Needs(right=Right.MANAGE, each=True),
    "GET /resources/<id:resource_id>/edit": MODIFYING,
    "POST /resources/<id:resource_id>/edit": Needs(right=Right.MODIFY, fields={"kind": "Server", "version": "1"}),
    "GET /resources/<id:resource_id>/sharing": MANAGING,
    "POST /resources/<id:resource_id>/sharing": SHARING,
    "POST /resources/<id:resource_id>/sharing/<id:user_id>/withdraw": MANAGING,
    "GET /resources/<id:resource_id>/sharing/_people": FINDING,
    "GET /resources/<id:resource_id>/transfer": OWNING,
    "POST /resources/<id:resource_id>/transfer": OWNING,
    "GET /resources/<id:resource_id>/transfer/_people": OWNING,
    "GET /resources/export": SIGNED_IN,
    "POST /resources/export": SIGNED_IN,
    "GET /resources/import": SIGNED_IN,
    "POST /resources/import": SIGNED_IN,
    "GET /resources/import/<id:import_id>": SIGNED_IN,
    "GET /resources/import/<id:import_id>/_progress": SIGNED_IN,
    "POST /resources/import/<id:import_id>/columns": SIGNED_IN,
    "GET /resources/import/<id:import_id>/results.csv": SIGNED_IN,
    "POST /resources/import/<id:import_id>/start": SIGNED_IN,
    "POST /resources/import/<id:import_id>/stop": SIGNED_IN,
    "GET /resources/new": ADDING,
    "POST /resources/new": ADDING,
    "GET /setup": EVERYBODY,
    "POST /setup": EVERYBODY,
    "GET /sign-in/_token": SIGNED_IN,
    "GET /sign-in": EVERYBODY,
    "POST /sign-in": EVERYBODY,
    "POST /sign-in/passkey": EVERYBODY,
    "POST /sign-in/passkey/options": EVERYBODY,
    "GET /sign-in/second-step": EVERYBODY,
    "POST /sign-in/second-step": EVERYBODY,
    "POST /sign-out": SIGNED_IN,
    "GET /static/<path:filename>": EVERYBODY,
    "GET /welcome": EVERYBODY,
    "POST /welcome": EVERYBODY,
}


@dataclass(frozen=True)
class Standing:
    """What somebody has on a resource and its first account, by shares or as the owner; None is nothing."""

    shared: Right | None = None
    shared_account: Right | None = None
    owns: bool = False

    @property
    def on_resource(self) -> Right | None:
        if self.owns:
            return Right.OWN
        return self.shared or (Right.RECOGNISE if self.shared_account else None)

    @property
    def on_account(self) -> Right | None:
        return Right.OWN if self.owns else self.shared_account or self.shared


STANDINGS = [
    Standing(),
    *(Standing(right) for right in (Right.VIEW, Right.MODIFY, Right.MANAGE)),
    *(Standing(None, right) for right in (Right.VIEW, Right.MODIFY)),
    Standing(Right.MANAGE, Right.VIEW),
    Standing(Right.VIEW, Right.MODIFY),
    Standing(owns=True),
]


@dataclass
class Stage:
    """Things to act upon, made anew for each standing and after each change."""

    database: Database
    host: User
    guest: User
    numbers: Iterator[int] = field(default_factory=count)

    def make(self, person: User, standing: Standing) -> dict[str, str]:
        """A resource with two accounts; gives its name and the values of addresses that lead to it."""
        with self.database.transaction() as session:
            owner = person if standing.owns else self.host
            details = ResourceDetails(f"Host {next(self.numbers)}", notes=CANARY)
            resource = add_resource(session, command_line(), details, owner_id=owner.id)
            first, _second = (
                add_account(session, command_line(), resource.id, name, Secret(CANARY)) for name in ("root", "other")
            )
            given = {"given_at": session.now(), "given_by_name": "test"}
            for user, whole, single in (
                (self.guest, Right.VIEW, Right.VIEW), (person, standing.shared, standing.shared_account),
            ):  # fmt: skip
                if whole:
                    session.add(ResourceShare(resource_id=resource.id, user_id=user.id, given=whole, **given))
                if single:
                    session.add(AccountShare(account_id=first.id, user_id=user.id, given=single, **given))
        ids = {"resource_id": resource.id, "account_id": first.id, "user_id": self.guest.id}
        return {"name": resource.name} | {name: str(id) for name, id in ids.items()}


@pytest.fixture
def stage(database: Database) -> Stage:
    with database.transaction() as session:
        host, guest = (
            add_user(session, command_line(), email=f"{name}@example.com", name=name, role=Role.ADMINISTRATOR)
            for name in ("Host", "Guest")
        )
    return Stage(database, host, guest)


def _routes(app: Flask) -> set[str]:
    return {
        f"{method} {rule.rule}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


def _address(rule: str, values: dict[str, str]) -> str:
    return re.sub(
        r"<(?:\w+:)?(\w+)>", lambda part: values.get(part[1], "0" * 64 if part[1] == "sha256" else "4711"), rule
    )


def _call(
    client: FlaskClient, route: str, values: dict[str, str], data: dict[str, str], **headers: str
) -> TestResponse:
    method, rule = route.split()
    return client.open(_address(rule, values), method=method, data=data if method == "POST" else None, headers=headers)


def _expected(needs: Needs, role: Role, standing: Standing, *, on_account: bool) -> set[int]:
    held = standing.on_account if on_account else standing.on_resource
    assert needs.right is not None
    if held is None:
        return {404}
    enough = held >= needs.right and (not needs.each or (standing.on_account or Right.RECOGNISE) >= needs.right)
    return {200, 303} if enough and role in needs.roles else {403}


def test_every_address_has_a_line_in_the_matrix(app: Flask) -> None:
    assert _routes(app) == set(ROUTES)


@pytest.mark.slow
@pytest.mark.parametrize("role", list(Role))
def test_everybody_does_with_a_thing_what_their_right_holds(
    app: Flask, database: Database, stage: Stage, role: Role
) -> None:
    person = add_person(app, database, email="eve@example.com", name="Eve", role=role)
    token = csrf_token(person.client)
    for standing in STANDINGS:
        values = stage.make(person.user, standing)
        for route, needs in ROUTES.items():
            if needs.right is None:
                continue
            fields = {"csrf_token": token, "who": values["user_id"], "name": values["name"], **needs.fields}
            response = _call(person.client, route, values, fields)
            expected = _expected(needs, role, standing, on_account="<id:account_id>" in route)
            assert response.status_code in expected, (route, role, standing, response.status_code)
            if response.status_code in (403, 404):
                assert CANARY not in response.text, (route, standing)
            if response.status_code == 303:
                values = stage.make(person.user, standing)


@pytest.mark.parametrize("role", list(Role))
def test_each_role_reaches_what_it_may_and_nothing_else(app: Flask, database: Database, role: Role) -> None:
    person = add_person(app, database, email="eve@example.com", name="Eve", role=role)
    token = csrf_token(person.client)
    for route, needs in ROUTES.items():
        if needs.right is not None or not needs.roles or route == "POST /sign-out":
            continue
        response = _call(person.client, route, {}, {"csrf_token": token})
        if role in needs.roles:
            assert response.status_code in (200, 204, 303, 404, 409, 422), (route, response.status_code)
            assert not response.headers.get("Location", "").startswith("/sign-in"), route
        else:
            assert response.status_code == 403, (route, response.status_code)
            assert "Ask an administrator" in response.text


def test_visitors_are_sent_to_sign_in_from_everywhere(app: Flask, alice: Person, client: FlaskClient) -> None:
    token = csrf_token(client)
    for route, needs in ROUTES.items():
        if not needs.roles:
            continue
        page = _call(client, route, {}, {"csrf_token": token})
        assert (page.status_code, page.headers["Location"].split("?")[0]) == (302, "/sign-in"), route
        part = _call(client, route, {}, {"csrf_token": token}, **HTMX)
        assert (part.status_code, part.headers["HX-Trigger"]) == (401, '{"keypost:ended": {}}'), route


def test_a_view_that_does_not_say_whom_it_lets_in_stops_the_start(app: Flask, installation: Installation) -> None:
    bare = Flask("bare")
    bare.add_url_rule("/open", view_func=lambda: "")
    with pytest.raises(RuntimeError, match="do not say whom they let in"):
        access.guard(bare, installation)
    create_app(installation)


def test_what_is_foreign_is_answered_like_what_is_not_there(app: Flask, database: Database, stage: Stage) -> None:
    stranger = add_person(app, database, email="bob@example.com", name="Bob", role=Role.ADMINISTRATOR)
    foreign = stage.make(stranger.user, Standing())
    assert "Host 0" not in stranger.get("/resources").text
    for noun in ("resource", "account"):
        mine, nobodys = (stranger.get(f"/{noun}s/{number}") for number in (foreign[f"{noun}_id"], "4711"))
        assert _main(mine) == _main(nobodys)


def _main(answer: TestResponse) -> str:
    """What the page says, without what surrounds every page."""
    return answer.text.split("</header>")[1].split("</main>")[0]


@pytest.mark.parametrize(
    "number", ["0", "2147483647", "2147483648", "9999999999", "9" * 30, "-1", "1.0", "٣", "1e3", "x"]
)
def test_a_number_that_is_no_rows_is_not_found(alice: Person, number: str) -> None:
    for path in ("/resources/{}", "/resources/{}/edit", "/accounts/{}", "/accounts/{}/password"):
        assert alice.get(path.format(number)).status_code == 404
    assert alice.post(f"/profile/sessions/{number}/end").status_code == 404


@pytest.mark.parametrize("name", ["X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override", "X-Forwarded-User"])
def test_no_header_opens_a_door(alice: Person, client: FlaskClient, name: str) -> None:
    for value in ("/sign-in", "GET", "alice@example.com"):
        assert client.get("/admin", headers={name: value}).status_code == 302
