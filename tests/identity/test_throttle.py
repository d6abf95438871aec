"""Wrong attempts: whoever guesses is slowed down everywhere, and whoever is at home is not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from webapp.actor import Role, command_line
from webapp.audit import trail
from webapp.db import Database
from webapp.errors import Invalid
from webapp.identity import throttle
from webapp.identity.throttle import KnownBrowser
from webapp.identity.users import User, add_user
from webapp.installation import Installation, open_installation
from webapp.keyring import Secret

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
ADA = "ada@example.com"
GOOD = Secret("correct horse battery staple")


@pytest.fixture(autouse=True)
def move(database: Database) -> Callable[[timedelta], None]:
    """Move the clock to so long after the start."""

    def to(after: timedelta) -> None:
        database.clock = lambda: START + after

    to(timedelta())
    return to


@pytest.fixture
def ada(database: Database) -> User:
    with database.transaction() as session:
        return add_user(session, command_line(), email=ADA, name="Ada", role=Role.PASSWORD_USER, password=GOOD)


def attempt(
    database: Database, email: str, source: str, *, user_id: int | None = None, browser: KnownBrowser | None = None
) -> None:
    """Fail once. Raises Invalid when one has to wait."""
    with database.transaction() as session:
        counters = throttle.for_sign_in(email, source, free=5, user_id=user_id, browser=browser)
        throttle.count_attempt(session, counters)


def succeed(database: Database, email: str, source: str) -> None:
    with database.transaction() as session:
        counters = throttle.for_sign_in(email, source, free=5, user_id=None, browser=None)
        throttle.count_attempt(session, counters)
        throttle.forgive(session, counters)


def guess_everywhere(database: Database, email: str, times: int = 25) -> None:
    """Guess at one account from as many places as there are guesses."""
    for number in range(times):
        attempt(database, email, f"192.0.2.{number}")


def test_one_place_that_tries_many_accounts_has_to_wait(database: Database) -> None:
    for number in range(50):
        attempt(database, f"user{number}@example.com", "192.0.2.1")
    with pytest.raises(Invalid, match="from your network"):
        attempt(database, "another@example.com", "192.0.2.1")
    attempt(database, "another@example.com", "198.51.100.7")


def test_a_visitor_with_a_whole_ipv6_network_is_one_place(database: Database) -> None:
    for number in range(50):
        attempt(database, f"user{number}@example.com", f"2001:db8:1:2::{number:x}")
    with pytest.raises(Invalid, match="from your network"):
        attempt(database, "another@example.com", "2001:db8:1:2:ffff:ffff:ffff:ffff")
    attempt(database, "another@example.com", "2001:db8:1:3::1")


def test_a_place_cannot_buy_guesses_with_an_account_of_its_own(database: Database) -> None:
    for number in range(50):
        attempt(database, f"user{number}@example.com", "192.0.2.1")
        if number % 5 == 0:
            succeed(database, "eve@example.com", "192.0.2.1")
    with pytest.raises(Invalid, match="from your network"):
        attempt(database, "another@example.com", "192.0.2.1")


def test_many_places_that_try_one_account_have_to_wait(database: Database) -> None:
    guess_everywhere(database, ADA)
    with pytest.raises(Invalid, match="many wrong passwords for this address"):
        attempt(database, ADA, "198.51.100.7")
    attempt(database, "bob@example.com", "198.51.100.7")


def test_an_address_that_nobody_has_is_treated_no_differently(database: Database, ada: User) -> None:
    for email in (ADA, "nobody@example.com"):
        guess_everywhere(database, email)
        with pytest.raises(Invalid, match="many wrong passwords for this address") as refused:
            attempt(database, email, "198.51.100.7")
        assert "Wait 2 seconds" in str(refused.value)


def test_a_browser_that_has_signed_in_before_need_not_wait_for_others(database: Database, ada: User) -> None:
    guess_everywhere(database, ADA)
    attempt(database, ADA, "192.0.2.1", user_id=ada.id, browser=KnownBrowser("home", frozenset({ada.id})))


def test_such_a_browser_has_a_limit_of_its_own(database: Database, ada: User) -> None:
    home = KnownBrowser("home", frozenset({ada.id}))
    for number in range(5):
        attempt(database, ADA, f"192.0.2.{number}", user_id=ada.id, browser=home)
    with pytest.raises(Invalid, match="from here"):
        attempt(database, ADA, "198.51.100.7", user_id=ada.id, browser=home)


def test_a_browser_known_to_one_account_is_nobody_to_another(database: Database, ada: User) -> None:
    guess_everywhere(database, ADA)
    with pytest.raises(Invalid, match="many wrong passwords"):
        attempt(database, ADA, "198.51.100.7", user_id=ada.id, browser=KnownBrowser("other", frozenset({ada.id + 1})))


def test_when_the_whole_world_guesses_new_browsers_go_one_by_one(
    database: Database, ada: User, move: Callable[[timedelta], None]
) -> None:
    for number in range(500):
        attempt(database, f"user{number}@example.com", f"10.0.{number // 250}.{number % 250}")
    with pytest.raises(Invalid, match="at this moment"):
        attempt(database, "another@example.com", "198.51.100.7")
    attempt(database, ADA, "198.51.100.7", user_id=ada.id, browser=KnownBrowser("home", frozenset({ada.id})))
    move(timedelta(seconds=5))
    attempt(database, "another@example.com", "198.51.100.7")


def test_nobody_waits_longer_than_a_quarter_of_an_hour(database: Database, move: Callable[[timedelta], None]) -> None:
    guess_everywhere(database, ADA)
    now = timedelta()
    for number in range(15):
        now += timedelta(minutes=15, seconds=1)
        move(now)
        attempt(database, ADA, f"198.51.100.{number}")


def test_time_forgives(database: Database, move: Callable[[timedelta], None]) -> None:
    guess_everywhere(database, ADA)
    move(timedelta(hours=3))
    guess_everywhere(database, ADA)


def test_counts_outlive_a_restart(installation: Installation) -> None:
    guess_everywhere(installation.database, ADA)
    again = open_installation(installation.config)
    again.database.clock = lambda: START
    with pytest.raises(Invalid, match="Wait"):
        attempt(again.database, ADA, "198.51.100.7")
    again.close()


def test_unlocking_an_account_forgives_it_alone_and_is_recorded(database: Database) -> None:
    for email in (ADA, "bob@example.com"):
        guess_everywhere(database, email)
    with database.transaction() as session:
        throttle.unlock(session, command_line(), " ADA@example.com")
    attempt(database, ADA, "198.51.100.7")
    with pytest.raises(Invalid, match="Wait"):
        attempt(database, "bob@example.com", "198.51.100.7")
    with database.reading() as session:
        assert trail.latest(session, limit=1)[0].action == "user:unlock"
