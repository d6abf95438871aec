"""The work beside the pages: the login check after a rotation, and housekeeping."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.support.mail_server import MailServer
from tests.support.mail_settings import USERNAME, add_mailbox, bound, eventually, join, place_of, rotate, trust_server
from webapp.actor import Actor
from webapp.audit.trail import AuditLine
from webapp.db import Database
from webapp.identity import submissions
from webapp.identity.sessions import SignIn, begin_session
from webapp.identity.users import get_user
from webapp.installation import Installation
from webapp.keyring import Secret
from webapp.mail import checks, settings
from webapp.mail.background import BackgroundWork
from webapp.mail.checks import MailCheck
from webapp.mail.transport import Security
from webapp.trust.store import TrustStore
from webapp.vault.accounts import Account

LONG = 600.0
ROTATE_ELSEWHERE = """
import sys
from webapp.actor import command_line
from webapp.config import Config
from webapp.installation import open_installation
from webapp.keyring import Secret
from webapp.vault.accounts import set_password

installation = open_installation(Config.from_environment())
with installation.database.transaction() as session:
    set_password(session, command_line(), int(sys.argv[1]), Secret(sys.stdin.read()))
"""


@pytest.fixture
def ann(database: Database) -> Actor:
    return join(database, "Ann")


@pytest.fixture
def mailbox(database: Database, ann: Actor) -> Account:
    return add_mailbox(database, ann)


@pytest.fixture
def server(database: Database, ann: Actor, mailbox: Account, mail_server_starttls: MailServer) -> MailServer:
    """A trusted server, in the saved settings with the mailbox bound."""
    trust_server(database, mail_server_starttls)
    with database.transaction() as session:
        settings.save(session, ann, bound(mailbox, **place_of(mail_server_starttls)))
    return mail_server_starttls


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where connections are taken and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def ended(database: Database) -> list[MailCheck]:
    with database.reading() as session:
        return list(session.scalars(sa.select(MailCheck).where(MailCheck.outcome != "running").order_by(MailCheck.id)))


def begun(database: Database) -> bool:
    with database.reading() as session:
        return checks.last_login_check(session) is not None


def test_a_rotation_is_checked_at_once(database: Database, ann: Actor, mailbox: Account, server: MailServer) -> None:
    work = BackgroundWork(database, TrustStore(database), poll_seconds=LONG)
    work.start()
    eventually(lambda: len(ended(database)) == 1)
    server.users[USERNAME] = "rotated"
    rotate(database, ann, mailbox, "rotated")
    eventually(lambda: len(ended(database)) == 2)
    work.stop()
    assert [check.outcome for check in ended(database)] == ["accepted", "accepted"]
    assert server.passwords[-1] == "rotated"
    assert server.accepted == []
    with database.reading() as session:
        lines = list(session.scalars(sa.select(AuditLine).where(AuditLine.action == "mail:login-check")))
    assert [(line.actor_name, line.outcome) for line in lines] == [("Keypost", "accepted")] * 2


def test_a_rotation_in_another_process_is_checked_within_three_seconds(
    installation: Installation, mailbox: Account, server: MailServer
) -> None:
    database = installation.database
    work = BackgroundWork(database, TrustStore(database))
    work.start()
    eventually(lambda: len(ended(database)) == 1)
    server.users[USERNAME] = "rotated"
    subprocess.run(
        [sys.executable, "-c", ROTATE_ELSEWHERE, str(mailbox.id)],
        input="rotated",
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env={
            "KEYPOST_INSTANCE": str(installation.config.instance),
            "KEYPOST_DATABASE_URL": database.url.render_as_string(hide_password=False),
        },
    )
    eventually(lambda: len(ended(database)) == 2, seconds=3)
    work.stop()
    assert [check.password_version for check in ended(database)] == [1, 2]


def test_a_wrong_password_is_tried_once_and_said(
    database: Database, ann: Actor, mailbox: Account, server: MailServer
) -> None:
    work = BackgroundWork(database, TrustStore(database), poll_seconds=0.01)
    server.users[USERNAME] = "changed behind our back"
    work.start()
    eventually(lambda: len(ended(database)) == 1)
    rotate(database, ann, mailbox, "wrong as well")
    eventually(lambda: len(ended(database)) == 2)
    work.stop()
    assert server.failed_logins == [USERNAME] * 2
    assert [check.code for check in ended(database)] == ["credentials-refused"] * 2


def test_it_stops_within_a_second_whatever_the_server_does(
    database: Database, ann: Actor, mailbox: Account, silent_port: int
) -> None:
    with database.transaction() as session:
        given = bound(mailbox, server_name="127.0.0.1", port=silent_port, security=Security.NEVER)
        settings.save(session, ann, given)
    work = BackgroundWork(database, TrustStore(database))
    work.start()
    eventually(lambda: begun(database))
    begin = time.monotonic()
    work.stop()
    assert time.monotonic() - begin < 1


def test_it_forgets_old_sessions(database: Database, ann: Actor) -> None:
    real = database.clock
    with database.transaction() as session:
        begin_session(session, get_user(session, ann.id or 0), "test")
    database.clock = lambda: real() + timedelta(days=1)
    work = BackgroundWork(database, TrustStore(database))
    work.start()

    def forgotten() -> bool:
        with database.reading() as session:
            return session.scalar(sa.select(sa.func.count()).select_from(SignIn)) == 0

    eventually(forgotten)
    work.stop()


def test_it_forgets_what_a_form_was_answered_though_nobody_sends_another(database: Database) -> None:
    real = database.clock
    with database.transaction() as session:
        submissions.begin(session, "a form")
        submissions.end(session, "a form", Secret("what it was answered"))
    database.clock = lambda: real() + timedelta(hours=1, minutes=1)
    work = BackgroundWork(database, TrustStore(database))
    work.start()

    def forgotten() -> bool:
        with database.reading() as session:
            return submissions.look_up(session, "a form") is None

    eventually(forgotten)
    work.stop()


def test_what_was_deleted_does_not_stay_in_the_log_of_sqlite(database: Database, ann: Actor) -> None:
    if not database.is_sqlite:
        pytest.skip("about SQLite alone")
    log = Path(f"{database.url.database}-wal")
    assert log.stat().st_size > 0
    work = BackgroundWork(database, TrustStore(database), poll_seconds=LONG)
    work.start()
    try:
        eventually(lambda: log.stat().st_size == 0)
    finally:
        work.stop()
