"""A forgotten password: one answer for all, a link for the owner of the address alone."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from webapp.actor import Role, command_line
from webapp.db import Database, utc_now
from webapp.errors import Invalid, Refused
from webapp.identity import forgotten, links
from webapp.identity.forgotten import ForgottenRequest
from webapp.identity.sessions import begin_session, change_own_password, resume, sign_in
from webapp.identity.users import User, add_user, get_user
from webapp.keyring import Secret
from webapp.outbox.messages import Message, read_data

OLD, NEW = Secret("correct horse battery staple"), Secret("an entirely different sentence")


@pytest.fixture
def ada(database: Database) -> User:
    with database.transaction() as session:
        return add_user(
            session, command_line(), email="Ada@example.com", name="Ada", role=Role.PASSWORD_USER, password=OLD
        )


def ask(database: Database, email: str = "ada@example.com", source: str = "192.0.2.7") -> None:
    with database.transaction() as session:
        forgotten.ask(session, email, source)


def answered(database: Database) -> list[Message]:
    while forgotten.answer(database):
        pass
    with database.reading() as session:
        return list(session.scalars(sa.select(Message).order_by(Message.id)))


def link_of(database: Database, message: Message) -> str:
    assert message.sealed is not None
    return read_data(database.keyring, message.token, message.sealed)["token"]


def test_the_owner_of_the_address_gets_a_link_for_twenty_minutes(database: Database, ada: User) -> None:
    ask(database, " ADA@example.com ")
    [mail] = answered(database)
    assert (mail.kind, mail.recipient, mail.cause) == ("password-reset", "Ada@example.com", "somebody at 192.0.2.7")
    assert mail.expires_at - mail.queued_at == timedelta(minutes=20)


@pytest.mark.parametrize("email", ["nobody@example.com", "ada@example.org"])
def test_an_unknown_address_gets_nothing(database: Database, ada: User, email: str) -> None:
    ask(database, email)
    assert answered(database) == []


def test_a_disabled_user_gets_nothing(database: Database, ada: User) -> None:
    with database.transaction() as session:
        get_user(session, ada.id).active = False
    ask(database)
    assert answered(database) == []


def test_asking_writes_the_same_for_everybody_and_looks_nobody_up(database: Database, ada: User) -> None:
    statements: dict[str, list[str]] = {}
    for email in ("ada@example.com", "nobody@example.com"):
        seen = statements.setdefault(email, [])

        def note(_c: object, _cursor: object, statement: str, *_rest: object, seen: list[str] = seen) -> None:
            seen.append(statement)

        sa.event.listen(database.engine, "before_cursor_execute", note)
        ask(database, email)
        sa.event.remove(database.engine, "before_cursor_execute", note)
    known, unknown = statements.values()
    assert known == unknown
    assert not any("users" in statement for statement in known)


def test_what_was_asked_is_forgotten_once_it_is_answered(database: Database, ada: User) -> None:
    ask(database)
    answered(database)
    with database.reading() as session:
        assert session.scalars(sa.select(ForgottenRequest)).all() == []


def test_what_was_asked_too_long_ago_is_dropped(database: Database, ada: User) -> None:
    ask(database)
    database.clock = lambda: utc_now() + timedelta(minutes=21)
    assert answered(database) == []


@pytest.mark.parametrize("email", ["ada@example.com", "nobody@example.com"])
def test_three_an_hour_for_an_address_whether_it_is_known_or_not(database: Database, ada: User, email: str) -> None:
    for number in range(3):
        ask(database, email, f"192.0.2.{number}")
    with pytest.raises(Invalid, match="with this address within the hour"):
        ask(database, email.upper(), "192.0.2.99")


def test_ten_an_hour_from_one_source(database: Database) -> None:
    for number in range(10):
        ask(database, f"p{number}@example.com")
    with pytest.raises(Invalid, match="from your network"):
        ask(database, "p11@example.com")
    ask(database, "p11@example.com", "198.51.100.1")


def test_a_whole_ipv6_network_is_one_source(database: Database) -> None:
    for number in range(10):
        ask(database, f"p{number}@example.com", f"2001:db8:1:2::{number:x}")
    with pytest.raises(Invalid, match="from your network"):
        ask(database, "p11@example.com", "2001:db8:1:2::ffff")
    ask(database, "p11@example.com", "2001:db8:1:3::1")


def test_what_was_refused_uses_up_nothing(database: Database, ada: User) -> None:
    for _ in range(3):
        ask(database)
    for _ in range(20):
        with pytest.raises(Invalid, match="with this address"):
            ask(database)
    ask(database, "other@example.com")


def test_the_link_sets_the_password_once_ends_all_sessions_and_begins_none(database: Database, ada: User) -> None:
    with database.transaction() as session:
        open_session = begin_session(session, get_user(session, ada.id), "there")
    ask(database)
    token = link_of(database, answered(database)[0])
    assert links.spend(database, token, NEW, "here") is None
    assert resume(database, open_session) is None
    assert sign_in(database, "ada@example.com", NEW, "here")[1].id == ada.id
    with pytest.raises(Refused):
        links.spend(database, token, NEW, "here")


def test_the_link_dies_after_twenty_minutes(database: Database, ada: User) -> None:
    ask(database)
    token = link_of(database, answered(database)[0])
    database.clock = lambda: utc_now() + timedelta(minutes=21)
    with database.reading() as session, pytest.raises(Refused):
        links.open_link(session, token)


def test_the_link_dies_with_a_change_of_the_password(database: Database, ada: User) -> None:
    with database.transaction() as session:
        own = begin_session(session, get_user(session, ada.id), "there")
    ask(database)
    token = link_of(database, answered(database)[0])
    change_own_password(database, ada.actor("there"), own, current=OLD, new=NEW)
    with database.reading() as session, pytest.raises(Refused):
        links.open_link(session, token)


def test_a_stranger_who_asks_ends_no_welcome(database: Database) -> None:
    with database.transaction() as session:
        bob = add_user(session, command_line(), email="bob@example.com", name="Bob", role=Role.PASSWORD_USER)
        welcome = links.make_link(session, command_line(), bob)
    ask(database, "bob@example.com")
    answered(database)
    with database.reading() as session:
        assert links.open_link(session, welcome.reveal()).user.id == bob.id


def test_a_newer_link_ends_the_one_before_and_the_mail_that_waits_with_it(database: Database, ada: User) -> None:
    ask(database)
    first = link_of(database, answered(database)[0])
    ask(database)
    old, new = answered(database)
    assert (old.state, new.state) == ("cancelled", "queued")
    with database.reading() as session, pytest.raises(Refused):
        links.open_link(session, first)
