"""Sign-in and sessions: one answer for every failure, growing waits, and an end that is an end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from argon2 import PasswordHasher

from webapp.actor import Actor, Role, command_line
from webapp.audit import trail
from webapp.db import Database
from webapp.errors import Invalid, NotFound, Refused, Unavailable
from webapp.identity import passwords, sessions, throttle
from webapp.identity.passwords import hash_password
from webapp.identity.sessions import SignIn
from webapp.identity.throttle import SignInFailure
from webapp.identity.users import User, add_user, get_user, set_password, sign_out_everywhere
from webapp.keyring import Secret

HERE, THERE = "192.0.2.1", "198.51.100.7"
GOOD, WRONG = Secret("correct horse battery staple"), Secret("wrong")
START = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def ada(database: Database) -> User:
    with database.transaction() as session:
        return add_user(
            session, command_line(), email="Ada@Example.com", name="Ada", role=Role.PASSWORD_USER, password=GOOD
        )


@pytest.fixture
def move(database: Database) -> Callable[[timedelta], None]:
    """Move the clock to so long after the start."""

    def to(after: timedelta) -> None:
        database.clock = lambda: START + after

    to(timedelta())
    return to


def _begin(database: Database, user: User) -> str:
    with database.transaction() as session:
        return sessions.begin_session(session, user, HERE)


def _fail(database: Database, times: int, email: str = "ada@example.com", source: str = HERE) -> None:
    for _ in range(times):
        with pytest.raises(Invalid, match="do not match"):
            sessions.sign_in(database, email, WRONG, source)


def test_the_right_password_begins_a_session(database: Database, ada: User) -> None:
    token, user = sessions.sign_in(database, " ada@EXAMPLE.com ", GOOD, HERE)
    assert user.id == ada.id
    resumed = sessions.resume(database, token)
    assert resumed is not None
    assert resumed.user.id == ada.id


def test_a_hash_of_weaker_parameters_is_made_anew_at_sign_in(database: Database, ada: User) -> None:
    weaker = PasswordHasher(time_cost=1, memory_cost=8192).hash(GOOD.reveal())
    with database.transaction() as session:
        session.get_one(User, ada.id).password_hash = weaker
    with pytest.raises(Invalid):
        sessions.sign_in(database, "ada@example.com", WRONG, HERE)
    assert _hash_of(database, ada) == weaker
    sessions.sign_in(database, "ada@example.com", GOOD, HERE)
    made = _hash_of(database, ada)
    assert made.split("$")[3] == hash_password(GOOD).split("$")[3] != weaker.split("$")[3]
    sessions.sign_in(database, "ada@example.com", GOOD, HERE)
    assert _hash_of(database, ada) == made


def _hash_of(database: Database, user: User) -> str:
    with database.reading() as session:
        return session.get_one(User, user.id).password_hash or ""


def test_the_database_holds_no_token(database: Database, ada: User) -> None:
    token = _begin(database, ada)
    with database.reading() as session:
        (row,) = session.execute(sa.text("SELECT * FROM sign_ins")).all()
    assert token not in repr(row)


@pytest.mark.parametrize("why", ["wrong password", "unknown", "inactive", "no password"])
def test_every_failure_has_the_same_words(database: Database, ada: User, why: str) -> None:
    with database.transaction() as session:
        user = session.get_one(User, ada.id)
        user.active = why != "inactive"
        if why == "no password":
            user.password_hash = None
    email = "eve@example.com" if why == "unknown" else "ada@example.com"
    with pytest.raises(Invalid) as refused:
        sessions.sign_in(database, email, WRONG if why == "wrong password" else GOOD, HERE)
    assert str(refused.value) == "This e-mail address and password do not match. Check both and try again."
    assert refused.value.field is None


def test_each_attempt_leaves_an_audit_line(database: Database, ada: User) -> None:
    _fail(database, 1)
    sessions.sign_in(database, "ada@example.com", GOOD, HERE)
    with database.reading() as session:
        lines = [(line.action, line.outcome, line.source) for line in trail.latest(session, limit=2)]
    assert lines == [("session:sign-in", "done", HERE), ("session:sign-in", "refused", HERE)]


def test_after_five_failures_even_the_right_password_waits(
    database: Database, ada: User, move: Callable[[timedelta], None]
) -> None:
    _fail(database, 5)
    with pytest.raises(Invalid, match=r"5 wrong attempts from here\. Wait [12] seconds"):
        sessions.sign_in(database, "ada@example.com", GOOD, HERE)
    move(timedelta(seconds=2))
    sessions.sign_in(database, "ada@example.com", GOOD, HERE)


def test_the_wait_grows_to_five_minutes_and_no_further(
    database: Database, ada: User, move: Callable[[timedelta], None]
) -> None:
    _fail(database, 1)
    with database.transaction() as session:
        here = throttle.for_sign_in("ada@example.com", HERE, free=5, user_id=ada.id, browser=None)[0]
        session.execute(sa.update(SignInFailure).where(SignInFailure.key == here.key).values(count=1000))
    move(timedelta(minutes=4, seconds=59))
    with pytest.raises(Invalid, match="Wait 2 seconds"):
        sessions.sign_in(database, "ada@example.com", GOOD, HERE)
    move(timedelta(minutes=5, seconds=1))
    sessions.sign_in(database, "ada@example.com", GOOD, HERE)


def test_a_clock_set_back_locks_nobody_out(database: Database, ada: User, move: Callable[[timedelta], None]) -> None:
    _fail(database, 5)
    move(-timedelta(days=365))
    sessions.sign_in(database, "ada@example.com", GOOD, HERE)


def test_failures_elsewhere_do_not_lock_out(database: Database, ada: User, move: Callable[[timedelta], None]) -> None:
    _fail(database, 5, source=THERE)
    sessions.sign_in(database, "ada@example.com", GOOD, HERE)


def test_a_success_forgives_the_failures_before(
    database: Database, ada: User, move: Callable[[timedelta], None]
) -> None:
    _fail(database, 4)
    sessions.sign_in(database, "ada@example.com", GOOD, HERE)
    _fail(database, 4)


def test_many_guesses_at_once_are_no_way_round_the_wait(
    database: Database, ada: User, move: Callable[[timedelta], None]
) -> None:
    answers: list[str] = []

    def guess() -> None:
        try:
            sessions.sign_in(database, "ada@example.com", WRONG, HERE)
        except (Invalid, Unavailable) as refused:
            answers.append(str(refused))

    guesses = [threading.Thread(target=guess) for _ in range(12)]
    for thread in guesses:
        thread.start()
    for thread in guesses:
        thread.join()
    assert sum("do not match" in answer for answer in answers) == 5
    assert sum("Wait" in answer for answer in answers) == 7


@pytest.mark.parametrize("token", ["", "x", "ü" * 1000, "\ud800", "0" * 43])
def test_an_unknown_token_is_nobody(database: Database, ada: User, token: str) -> None:
    _begin(database, ada)
    assert sessions.resume(database, token) is None


def test_a_session_ends_after_half_an_hour_unused(
    database: Database, ada: User, move: Callable[[timedelta], None]
) -> None:
    token = _begin(database, ada)
    move(timedelta(minutes=30))
    assert sessions.resume(database, token) is not None
    move(timedelta(minutes=60, seconds=1))
    assert sessions.resume(database, token) is None


def test_a_session_in_use_ends_after_twelve_hours(
    database: Database, ada: User, move: Callable[[timedelta], None]
) -> None:
    token = _begin(database, ada)
    for quarter in range(48):
        move(timedelta(minutes=15 * (quarter + 1)))
        assert sessions.resume(database, token) is not None
    move(timedelta(hours=12, seconds=1))
    assert sessions.resume(database, token) is None


def test_a_signed_out_token_is_worth_nothing(database: Database, ada: User) -> None:
    token = _begin(database, ada)
    with database.transaction() as session:
        sessions.sign_out(session, ada.actor(HERE), token)
    assert sessions.resume(database, token) is None


def test_who_is_no_longer_active_is_out_at_once(database: Database, ada: User) -> None:
    token = _begin(database, ada)
    with database.transaction() as session:
        session.get_one(User, ada.id).active = False
    assert sessions.resume(database, token) is None


def test_a_new_role_holds_at_the_next_request(database: Database, ada: User) -> None:
    token = _begin(database, ada)
    with database.transaction() as session:
        session.get_one(User, ada.id).role = Role.PASSWORD_AUDITOR.value
    resumed = sessions.resume(database, token)
    assert resumed is not None
    assert resumed.user.actor(HERE).role is Role.PASSWORD_AUDITOR


def test_changing_the_password_ends_all_other_sessions(database: Database, ada: User) -> None:
    kept, other = _begin(database, ada), _begin(database, ada)
    new = Secret("another long password")
    fresh, ended = sessions.change_own_password(database, ada.actor(HERE), kept, current=GOOD, new=new)
    assert ended == 1
    assert sessions.resume(database, fresh) is not None
    assert sessions.resume(database, kept) is None
    assert sessions.resume(database, other) is None
    with pytest.raises(Invalid):
        sessions.sign_in(database, "ada@example.com", GOOD, HERE)
    sessions.sign_in(database, "ada@example.com", new, HERE)


def test_changing_the_password_needs_the_current_one(database: Database, ada: User) -> None:
    token = _begin(database, ada)
    with pytest.raises(Invalid, match="not your current") as refused:
        sessions.change_own_password(
            database, ada.actor(HERE), token, current=WRONG, new=Secret("another long password")
        )
    assert refused.value.field == "current"
    with database.reading() as session:
        (line,) = trail.latest(session, limit=1)
    assert (line.action, line.outcome, line.actor_id) == ("user:set-password", "refused", ada.id)


def test_guessing_the_current_password_has_its_limit(
    database: Database, ada: User, move: Callable[[timedelta], None]
) -> None:
    token = _begin(database, ada)
    for _ in range(5):
        with pytest.raises(Invalid, match="not your current"):
            sessions.change_own_password(
                database, ada.actor(HERE), token, current=WRONG, new=Secret("another long password")
            )
    with pytest.raises(Invalid, match="Wait"):
        sessions.change_own_password(
            database, ada.actor(HERE), token, current=GOOD, new=Secret("another long password")
        )


def test_a_password_changed_during_a_sign_in_lets_nobody_in(
    database: Database, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare = sessions.passwords.verify_password

    def compare_and_be_overtaken(hashed: str | None, password: Secret) -> bool:
        good = compare(hashed, password)
        with database.transaction() as session:
            set_password(session, command_line(), session.get_one(User, ada.id), Secret("another long password"))
        return good

    monkeypatch.setattr(sessions.passwords, "verify_password", compare_and_be_overtaken)
    with pytest.raises(Invalid, match="do not match"):
        sessions.sign_in(database, "ada@example.com", GOOD, HERE)


def test_one_ends_only_ones_own_sessions(database: Database, ada: User) -> None:
    token = _begin(database, ada)
    with database.reading() as session:
        (sign,) = sessions.sessions_of(session, ada.id)
        assert sessions.is_current([sign], token) == sign.id
    eve = Actor(ada.id + 1, "Eve", THERE, Role.ADMINISTRATOR)
    with database.transaction() as session, pytest.raises(NotFound):
        sessions.end_session(session, eve, sign.id)
    assert sessions.resume(database, token) is not None
    with database.transaction() as session:
        sessions.end_session(session, ada.actor(HERE), sign.id)
    assert sessions.resume(database, token) is None


def test_what_no_longer_matters_is_forgotten(database: Database, ada: User, move: Callable[[timedelta], None]) -> None:
    _begin(database, ada)
    _fail(database, 1)
    move(timedelta(minutes=20))
    kept = _begin(database, ada)
    move(timedelta(minutes=45))
    with database.transaction() as session:
        sessions.forget_old(session)
        assert session.scalar(sa.select(sa.func.count()).select_from(SignIn)) == 1
        assert session.scalar(sa.select(sa.func.count()).select_from(SignInFailure)) == 4
    assert sessions.resume(database, kept) is not None
    move(timedelta(hours=2))
    with database.transaction() as session:
        sessions.forget_old(session)
        assert session.scalar(sa.select(sa.func.count()).select_from(SignInFailure)) == 0


def test_two_ends_of_all_sessions_at_once_end_what_was_begun_between_them(database: Database, ada: User) -> None:
    with database.reading() as session:
        read_before = get_user(session, ada.id)
    with database.transaction() as session:
        sign_out_everywhere(session, get_user(session, ada.id))
    with database.reading() as session:
        token = _begin(database, get_user(session, ada.id))
    with database.transaction() as session:
        session.add(read_before)
        sign_out_everywhere(session, read_before)
    assert sessions.resume(database, token) is None


def _end_all_while(database: Database, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """See to it that the user is signed out everywhere while a password is compared."""
    compare = passwords.verify_password

    def slowly(*given: object) -> bool:
        with database.transaction() as session:
            sign_out_everywhere(session, get_user(session, user.id))
        return compare(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(passwords, "verify_password", slowly)


def test_a_proof_does_not_bring_back_a_session_that_was_ended_meanwhile(
    database: Database, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = _begin(database, ada)
    _end_all_while(database, ada, monkeypatch)
    with pytest.raises(Refused, match="ended in the meantime"):
        sessions.prove(database, ada.actor(HERE), token, password=GOOD, code="")
    assert sessions.resume(database, token) is None


def test_a_session_that_was_ended_meanwhile_sets_up_no_second_factor(database: Database, ada: User) -> None:
    token = _begin(database, ada)
    with database.transaction() as session:
        assert sessions.still_signed_in(session, ada.actor(HERE), token).id == ada.id
        session.get_one(User, ada.id).session_epoch += 1
    with database.transaction() as session, pytest.raises(Refused, match="has ended"):
        sessions.still_signed_in(session, ada.actor(HERE), token)


def test_a_session_that_was_ended_meanwhile_sets_no_password(
    database: Database, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = _begin(database, ada)
    _end_all_while(database, ada, monkeypatch)
    with pytest.raises(Refused, match="ended in the meantime"):
        sessions.change_own_password(
            database, ada.actor(HERE), token, current=GOOD, new=Secret("violet turbine kettle")
        )
    monkeypatch.undo()
    assert sessions.sign_in(database, ada.email, GOOD, HERE)
