"""Administrators are told of what happens to mail itself: changed settings, and certificates that will end."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from tests.support.mail_settings import PASSWORD, add_mailbox, bound, draft, join
from tests.trust.authorities import issue
from webapp.actor import Actor, Role, command_line, program
from webapp.db import Database
from webapp.identity import preferences
from webapp.keyring import Secret
from webapp.mail import ending, settings
from webapp.mail.letters import Letters
from webapp.mail.settings import Draft, saved_target
from webapp.mail.transport import Security
from webapp.outbox import lease
from webapp.outbox.messages import Kind, Message, read_data
from webapp.trust.store import import_certificates

SETTINGS, CERTIFICATE = Kind.MAIL_SETTINGS_CHANGED, Kind.CERTIFICATE_EXPIRING


@pytest.fixture
def ann(database: Database) -> Actor:
    return join(database, "Ann")


@pytest.fixture
def everybody(database: Database, ann: Actor) -> None:
    """Two administrators, one of them disabled, and somebody else, beside Ann."""
    join(database, "Bob")
    gone = join(database, "Gone")
    with database.transaction() as session:
        session.execute(sa.text("UPDATE users SET active = false WHERE id = :id"), {"id": gone.id})
    join(database, "Eve", Role.PASSWORD_USER)


@pytest.fixture
def saved(database: Database, ann: Actor) -> Draft:
    """What a draft that changes nothing looks like."""
    return save(database, ann, draft())


def save(database: Database, actor: Actor, given: Draft) -> Draft:
    with database.transaction() as session:
        return settings.draft_of(settings.save(session, actor, given))


def told(database: Database, kind: Kind) -> list[tuple[str, dict[str, str]]]:
    """Who is told what, in the order of the outbox."""
    with database.reading() as session:
        rows = session.scalars(sa.select(Message).where(Message.kind == kind.value).order_by(Message.id))
        return [(row.recipient, read_data(session.keyring, row.token, row.sealed or b"")) for row in rows]


def changes(database: Database) -> list[str]:
    return told(database, SETTINGS)[-1][1]["changes"].split("\n")


def test_setting_mail_up_is_no_news(database: Database, saved: Draft) -> None:
    assert told(database, SETTINGS) == []


def test_all_active_administrators_are_told_what_was_changed(
    database: Database, ann: Actor, everybody: None, saved: Draft
) -> None:
    given = {
        "sender_address": "vault@example.test",
        "security": Security.SSL,
        "port": 465,
        "password": Secret(PASSWORD),
    }
    save(database, ann, replace(saved, **given))  # type: ignore[arg-type]
    assert [recipient for recipient, _ in told(database, SETTINGS)] == ["ann@example.com", "bob@example.com"]
    assert sorted(changes(database)) == [
        "Password: changed",
        "Port: 465 (was 587)",
        "Secure connection: SSL (was TLS)",
        "Sender e-mail address: vault@example.test (was keypost@example.test)",
    ]


def test_saving_what_stands_tells_nobody(database: Database, ann: Actor, saved: Draft) -> None:
    save(database, ann, saved)
    assert told(database, SETTINGS) == []


def test_a_password_is_named_and_never_shown(database: Database, ann: Actor, saved: Draft) -> None:
    save(database, ann, replace(saved, password=Secret("another-secret")))
    assert changes(database) == ["Password: changed"]


def test_an_account_is_not_named_to_those_who_may_not_see_it(database: Database, ann: Actor, saved: Draft) -> None:
    mailbox = add_mailbox(database, ann, PASSWORD, "Secret host")
    save(database, ann, bound(mailbox, version=saved.version))
    assert "Account: changed" in changes(database)
    assert "Secret host" not in str(told(database, SETTINGS))


def test_leave_to_sign_in_without_encryption_is_told(database: Database, ann: Actor, saved: Draft) -> None:
    given = replace(saved, security=Security.NEVER, port=25, unencrypted_login_allowed=True)
    save(database, ann, replace(given, password=Secret(PASSWORD)))
    assert "Signing in without encryption: allowed, for mail.example.test" in changes(database)


def test_who_switched_it_off_is_not_told(database: Database, ann: Actor, everybody: None, saved: Draft) -> None:
    assert ann.id is not None
    with database.transaction() as session:
        preferences.switch(session, ann, ann.id, [SETTINGS], [SETTINGS])
    save(database, ann, replace(saved, sender_name="Vault"))
    assert [recipient for recipient, _ in told(database, SETTINGS)] == ["bob@example.com"]


@pytest.fixture
def days(database: Database) -> Callable[[float], int]:
    """Begins the housekeeping so many days before the one trusted certificate ends; gives how many were told of."""
    authority = issue("Our authority", authority=True)
    with database.transaction() as session:
        import_certificates(session, command_line(), authority.pem, source="test")
    end = authority.certificate.not_valid_after_utc

    def warn(before: float) -> int:
        database.clock = lambda: end - timedelta(days=before)
        with database.transaction() as session:
            return ending.warn(session, program())

    return warn


def test_a_certificate_is_told_of_at_30_14_7_and_1_days_once_each(
    database: Database, everybody: None, days: Callable[[float], int]
) -> None:
    walk = [31, 29.5, 28, 20, 13.5, 13, 8, 6.5, 5, 2, 0.9, 0.5, -1]
    assert [days(before) for before in walk] == [0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0]
    assert [data["days"] for recipient, data in told(database, CERTIFICATE) if recipient == "ann@example.com"] == [
        *("30", "14", "7", "1")
    ]
    assert {recipient for recipient, _ in told(database, CERTIFICATE)} == {"ann@example.com", "bob@example.com"}


def test_a_late_start_tells_the_nearest_warning_alone(
    database: Database, ann: Actor, days: Callable[[float], int]
) -> None:
    assert days(6.5) == 1
    assert [data["days"] for _, data in told(database, CERTIFICATE)] == ["7"]


def test_workers_that_look_at_once_tell_it_once(database: Database, ann: Actor, days: Callable[[float], int]) -> None:
    days(31)
    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(days, [6.5] * 4)) == 1
    assert len(told(database, CERTIFICATE)) == 1


def test_what_is_queued_can_be_written(
    database: Database, ann: Actor, saved: Draft, days: Callable[[float], int]
) -> None:
    days(6.5)
    save(database, ann, replace(saved, sender_name="Vault"))
    with database.transaction() as session:
        letters = Letters.read(session, saved_target(session))
        waiting = lease.claim(session, 10, domain="example.test")
        texts = [
            letters.word(each, read_data(session.keyring, each.token, each.sealed or b"")).text for each in waiting
        ]
    assert any("Sender name: Vault (was empty)" in text for text in texts)
    assert any("The trusted certificate Our authority" in text and "ends in 7 days" in text for text in texts)
