"""Admin → Certificates over HTTP: what is trusted, what uses it, when it ends; importing and removing."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from flask import Flask
from werkzeug.test import TestResponse

from tests.support.mail_certificates import Issued
from tests.support.mail_server import MailServer
from tests.support.people import PASSWORD, Person, add_person, csrf_token
from webapp.actor import Role, command_line
from webapp.audit import trail
from webapp.db import Database
from webapp.mail import reliance
from webapp.trust import store
from webapp.trust.certificates import sha256, with_colons
from webapp.trust.store import Trusted

LIST = "/admin/certificates"
MAIL = "/admin/settings/mail"
LOGIN = {"user@example.test": "correct-horse"}


def upload(person: Person, content: bytes, name: str = "authority.pem") -> TestResponse:
    fields = {"csrf_token": csrf_token(person.client), "file": (io.BytesIO(content), name)}
    return person.client.post(LIST, data=fields, content_type="multipart/form-data")


def trusted(database: Database) -> list[Trusted]:
    with database.reading() as session:
        return store.trusted(session)


def trust(database: Database, pem: bytes, host: str | None = None, port: int | None = None) -> None:
    with database.transaction() as session:
        store.import_certificates(session, command_line(), pem, source="authority.pem", host=host, port=port)


def fields_for(server: MailServer) -> dict[str, str]:
    return {
        "server_name": "localhost",
        "port": str(server.port),
        "security": "ssl",
        "sender_address": "keypost@example.test",
        "access_url": "https://keypost.example.test",
        "requires_authentication": "y",
        "credential_source": "manual",
        "username": "user@example.test",
        "password": "correct-horse",
        "test_recipient": "ann@example.test",
        "version": "0",
    }


def save(person: Person, server: MailServer) -> None:
    assert person.post(MAIL, fields_for(server)).status_code == 303


def try_mail(person: Person, server: MailServer) -> None:
    assert person.post(f"{MAIL}/test", fields_for(server)).status_code == 200


def page_of(person: Person, certificate: Issued) -> str:
    return html.unescape(person.get(f"{LIST}/{sha256(certificate.certificate)}").text).replace("<wbr>", "")


def days_before_the_end(database: Database, certificate: Issued, days: float) -> None:
    """Move the clock."""
    then: datetime = certificate.certificate.not_valid_after_utc - timedelta(days=days)
    database.clock = lambda: then


@pytest.fixture
def server() -> Iterator[MailServer]:
    """A mail server whose authority nobody has imported yet."""
    with MailServer("ssl", users=LOGIN) as running:
        yield running


@pytest.fixture
def root() -> Issued:
    return Issued("A private root", authority=True)


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_an_uploaded_file_is_trusted_and_its_fingerprint_said(
    alice: Person, database: Database, root: Issued, encoding: Encoding
) -> None:
    answer = upload(alice, root.certificate.public_bytes(encoding), "company root.cer")
    after = alice.get(LIST).text
    assert answer.status_code == 303
    assert with_colons(sha256(root.certificate)) in after
    assert [(each.source, each.imported_by_name) for each in trusted(database)] == [
        ("uploaded file company root.cer", "Alice Admin")
    ]


def test_pasted_text_is_trusted_too(alice: Person, database: Database, root: Issued) -> None:
    answer = alice.post(LIST, {"pem": root.pem.decode().replace("\n", "\r\n")})
    assert answer.status_code == 303
    assert [each.source for each in trusted(database)] == ["pasted text"]


def test_a_second_import_says_that_nothing_changed(alice: Person, database: Database, root: Issued) -> None:
    upload(alice, root.pem)
    alice.get(LIST)
    upload(alice, root.pem)
    assert "was trusted already" in alice.get(LIST).text
    assert len(trusted(database)) == 1


def test_a_private_key_is_refused_and_never_shown_again(alice: Person, database: Database, root: Issued) -> None:
    key = root.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for answer in (alice.post(LIST, {"pem": key + root.pem.decode()}), upload(alice, key.encode() + root.pem)):
        assert answer.status_code == 422
        assert "contains a private key" in answer.text
        assert key.splitlines()[1] not in answer.text
    assert trusted(database) == []


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x00" * 70_000, b"-----BEGIN CERTIFICATE-----\nAAAA"])
def test_what_is_no_certificate_is_refused_with_a_sentence(alice: Person, database: Database, content: bytes) -> None:
    answer = upload(alice, content)
    assert answer.status_code == 422
    assert "Nothing was imported." in answer.text
    assert trusted(database) == []


def test_a_file_of_two_megabytes_is_refused_unread(alice: Person, database: Database) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.pem"\r\n\r\n'
    body = head + b"x" * 2_000_000 + b"\r\n--x--\r\n"
    answer = alice.client.post(LIST, data=body, content_type="multipart/form-data; boundary=x")
    assert answer.status_code == 413
    assert trusted(database) == []


def test_the_page_says_who_imported_what_from_where_for_whom(alice: Person, database: Database, root: Issued) -> None:
    trust(database, root.pem, "localhost", 465)
    text = html.unescape(alice.get(LIST).text)
    assert "A private root" in text
    assert "localhost, port 465, alone" in text
    assert re.search(r"by command line \([^)]*\), authority.pem", text)
    assert f"{root.certificate.not_valid_after_utc:%Y}" in text


def test_a_certificate_has_a_page_with_its_details(alice: Person, database: Database) -> None:
    leaf = Issued("mail", names=("mail.example.test", "192.0.2.1"))
    trust(database, leaf.pem)
    text = page_of(alice, leaf)
    for shown in (with_colons(sha256(leaf.certificate)), "mail.example.test, 192.0.2.1", "EC P-256", "self-signed"):
        assert shown in text


def test_nothing_uses_a_certificate_while_no_mail_is_set_up(alice: Person, database: Database, root: Issued) -> None:
    trust(database, root.pem)
    assert "Nothing: the saved mail settings use no encrypted connection." in page_of(alice, root)


def test_what_uses_it_is_not_known_before_a_check(
    alice: Person, database: Database, root: Issued, server: MailServer
) -> None:
    trust(database, root.pem)
    save(alice, server)
    assert "Not known: no check has seen yet" in page_of(alice, root)


def test_an_authority_is_used_by_the_settings_whose_server_it_vouches_for(
    alice: Person, database: Database, root: Issued, server: MailServer
) -> None:
    trust(database, server.authority_pem())
    trust(database, root.pem)
    save(alice, server)
    try_mail(alice, server)
    with database.reading() as session:
        uses = {each.certificate.description.label: each.use.by for each in reliance.standings(session)}
    assert uses.pop("A private root") == ""
    assert list(uses.values()) == ["Mail Server Settings"]
    assert "presented other certificates" in page_of(alice, root)
    assert "Mail Server Settings" in alice.get(LIST).text


def test_a_pin_is_used_by_the_settings_of_its_server(
    alice: Person, database: Database, root: Issued, server: MailServer
) -> None:
    trust(database, root.pem, "localhost", server.port)
    trust(database, root.pem, "localhost", server.port + 1)
    save(alice, server)
    with database.reading() as session:
        uses = {each.certificate.port: each.use.by for each in reliance.standings(session)}
    assert uses == {server.port: "Mail Server Settings", server.port + 1: ""}


def test_removing_a_used_certificate_is_confirmed_with_what_uses_it(
    alice: Person, database: Database, root: Issued, server: MailServer
) -> None:
    trust(database, root.pem, "localhost", server.port)
    save(alice, server)
    text = page_of(alice, root)
    assert "Used by Mail Server Settings" in text
    answer = alice.post(f"{LIST}/{sha256(root.certificate)}/remove", {"host": "localhost", "port": str(server.port)})
    assert answer.status_code == 303
    assert trusted(database) == []


def test_one_pin_is_removed_and_the_other_stays(alice: Person, database: Database, root: Issued) -> None:
    trust(database, root.pem, "one.example.test", 465)
    trust(database, root.pem, "two.example.test", 465)
    alice.post(f"{LIST}/{sha256(root.certificate)}/remove", {"host": "one.example.test", "port": "465"})
    assert [each.host for each in trusted(database)] == ["two.example.test"]


def test_a_removal_is_written_down(alice: Person, database: Database, root: Issued) -> None:
    trust(database, root.pem)
    alice.post(f"{LIST}/{sha256(root.certificate)}/remove", {"host": "", "port": ""})
    with database.reading() as session:
        [line] = [line for line in trail.latest(session) if line.action == "certificate:remove"]
    assert line.actor_id == alice.user.id


@pytest.mark.parametrize("fields", [{"host": "x"}, {"host": "x", "port": "y"}, {"port": "1"}, {}])
def test_removing_what_is_not_there_is_answered_kindly(alice: Person, fields: dict[str, str]) -> None:
    assert alice.post(f"{LIST}/{'0' * 64}/remove", fields).status_code in (400, 404)
    assert alice.get(f"{LIST}/{'0' * 64}").status_code == 404


@pytest.mark.parametrize(
    ("days", "shown"),
    [(31, None), (30, "30"), (15, "30"), (14, "14"), (8, "14"), (7, "7"), (2, "7"), (1, "1"), (0.1, "1"), (-1, "0")],
)
def test_the_end_is_announced_ever_more_strongly(
    alice: Person, database: Database, root: Issued, days: float, shown: str | None
) -> None:
    days_before_the_end(database, root, 29)
    trust(database, root.pem)
    days_before_the_end(database, root, days)
    for path in (LIST, "/admin"):
        found = re.findall(r'data-warning="(\d+)"', _reloaded(alice, path))
        assert found == ([shown] if shown is not None else []), path


def test_the_announcement_is_one_readable_sentence(alice: Person, database: Database, root: Issued) -> None:
    trust(database, root.pem)
    days_before_the_end(database, root, 12)
    page = html.unescape(re.sub(r"<[^>]+>", "", _reloaded(alice, "/admin")))
    assert re.search(r"The trusted certificate \S.* ends in 12 days, on ", " ".join(page.split()))


def test_the_servers_own_certificate_is_watched_as_it_was_last_seen(
    alice: Person, database: Database, server: MailServer
) -> None:
    trust(database, server.authority_pem())
    save(alice, server)
    try_mail(alice, server)
    with database.reading() as session:
        own = reliance.own_certificate(session)
    assert own is not None
    then = own.description.not_after - timedelta(days=5)
    database.clock = lambda: then
    text = html.unescape(_reloaded(alice, "/admin"))
    assert "The certificate of your mail server localhost" in text
    assert "ends in 5 days" in text
    assert "Last seen" in alice.get(LIST).text


def test_only_administrators_see_and_change_certificates(
    app: Flask, database: Database, alice: Person, root: Issued
) -> None:
    trust(database, root.pem)
    for role in Role:
        if role is not Role.ADMINISTRATOR:
            person = add_person(app, database, email=f"{role}@example.test", name=role, role=role)
            one = f"{LIST}/{sha256(root.certificate)}"
            seen = [person.get(LIST), person.get(one), upload(person, root.pem), person.post(f"{one}/remove")]
            assert [answer.status_code for answer in seen] == [403, 403, 403, 403]
    assert len(trusted(database)) == 1


def _reloaded(person: Person, path: str) -> str:
    """The page under a clock that was moved: who was signed in before it may have to sign in again."""
    if person.get(path).status_code != 200:
        fields = {"email": person.user.email, "password": PASSWORD}
        assert person.post("/sign-in", fields).status_code == 303
    return person.get(path).text
