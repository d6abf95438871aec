"""Users: whom one can add, and whom one cannot add twice."""

from __future__ import annotations

import pytest

from webapp.actor import Role, command_line
from webapp.audit import trail
from webapp.db import Database
from webapp.errors import Invalid, NotFound
from webapp.identity.users import User, add_user, find_user, get_user, users_by_name
from webapp.keyring import Secret


def _add(database: Database, email: str = "ada@example.com", name: str = "Ada") -> User:
    with database.transaction() as session:
        return add_user(session, command_line(), email=email, name=name, role=Role.PASSWORD_USER)


@pytest.mark.parametrize(
    "email", ["ada@example.com", "a.b+c@sub.example.com", "ada@localhost", "jürgen@bücher.example"]
)
def test_it_takes_an_address(database: Database, email: str) -> None:
    assert _add(database, f" {email} ").email == email


@pytest.mark.parametrize(
    "email",
    [
        *("", "ada", "@b", "a@", "a@b@c", "a b@c", "a@b\r\nBcc: x@y", "a@b\x00", "<a@b>", "a@b,c@d", '"a"@b'),
        *("a" * 65 + "@b", "a@" + "b" * 254, "a@b\u2028c", "ad\u202emin@b", "ad\u200bmin@b", "a@b\u00adc"),
    ],
    ids=ascii,
)
def test_it_refuses_what_is_no_address(database: Database, email: str) -> None:
    with pytest.raises(Invalid) as refused:
        _add(database, email)
    assert refused.value.field == "email"


@pytest.mark.parametrize("name", ["", "  ", "a" * 201, "a\x00b", "a\u202eb", "a\u200bb"], ids=ascii)
def test_it_refuses_what_is_no_name(database: Database, name: str) -> None:
    with pytest.raises(Invalid) as refused:
        _add(database, name=name)
    assert refused.value.field == "name"


def test_an_address_is_taken_in_any_case(database: Database) -> None:
    _add(database, "Ada@Example.com")
    with pytest.raises(Invalid, match="already a user") as refused:
        _add(database, "ada@example.COM", "Impostor")
    assert refused.value.field == "email"


def test_the_longest_address_that_grows_when_folded_is_kept(database: Database) -> None:
    user = _add(database, "ΐ" * 64 + "@" + "ΐ" * 253)
    with database.reading() as session:
        found = find_user(session, user.email.upper())
    assert found is not None
    assert found.id == user.id


def test_adding_leaves_an_audit_line_without_password(database: Database) -> None:
    with database.transaction() as session:
        user = add_user(
            session,
            command_line(),
            email="a@b",
            name="A",
            role=Role.ADMINISTRATOR,
            password=Secret("canary sings of five kettles"),
        )
    with database.reading() as session:
        (line,) = trail.latest(session)
    assert (line.action, line.subject) == ("user:add", f"user:{user.id}")
    assert "canary" not in line.details


def test_an_unknown_user_is_not_found(database: Database) -> None:
    with database.reading() as session, pytest.raises(NotFound):
        get_user(session, 4711)


def test_users_are_listed_by_name_in_any_case(database: Database) -> None:
    for name in ("bob", "Ada", "Cyd"):
        _add(database, f"{name}@example.com", name)
    with database.reading() as session:
        assert [user.name for user in users_by_name(session)] == ["Ada", "bob", "Cyd"]
