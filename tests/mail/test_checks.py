"""What a check proves, for how long, and how many may be made."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from tests.support.mail_server import MailServer
from tests.support.mail_settings import (
    PASSWORD,
    USERNAME,
    add_mailbox,
    bound,
    draft,
    join,
    place_of,
    rotate,
    trust_server,
)
from tests.support.outbox import MovableClock
from webapp.actor import Actor, command_line, program
from webapp.audit.trail import AuditLine
from webapp.db import Database
from webapp.errors import Refused
from webapp.keyring import Secret
from webapp.mail import checks, settings
from webapp.mail.checks import MailCheck, Verification
from webapp.mail.probe import outcome_of
from webapp.mail.settings import Draft
from webapp.trust.store import TrustStore
from webapp.vault.accounts import Account


@pytest.fixture
def ann(database: Database) -> Actor:
    return join(database, "Ann")


@pytest.fixture
def mailbox(database: Database, ann: Actor) -> Account:
    return add_mailbox(database, ann)


@pytest.fixture
def server(database: Database, mail_server_starttls: MailServer) -> MailServer:
    """A server whose authority is imported."""
    trust_server(database, mail_server_starttls)
    return mail_server_starttls


def save(database: Database, actor: Actor, given: Draft) -> None:
    with database.transaction() as session:
        settings.save(session, actor, given)


def try_out(database: Database, actor: Actor, given: Draft, recipient: str = "ann@example.com") -> str:
    """Test a draft as the page does; gives the outcome."""
    with database.transaction() as session:
        target = settings.target_for(session, actor, given)
        about = checks.fingerprint_of(session, target)
        number = checks.begin_test(session, actor, about, recipient)
    result = outcome_of(target.attempt(recipient), TrustStore(database))
    with database.transaction() as session:
        checks.record_check(
            session, kind="test", fingerprint=about, result=result, actor=actor, recipient=recipient, check_id=number
        )
    return result.outcome


def verification(database: Database) -> Verification:
    with database.reading() as session:
        return checks.verification(session, settings.current(session))


def check_login(database: Database) -> str:
    return checks.check_saved(database, TrustStore(database), program()).outcome


def rows(database: Database) -> list[MailCheck]:
    with database.reading() as session:
        return list(session.scalars(sa.select(MailCheck).order_by(MailCheck.id)))


def test_settings_nobody_tested_are_not_verified(database: Database, ann: Actor) -> None:
    save(database, ann, draft())
    assert verification(database) == Verification(False, reason="these settings have not been tested.")


def test_a_test_before_saving_counts_after_saving_the_same(
    database: Database, ann: Actor, mailbox: Account, server: MailServer
) -> None:
    given = bound(mailbox, **place_of(server))
    assert try_out(database, ann, given) == "accepted"
    save(database, ann, given)
    proof = verification(database)
    assert (proof.verified, proof.by, proof.kind) == (True, "Ann", "test")
    assert server.wait_for_message().recipients == ("ann@example.com",)


@pytest.mark.parametrize(
    "change",
    [
        {"password": Secret("another")},
        {"sender_address": "other@example.test"},
        {"server_name": "127.0.0.1"},
        {"requires_authentication": False},
    ],
)
def test_the_proof_ends_with_any_change(
    database: Database, ann: Actor, server: MailServer, change: dict[str, Any]
) -> None:
    given = draft(**place_of(server))
    assert try_out(database, ann, given) == "accepted"
    save(database, ann, given)
    assert verification(database).verified
    save(database, ann, draft(**{**place_of(server), "version": 1, **change}))
    assert not verification(database).verified


def test_a_changed_access_url_does_not_end_the_proof(database: Database, ann: Actor, server: MailServer) -> None:
    given = draft(**place_of(server))
    try_out(database, ann, given)
    save(database, ann, given)
    save(database, ann, draft(**place_of(server), access_url="https://new.example.test", version=1))
    assert verification(database).verified


def test_a_new_password_of_the_account_ends_the_proof_until_a_login_check(
    database: Database, ann: Actor, mailbox: Account, server: MailServer
) -> None:
    given = bound(mailbox, **place_of(server))
    try_out(database, ann, given)
    save(database, ann, given)
    rotate(database, ann, mailbox, "rotated")
    assert verification(database).reason.startswith("the account's password was changed on ")
    server.users[USERNAME] = "rotated"
    assert check_login(database) == "accepted"
    proof = verification(database)
    assert (proof.verified, proof.by, proof.kind) == (True, "Keypost", "login")


def test_a_login_alone_proves_no_sending(database: Database, ann: Actor, mailbox: Account, server: MailServer) -> None:
    save(database, ann, bound(mailbox, **place_of(server)))
    assert check_login(database) == "accepted"
    proof = verification(database)
    assert not proof.verified
    assert "no message has been sent" in proof.reason
    assert server.accepted == []


def test_a_later_failure_ends_the_proof(database: Database, ann: Actor, mailbox: Account, server: MailServer) -> None:
    given = bound(mailbox, **place_of(server))
    try_out(database, ann, given)
    save(database, ann, given)
    server.users[USERNAME] = "changed behind our back"
    assert check_login(database) == "failed"
    proof = verification(database)
    assert not proof.verified
    assert "credentials refused" in proof.reason


def test_a_recipient_who_is_refused_says_nothing_about_the_settings(
    database: Database, ann: Actor, server: MailServer
) -> None:
    given = draft(**place_of(server))
    server.refuse["gone@example.com"] = "550 5.1.1 unknown"
    try_out(database, ann, given)
    assert try_out(database, ann, given, "gone@example.com") == "failed"
    save(database, ann, given)
    assert verification(database).verified


def test_a_check_is_recorded_with_its_line(database: Database, ann: Actor, server: MailServer) -> None:
    server.users[USERNAME] = "something else"
    try_out(database, ann, draft(**place_of(server), password=Secret("canary-password")))
    check = rows(database)[-1]
    assert (check.outcome, check.code, check.stage, check.recipient) == (
        "failed", "credentials-refused", "authentication", "ann@example.com",
    )  # fmt: skip
    with database.reading() as session:
        line = session.scalars(sa.select(AuditLine).where(AuditLine.action == "mail:test")).one()
    details = json.loads(line.details)
    assert (line.outcome, details["server"], details["port"], details["code"]) == (
        "failed", server.name, server.port, "credentials-refused",
    )  # fmt: skip
    assert "canary" not in f"{check.__dict__} {line.details}"


class RotatesMeanwhile(dict[str, str]):
    """Users of a mail server whose password is changed, there and in the vault, in the moment of the first login."""

    def __init__(self, database: Database, owner: Actor, account: Account) -> None:
        super().__init__({USERNAME: "rotated"})
        self._rotate = lambda: rotate(database, owner, account, "rotated")
        self._first = True

    def get(self, username: str, default: Any = None) -> Any:
        if self._first:
            self._first = False
            changing = threading.Thread(target=self._rotate)
            changing.start()
            changing.join()
        return super().get(username, default)


def test_a_password_that_changed_meanwhile_is_tried_once_more(
    database: Database, ann: Actor, mailbox: Account, server: MailServer
) -> None:
    save(database, ann, bound(mailbox, **place_of(server)))
    server.users = RotatesMeanwhile(database, ann, mailbox)
    assert checks.run_saved(database, TrustStore(database)).outcome == "accepted"
    assert (server.failed_logins, server.passwords) == ([USERNAME], ["rotated"])


def test_a_wrong_password_counts_as_one_failed_login(
    database: Database, ann: Actor, mailbox: Account, server: MailServer
) -> None:
    save(database, ann, bound(mailbox, **place_of(server)))
    server.users[USERNAME] = "something else"
    assert checks.run_saved(database, TrustStore(database)).outcome == "failed"
    assert server.failed_logins == [USERNAME]


def test_the_saved_settings_send_a_test_message(database: Database, ann: Actor, server: MailServer) -> None:
    save(database, ann, draft(**place_of(server)))
    assert checks.run_saved(database, TrustStore(database), "ann@example.com").outcome == "accepted"
    assert "https://keypost.example.test" in server.wait_for_message().content.decode()


def begin(database: Database, actor: Actor) -> None:
    with database.transaction() as session:
        about = checks.fingerprint_of(session, settings.target_for(session, actor, draft()))
        number = checks.begin_test(session, actor, about, "ann@example.com")
    with database.transaction() as session:
        checks.end(session, number, "failed")


def test_the_eleventh_test_within_a_minute_is_refused_after_a_restart_too(database: Database, ann: Actor) -> None:
    ben = join(database, "Ben")
    for _ in range(10):
        begin(database, ann)
    restarted = Database(database.url.render_as_string(hide_password=False), database.keyring)
    with pytest.raises(Refused, match="10 tests within a minute"):
        begin(restarted, ann)
    restarted.dispose()
    begin(database, ben)
    begin(database, command_line())


def test_the_sixty_first_test_within_an_hour_is_refused(database: Database, ann: Actor) -> None:
    start, real = database.clock(), database.clock
    for number in range(60):
        database.clock = lambda number=number: start + timedelta(seconds=50 * number)  # type: ignore[misc]
        begin(database, ann)
    with pytest.raises(Refused, match="60 tests within an hour"):
        begin(database, ann)
    database.clock = lambda: start + timedelta(seconds=3601)
    begin(database, ann)
    database.clock = real


def test_all_administrators_together_have_a_limit_too(database: Database, ann: Actor) -> None:
    for actor in (ann, join(database, "Ben"), join(database, "Cem")):
        for _ in range(10):
            begin(database, actor)
    with pytest.raises(Refused, match="All administrators together have made 30 tests within a minute"):
        begin(database, join(database, "Dan"))
    begin(database, command_line())


def test_of_many_tests_at_once_one_runs(database: Database, ann: Actor) -> None:
    outcomes: list[bool] = []

    def work() -> None:
        try:
            with database.transaction() as session:
                checks.begin_search(session, ann, "example.com")
        except Refused:
            outcomes.append(False)
        else:
            outcomes.append(True)

    threads = [threading.Thread(target=work) for _ in range(14)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(True) == 1


def test_a_test_that_died_is_waited_for_no_longer_than_a_minute(database: Database, ann: Actor) -> None:
    with database.transaction() as session:
        checks.begin_search(session, ann, "example.com")
    with pytest.raises(Refused, match="still running"):
        begin(database, ann)
    start, real = database.clock(), database.clock
    database.clock = lambda: start + timedelta(seconds=61)
    begin(database, ann)
    database.clock = real


def test_each_password_version_is_claimed_once(database: Database, ann: Actor, mailbox: Account) -> None:
    save(database, ann, bound(mailbox))
    assert checks.claim_login_check(database, program()) is not None
    assert checks.claim_login_check(database, program()) is None
    rotate(database, ann, mailbox, "rotated")
    assert checks.claim_login_check(database, program()) is not None


def test_of_many_processes_one_claims_the_check(database: Database, ann: Actor, mailbox: Account) -> None:
    save(database, ann, bound(mailbox))
    together, claimed = threading.Barrier(4), []

    def work() -> None:
        together.wait()
        claimed.append(checks.claim_login_check(database, program()))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(number is not None for number in claimed) == 1


def test_a_check_whose_process_died_is_taken_over(database: Database, ann: Actor, mailbox: Account) -> None:
    save(database, ann, bound(mailbox))
    first = checks.claim_login_check(database, program())
    start, real = database.clock(), database.clock
    database.clock = lambda: start + timedelta(seconds=61)
    assert checks.claim_login_check(database, program()) == first
    database.clock = real


def test_the_check_of_the_day_is_taken_over_too(database: Database, ann: Actor) -> None:
    save(database, ann, draft())
    clock = database.clock = MovableClock()
    clock.go(days=2)
    first = checks.claim_daily_check(database, program())
    assert first is not None
    assert checks.claim_daily_check(database, program()) is None
    clock.go(seconds=61)
    assert checks.claim_daily_check(database, program()) == first


def test_a_failed_login_check_is_past_once_the_same_login_was_accepted(
    database: Database, ann: Actor, mailbox: Account, server: MailServer
) -> None:
    given = bound(mailbox, **place_of(server))
    save(database, ann, given)
    server.users[USERNAME] = "changed behind our back"
    assert check_login(database) == "failed"
    with database.reading() as session:
        failed = checks.last_login_check(session)
    assert failed is not None
    assert not failed.accepted
    server.users[USERNAME] = PASSWORD
    try_out(database, ann, bound(mailbox, **place_of(server), version=1))
    with database.reading() as session:
        assert checks.last_login_check(session) is None


def test_what_a_test_proved_is_not_checked_again(
    database: Database, ann: Actor, mailbox: Account, server: MailServer
) -> None:
    given = bound(mailbox, **place_of(server))
    try_out(database, ann, given)
    save(database, ann, given)
    assert checks.claim_login_check(database, program()) is None


def test_a_typed_password_is_never_checked_by_itself(database: Database, ann: Actor) -> None:
    save(database, ann, draft())
    assert checks.claim_login_check(database, program()) is None
