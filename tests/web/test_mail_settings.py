"""Mail Server Settings over HTTP, against real mail servers: the form, the test, saving, and what must never leak."""

from __future__ import annotations

import base64
import html
import http.client
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.support.mail_form import PAGE, SECRET, STAGES, TEST, USER, at, chosen, outcome, stages, typed
from tests.support.mail_server import MailServer
from tests.support.mail_settings import trust_server
from tests.support.people import HTMX, Person, add_person, csrf_token
from tests.support.scripted_smtp import ScriptedServer, Talk, replying
from webapp import i18n
from webapp.actor import Role
from webapp.db import Database
from webapp.keyring import Secret
from webapp.mail import settings
from webapp.vault import accounts, resources
from webapp.vault.accounts import Account
from webapp.vault.resources import ResourceDetails

CANARY = "Canary-of-Bob"


def add_account(database: Database, owner: Person, resource: str = "Mail host", password: str = SECRET) -> Account:
    with database.transaction() as session:
        actor = owner.user.actor("test")
        held = resources.add_resource(session, actor, ResourceDetails(resource))
        return accounts.add_account(session, actor, held.id, USER, Secret(password))


def saved_version(database: Database) -> str:
    with database.reading() as session:
        saved = settings.current(session)
        return str(saved.version if saved else 0)


def error_at(text: str, field: str) -> str:
    found = re.search(rf'id="{field}-error">([^<]*)<', text)
    return html.unescape(found[1]) if found else ""


def betrays(heard: Iterable[str], secret: str = SECRET) -> bool:
    """Whether a secret is among what a server heard: in the clear, or in any word that is base64."""
    words = [word for line in heard for word in (line, *line.split())]
    return any(secret in word or secret.encode() in _decoded(word) for word in words)


def _decoded(word: str) -> bytes:
    try:
        return base64.b64decode(word)
    except ValueError:
        return b""


@pytest.fixture
def bob(app: Flask, database: Database, alice: Person) -> Person:
    """A second administrator, signed in."""
    return add_person(app, database, email="bob@example.com", name="Bob Builder", role=Role.ADMINISTRATOR)


@pytest.fixture
def relay() -> Iterator[ScriptedServer]:
    """A server without encryption that takes every login and remembers every byte."""
    with ScriptedServer(replying()) as server:
        yield server


@pytest.fixture
def trusted(database: Database, mail_server_starttls: MailServer) -> MailServer:
    """A server with STARTTLS whose authority is imported."""
    trust_server(database, mail_server_starttls)
    return mail_server_starttls


# The form


def test_it_is_a_page_by_itself(alice: Person) -> None:
    page = alice.get(PAGE)
    assert "<!doctype html>" in page.text
    assert 'id="mail-form"' in page.text
    assert {"HX-Request", "Cookie"} <= set(page.vary)
    assert page.headers["Cache-Control"] == "no-store"


def test_it_is_a_dialog_under_htmx(alice: Person) -> None:
    dialog = alice.get(PAGE, htmx=True)
    assert "<html" not in dialog.text
    assert 'id="dialog-title">Mail Server Settings' in dialog.text
    assert 'id="mail-form"' in dialog.text


def test_it_is_for_administrators_alone(app: Flask, database: Database, alice: Person, client: FlaskClient) -> None:
    carol = add_person(app, database, email="carol@example.com", name="Carol", role=Role.PASSWORD_ADMINISTRATOR)
    for path in (PAGE, f"{PAGE}/_accounts", f"{PAGE}/_auth-section"):
        assert carol.get(path).status_code == 403
        away = client.get(path)
        assert urlsplit(away.headers["Location"]).path == "/sign-in"
    for path in (PAGE, TEST):
        assert carol.post(path, typed(25)).status_code == 403


def test_the_section_of_a_typed_login_has_its_fields(alice: Person) -> None:
    part = alice.get(f"{PAGE}/_auth-section?credential_source=manual", htmx=True).text
    assert '<div id="_auth_manual"' in part
    assert 'name="username"' in part
    assert 'name="password"' in part
    assert "account_id" not in part


def test_the_section_of_an_account_has_the_picker(alice: Person, database: Database) -> None:
    account = add_account(database, alice)
    part = alice.get(f"{PAGE}/_auth-section?credential_source=account", htmx=True).text
    assert '<div id="_auth_account"' in part
    assert f' value="{account.id}" selected>Mail host — {USER}</option>' in part
    assert 'name="password"' not in part


def test_a_choice_is_redrawn_without_scripts_and_nothing_typed_is_lost(alice: Person) -> None:
    page = alice.post(f"{PAGE}/form", typed(2525, credential_source="account", sender_name="The Vault")).text
    assert '<div id="_auth_account"' in page
    assert 'value="2525"' in page
    assert 'value="The Vault"' in page
    assert SECRET not in page


def test_the_picker_finds_by_words(alice: Person, database: Database) -> None:
    first, second = add_account(database, alice, "Mail host"), add_account(database, alice, "Database host")
    options = alice.get(f"{PAGE}/_accounts?q=mail+user", htmx=True).text
    assert f'value="{first.id}"' in options
    assert f'value="{second.id}"' not in options
    assert "No account matches" in alice.get(f"{PAGE}/_accounts?q=zzz", htmx=True).text


def test_the_picker_keeps_what_was_chosen(alice: Person, database: Database) -> None:
    account = add_account(database, alice, "Mail host")
    options = alice.get(f"{PAGE}/_accounts?q=zzz&account_id={account.id}", htmx=True).text
    assert f' value="{account.id}" selected>' in options


def test_another_administrators_accounts_never_appear(alice: Person, bob: Person, database: Database) -> None:
    theirs = add_account(database, bob, CANARY)
    assert CANARY in bob.get(f"{PAGE}/_accounts?q=canary", htmx=True).text
    assert bob.post(PAGE, chosen(theirs, 2525)).status_code == 303
    for path in (PAGE, f"{PAGE}/_accounts?q=canary", f"{PAGE}/_accounts?account_id={theirs.id}", "/admin"):
        assert CANARY not in alice.get(path).text
        assert CANARY not in alice.get(path, htmx=True).text
    assert CANARY not in alice.get(f"{PAGE}/_auth-section?credential_source=account", htmx=True).text
    for path in (PAGE, TEST, f"{PAGE}/form"):
        for account_id in (theirs.id, 999_999, "x", ""):
            for version in ("0", saved_version(database)):
                answer = alice.post(path, chosen(theirs, 2526, account_id=str(account_id), version=version))
                assert answer.status_code in (200, 409, 422)
                assert CANARY not in answer.text


def test_odd_input_is_answered_and_never_an_accident(alice: Person) -> None:
    for path in (f"{PAGE}/_accounts?account_id=99999999999999999999", f"{PAGE}/_accounts?q=%25_%5C'\"&account_id=-1"):
        assert alice.get(path, htmx=True).status_code == 200
    odd = {"port": "٣", "security": "rot13", "version": "x", "username": "a\nb"}
    for name, value in odd.items():
        assert alice.post(PAGE, typed(2525, **{name: value})).status_code in (409, 422), name
    for account_id in ("9" * 30, "-1", "x", ""):
        assert alice.post(PAGE, typed(2525, credential_source="account", account_id=account_id)).status_code == 422
    assert alice.post(PAGE, {}).status_code == 422


def test_a_form_without_its_token_is_refused(alice: Person) -> None:
    for path in (PAGE, TEST):
        assert alice.client.post(path, data=typed(25)).status_code == 400


# Saving


def test_saving_leads_back_to_admin(alice: Person, database: Database) -> None:
    done = alice.post(PAGE, typed(2525))
    assert (done.status_code, urlsplit(done.headers["Location"]).path) == (303, "/admin")
    assert "The mail server settings were saved." in alice.get("/admin").text
    assert saved_version(database) == "1"


def test_saving_in_the_dialog_closes_it_with_an_event(alice: Person) -> None:
    done = alice.post(PAGE, typed(2525), htmx=True)
    assert (done.status_code, done.text) == (204, "")
    assert "mail-settings-saved" in done.headers["HX-Trigger"]


@pytest.mark.parametrize("htmx", [False, True])
def test_what_is_wrong_is_said_at_its_field_and_nothing_is_saved(alice: Person, database: Database, htmx: bool) -> None:
    wrong = typed(
        2525, server_name="smtp://x", port="0", sender_address="nobody", access_url="javascript:alert(1)", username=""
    )
    answer = alice.post(PAGE, wrong, htmx=htmx)
    assert answer.status_code == 422
    for field in ("server_name", "port", "sender_address", "access_url", "username"):
        assert error_at(answer.text, field), field
    assert ("<html" in answer.text) is not htmx
    assert 'value="smtp://x"' in answer.text
    assert SECRET not in answer.text
    assert saved_version(database) == "0"


def test_who_saves_second_is_told_what_differs(alice: Person, bob: Person, database: Database) -> None:
    assert bob.post(PAGE, typed(2525, sender_name="Bob's")).status_code == 303
    late = alice.post(PAGE, typed(2626, sender_name="Alice's"))
    assert late.status_code == 409
    text = html.unescape(late.text)
    assert "Bob Builder saved other settings while this was open" in text
    assert "Port: yours is “2626”, saved is “2525”" in text
    assert re.search('<input[^>]*name="version"[^>]*value="1"', text)
    assert alice.post(PAGE, typed(2626, version="1")).status_code == 303
    assert saved_version(database) == "2"


def test_a_blank_password_keeps_the_stored_one(alice: Person, relay: ScriptedServer) -> None:
    alice.post(PAGE, typed(relay.port))
    kept = typed(relay.port, password="", sender_name="Renamed", version="1")
    assert alice.post(PAGE, kept).status_code == 303
    alice.post(TEST, {**kept, "version": "2"})
    assert betrays(relay.heard)


@pytest.mark.parametrize("mask", ["********", "••••••••", "●●●●"])
def test_a_mask_is_no_password(alice: Person, mask: str) -> None:
    for path in (PAGE, TEST):
        answer = alice.post(path, typed(2525, password=mask))
        assert answer.status_code == 422
        assert "mask" in error_at(answer.text, "password")


def test_an_unencrypted_login_needs_consent_and_says_so_ever_after(alice: Person, database: Database) -> None:
    far = typed(2525, server_name="nosuch.invalid")
    for path in (PAGE, TEST):
        answer = alice.post(path, far)
        assert answer.status_code == 422
        assert "Without encryption everyone on the way" in error_at(answer.text, "unencrypted_login_allowed")
    assert outcome(alice.post(TEST, {**far, "unencrypted_login_allowed": "y"}).text) == ("failed", "name-not-found")
    assert alice.post(PAGE, {**far, "unencrypted_login_allowed": "y"}).status_code == 303
    assert "The password for nosuch.invalid travels without encryption" in alice.get(PAGE).text
    moved = {**far, "server_name": "other.invalid", "version": "1"}
    assert alice.post(PAGE, moved).status_code == 422


def test_browsers_are_asked_not_to_fill_in_the_password_of_the_mailbox(alice: Person, database: Database) -> None:
    add_account(database, alice)
    alice.post(PAGE, typed(2525))
    for path in (PAGE, "/resources/1/accounts/new", "/accounts/1/password"):
        fields = re.findall(r'<input[^>]*type="password"[^>]*>', alice.get(path).text)
        assert fields, path
        assert all('autocomplete="new-password"' in field for field in fields), path


# The pass-back guard


def destinations(field: str, saved_at: int, thief_at: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings to save, and the change that would lead their secret elsewhere."""
    security = "tls" if field == "security" else "never"
    change = {
        "server_name": {"server_name": "127.0.0.1"},
        "port": {"port": str(thief_at)},
        "security": {"security": "never"},
        "username": {"username": "somebody@example.test"},
    }[field]
    return {"port": saved_at, "security": security}, change


@pytest.mark.parametrize("path", [TEST, PAGE])
@pytest.mark.parametrize("field", ["server_name", "port", "security", "username"])
def test_a_stored_password_goes_nowhere_else(
    alice: Person, database: Database, relay: ScriptedServer, field: str, path: str
) -> None:
    with ScriptedServer(replying()) as thief:
        saved, change = destinations(field, relay.port, thief.port)
        assert alice.post(PAGE, typed(0, **saved)).status_code == 303
        answer = alice.post(path, typed(0, **saved) | {"password": "", "version": "1"} | change)
        assert answer.status_code == 422
        assert "Type the password again" in error_at(answer.text, "password")
        assert not betrays(relay.heard + thief.heard)
        assert thief.connections + relay.connections == 0
    assert saved_version(database) == "1"


@pytest.mark.parametrize("field", ["server_name", "port", "username"])
def test_a_password_typed_again_goes_where_it_is_sent(alice: Person, relay: ScriptedServer, field: str) -> None:
    with ScriptedServer(replying()) as other:
        saved, change = destinations(field, relay.port, other.port)
        alice.post(PAGE, typed(0, **saved))
        again = typed(0, **saved) | {"password": "typed-again", "version": "1"} | change
        assert outcome(alice.post(TEST, again).text) == ("accepted", "")
        heard = relay.heard + other.heard
    assert betrays(heard, "typed-again")
    assert not betrays(heard)


@pytest.mark.parametrize("field", ["server_name", "port", "security"])
def test_a_binding_somebody_else_made_is_not_led_elsewhere(
    alice: Person, bob: Person, database: Database, relay: ScriptedServer, field: str
) -> None:
    account = add_account(database, bob, CANARY)
    with ScriptedServer(replying()) as thief:
        saved, change = destinations(field, relay.port, thief.port)
        assert bob.post(PAGE, chosen(account, 0, **saved)).status_code == 303
        for path in (TEST, PAGE):
            answer = alice.post(path, chosen(account, 0, **saved) | {"version": "1"} | change)
            assert answer.status_code == 422
            assert "bound by Bob Builder is not shared with you" in error_at(answer.text, "account_id")
            assert CANARY not in answer.text
        assert thief.connections + relay.connections == 0


def test_who_may_see_the_account_may_send_it_elsewhere(
    alice: Person, database: Database, relay: ScriptedServer
) -> None:
    account = add_account(database, alice)
    alice.post(PAGE, chosen(account, 2525))
    assert outcome(alice.post(TEST, chosen(account, relay.port, version="1")).text) == ("accepted", "")
    assert betrays(relay.heard)


# The binding


def test_an_administrator_who_cannot_see_the_account_keeps_it(
    alice: Person, bob: Person, database: Database, relay: ScriptedServer
) -> None:
    account = add_account(database, bob, CANARY)
    bob.post(PAGE, chosen(account, relay.port))
    page = alice.get(PAGE).text
    assert "was bound by Bob Builder and is not shared with you" in page
    assert f' value="{account.id}" selected>Keep the account bound by Bob Builder</option>' in page
    kept = chosen(account, relay.port, sender_name="Renamed", version="1")
    assert outcome(alice.post(TEST, kept).text) == ("accepted", "")
    assert alice.post(PAGE, kept).status_code == 303
    with database.reading() as session:
        saved = settings.current(session)
    assert saved is not None
    assert (saved.account_id, saved.bound_by_name, saved.sender_name) == (account.id, "Bob Builder", "Renamed")
    assert alice.post(f"/accounts/{account.id}/reveal").status_code == 404


def test_an_administrator_who_cannot_see_the_account_replaces_it(
    alice: Person, bob: Person, database: Database
) -> None:
    theirs, mine = add_account(database, bob, CANARY), add_account(database, alice)
    other = add_account(database, bob, "Another of Bob's")
    bob.post(PAGE, chosen(theirs, 2525))
    refused = alice.post(PAGE, chosen(other, 2525, version="1"))
    assert (refused.status_code, "Another of Bob" in refused.text) == (422, False)
    assert alice.post(PAGE, chosen(mine, 2525, version="1")).status_code == 303
    with database.reading() as session:
        saved = settings.current(session)
    assert saved is not None
    assert (saved.account_id, saved.bound_by_name) == (mine.id, "Alice Admin")


@pytest.mark.parametrize("htmx", [False, True])
def test_the_bound_account_is_not_deleted(alice: Person, database: Database, htmx: bool) -> None:
    account = add_account(database, alice)
    alice.post(PAGE, chosen(account, 2525))
    for path in (f"/accounts/{account.id}/delete", f"/resources/{account.resource_id}/delete"):
        refused = alice.post(path, htmx=htmx)
        assert refused.status_code == 409
        assert "used by Mail Server Settings" in refused.text
    assert alice.get(f"/accounts/{account.id}").status_code == 200


# The test


@pytest.mark.parametrize("htmx", [False, True])
def test_an_accepted_test_names_every_stage(alice: Person, trusted: MailServer, htmx: bool) -> None:
    answer = alice.post(TEST, at(trusted), htmx=htmx)
    assert answer.status_code == 200
    assert outcome(answer.text) == ("accepted", "")
    assert stages(answer.text) == dict.fromkeys(STAGES, "done")
    assert trusted.wait_for_message().recipients == ("ann@example.test",)
    assert ("mail-form" in answer.text) is not htmx
    assert SECRET not in answer.text


@pytest.mark.parametrize("htmx", [False, True])
def test_a_failed_test_names_the_stage_and_the_code(alice: Person, trusted: MailServer, htmx: bool) -> None:
    answer = alice.post(TEST, at(trusted, password="wrong-horse"), htmx=htmx)
    assert answer.status_code == 200
    assert outcome(answer.text) == ("failed", "credentials-refused")
    assert stages(answer.text)["authentication"] == "failed"
    assert stages(answer.text)["sender"] == "skipped"
    assert "What to do:" in answer.text
    assert "wrong-horse" not in answer.text
    assert trusted.accepted == []


def test_a_test_saves_nothing(alice: Person, trusted: MailServer, database: Database) -> None:
    alice.post(TEST, at(trusted))
    assert saved_version(database) == "0"


def test_a_test_that_cannot_begin_says_why(alice: Person, database: Database) -> None:
    answer = alice.post(TEST, typed(2525, server_name="", test_recipient="nobody"), htmx=True)
    assert answer.status_code == 422
    assert 'data-outcome="invalid"' in answer.text
    assert "Server name" in answer.text
    assert "Send the test mail to" in answer.text


def test_a_known_remedy_is_one_click(alice: Person, trusted: MailServer) -> None:
    failed = alice.post(TEST, at(trusted, security="ssl"), htmx=True).text
    assert outcome(failed) == ("failed", "starttls-expected")
    fill = re.search(r'name="fill" value="([^"]*)"', failed)
    assert fill
    mended = alice.post(TEST, at(trusted, security="ssl", fill=html.unescape(fill[1])))
    assert outcome(mended.text) == ("accepted", "")
    assert re.search(r'id="security-tls" value="tls" checked', mended.text)


def test_a_remedy_is_offered_in_the_readers_language(alice: Person, trusted: MailServer) -> None:
    german = {**HTMX, "Accept-Language": "de"}
    fields = {**at(trusted, security="ssl"), "csrf_token": csrf_token(alice.client)}
    assert "TLS verwenden, Port" in alice.client.post(TEST, data=fields, headers=german).text


def test_a_stream_tells_each_stage_as_it_ends(alice: Person, trusted: MailServer) -> None:
    fields = {**at(trusted), "csrf_token": csrf_token(alice.client)}
    answer = alice.client.post(TEST, data=fields, headers={**HTMX, "Accept": "text/event-stream"})
    assert answer.mimetype == "text/event-stream"
    events = events_of(answer.text)
    assert [outcome(event)[0] for event in events] == ["running"] * (len(events) - 1) + ["accepted"]
    assert [len(stages(event)) for event in events] == [*range(len(STAGES) + 1), len(STAGES)]
    assert not re.search(r"\shx-", answer.text), "an event's nonces are not rewritten, so it may use no htmx"


def test_a_stream_is_worded_for_who_asked(alice: Person, trusted: MailServer) -> None:
    fields = {**at(trusted), "csrf_token": csrf_token(alice.client)}
    asked = {**HTMX, "Accept": "text/event-stream", "Accept-Language": "de"}
    told = alice.client.post(TEST, data=fields, headers=asked).text
    with i18n.reading_as(i18n.Reader("de")):
        german = [i18n.gettext(each) for each in ("Find server", "Accepted by server")]
    assert [each for each in german if each not in told] == []
    assert "Accepted by server" not in told


def test_a_stream_arrives_while_the_server_still_thinks(alice: Person, live_server: str) -> None:
    may_greet = threading.Event()

    def slow(talk: Talk) -> None:
        assert may_greet.wait(30)
        replying()(talk)

    address = urlsplit(live_server)
    token = csrf_token(alice.client)
    cookie = alice.client.get_cookie("keypost")
    assert cookie is not None
    headers = {
        **HTMX,
        "Accept": "text/event-stream",
        "Cookie": f"keypost={cookie.value}",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    with (
        ScriptedServer(slow) as server,
        closing(http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)) as connection,
    ):
        body = urlencode({**typed(server.port), "csrf_token": token})
        connection.request("POST", TEST, body, headers)
        answer = connection.getresponse()
        seen = ""
        while 'data-stage="connect"' not in seen:
            line = answer.readline().decode()
            assert line, seen
            seen += line
        assert 'data-stage="greeting"' not in seen
        may_greet.set()
        seen += answer.read().decode()
    assert outcome(events_of(seen)[-1]) == ("accepted", "")


def events_of(text: str) -> list[str]:
    return ["\n".join(re.findall("^data: ?(.*)$", event, re.MULTILINE)) for event in text.strip().split("\n\n")]


@pytest.mark.parametrize("htmx", [False, True])
def test_too_many_tests_are_refused_and_nothing_typed_is_lost(alice: Person, database: Database, htmx: bool) -> None:
    now = datetime.now(UTC)
    database.clock = lambda: now
    with ScriptedServer(replying(greeting="554 no")) as server:
        for _ in range(10):
            assert outcome(alice.post(TEST, typed(server.port)).text) == ("failed", "greeting-refused")
        refused = alice.post(TEST, typed(server.port, sender_name="The Vault"), htmx=htmx)
        assert server.connections == 10
    assert refused.status_code == 429
    assert "You have made 10 tests within a minute" in refused.text
    if htmx:
        assert 'id="_test_invalid"' in refused.text
    else:
        assert 'value="The Vault"' in refused.text


# Verification


def test_a_test_of_what_is_then_saved_verifies_it(alice: Person, trusted: MailServer) -> None:
    alice.post(TEST, at(trusted))
    alice.post(PAGE, at(trusted))
    assert "<strong>Verified</strong>" in alice.get(PAGE).text
    assert ">verified<" in alice.get("/admin").text


def test_a_rotated_password_takes_the_verification_away(alice: Person, database: Database, trusted: MailServer) -> None:
    account = add_account(database, alice)
    bound = chosen(account, trusted.port, "tls")
    alice.post(TEST, bound)
    alice.post(PAGE, bound)
    assert "<strong>Verified</strong>" in alice.get(PAGE).text
    assert alice.post(f"/accounts/{account.id}/password", {"password": "another horse"}).status_code == 303
    page = html.unescape(alice.get(PAGE).text)
    assert "Not verified: the account's password was changed on" in re.sub("</?strong>", "", page)
    trusted.users[USER] = "another horse"
    assert outcome(alice.post(TEST, {**bound, "version": "1"}).text) == ("accepted", "")
    assert "<strong>Verified</strong>" in alice.get(PAGE).text


# Secrets


def test_no_page_shows_a_secret(app: Flask, alice: Person, database: Database, trusted: MailServer) -> None:
    account = add_account(database, alice, password="vault-secret-9")
    alice.post(PAGE, at(trusted))
    alice.post(TEST, at(trusted, version="1"))
    alice.post(PAGE, chosen(account, trusted.port, "tls", version="1"))
    alice.post(TEST, chosen(account, trusted.port, "tls", version="2"))
    alice.post(PAGE, at(trusted, version="2"))
    paths = {rule.rule for rule in app.url_map.iter_rules() if "GET" in (rule.methods or ()) and not rule.arguments}
    paths |= {f"/accounts/{account.id}", f"/accounts/{account.id}/password", f"/resources/{account.resource_id}"}
    assert {PAGE, "/admin/audit", f"{PAGE}/_auth-section"} <= paths
    forms = [SECRET, "vault-secret-9", base64.b64encode(f"\0{USER}\0{SECRET}".encode()).decode()]
    for path in sorted(paths):
        for htmx in (False, True):
            text = html.unescape(alice.get(path, htmx=htmx).text)
            assert not [form for form in forms if form in text], path


@pytest.mark.parametrize("path", [PAGE, f"{PAGE}/_auth-section?credential_source=account"])
def test_before_anything_is_saved_the_only_account_is_chosen(alice: Person, database: Database, path: str) -> None:
    only = add_account(database, alice)
    assert f'<option id="account-{only.id}" value="{only.id}" selected>' in alice.get(path).text
    add_account(database, alice, "Another host")
    assert not re.search(r'<option id="account-\d+"[^>]* selected>', alice.get(path).text)
