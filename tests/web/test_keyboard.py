"""Single keys are switched off by each person for themselves (WCAG 2.1.4)."""

from __future__ import annotations

from tests.support.people import Person
from webapp.audit import trail
from webapp.db import Database


def test_single_keys_are_on_until_somebody_switches_them_off(alice: Person) -> None:
    assert "<body data-single-keys" in alice.get("/resources").text
    assert alice.post("/profile/keyboard", {}).status_code == 303
    assert "data-single-keys" not in alice.get("/resources").text
    assert "single-key shortcuts off" in alice.get("/profile").text
    assert alice.post("/profile/keyboard", {"single_keys": "y"}).status_code == 303
    assert "data-single-keys" in alice.get("/resources").text


def test_the_choice_stands_in_the_trail_once(alice: Person, database: Database) -> None:
    for _ in range(2):
        alice.post("/profile/keyboard", {})
    with database.reading() as session:
        assert [line.action for line in trail.latest(session)].count("user:choose-keys") == 1


def test_the_keys_are_named_with_the_way_to_switch_them_off(alice: Person) -> None:
    assert 'href="/profile/keyboard"' in alice.get("/resources").text.partition('id="keys"')[2]
    page = alice.get("/profile/keyboard").text
    assert "Search on this page" in page
    assert "Single-key shortcuts" in page
