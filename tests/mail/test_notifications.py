"""What people are told by mail, from the change that causes it to the bytes that a mail server receives."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import EmailMessage

import pytest

from tests.support.mail_server import NEVER, Accepted, MailServer
from tests.support.mail_settings import PASSWORD, add_mailbox, draft, join, rotate
from tests.support.outbox import deliver, enqueue, open_relay, save
from webapp.actor import Actor, Role, command_line
from webapp.db import Database
from webapp.identity import preferences
from webapp.identity.users import edit_user, get_user
from webapp.mail.kinds import OUTLINES
from webapp.outbox.messages import Kind
from webapp.vault import shares
from webapp.vault.accounts import Account
from webapp.vault.rights import Right


@pytest.fixture
def relay() -> Iterator[MailServer]:
    with MailServer(NEVER) as server:
        yield server


def delivered(database: Database, relay: MailServer) -> list[Accepted]:
    """What arrives when the settings lead to the relay; saving them is news by itself, which is left out."""
    save(database, open_relay(relay.port))
    deliver(database)
    return [each for each in relay.accepted if "mail settings" not in str(each.message["Subject"]).lower()]


def text_of(message: EmailMessage) -> str:
    body = message.get_body(("plain",))
    assert body is not None
    return str(body.get_content())


@pytest.mark.parametrize("kind", list(Kind))
def test_each_kind_arrives_whole(database: Database, relay: MailServer, kind: Kind) -> None:
    save(database, open_relay(relay.port))
    enqueue(database, "bob@example.test", kind=kind)
    deliver(database)
    message = next(each for each in relay.accepted if each.recipients == ("bob@example.test",)).message
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"]
    assert message["Date"]
    assert "https://keypost.example.test/" in text_of(message)
    assert "{{" not in message.as_string()
    for name, value in OUTLINES[kind].data.items():
        if name in ("resource", "account", "role"):
            assert value in text_of(message)


def test_somebody_whose_role_changes_is_told_by_whom(database: Database, relay: MailServer) -> None:
    bob = join(database, "Bob", Role.PASSWORD_USER)
    with database.transaction() as session:
        edit_user(session, command_line(), bob.id or 0, name="Bob", role=Role.PASSWORD_AUDITOR, active=True)
    (told,) = delivered(database, relay)
    assert told.recipients == ("bob@example.com",)
    assert "Password Auditor" in text_of(told.message)
    assert command_line().name in text_of(told.message)


def shared(database: Database) -> tuple[Actor, Actor, Account]:
    olga, bob = join(database, "Olga"), join(database, "Bob", Role.PASSWORD_USER)
    account = add_mailbox(database, olga)
    with database.transaction() as session:
        shares.share_account(session, olga, account.id, bob.id or 0, Right.VIEW)
    return olga, bob, account


def test_somebody_is_told_what_is_shared_with_them_and_of_its_new_password(
    database: Database, relay: MailServer
) -> None:
    olga, _bob, account = shared(database)
    rotate(database, olga, account, "a-new-password-of-the-mailbox")
    told = delivered(database, relay)
    assert [each.recipients for each in told] == [("bob@example.com",)] * 2
    assert account.label in text_of(told[0].message)
    assert not any("a-new-password-of-the-mailbox" in each.message.as_string() for each in told)


def test_nothing_is_sent_that_a_person_switched_off(database: Database, relay: MailServer) -> None:
    olga, bob, account = shared(database)
    with database.transaction() as session:
        kinds = [kind for kind in Kind if not kind.is_essential]
        preferences.switch(session, bob, bob.id or 0, kinds, [Kind.PASSWORD_CHANGED])
    rotate(database, olga, account, "a-new-password-of-the-mailbox")
    assert len(delivered(database, relay)) == 1


def test_administrators_are_told_of_other_mail_settings_without_any_secret(
    database: Database, relay: MailServer
) -> None:
    join(database, "Alice")
    save(database, draft())
    save(database, open_relay(relay.port))
    deliver(database)
    (told,) = relay.accepted
    assert told.recipients == ("alice@example.com",)
    assert f"Port: {relay.port} (was 587)" in text_of(told.message)
    assert PASSWORD not in told.message.as_string()


def test_a_disabled_user_is_told_nothing(database: Database, relay: MailServer) -> None:
    bob = join(database, "Bob", Role.PASSWORD_USER)
    with database.transaction() as session:
        edit_user(session, command_line(), bob.id or 0, name="Bob", role=Role.PASSWORD_AUDITOR, active=False)
        assert not get_user(session, bob.id or 0).active
    assert delivered(database, relay) == []
