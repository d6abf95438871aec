"""The outbox on its pages: what waits, what became of each message, and what can be done about it."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from tests.support.people import Person
from webapp import i18n
from webapp.actor import command_line
from webapp.audit import trail
from webapp.db import Database
from webapp.outbox import lease, outcomes, pause, workers
from webapp.outbox.messages import Kind, Message, State, queue
from webapp.outbox.outcomes import Outcome, Verdict
from webapp.outbox.pause import Reason

CANARY = "https://keypost.example.com/welcome?token=canary"
WORDS = "550 5.1.1 <bob@example.com>: User unknown"


def add(database: Database, kind: Kind = Kind.ROLE_CHANGED, *, to: str = "bob@example.com", name: str = "Bob") -> int:
    with database.transaction() as session:
        token = queue(session, command_line(), kind, recipient=to, recipient_name=name, data={"link": CANARY})
        return session.query(Message.id).filter_by(token=token).scalar()  # type: ignore[no-any-return]


def take(database: Database) -> list[lease.Leased]:
    with database.transaction() as session:
        return lease.claim(session, 1000, domain="example.com")


def end(database: Database, verdict: Verdict, code: str = "", reply: str = "") -> None:
    with database.transaction() as session:
        taken = lease.claim(session, 1000, domain="example.com")
        stage = "recipient" if code else ""
        outcomes.record(session, [Outcome(each, verdict, code, stage, reply, "mail.example.com:587") for each in taken])


def refuse(database: Database) -> None:
    end(database, "refused", "recipient-unknown", WORDS)


def message(database: Database, number: int) -> Message:
    with database.reading() as session:
        return session.get_one(Message, number)


def audited(database: Database) -> list[str]:
    with database.reading() as session:
        return [line.action for line in trail.latest(session) if line.action.startswith("outbox:")]


def pause_it(database: Database) -> None:
    with database.transaction() as session:
        pause.begin(
            session,
            Reason(
                "about", "mail.example.com:587", "credentials-refused", "authentication", "It refused.", "Check it."
            ),
        )


def live(database: Database) -> None:
    with database.transaction() as session:
        workers.begin(session, workers.new_id())


def test_an_empty_outbox_says_what_it_is_for(alice: Person) -> None:
    page = alice.get("/admin/outbox").text
    assert "The outbox is empty" in page
    assert "every 5s" not in page


def test_the_list_shows_whom_a_message_tells_what_and_how_it_stands(alice: Person, database: Database) -> None:
    add(database)
    refuse(database)
    page = alice.get("/admin/outbox").text
    assert "Role changed" in page
    assert "bob@example.com" in page
    assert 'data-state="refused"' in page
    assert "recipient unknown" in page


def test_each_state_is_counted_and_filters_the_list(alice: Person, database: Database) -> None:
    add(database, to="first@example.com")
    refuse(database)
    add(database, to="second@example.com")
    page = alice.get("/admin/outbox?state=refused").text
    assert re.search(r'data-count="refused">1<', page)
    assert re.search(r'data-count="queued">1<', page)
    assert "first@example.com" in page
    assert "second@example.com" not in page


@pytest.mark.parametrize("q", ["ÜNSAL", "ünsal", "sal uens", "UENSAL@EXAMPLE.COM", "role"])
def test_search_finds_names_addresses_and_kinds_as_people_type_them(alice: Person, database: Database, q: str) -> None:
    add(database, to="uensal@example.com", name="Ünsal")
    add(database, Kind.PASSWORD_CHANGED, to="carol@example.com", name="Carol")
    page = alice.get(f"/admin/outbox?q={q}").text
    assert "uensal@example.com" in page
    assert "carol@example.com" not in page


def test_search_finds_a_message_id_out_of_a_mail_server_s_log(alice: Person, database: Database) -> None:
    number = add(database)
    add(database, to="carol@example.com")
    end(database, "accepted", reply="250 Ok")
    page = alice.get(f"/admin/outbox?q={message(database, number).message_id}").text
    assert "bob@example.com" in page
    assert "carol@example.com" not in page


def test_an_unknown_filter_is_left_out(alice: Person, database: Database) -> None:
    add(database)
    assert "bob@example.com" in alice.get("/admin/outbox?state=lost&kind=none&page=-3").text


def test_the_list_renews_itself_only_while_something_waits(alice: Person, database: Database) -> None:
    add(database)
    assert "every 5s" in alice.get("/admin/outbox/_list", htmx=True).text
    end(database, "accepted")
    assert "every 5s" not in alice.get("/admin/outbox/_list", htmx=True).text


def test_a_message_shows_the_server_s_words_beside_our_cause_and_remedy(alice: Person, database: Database) -> None:
    number = add(database)
    refuse(database)
    page = alice.get(f"/admin/outbox/{number}").text
    assert "User unknown" in page
    assert "mail.example.com knows no mailbox bob@example.com." in page
    assert "Correct the recipient&#39;s address." in page


def test_no_page_shows_what_a_message_says(alice: Person, database: Database) -> None:
    number = add(database)
    for path in ("/admin/outbox", f"/admin/outbox/{number}", "/admin/outbox/cancel-all", "/admin/audit"):
        assert "canary" not in alice.get(path).text


def test_a_refused_message_is_tried_again(alice: Person, database: Database) -> None:
    number = add(database)
    refuse(database)
    assert alice.post(f"/admin/outbox/{number}/retry").status_code == 303
    assert message(database, number).state == State.QUEUED
    assert [each.id for each in take(database)] == [number]
    assert audited(database) == ["outbox:retry"]


def test_a_deferred_message_is_tried_now(alice: Person, database: Database) -> None:
    number = add(database)
    end(database, "deferred", "greylisted", "450 later")
    assert "next attempt" in alice.get("/admin/outbox").text
    assert take(database) == []
    alice.post(f"/admin/outbox/{number}/retry")
    assert [each.id for each in take(database)] == [number]


def test_a_cancelled_message_is_never_sent(alice: Person, database: Database) -> None:
    number = add(database)
    assert alice.post(f"/admin/outbox/{number}/cancel").status_code == 303
    assert alice.post(f"/admin/outbox/{number}/retry").status_code == 409
    assert take(database) == []
    assert audited(database) == ["outbox:cancel"]


def test_a_message_that_is_being_sent_cannot_be_cancelled(alice: Person, database: Database) -> None:
    number = add(database)
    take(database)
    answer = alice.post(f"/admin/outbox/{number}/cancel")
    assert answer.status_code == 409
    assert "being sent at this moment" in answer.text
    assert message(database, number).state == State.SENDING
    assert audited(database) == []


def test_sending_again_makes_a_new_message_of_the_same_content(alice: Person, database: Database) -> None:
    number = add(database)
    refuse(database)
    answer = alice.post(f"/admin/outbox/{number}/again")
    fresh = message(database, number + 1)
    assert answer.headers["Location"] == f"/admin/outbox/{number + 1}"
    assert (fresh.again_of, fresh.recipient, fresh.kind) == (number, "bob@example.com", "role-changed")
    assert message(database, number).state == State.REFUSED
    assert audited(database) == ["outbox:again"]
    assert f'href="/admin/outbox/{number}"' in alice.get(f"/admin/outbox/{number + 1}").text


def test_an_accepted_message_cannot_be_repeated_and_says_why(alice: Person, database: Database) -> None:
    number = add(database)
    end(database, "accepted", reply="250 Ok")
    assert "content was deleted" in alice.get(f"/admin/outbox/{number}").text
    assert alice.post(f"/admin/outbox/{number}/again").status_code == 409


def test_sending_again_is_limited(alice: Person, database: Database) -> None:
    number = add(database)
    refuse(database)
    answers = [alice.post(f"/admin/outbox/{number}/again").status_code for _ in range(6)]
    assert answers == [303] * 5 + [409]


def test_a_dead_link_is_not_sent_again(alice: Person, database: Database) -> None:
    with database.transaction() as session:
        life = timedelta(minutes=10)
        queue(session, command_line(), Kind.PASSWORD_RESET, recipient="bob@example.com", data={"link": "x"}, life=life)
    number = 1
    refuse(database)
    later = database.clock() + timedelta(minutes=11)
    database.clock = lambda: later
    for act in ("retry", "again"):
        answer = alice.post(f"/admin/outbox/{number}/{act}")
        assert answer.status_code == 409
        assert "link in it has expired" in answer.text


def test_all_that_failed_are_tried_again(alice: Person, database: Database) -> None:
    for number in range(3):
        add(database, to=f"bob{number}@example.com")
    refuse(database)
    assert "3 messages will be tried" in _followed(alice, "retry-all", {"state": "refused"})
    assert len(take(database)) == 3
    assert audited(database) == ["outbox:retry-all"]


def test_all_that_match_are_cancelled_once_that_is_confirmed(alice: Person, database: Database) -> None:
    add(database, to="bob@example.com")
    kept = add(database, to="carol@example.com", name="Carol")
    asked = alice.get("/admin/outbox/cancel-all?q=bob").text
    assert "Cancel 1 message?" in asked
    assert "Carol" not in asked
    assert "One message will not be sent" in _followed(alice, "cancel-all", {"q": "bob"})
    assert [each.id for each in take(database)] == [kept]


def test_how_long_messages_are_kept_is_a_setting(alice: Person, database: Database) -> None:
    assert 'value="30"' in alice.get("/admin/outbox/settings").text
    assert alice.post("/admin/outbox/settings", {"kept_days": "7"}).status_code == 303
    assert 'value="7"' in alice.get("/admin/outbox/settings").text
    assert audited(database) == ["outbox:keep"]


@pytest.mark.parametrize("days", ["0", "731", "-1", "", "many", "9" * 30])
def test_an_impossible_time_is_refused_at_its_field(alice: Person, days: str) -> None:
    answer = alice.post("/admin/outbox/settings", {"kept_days": days})
    assert answer.status_code == 422
    assert 'id="kept_days-error"' in answer.text


def test_the_last_24_hours_are_drawn_and_told(alice: Person, database: Database) -> None:
    add(database)
    end(database, "accepted")
    add(database)
    refuse(database)
    add(database)
    page = alice.get("/admin/outbox").text
    assert "A bar for each hour: 1 accepted, 1 refused or given up. A line: 1 waiting at most, 1 now." in page
    assert page.count('<rect class="accepted"') == 24


def test_a_pause_stands_on_every_page_of_an_administrator(alice: Person, database: Database) -> None:
    live(database)
    add(database)
    pause_it(database)
    for path in ("/resources", "/admin", "/profile", "/nowhere"):
        page = alice.get(path).text
        assert "Mail has been paused" in page
        assert "It refused." in page
        assert "Check it." in page
        assert "1 message waits" in page


def test_the_banner_tells_the_next_attempt_and_why_it_may_be_far(alice: Person, database: Database) -> None:
    live(database)
    pause_it(database)
    with database.reading() as session:
        found = pause.current(session)
    assert found is not None
    page = alice.get("/admin").text
    assert f'datetime="{found.attempt_at.isoformat()}"' in page
    assert i18n.moment(found.attempt_at) in page
    assert "After each refused login" not in page
    with database.transaction() as session:
        pause.begin(
            session, Reason("here", "mail.example.com:587", "login-refused", "authentication", "No.", "Do.", login=True)
        )
    page = alice.get("/admin").text
    assert "in 15 minutes" in page
    assert "After each refused login it waits longer, 15 minutes, then 4 hours, then a day" in page
    assert "Asking now does not lengthen the wait." in page


def test_a_desertion_stands_there_while_something_waits(alice: Person, database: Database) -> None:
    assert "Nobody delivers mail" not in alice.get("/resources").text
    add(database)
    assert "Nobody delivers mail" in alice.get("/resources").text
    live(database)
    assert "Nobody delivers mail" not in alice.get("/resources").text


def test_no_dialog_and_no_fragment_carries_the_banner(alice: Person, database: Database) -> None:
    pause_it(database)
    for path in ("/admin/outbox/_list", "/admin/settings/mail"):
        assert "Mail has been paused" not in alice.get(path, htmx=True).text


def test_the_server_is_asked_at_once_when_somebody_says_so(alice: Person, database: Database) -> None:
    pause_it(database)
    with database.reading() as session:
        assert pause.current(session).attempt_at > session.now()  # type: ignore[union-attr]
    assert alice.post("/admin/outbox/ask-now").status_code == 303
    with database.reading() as session:
        assert pause.current(session).attempt_at <= session.now()  # type: ignore[union-attr]
    assert "outbox:ask-now" in audited(database)


def test_the_admin_page_counts_what_waits_and_what_failed(alice: Person, database: Database) -> None:
    add(database)
    refuse(database)
    add(database)
    card = alice.get("/admin").text.partition('id="outbox-card"')[2].partition("</section>")[0]
    assert "1 waits, 0 accepted by the server, 1 refused or given up" in card


def _followed(person: Person, act: str, fields: dict[str, str]) -> str:
    answer = person.post(f"/admin/outbox/{act}", fields)
    assert answer.status_code == 303
    return person.get(answer.headers["Location"]).text
