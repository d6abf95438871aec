"""Real messages from the outbox to a real mail server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import trustme

from tests.support.mail_server import NEVER, STARTTLS, MailServer
from tests.support.mail_settings import (
    PASSWORD,
    USERNAME,
    add_mailbox,
    bound,
    draft,
    eventually,
    join,
    place_of,
    rotate,
    trust_server,
)
from tests.support.outbox import MovableClock, deliver, enqueue, only, open_relay, save, states
from tests.support.scripted_smtp import ScriptedServer, replying
from tests.support.sink import HANG_UP, Sink
from webapp.actor import Actor, command_line
from webapp.audit.trail import latest
from webapp.config import Config
from webapp.db import Database
from webapp.i18n import Reader, reading_as
from webapp.installation import open_installation
from webapp.keyring import Secret
from webapp.mail import checks, route, settings
from webapp.mail.delivery import Delivery
from webapp.mail.ledger import claim
from webapp.mail.settings import Draft
from webapp.mail.worker import Worker
from webapp.outbox import pause
from webapp.outbox.lease import Leased
from webapp.outbox.messages import Kind, Message, queue
from webapp.outbox.standing import standing
from webapp.trust.store import TrustStore


@pytest.fixture
def relay() -> Iterator[MailServer]:
    """A server that takes everything from everybody."""
    with MailServer(NEVER) as server:
        yield server


def save_as(database: Database, owner: Actor, given: Draft) -> None:
    with database.transaction() as session:
        settings.save(session, owner, given)


def reason(database: Database) -> str | None:
    """Why the queue is paused."""
    with database.reading() as session:
        waits = pause.current(session)
        return waits.code if waits else None


def test_a_queued_message_arrives_and_its_data_is_gone(database: Database, relay: MailServer) -> None:
    save(database, open_relay(relay.port))
    enqueue(database, "bob@example.test")
    deliver(database)
    message = only(database, "bob@example.test")
    assert (message.state, message.sealed, message.attempts) == ("accepted", None, 1)
    assert message.reply.startswith("250 2.0.0 Ok: queued as TEST")
    arrived = relay.wait_for_message()
    assert arrived.recipients == ("bob@example.test",)
    assert arrived.message["Message-ID"] == message.message_id
    assert "https://keypost.example.test/welcome?token=a-token-of-a-link" in arrived.message.as_string().replace(
        "=\n", ""
    )


def test_many_messages_share_a_few_connections(database: Database, relay: MailServer) -> None:
    save(database, open_relay(relay.port))
    enqueue(database, *(f"user{number}@example.test" for number in range(150)))
    deliver(database)
    assert states(database) == {"accepted": 150}
    assert sorted(each.recipients[0] for each in relay.accepted) == sorted(
        f"user{number}@example.test" for number in range(150)
    )
    assert relay.connections <= 5


def test_it_signs_in_over_starttls_with_the_bound_account(database: Database, mail_server_starttls: MailServer) -> None:
    owner = join(database, "Olga")
    trust_server(database, mail_server_starttls)
    save_as(database, owner, bound(add_mailbox(database, owner), **place_of(mail_server_starttls)))
    enqueue(database, "bob@example.test")
    deliver(database)
    assert mail_server_starttls.wait_for_message().username == USERNAME


def test_a_refused_recipient_does_not_hold_up_the_others(database: Database, relay: MailServer) -> None:
    relay.refuse["gone@example.test"] = "550 5.1.1 no such user"
    save(database, open_relay(relay.port))
    enqueue(database, "a@example.test", "gone@example.test", "b@example.test")
    deliver(database)
    assert states(database) == {"accepted": 2, "refused": 1}
    refused = only(database, "gone@example.test")
    assert (refused.code, refused.stage) == ("recipient-unknown", "recipient")
    assert "550 5.1.1 no such user" in refused.reply


def test_a_passing_refusal_is_tried_again_after_a_while(database: Database, relay: MailServer) -> None:
    clock = database.clock = MovableClock()
    relay.refuse["grey@example.test"] = "450 4.2.0 come again"
    save(database, open_relay(relay.port))
    enqueue(database, "grey@example.test")
    deliver(database)
    assert only(database, "grey@example.test").state == "queued"
    relay.refuse.clear()
    deliver(database)
    assert states(database) == {"queued": 1}
    clock.go(minutes=7)
    deliver(database)
    assert states(database) == {"accepted": 1}
    assert only(database, "grey@example.test").attempts == 2


def test_a_server_without_pipelining_is_talked_to_in_step(database: Database) -> None:
    with ScriptedServer(replying()) as server:
        save(database, open_relay(server.port))
        enqueue(database, "a@example.test", "b@example.test", "c@example.test")
        deliver(database)
        assert states(database) == {"accepted": 3}
        assert not server.errors


def test_a_refused_login_pauses_all_and_the_rotation_ends_the_pause(
    database: Database, mail_server_starttls: MailServer
) -> None:
    owner = join(database, "Olga")
    account = add_mailbox(database, owner)
    trust_server(database, mail_server_starttls)
    save_as(database, owner, bound(account, **place_of(mail_server_starttls)))
    mail_server_starttls.users[USERNAME] = "changed-at-the-provider"
    enqueue(database, "bob@example.test", "carol@example.test")
    deliver(database)
    assert reason(database) == "credentials-refused"
    assert states(database) == {"queued": 2}
    deliver(database)
    assert len(mail_server_starttls.failed_logins) == 1, "a second attempt came at once"
    rotate(database, owner, account, "changed-at-the-provider")
    deliver(database)
    assert reason(database) is None
    assert states(database) == {"accepted": 2}


def test_a_refused_login_is_tried_three_times_a_day_at_most(database: Database, mail_authority: trustme.CA) -> None:
    clock = database.clock = MovableClock()
    with MailServer(STARTTLS, {USERNAME: "another"}, authority=mail_authority) as server:
        trust_server(database, server)
        save(database, draft(**place_of(server)))
        enqueue(database, "bob@example.test")
        for _ in range(60):
            deliver(database)
            clock.go(minutes=20)
        assert len(server.failed_logins) == 3


def test_importing_the_authority_lets_the_queue_go_on(database: Database, mail_server_starttls: MailServer) -> None:
    save(database, draft(**place_of(mail_server_starttls)))
    enqueue(database, "bob@example.test")
    deliver(database)
    assert reason(database) == "certificate-untrusted"
    trust_server(database, mail_server_starttls)
    deliver(database)
    assert (reason(database), states(database)) == (None, {"accepted": 1})


def test_saving_other_settings_lets_the_queue_go_on(database: Database, relay: MailServer) -> None:
    with ScriptedServer(replying(greeting="554 go away")) as server:
        save(database, open_relay(server.port))
        enqueue(database, "bob@example.test")
        deliver(database)
    assert reason(database) == "greeting-refused"
    save(database, open_relay(relay.port))
    deliver(database)
    assert (reason(database), states(database)) == (None, {"accepted": 1})


def test_a_sender_that_is_not_allowed_pauses_the_queue_and_loses_nothing(database: Database, relay: MailServer) -> None:
    clock = database.clock = MovableClock()
    relay.refuse["keypost@example.test"] = "553 5.7.1 not owned by you"
    save(database, open_relay(relay.port))
    enqueue(database, *(f"user{number}@example.test" for number in range(30)))
    deliver(database)
    assert (reason(database), states(database)) == ("sender-refused", {"queued": 30})
    clock.go(minutes=3)
    deliver(database)
    assert (reason(database), states(database)) == ("sender-refused", {"queued": 30})
    relay.refuse.clear()
    clock.go(minutes=6)
    deliver(database)
    assert (reason(database), states(database)) == (None, {"accepted": 30})


def test_without_settings_mail_waits(database: Database) -> None:
    enqueue(database, "bob@example.test")
    deliver(database)
    assert (reason(database), states(database)) == (None, {"queued": 1})


def test_a_row_that_was_altered_is_set_aside_and_the_rest_arrives(database: Database, relay: MailServer) -> None:
    save(database, open_relay(relay.port))
    enqueue(database, "a@example.test", "bad@example.test", "b@example.test")
    with database.transaction() as session:
        session.execute(sa.update(Message).where(Message.recipient == "bad@example.test").values(sealed=b"junk"))
    deliver(database)
    assert states(database) == {"accepted": 2, "given-up": 1}
    assert only(database, "bad@example.test").code == "unreadable"


def test_why_a_message_cannot_be_written_is_told_in_the_readers_language(database: Database, relay: MailServer) -> None:
    save(database, open_relay(relay.port))
    with database.transaction() as session:
        queue(session, command_line(), Kind.ROLE_CHANGED, recipient="bob@example.test", data={})
    deliver(database)
    assert only(database, "bob@example.test").reply == "What this mail has to say is missing: its “role”."
    with reading_as(Reader("de")):
        assert only(database, "bob@example.test").reply == "Was diese Mail zu sagen hat, fehlt: ihr „role“."


def test_a_worker_sleeps_until_a_commit_wakes_it(database: Database, relay: MailServer) -> None:
    save(database, open_relay(relay.port))
    delivery = Delivery(database, TrustStore(database))
    delivery.start()
    eventually(lambda: _alive(database))
    enqueue(database, "bob@example.test")
    relay.wait_for_message()
    enqueue(database, "carol@example.test")
    relay.wait_for_message()
    assert relay.connections == 1
    assert delivery.stop()
    assert states(database) == {"accepted": 2}
    assert not _alive(database)


def _alive(database: Database) -> bool:
    with database.reading() as session:
        return standing(session).alive > 0


def test_what_is_due_and_not_for_the_taking_is_not_asked_for_without_pause(
    database: Database, relay: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.mail.delivery._ALONE_SECONDS", 2.0)
    claims: list[list[Leased]] = []

    def counted(*given: Any, **named: Any) -> list[Leased]:
        claims.append(claim(*given, **named))
        return claims[-1]

    monkeypatch.setattr("webapp.mail.delivery.claim", counted)
    save(database, open_relay(relay.port))
    delivery = Delivery(database, TrustStore(database))
    delivery.start()
    enqueue(database, "bob@example.test")
    relay.wait_for_message()
    with database.transaction() as session:
        queue(session, command_line(), Kind.ROLE_CHANGED, recipient="carol@example.test", data={"role": "Auditor"})
        session.execute(sa.update(Message).where(Message.recipient == "carol@example.test").values(crashes=1))
    relay.wait_for_messages(2)
    assert delivery.stop()
    assert len(claims) < 60


def test_a_delivery_proves_the_settings(database: Database, relay: MailServer) -> None:
    save(database, open_relay(relay.port))
    enqueue(database, "bob@example.test")
    deliver(database)
    with database.reading() as session:
        proof = checks.verification(session)
        assert proof.verified
        assert proof.kind == "delivery"
        assert [line.action for line in latest(session, limit=1)] == ["mail:delivery"]


def test_when_new_settings_fail_the_old_ones_carry_the_news(database: Database, relay: MailServer) -> None:
    save(database, open_relay(relay.port))
    with ScriptedServer(replying(greeting="554 go away")) as broken:
        save(database, open_relay(broken.port))
        enqueue(database, "alice@example.test", kind=Kind.MAIL_SETTINGS_CHANGED)
        enqueue(database, "bob@example.test")
        deliver(database)
    assert [each.recipients for each in relay.accepted] == [("alice@example.test",)]
    assert states(database) == {"accepted": 1, "queued": 1}
    assert reason(database) == "greeting-refused"


def test_when_the_old_way_breaks_off_nothing_stays_held(database: Database, tmp_path: Path) -> None:
    with Sink(tmp_path) as former, ScriptedServer(replying(greeting="554 go away")) as broken:
        former.tell(replies={"RCPT alice@example.test": "550 5.1.1 unknown", "RSET": HANG_UP})
        save(database, open_relay(former.port))
        save(database, open_relay(broken.port))
        enqueue(database, "alice@example.test", "bob@example.test", kind=Kind.MAIL_SETTINGS_CHANGED)
        deliver(database)
    assert (only(database, "alice@example.test").state, only(database, "bob@example.test").state) == (
        "refused",
        "queued",
    )


def test_settings_that_fail_like_those_before_them_are_known_to_fail(
    database: Database, mail_authority: trustme.CA
) -> None:
    with MailServer(STARTTLS, {USERNAME: PASSWORD}, authority=mail_authority) as server:
        trust_server(database, server)
        enqueue(database, "bob@example.test")
        for wrong in ("wrong", "wrong as well"):
            save(database, draft(**place_of(server), password=Secret(wrong)))
            deliver(database)
            with database.reading() as session:
                assert "sending failed" in checks.verification(session).reason


def test_a_check_says_nothing_of_settings_that_were_saved_while_it_ran(
    database: Database, mail_authority: trustme.CA
) -> None:
    me = join(database, "Ann")
    mailbox = add_mailbox(database, me, "wrong")
    with MailServer(STARTTLS, {USERNAME: PASSWORD}, authority=mail_authority) as server:
        trust_server(database, server)
        save_as(database, me, bound(mailbox, **place_of(server)))
        claimed = checks.claim_login_check(database, me)
        assert claimed is not None
        result = checks.check_saved(database, TrustStore(database), me, check_id=claimed)
        save(database, draft(**place_of(server)))
        route.conclude(database, claimed, result)
    assert reason(database) is None


def test_the_check_of_the_day_pauses_before_somebody_needs_mail(database: Database) -> None:
    clock = database.clock = MovableClock()
    with ScriptedServer(replying(greeting="554 go away")) as server:
        save(database, open_relay(server.port))
        worker = Worker(database, TrustStore(database))
        clock.go(days=1, minutes=1)
        worker.start()
        eventually(lambda: reason(database) == "greeting-refused")
        worker.stop()


def test_a_message_that_waited_too_long_is_given_up(database: Database) -> None:
    clock = database.clock = MovableClock()
    enqueue(database, "bob@example.test")
    clock.go(days=5, minutes=1)
    deliver(database)
    message = only(database, "bob@example.test")
    assert (message.state, message.code, message.sealed) == ("given-up", "expired", None)


def test_a_secret_never_reaches_a_reply_that_is_kept(database: Database, mail_authority: trustme.CA) -> None:
    with MailServer(STARTTLS, {USERNAME: PASSWORD}, authority=mail_authority) as server:
        server.refuse["bob@example.test"] = f"550 5.1.1 no {PASSWORD} here"
        trust_server(database, server)
        save(database, draft(**place_of(server)))
        enqueue(database, "bob@example.test")
        deliver(database)
    assert PASSWORD not in only(database, "bob@example.test").reply


def test_what_a_dead_worker_held_is_taken_up_by_the_next_one_at_once(tmp_path: Path, relay: MailServer) -> None:
    folder = tmp_path / "instance"
    opened = open_installation(Config.from_environment({"KEYPOST_INSTANCE": str(folder)}))
    save(opened.database, open_relay(relay.port))
    enqueue(opened.database, "bob@example.test", "carol@example.test")
    environ = {**os.environ, "KEYPOST_INSTANCE": str(folder), "FAULT": "claimed:1"}
    killed = subprocess.run([sys.executable, "-m", "webapp.cli", "worker"], env=environ, check=False, timeout=60)
    assert killed.returncode == -9
    assert states(opened.database) == {"sending": 2}
    deliver(opened.database)
    assert states(opened.database) == {"accepted": 2}
    opened.close()
