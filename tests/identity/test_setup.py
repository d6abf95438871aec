"""One token makes one first administrator."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa

from webapp.actor import Role
from webapp.db import Database, utc_now
from webapp.errors import Conflict, Invalid, Refused
from webapp.identity import sessions
from webapp.identity.setup import SetupToken, check_token, claim, offer_setup
from webapp.identity.users import count_users
from webapp.keyring import Secret

GOOD = Secret("correct horse battery staple")


def _claim(database: Database, token: str, name: str = "Ada", password: Secret = GOOD) -> str:
    email = f"{name.lower()}@example.com"
    return claim(database, token, email=email, name=name, password=password, source="127.0.0.1")[0]


def _offer(database: Database) -> str:
    token = offer_setup(database)
    assert token is not None
    return token


def test_the_token_makes_the_first_administrator_and_signs_them_in(database: Database) -> None:
    resumed = sessions.resume(database, _claim(database, _offer(database)))
    assert resumed is not None
    user = resumed.user
    assert (user.email, user.role) == ("ada@example.com", Role.ADMINISTRATOR)


def test_the_database_does_not_hold_the_token(database: Database) -> None:
    token = _offer(database)
    with database.reading() as session:
        assert token not in repr(session.execute(sa.text("SELECT * FROM setup_token")).all())


@pytest.mark.parametrize("token", ["", "guess", "ü", "\ud800", "x" * 100_000])
def test_another_token_makes_nobody(database: Database, token: str) -> None:
    _offer(database)
    with pytest.raises(Refused, match="not valid"):
        _claim(database, token)
    with database.reading() as session:
        assert count_users(session) == 0


def test_without_an_offer_no_token_is_good(database: Database) -> None:
    with pytest.raises(Refused, match="not valid"):
        _claim(database, "")


def test_a_token_works_once(database: Database) -> None:
    token = _offer(database)
    _claim(database, token)
    with pytest.raises(Refused, match="works once"):
        _claim(database, token, "Eve")


def test_nothing_is_offered_once_somebody_is_there(database: Database) -> None:
    _claim(database, _offer(database))
    assert offer_setup(database) is None


def test_each_start_replaces_the_token(database: Database) -> None:
    first, second = _offer(database), _offer(database)
    with database.reading() as session:
        check_token(session, second)
        with pytest.raises(Refused):
            check_token(session, first)


def test_a_token_expires_after_an_hour(database: Database) -> None:
    token = _offer(database)
    now = utc_now()
    with database.reading() as session:
        database.clock = lambda: now + timedelta(minutes=59)
        check_token(session, token)
        database.clock = lambda: now + timedelta(minutes=61)
        with pytest.raises(Refused, match="expired after an hour"):
            check_token(session, token)
    with pytest.raises(Refused, match="expired"):
        _claim(database, token)


def test_a_mistake_does_not_spend_the_token(database: Database) -> None:
    token = _offer(database)
    with pytest.raises(Invalid, match="at least 15"):
        _claim(database, token, password=Secret("short"))
    with pytest.raises(Invalid, match="name"):
        _claim(database, token, name=" ")
    _claim(database, token)


def test_of_many_who_hold_the_token_one_wins(database: Database) -> None:
    token, gate, outcomes = _offer(database), threading.Barrier(6), []

    def race(number: int) -> None:
        gate.wait(30)
        try:
            _claim(database, token, f"Racer{number}")
            outcomes.append("won")
        except (Refused, Conflict):
            outcomes.append("refused")

    racers = [threading.Thread(target=race, args=(number,)) for number in range(6)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert sorted(outcomes) == ["refused"] * 5 + ["won"]
    with database.reading() as session:
        assert count_users(session) == 1


def test_starts_at_once_leave_one_good_token(database: Database) -> None:
    gate, tokens = threading.Barrier(6), []

    def start() -> None:
        gate.wait(30)
        tokens.append(_offer(database))

    starts = [threading.Thread(target=start) for _ in range(6)]
    for thread in starts:
        thread.start()
    for thread in starts:
        thread.join()
    with database.reading() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(SetupToken)) == 1
        good = 0
        for token in tokens:
            try:
                check_token(session, token)
                good += 1
            except Refused:
                pass
    assert (len(tokens), good) == (6, 1)
