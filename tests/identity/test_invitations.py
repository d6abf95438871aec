"""Adding people tells them in the same transaction, and what became of the mail is known."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from webapp.actor import Actor, Role, command_line
from webapp.audit import trail
from webapp.db import Database, utc_now
from webapp.errors import Conflict, Invalid, Refused
from webapp.identity import invitations, links, people
from webapp.identity.invitations import Invited, Story
from webapp.identity.people import Standing
from webapp.identity.users import User, add_user, get_user, set_password
from webapp.keyring import Secret
from webapp.outbox import lease, ledger, outcomes
from webapp.outbox.messages import Message, read_data
from webapp.outbox.outcomes import Outcome

PASSWORD = Secret("correct horse battery staple")
BOSS = Actor(7, "Alice Admin", "test", Role.ADMINISTRATOR)


def invite(database: Database, email: str = "bob@example.com", name: str = "Bob") -> Invited:
    with database.transaction() as session:
        return invitations.invite(session, BOSS, email=email, name=name, role=Role.PASSWORD_USER)


def again(database: Database, user: User) -> Invited:
    with database.transaction() as session:
        return invitations.invite_again(session, BOSS, user.id)


def mails(database: Database) -> list[Message]:
    with database.reading() as session:
        return list(session.scalars(sa.select(Message).order_by(Message.id)))


def story(database: Database, user: User) -> Story:
    with database.reading() as session:
        return invitations.stories(session, [get_user(session, user.id)])[user.id]


def untold(database: Database) -> int:
    with database.reading() as session:
        return invitations.count_not_told(session)


def end(database: Database, verdict: Any, **facts: str) -> None:
    """Let a worker try everything that is due, with this outcome."""
    with database.transaction() as session:
        held = lease.claim(session, 100, domain="example.com")
        outcomes.record(session, [Outcome(message, verdict, **facts) for message in held])


@pytest.fixture
def move(database: Database) -> Callable[[timedelta], None]:
    """Move the clock on."""
    shift = timedelta()

    def by(more: timedelta) -> None:
        nonlocal shift
        shift += more
        database.clock = lambda: utc_now() + shift

    return by


def test_adding_queues_the_mail_with_link_role_and_who_added(database: Database) -> None:
    invited = invite(database)
    [mail] = mails(database)
    assert (mail.kind, mail.recipient, mail.user_id, mail.state) == (
        "account-created", "bob@example.com", invited.user.id, "queued",
    )  # fmt: skip
    assert mail.sealed is not None
    data = read_data(database.keyring, mail.token, mail.sealed)
    assert data["token"] == invited.token.reveal()
    assert (data["role"], data["added_by"], mail.cause) == ("Password User", "Alice Admin", "Alice Admin")


def test_the_mail_expires_with_its_link(database: Database) -> None:
    invite(database)
    [mail] = mails(database)
    assert mail.expires_at - mail.queued_at == timedelta(hours=72)


def test_a_failed_addition_tells_nobody(database: Database) -> None:
    with pytest.raises(Invalid), database.transaction() as session:  # noqa: PT012 - the second must undo the first
        invitations.invite(session, BOSS, email="bob@example.com", name="Bob", role=Role.PASSWORD_USER)
        invitations.invite(session, BOSS, email="BOB@example.com", name="Bob", role=Role.PASSWORD_USER)
    assert mails(database) == []


def test_no_token_lies_in_the_database_in_clear(database: Database) -> None:
    token = invite(database).token.reveal().encode()
    with database.engine.connect() as connection:
        for table in sa.inspect(connection).get_table_names():
            rows = connection.execute(sa.text(f'SELECT * FROM "{table}"')).all()  # noqa: S608
            assert token not in str(rows).encode()
            assert all(token not in bytes(cell) for row in rows for cell in row if isinstance(cell, bytes | memoryview))


def test_sending_again_makes_a_new_link_and_row_and_ends_the_old(database: Database) -> None:
    first = invite(database)
    second = again(database, first.user)
    old, new = mails(database)
    assert (old.state, old.sealed, new.state, new.again_of) == ("cancelled", None, "queued", old.id)
    with database.reading() as session:
        with pytest.raises(Refused, match="not valid any more"):
            links.open_link(session, first.token.reveal())
        assert links.open_link(session, second.token.reveal()).user.id == first.user.id


def test_what_a_worker_holds_while_it_is_sent_again_is_not_tried_twice(database: Database) -> None:
    user = invite(database).user
    with database.transaction() as session:
        held = lease.claim(session, 1, domain="example.com")
    again(database, user)
    with database.transaction() as session:
        outcomes.record(session, [Outcome(held[0], "deferred", "try-later")])
    assert [mail.state for mail in mails(database)] == ["given-up", "queued"]


def test_a_refused_mail_whose_link_was_replaced_cannot_be_tried_again(database: Database) -> None:
    user = invite(database).user
    end(database, "refused", code="recipient-refused", reply="550 no")
    with database.transaction() as session:
        links.make_link(session, BOSS, get_user(session, user.id))
    with database.transaction() as session, pytest.raises(Conflict, match="was deleted"):
        ledger.retry(session, BOSS, mails(database)[0].id)


def test_sending_again_leaves_an_audit_line(database: Database) -> None:
    user = invite(database).user
    again(database, user)
    with database.reading() as session:
        lines = [(line.action, line.actor_name, line.subject) for line in trail.latest(session)]
    assert lines[0] == ("user:invite-again", "Alice Admin", f"user:{user.id}")
    assert lines[1][0] == "user:invite"


def test_nobody_is_sent_more_than_three_again_within_the_hour(
    database: Database, move: Callable[[timedelta], None]
) -> None:
    user = invite(database).user
    for _ in range(3):
        again(database, user)
    with pytest.raises(Invalid, match=r"within the hour. Try again in 60 minutes"):
        again(database, user)
    assert len(mails(database)) == 4
    move(timedelta(minutes=61))
    again(database, user)


def test_who_has_a_password_is_sent_nothing(database: Database) -> None:
    user = invite(database).user
    with database.transaction() as session:
        set_password(session, BOSS, get_user(session, user.id), PASSWORD)
    with pytest.raises(Conflict, match="has set a password"):
        again(database, user)


def test_who_is_disabled_is_sent_nothing_and_what_waited_is_cancelled(database: Database) -> None:
    invited = invite(database)
    with database.transaction() as session:
        people.change(session, BOSS, invited.user.id, name="Bob", role=Role.PASSWORD_USER, active=False)
    assert [mail.state for mail in mails(database)] == ["cancelled"]
    with pytest.raises(Refused, match="disabled"):
        again(database, invited.user)
    with database.transaction() as session:
        people.change(session, BOSS, invited.user.id, name="Bob", role=Role.PASSWORD_USER, active=True)
        with pytest.raises(Refused):
            links.open_link(session, invited.token.reveal())


@pytest.mark.parametrize(
    ("verdict", "facts", "words", "said", "told"),
    [
        (None, {}, "queued", "", False),
        ("accepted", {"reply": "250 Ok"}, "accepted by the server", "", True),
        ("refused", {"code": "recipient-refused", "reply": "550 unknown"}, "refused", "550 unknown", False),
        ("deferred", {"code": "try-later", "reply": "451 later"}, "queued, after 1 attempt", "451 later", False),
        ("unreadable", {"code": "data-unreadable"}, "given up", "data unreadable", False),
    ],
)
def test_the_story_tells_what_became_of_the_mail(  # noqa: PLR0917 - a table's columns
    database: Database, verdict: Any, facts: dict[str, str], words: str, said: str, told: bool
) -> None:
    user = invite(database).user
    if verdict:
        end(database, verdict, **facts)
    tale = story(database, user)
    assert (tale.words, tale.said, tale.is_told) == (words, said, told)
    assert untold(database) == (0 if told else 1)


def test_a_mail_that_waited_longer_than_its_link_lived_is_said_to_have(
    database: Database, move: Callable[[timedelta], None]
) -> None:
    user = invite(database).user
    move(timedelta(hours=73))
    with database.transaction() as session:
        outcomes.give_up_expired(session)
    assert (story(database, user).words, story(database, user).said) == (
        "given up", "Its link expired before it could be sent.",
    )  # fmt: skip


def test_an_accepted_mail_whose_link_expired_says_so(database: Database, move: Callable[[timedelta], None]) -> None:
    user = invite(database).user
    end(database, "accepted")
    move(timedelta(hours=73))
    assert story(database, user).said == "Its link has expired."


def test_setting_a_password_ends_the_story_and_cancels_what_waits(database: Database) -> None:
    invited = invite(database)
    assert links.spend(database, invited.token.reveal(), PASSWORD, "here") is not None
    assert story(database, invited.user).words == "has set a password"
    assert untold(database) == 0
    assert [mail.state for mail in mails(database)] == ["cancelled"]


def test_the_newest_mail_decides_who_was_told(database: Database) -> None:
    user = invite(database).user
    end(database, "refused", reply="550 no")
    assert untold(database) == 1
    again(database, user)
    end(database, "accepted")
    assert untold(database) == 0


def test_everybody_who_was_not_told_is_told_at_once(database: Database) -> None:
    with database.transaction() as session:
        for number in range(60):
            add_user(session, BOSS, email=f"p{number}@example.com", name=f"P {number}", role=Role.PASSWORD_USER)
    waiting = invite(database).user
    done = invitations.invite_everybody(database, BOSS)
    assert (done.told, done.passed_over, done.left) == (60, 0, 0)
    assert len(mails(database)) == 61
    assert story(database, waiting).state == "queued"
    assert invitations.invite_everybody(database, BOSS).told == 0


def test_telling_everybody_stops_when_its_time_is_up_and_says_how_many_are_left(database: Database) -> None:
    with database.transaction() as session:
        for number in range(60):
            add_user(session, BOSS, email=f"p{number}@example.com", name=f"P {number}", role=Role.PASSWORD_USER)
    done = invitations.invite_everybody(database, BOSS, seconds=0)
    assert (done.told, done.left) == (25, 35)


def test_people_are_found_by_words_role_and_standing(database: Database) -> None:
    invite(database, "bob@example.com", "Bob Müller")
    with database.transaction() as session:
        add_user(session, BOSS, email="ada@example.com", name="Ada", role=Role.ADMINISTRATOR, password=PASSWORD)
        off = add_user(session, BOSS, email="cyd@example.com", name="Cyd", role=Role.PASSWORD_USER)
        people.change(session, BOSS, off.id, name="Cyd", role=Role.PASSWORD_USER, active=False)

    def names(**wanted: Any) -> list[str]:
        with database.reading() as session:
            return [user.name for user in people.find_people(session, **wanted).page.items]

    assert names() == ["Ada", "Bob Müller", "Cyd"]
    assert names(q="MÜLLER example") == ["Bob Müller"]
    assert names(q="%") == []
    assert names(role=Role.ADMINISTRATOR) == ["Ada"]
    assert names(standing=Standing.NOT_TOLD) == names(standing=Standing.NO_PASSWORD) == ["Bob Müller"]
    assert names(standing=Standing.DISABLED) == ["Cyd"]
    assert names(page=99, per_page=2) == ["Cyd"]


def test_a_new_name_is_found_and_the_old_one_is_not(database: Database) -> None:
    user = invite(database).user
    with database.transaction() as session:
        people.change(session, BOSS, user.id, name="Robert", role=Role.PASSWORD_USER, active=True)
    with database.reading() as session:
        assert people.find_people(session, q="robert").page.total == 1
        assert people.find_people(session, q="bob@").page.total == 1


def test_a_change_of_role_is_told(database: Database) -> None:
    user = invite(database).user
    with database.transaction() as session:
        people.change(session, command_line(), user.id, name="Bob", role=Role.PASSWORD_AUDITOR, active=True)
    told = mails(database)[-1]
    assert (told.kind, told.about) == ("role-changed", f"user:{user.id}")
    assert told.sealed is not None
    assert read_data(database.keyring, told.token, told.sealed) == {
        "role": "Password Auditor", "before": "Password User", "language": "en", "zone": "UTC",
    }  # fmt: skip


def test_the_outbox_sends_an_invitation_again_with_a_new_link(database: Database) -> None:
    first = invite(database)
    with database.transaction() as session:
        held = lease.claim(session, 1, domain="example.com")
        outcomes.record(session, [Outcome(held[0], "refused", "recipient-unknown", "recipient", "550 unknown")])
        fresh = ledger.again(session, BOSS, held[0].id)
    old, new = mails(database)
    assert (old.state, new.state, new.id, new.again_of) == ("refused", "queued", fresh, old.id)
    with database.reading() as session, pytest.raises(Refused):
        links.open_link(session, first.token.reveal())
