"""The second factor over HTTP: set up, asked for, lost, and demanded by policy."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pyotp
import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from tests.support.people import PASSWORD, Person, add_person, csrf_token, sign_in
from webapp.actor import Role, command_line
from webapp.audit import trail
from webapp.db import Database
from webapp.identity.links import make_link
from webapp.identity.passkeys import Passkey

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
APP, STEP = "/profile/second-factor/app", "/sign-in/second-step"
POLICY = {"idle_minutes": "30", "longest_hours": "12", "free_attempts": "5", "version": "0"}


@pytest.fixture(autouse=True)
def move(database: Database) -> Callable[[timedelta], None]:
    """Move the clock to so long after the start."""

    def to(after: timedelta) -> None:
        database.clock = lambda: START + after

    to(timedelta())
    return to


@pytest.fixture
def bob(app: Flask, database: Database, move: Callable[[timedelta], None], alice: Person) -> Person:
    return add_person(app, database, email="bob@example.com", name="Bob User", role=Role.PASSWORD_USER)


def set_up_app(person: Person, database: Database) -> tuple[pyotp.TOTP, list[str]]:
    """Set up an authenticator app; gives it and the recovery codes."""
    assert person.post(APP).status_code == 303
    secret = re.search(r'id="key">([A-Z2-7]{32})<', person.get(APP).text)
    assert secret
    totp = pyotp.TOTP(secret[1])
    shown = person.post(f"{APP}/confirm", {"code": totp.at(database.clock())})
    assert shown.status_code == 200, shown.text
    return totp, re.findall(r"<code>([A-Z0-9]{4}-[A-Z0-9]{4}-[A-Z0-9]{4})</code>", shown.text)


def half_way(app: Flask, person: Person, **fields: str) -> FlaskClient:
    """A browser in which the password was right."""
    client = app.test_client()
    data = {"csrf_token": csrf_token(client), "email": person.user.email, "password": PASSWORD, **fields}
    answer = client.post("/sign-in", data=data)
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith(STEP)
    return client


def give(client: FlaskClient, code: str, **fields: str) -> tuple[int, str, str]:
    token = re.search(r'name="csrf_token" value="([^"]+)"', client.get(STEP).text)
    assert token
    answer = client.post(STEP, data={"csrf_token": token[1], "code": code, **fields})
    return answer.status_code, answer.headers.get("Location", ""), answer.text


def test_with_an_app_the_password_alone_opens_nothing(
    app: Flask, bob: Person, database: Database, move: Callable[[timedelta], None]
) -> None:
    totp, _codes = set_up_app(bob, database)
    client = half_way(app, bob)
    asked = client.get("/resources")
    assert (asked.status_code, asked.headers["Location"].split("?")[0]) == (302, STEP)
    assert client.get("/resources", headers={"HX-Request": "true"}).status_code == 401
    move(timedelta(minutes=1))
    assert give(client, totp.at(database.clock()))[:2] == (303, "/resources")
    assert client.get("/resources").status_code == 200


def test_the_second_step_leads_to_where_one_was_going_and_nowhere_else(
    app: Flask, bob: Person, database: Database
) -> None:
    _totp, codes = set_up_app(bob, database)
    client = half_way(app, bob, next="/profile")
    assert 'name="next" type="hidden" value="/profile"' in client.get(f"{STEP}?next=/profile").text
    assert give(client, codes[0], next="/profile")[1] == "/profile"
    assert give(half_way(app, bob), codes[1], next="//evil.example")[1] == "/resources"


def test_a_code_is_good_once(app: Flask, bob: Person, database: Database, move: Callable[[timedelta], None]) -> None:
    totp, _codes = set_up_app(bob, database)
    assert give(half_way(app, bob), totp.at(database.clock()))[0] == 422
    move(timedelta(seconds=60))
    code = totp.at(database.clock())
    assert give(half_way(app, bob), code)[0] == 303
    assert give(half_way(app, bob), code)[0] == 422


@pytest.mark.parametrize(("seconds", "status"), [(-60, 422), (-30, 303), (0, 303), (30, 303), (60, 422)])
def test_a_clock_may_be_wrong_by_one_step(
    app: Flask, bob: Person, database: Database, seconds: int, status: int
) -> None:
    totp, _codes = set_up_app(bob, database)
    database.clock = lambda: START + timedelta(minutes=10)
    code = totp.at(database.clock() + timedelta(seconds=seconds))
    assert give(half_way(app, bob), code)[0] == status


def test_an_older_step_is_refused_after_a_newer_one(
    app: Flask, bob: Person, database: Database, move: Callable[[timedelta], None]
) -> None:
    totp, _codes = set_up_app(bob, database)
    move(timedelta(minutes=10))
    assert give(half_way(app, bob), totp.at(database.clock() + timedelta(seconds=30)))[0] == 303
    assert give(half_way(app, bob), totp.at(database.clock()))[0] == 422


def test_guessing_codes_has_its_limit_from_all_places_together(
    app: Flask, bob: Person, database: Database, move: Callable[[timedelta], None]
) -> None:
    totp, codes = set_up_app(bob, database)
    for _ in range(5):
        assert give(half_way(app, bob), "000000")[0] == 422
    move(timedelta(milliseconds=100))
    _status, _location, text = give(half_way(app, bob), codes[0])
    assert "Wait" in text
    move(timedelta(minutes=2))
    assert give(half_way(app, bob), totp.at(database.clock()))[0] == 303


def test_each_recovery_code_is_good_once_and_says_how_many_are_left(
    app: Flask, bob: Person, database: Database
) -> None:
    _totp, codes = set_up_app(bob, database)
    assert len(set(codes)) == 10
    client = half_way(app, bob)
    assert give(client, codes[3].lower().replace("-", " "))[0] == 303
    assert "9 are left" in client.get("/resources").text
    assert give(half_way(app, bob), codes[3])[0] == 422


def test_recovery_codes_are_shown_once_and_kept_hashed(bob: Person, database: Database) -> None:
    _totp, codes = set_up_app(bob, database)
    assert codes[0] not in bob.get("/profile/second-factor").text
    with database.reading() as session:
        rows = repr(session.execute(sa.text("SELECT * FROM recovery_codes")).all())
    assert not any(code in rows or code.replace("-", "") in rows for code in codes)


def test_new_recovery_codes_end_those_before(app: Flask, bob: Person, database: Database) -> None:
    _totp, old = set_up_app(bob, database)
    new = re.findall(r"<code>([\w-]{14})</code>", bob.post("/profile/second-factor/recovery-codes").text)
    assert len(new) == 10
    assert give(half_way(app, bob), old[0])[0] == 422
    assert give(half_way(app, bob), new[0])[0] == 303


def test_there_are_no_recovery_codes_without_a_second_factor(bob: Person) -> None:
    assert bob.post("/profile/second-factor/recovery-codes").status_code == 303
    assert "none is set up" in bob.get("/profile/second-factor").text


def test_a_wrong_first_code_sets_nothing_up(app: Flask, bob: Person) -> None:
    bob.post(APP)
    answer = bob.post(f"{APP}/confirm", {"code": "123456"})
    assert (answer.status_code, 'id="code-error"' in answer.text) == (422, True)
    sign_in(app, bob.user)


def test_the_secret_is_sealed_in_the_database(bob: Person, database: Database) -> None:
    bob.post(APP)
    secret = re.search(r'id="key">([A-Z2-7]{32})<', bob.get(APP).text)
    assert secret
    with database.reading() as session:
        (row,) = session.execute(sa.text("SELECT sealed FROM totp_secrets")).all()
    assert secret[1].encode() not in bytes(row[0])


def test_the_secret_is_not_shown_once_the_app_is_set_up(bob: Person, database: Database) -> None:
    totp, _codes = set_up_app(bob, database)
    assert bob.get(APP).status_code == 303
    assert totp.secret not in bob.get("/profile/second-factor").text


def test_setting_one_up_ends_the_other_sessions_and_keeps_this_one(app: Flask, bob: Person, database: Database) -> None:
    other = sign_in(app, bob.user)
    set_up_app(bob, database)
    assert other.get("/profile").status_code == 302
    assert bob.get("/profile").status_code == 200


def test_removing_it_ends_the_other_sessions_and_the_recovery_codes(
    app: Flask, bob: Person, database: Database
) -> None:
    _totp, codes = set_up_app(bob, database)
    other = half_way(app, bob)
    assert give(other, codes[0])[0] == 303
    assert bob.post(f"{APP}/remove").status_code == 303
    assert other.get("/profile").status_code == 302
    assert bob.get("/profile").status_code == 200
    sign_in(app, bob.user)
    with database.reading() as session:
        assert session.scalar(sa.text("SELECT count(*) FROM recovery_codes")) == 0


def test_the_second_step_waits_ten_minutes(
    app: Flask, bob: Person, database: Database, move: Callable[[timedelta], None]
) -> None:
    set_up_app(bob, database)
    client = half_way(app, bob)
    move(timedelta(minutes=11))
    assert client.get(STEP).headers["Location"] == "/sign-in"


def test_without_the_first_step_there_is_no_second(client: FlaskClient, bob: Person) -> None:
    assert client.get(STEP).headers["Location"] == "/sign-in"
    answer = client.post(STEP, data={"csrf_token": csrf_token(client), "code": "123456"})
    assert answer.headers["Location"] == "/sign-in"


def test_a_new_password_ends_the_second_step_that_waits(app: Flask, bob: Person, database: Database) -> None:
    _totp, codes = set_up_app(bob, database)
    client = half_way(app, bob)
    bob.post("/profile", {"current": PASSWORD, "password": "violet turbine kettle"})
    assert client.get(STEP).headers["Location"] == "/sign-in"
    assert codes


def test_the_token_of_the_first_step_is_worth_nothing_after_the_second(
    app: Flask, bob: Person, database: Database
) -> None:
    _totp, codes = set_up_app(bob, database)
    client = half_way(app, bob)
    before = client.get_cookie("keypost")
    assert before is not None
    assert give(client, codes[0])[0] == 303
    thief = app.test_client()
    thief.set_cookie("keypost", before.value)
    assert thief.get("/profile").status_code == 302
    assert thief.get(STEP).headers["Location"] == "/sign-in"


def test_a_one_time_link_is_no_way_round_the_second_factor(app: Flask, bob: Person, database: Database) -> None:
    set_up_app(bob, database)
    with database.transaction() as session:
        token = make_link(session, command_line(), bob.user).reveal()
    client = app.test_client()
    fields = {"csrf_token": csrf_token(client), "token": token, "password": "violet turbine kettle"}
    client.post("/welcome", data=fields)
    assert client.get("/resources").headers["Location"].split("?")[0] == "/sign-in"
    half_way(app, bob, password="violet turbine kettle")


def test_a_code_confirms_within_a_session_as_well(
    bob: Person, database: Database, move: Callable[[timedelta], None]
) -> None:
    totp, _codes = set_up_app(bob, database)
    move(timedelta(minutes=6))
    assert bob.post("/confirm", {"proof_code": "000000"}).status_code == 422
    assert bob.post("/confirm", {"proof_code": totp.at(database.clock())}).status_code == 303


def test_who_needs_one_by_policy_sets_it_up_before_anything_else(
    bob: Person, alice: Person, database: Database
) -> None:
    assert alice.post("/admin/sign-in", POLICY | {"second_factor_roles": "password-user"}).status_code == 303
    for path in ("/resources", "/profile"):
        assert bob.get(path).headers["Location"] == "/profile/second-factor"
    page = bob.get("/profile/second-factor").text
    assert "Your role needs a second factor" in page
    assert 'href="/resources"' not in page
    set_up_app(bob, database)
    assert bob.get("/resources").status_code == 200


def test_the_policy_asks_nothing_of_other_roles(alice: Person, bob: Person) -> None:
    alice.post("/admin/sign-in", POLICY | {"second_factor_roles": "password-auditor"})
    assert bob.get("/resources").status_code == 200
    assert alice.get("/admin").status_code == 200


def test_who_removes_a_second_factor_that_is_needed_sets_up_another(
    alice: Person, bob: Person, database: Database
) -> None:
    alice.post("/admin/sign-in", POLICY | {"second_factor_roles": "password-user"})
    set_up_app(bob, database)
    bob.post(f"{APP}/remove")
    assert bob.get("/resources").headers["Location"] == "/profile/second-factor"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("idle_minutes", "4"),
        ("idle_minutes", "61"),
        ("longest_hours", "25"),
        ("free_attempts", "0"),
        ("idle_minutes", "x"),
    ],
)
def test_a_policy_out_of_bounds_is_refused_at_its_field(alice: Person, field: str, value: str) -> None:
    answer = alice.post("/admin/sign-in", POLICY | {field: value})
    assert (answer.status_code, f'id="{field}-error"' in answer.text) == (422, True)


def test_the_limits_of_the_policy_hold_at_once(bob: Person, alice: Person, move: Callable[[timedelta], None]) -> None:
    alice.post("/admin/sign-in", POLICY | {"idle_minutes": "5"})
    move(timedelta(minutes=6))
    assert bob.get("/resources").status_code == 302


def test_of_two_who_change_the_policy_at_once_the_second_is_told(alice: Person) -> None:
    alice.post("/admin/sign-in", POLICY)
    answer = alice.post("/admin/sign-in", POLICY | {"idle_minutes": "10"})
    assert (answer.status_code, "Alice Admin saved another" in answer.text) == (409, True)


def test_an_administrator_removes_what_somebody_lost_and_it_is_recorded(
    app: Flask, alice: Person, bob: Person, database: Database
) -> None:
    _totp, codes = set_up_app(bob, database)
    assert alice.post(f"/admin/users/{bob.user.id}/second-factor/remove").status_code == 303
    assert bob.get("/resources").status_code == 302
    again = sign_in(app, bob.user)
    assert again.get("/resources").status_code == 200
    with database.reading() as session:
        lines = [line for line in trail.latest(session) if line.action == "second-factor:remove"]
    assert [(line.actor_name, line.subject) for line in lines] == [("Alice Admin", f"user:{bob.user.id}")]
    assert codes[0] not in alice.get("/admin/audit").text


def test_removing_what_is_not_there_says_so(alice: Person, bob: Person) -> None:
    alice.post(f"/admin/users/{bob.user.id}/second-factor/remove")
    assert "has no second factor" in alice.get(f"/admin/users/{bob.user.id}").text


def test_every_page_about_it_holds_no_secret_in_its_address(bob: Person, database: Database) -> None:
    answer = bob.post(APP)
    assert answer.headers["Location"] == APP
    totp, codes = set_up_app(bob, database)
    with database.reading() as session:
        everything = " ".join(line.details for line in trail.latest(session))
    assert totp.secret not in everything
    assert not any(code in everything for code in codes)


def add_passkey(database: Database, person: Person) -> int:
    """A passkey whose device nobody has; gives its number."""
    with database.transaction() as session:
        passkey = Passkey(
            user_id=person.user.id,
            name="Laptop",
            credential_id="00",
            public_key=b"",
            sign_count=0,
            made_at=session.now(),
        )
        session.add(passkey)
        session.flush()
        return passkey.id


def test_one_renames_only_ones_own_passkeys(alice: Person, bob: Person, database: Database) -> None:
    path = f"/profile/second-factor/passkeys/{add_passkey(database, bob)}/rename"
    assert alice.post(path, {"name": "Hers"}).status_code == 404
    assert bob.post(path, {"name": "His \t phone"}).status_code == 303
    shown = bob.get("/profile/second-factor").text
    assert "His phone" in shown
    assert "Hers" not in shown
    assert bob.post(path, {"name": "x" * 61}).status_code == 303
    assert "at most 60" in bob.get("/profile/second-factor").text


def test_the_secret_of_an_app_is_not_shown_to_who_types_a_wrong_code_and_has_not_proved_who_they_are(
    bob: Person, database: Database, move: Callable[[timedelta], None]
) -> None:
    assert bob.post(APP).status_code == 303
    secret = re.search(r'id="key">([A-Z2-7]{32})<', bob.get(APP).text)
    assert secret
    move(timedelta(minutes=6))
    answer = bob.client.post(f"{APP}/confirm", data={"csrf_token": csrf_token(bob.client), "code": "000000"})
    assert secret[1] not in answer.text
    asked = bob.get(APP)
    assert asked.status_code == 422
    assert secret[1] not in asked.text
    assert "That code does not fit." in asked.text
