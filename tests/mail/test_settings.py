"""The mail settings: one judge for the test and for saving, the pass-back guard, the binding."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.mail_settings import PASSWORD, USERNAME, add_mailbox, bound, draft, join, rotate
from webapp.actor import Actor, command_line
from webapp.audit.trail import AuditLine, verify
from webapp.db import Database
from webapp.errors import Conflict, Invalid, NotFound
from webapp.identity.users import User
from webapp.keyring import Secret
from webapp.mail import settings
from webapp.mail.settings import Binding, Draft, InvalidFields, MailSettings, VersionConflict, valid_access_url
from webapp.mail.transport import Security
from webapp.vault import shares
from webapp.vault.accounts import Account, delete_account
from webapp.vault.rights import Right

BLANK = Secret("")


@pytest.fixture
def ann(database: Database) -> Actor:
    return join(database, "Ann")


@pytest.fixture
def ben(database: Database) -> Actor:
    """An administrator with whom nothing is shared."""
    return join(database, "Ben")


@pytest.fixture
def mailbox(database: Database, ann: Actor) -> Account:
    return add_mailbox(database, ann)


@pytest.fixture
def bound_by_ann(database: Database, ann: Actor, mailbox: Account) -> Account:
    """The mailbox, bound in the saved settings."""
    save(database, ann, bound(mailbox))
    return mailbox


def save(database: Database, actor: Actor, given: Draft) -> MailSettings:
    with database.transaction() as session:
        return settings.save(session, actor, given)


def attempt(database: Database, actor: Actor, given: Draft) -> Any:
    with database.reading() as session:
        return settings.attempt_for(session, actor, given, recipient="ann@example.com")


def login_now(database: Database) -> tuple[str, str]:
    with database.reading() as session:
        login = settings.saved_target(session).attempt(None).login
    assert login is not None
    return login.username, login.password.reveal()


def binding(database: Database, actor: Actor) -> Binding:
    with database.reading() as session:
        saved = settings.current(session)
        assert saved is not None
        found = settings.binding_for(session, actor, saved)
    assert found is not None
    return found


def audit(database: Database, action: str) -> list[dict[str, Any]]:
    with database.reading() as session:
        lines = session.scalars(sa.select(AuditLine).where(AuditLine.action == action).order_by(AuditLine.id))
        return [json.loads(line.details) for line in lines]


@pytest.fixture(params=[save, attempt], ids=["save", "test"])
def use(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """The two ways a draft is used; both must judge alike."""
    return request.param


def refused(use: Callable[..., Any], database: Database, actor: Actor, given: Draft) -> dict[str, list[str]]:
    with pytest.raises(InvalidFields) as caught:
        use(database, actor, given)
    return caught.value.errors


def test_it_seals_a_typed_password_and_signs_in_with_it(database: Database, ann: Actor) -> None:
    saved = save(database, ann, draft())
    assert saved.sealed_password is not None
    assert PASSWORD.encode() not in saved.sealed_password
    assert (saved.version, saved.updated_by_name) == (1, "Ann")
    assert login_now(database) == (USERNAME, PASSWORD)


def test_it_names_every_mistake_at_once(database: Database, ann: Actor, use: Callable[..., Any]) -> None:
    wrong = draft(
        server_name="smtp://x", port=0, sender_address="nobody", sender_name="a\nb", access_url="ftp://x",
        username="", password=BLANK,
    )  # fmt: skip
    errors = refused(use, database, ann, wrong)
    assert set(errors) == {
        "server_name", "port", "sender_address", "sender_name", "access_url", "username", "password",
    }  # fmt: skip


def test_it_names_a_wrong_recipient_with_the_rest(database: Database, ann: Actor) -> None:
    with database.reading() as session, pytest.raises(InvalidFields) as caught:
        settings.attempt_for(session, ann, draft(port=0), recipient="a@b\r\nRCPT TO:<c@d>")
    assert set(caught.value.errors) == {"port", "test_recipient"}


def test_a_blank_password_keeps_the_stored_one(database: Database, ann: Actor) -> None:
    save(database, ann, draft())
    save(database, ann, draft(password=BLANK, sender_address="other@example.test", version=1))
    assert login_now(database) == (USERNAME, PASSWORD)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"server_name": "evil.example.test"}, "the server name was mail.example.test"),
        ({"port": 2525}, "the port was 587"),
        ({"security": Security.NEVER, "unencrypted_login_allowed": True}, "the secure connection was TLS"),
        ({"username": "somebody"}, f"the username was {USERNAME}"),
    ],
)
def test_a_stored_password_goes_nowhere_else(
    database: Database, ann: Actor, use: Callable[..., Any], change: dict[str, Any], said: str
) -> None:
    save(database, ann, draft())
    errors = refused(use, database, ann, draft(password=BLANK, version=1, **change))
    assert "Type the password again" in errors["password"][0]
    assert said in errors["password"][0]


def test_a_changed_server_is_fine_with_the_password_typed_again(database: Database, ann: Actor) -> None:
    save(database, ann, draft())
    save(database, ann, draft(server_name="new.example.test", password=Secret("another"), version=1))
    assert login_now(database) == (USERNAME, "another")


def test_a_stored_password_may_go_over_a_better_protected_connection(database: Database, ann: Actor) -> None:
    save(database, ann, draft(security=Security.NEVER, unencrypted_login_allowed=True))
    save(database, ann, draft(password=BLANK, security=Security.SSL, version=1))
    assert login_now(database) == (USERNAME, PASSWORD)


@pytest.mark.parametrize("mask", ["••••••••", "********", "●"])
def test_it_refuses_the_mask(database: Database, ann: Actor, use: Callable[..., Any], mask: str) -> None:
    assert "mask" in refused(use, database, ann, draft(password=Secret(mask)))["password"][0]


@pytest.mark.parametrize("away", ["off", "account"])
def test_a_stored_password_nobody_needs_is_dropped(database: Database, ann: Actor, mailbox: Account, away: str) -> None:
    save(database, ann, draft())
    without = draft(requires_authentication=False, password=BLANK, version=1)
    saved = save(database, ann, without if away == "off" else bound(mailbox, version=1))
    assert saved.sealed_password is None
    assert "password" in refused(save, database, ann, draft(password=BLANK, version=2))


def test_a_stored_password_moved_in_the_database_does_not_open(
    database: Database, ann: Actor, use: Callable[..., Any]
) -> None:
    save(database, ann, draft())
    with database.transaction() as session:
        session.execute(sa.update(MailSettings).values(password_version=7))
    assert "altered" in refused(use, database, ann, draft(password=BLANK, version=1))["password"][0]
    with pytest.raises(Conflict, match="does not open"):
        login_now(database)


def test_a_binding_uses_the_password_of_the_moment(database: Database, ann: Actor, mailbox: Account) -> None:
    saved = save(database, ann, bound(mailbox))
    assert (saved.account_id, saved.sealed_password, saved.bound_by_name) == (mailbox.id, None, "Ann")
    assert login_now(database) == (USERNAME, PASSWORD)
    rotate(database, ann, mailbox, "rotated")
    assert login_now(database) == (USERNAME, "rotated")


@pytest.mark.parametrize("account_id", [None, 999_999, 2**70, -1])
def test_it_refuses_an_account_that_is_not_there(
    database: Database, ann: Actor, mailbox: Account, use: Callable[..., Any], account_id: int | None
) -> None:
    assert "account_id" in refused(use, database, ann, bound(mailbox, account_id=account_id))


def test_it_refuses_an_account_the_administrator_may_not_see(
    database: Database, ben: Actor, mailbox: Account, use: Callable[..., Any]
) -> None:
    errors = refused(use, database, ben, bound(mailbox))
    assert errors == {"account_id": ["There is no such account among those you can see. Choose another."]}


def test_who_cannot_see_the_bound_account_can_keep_it(
    database: Database, ann: Actor, ben: Actor, mailbox: Account
) -> None:
    save(database, ann, bound(mailbox))
    saved = save(database, ben, bound(mailbox, access_url="https://new.example.test", version=1))
    assert (saved.access_url, saved.account_id, saved.bound_by_name) == ("https://new.example.test", mailbox.id, "Ann")


@pytest.mark.parametrize("change", [{"server_name": "evil.example.test"}, {"port": 2525}, {"security": Security.SSL}])
def test_who_cannot_see_the_bound_account_sends_it_nowhere_else(
    database: Database, ben: Actor, bound_by_ann: Account, use: Callable[..., Any], change: dict[str, Any]
) -> None:
    errors = refused(use, database, ben, bound(bound_by_ann, version=1, **change))
    assert "bound by Ann is not shared with you" in errors["account_id"][0]


def test_switching_authentication_off_and_on_is_no_way_around_the_guard(
    database: Database, ann: Actor, ben: Actor, mailbox: Account
) -> None:
    save(database, ann, bound(mailbox))
    off = bound(mailbox, requires_authentication=False, server_name="evil.example.test", version=1)
    assert save(database, ben, off).account_id is None
    errors = refused(save, database, ben, bound(mailbox, server_name="evil.example.test", version=2))
    assert set(errors) == {"account_id"}


def test_choosing_it_again_with_access_takes_the_binding_over(database: Database, ann: Actor, mailbox: Account) -> None:
    save(database, ann, bound(mailbox))
    saved = save(database, command_line(), bound(mailbox, version=1))
    assert saved.bound_by_name == command_line().name


def test_only_who_may_see_the_account_reads_its_name(
    database: Database, ann: Actor, ben: Actor, mailbox: Account
) -> None:
    save(database, ann, bound(mailbox))
    assert binding(database, ann) == Binding(mailbox.id, f"Mail host — {USERNAME}", "Ann", True, True, True)
    assert binding(database, ben) == Binding(mailbox.id, None, "Ann", False, True, True)


def test_it_tells_when_the_binder_has_no_access_any_more(database: Database, ann: Actor, mailbox: Account) -> None:
    save(database, ann, bound(mailbox))
    with database.transaction() as session:
        session.execute(sa.update(User).where(User.id == ann.id).values(active=False))
    assert not binding(database, ann).binder_has_access
    assert login_now(database) == (USERNAME, PASSWORD)


def test_mail_goes_on_when_the_share_of_whoever_bound_the_account_is_withdrawn(
    database: Database, ann: Actor, ben: Actor, mailbox: Account
) -> None:
    assert ben.id is not None
    with database.transaction() as session:
        shares.share_account(session, ann, mailbox.id, ben.id, Right.VIEW)
    save(database, ben, bound(mailbox))
    assert binding(database, ann).binder_has_access
    with database.transaction() as session:
        shares.withdraw_account(session, ann, mailbox.id, ben.id, although_used=True)
    assert not binding(database, ann).binder_has_access
    assert binding(database, ben).label is None
    assert login_now(database) == (USERNAME, PASSWORD)


def test_mail_goes_on_when_the_owner_who_bound_the_account_hands_it_over(
    database: Database, ann: Actor, ben: Actor, mailbox: Account
) -> None:
    assert ben.id is not None
    save(database, ann, bound(mailbox))
    with database.transaction() as session:
        shares.transfer(session, ann, mailbox.resource_id, ben.id, although_used=True)
    assert not binding(database, ben).binder_has_access
    assert login_now(database) == (USERNAME, PASSWORD)
    assert save(database, ben, bound(mailbox, version=1)).bound_by_name == "Ben"
    assert binding(database, ben).binder_has_access


def test_the_bound_account_cannot_be_deleted(database: Database, ann: Actor, mailbox: Account) -> None:
    save(database, ann, bound(mailbox))
    with pytest.raises(Conflict, match="used by Mail Server Settings"), database.transaction() as session:
        delete_account(session, ann, mailbox.id)


def test_an_account_that_is_bound_no_more_can_be_deleted(database: Database, ann: Actor, mailbox: Account) -> None:
    save(database, ann, bound(mailbox))
    save(database, ann, draft(version=1))
    with database.transaction() as session:
        delete_account(session, ann, mailbox.id)


def test_a_password_without_encryption_needs_consent(database: Database, ann: Actor, use: Callable[..., Any]) -> None:
    errors = refused(use, database, ann, draft(security=Security.NEVER))
    assert "mail.example.test can read the password" in errors["unencrypted_login_allowed"][0]


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_no_consent_is_needed_on_this_machine(database: Database, ann: Actor, name: str) -> None:
    assert save(database, ann, draft(security=Security.NEVER, server_name=name)).unencrypted_host is None


def test_no_consent_is_needed_without_a_password(database: Database, ann: Actor) -> None:
    given = draft(security=Security.NEVER, requires_authentication=False)
    assert save(database, ann, given).unencrypted_host is None


def test_consent_holds_for_its_host_and_leaves_a_line(database: Database, ann: Actor) -> None:
    save(database, ann, draft(security=Security.NEVER, unencrypted_login_allowed=True))
    with database.transaction() as session:
        assert settings.saved_target(session).attempt(None).unencrypted_login_allowed
        session.execute(sa.update(MailSettings).values(server_name="other.example.test"))
    with database.reading() as session:
        assert not settings.saved_target(session).attempt(None).unencrypted_login_allowed
    assert audit(database, "mail:allow-unencrypted-login") == [{"host": "mail.example.test"}]


def test_the_second_of_two_administrators_is_shown_what_changed(database: Database, ann: Actor, ben: Actor) -> None:
    save(database, ann, draft())
    save(database, ann, draft(password=Secret("anns-secret"), sender_name="Ann's", version=1))
    with pytest.raises(VersionConflict) as caught:
        save(database, ben, draft(password=Secret("bens-secret"), port=465, version=1))
    conflict = caught.value
    assert conflict.current.version == 2
    assert set(conflict.differences) == {("Port", "465", "587"), ("Sender name", "", "Ann's")}
    assert "Ann saved these settings" in str(conflict)
    assert "secret" not in f"{conflict} {conflict.differences} {conflict.__dict__}"
    assert login_now(database) == (USERNAME, "anns-secret")


def test_two_first_saves_do_not_overwrite_each_other(database: Database, ann: Actor, ben: Actor) -> None:
    save(database, ann, draft())
    with pytest.raises(VersionConflict):
        save(database, ben, draft())


def test_of_many_saves_at_once_each_that_succeeded_is_in_the_trail(database: Database, ann: Actor, ben: Actor) -> None:
    save(database, ann, draft())
    begin, saves = threading.Barrier(2), []

    def work(actor: Actor) -> None:
        begin.wait()
        for number in range(15):
            with database.reading() as session:
                seen = settings.current(session)
            assert seen is not None
            try:
                save(database, actor, draft(port=1000 + number, version=seen.version))
            except VersionConflict:
                continue
            saves.append(seen.version + 1)

    threads = [threading.Thread(target=work, args=(actor,)) for actor in (ann, ben)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    noted = [details["version"] for details in audit(database, "mail:save")]
    assert sorted(saves) == list(range(2, len(saves) + 2))
    assert noted == [1, *sorted(saves)]
    with database.reading() as session:
        assert verify(session).sound


def test_a_save_leaves_a_line_with_what_changed_and_no_secret(database: Database, ann: Actor, mailbox: Account) -> None:
    save(database, ann, draft(password=Secret("canary-one")))
    save(database, ann, draft(password=Secret("canary-two"), port=2525, version=1))
    save(database, ann, bound(mailbox, port=2525, version=2))
    first, second, third = audit(database, "mail:save")
    assert set(first["changed"]) >= {"server_name", "access_url", "password"}
    assert (second["changed"], second["values"]) == (["port", "password"], {"port": 2525})
    assert set(third["changed"]) == {"credential_source", "username", "account_id"}
    assert [line["server"] for line in audit(database, "mail:bind")] == ["mail.example.test"]
    with database.reading() as session:
        assert "canary" not in " ".join(session.scalars(sa.select(AuditLine.details)))


def test_a_draft_shows_no_secret() -> None:
    assert PASSWORD not in repr(draft())


def test_nothing_saved_is_said_in_words(database: Database) -> None:
    with database.reading() as session, pytest.raises(NotFound, match="not set up"):
        settings.saved_target(session).attempt(None)


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("https://keypost.example.com/", "https://keypost.example.com"),
        (" HTTP://Keypost.Example.com:8000/a/b/ ", "http://keypost.example.com:8000/a/b"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("https://[::1]:8443/", "https://[::1]:8443"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
    ],
)
def test_it_keeps_an_access_url_without_its_last_slash(typed: str, kept: str) -> None:
    assert valid_access_url(typed) == kept


@pytest.mark.parametrize(
    "typed",
    [
        "", "keypost.example.com", "ftp://keypost.example.com", "javascript:alert(1)", "https://", "https:///path",
        "https://ann:secret@keypost.example.com", "https://keypost.example.com/?a=b", "https://keypost.example.com/#x",
        "https://keypost.example.com:99999", "https://keypost.example.com/a b", "https://keypost.example.com/\nx",
        "https://[::1", "https://x/" + "a" * 500, "https://a..b/", 'https://a.b/"><script>',
    ],
)  # fmt: skip
def test_it_refuses_an_address_users_could_not_open(typed: str) -> None:
    with pytest.raises(Invalid) as caught:
        valid_access_url(typed)
    assert caught.value.field == "access_url"


@given(st.text(max_size=40).map("https://keypost.example/".__add__) | st.text(max_size=60))
@example("https://keypost.example/@")
@example("https://bob@keypost.example/")
def test_an_access_url_is_one_plain_address_or_refused(typed: str) -> None:
    try:
        kept = valid_access_url(typed)
    except Invalid:
        return
    assert kept.startswith(("http://", "https://"))
    assert kept.isascii()
    assert kept.isprintable()
    assert not set(kept) & set(' ?#"<>\\')
    assert "@" not in kept.split("/")[2]
    assert valid_access_url(kept) == kept
