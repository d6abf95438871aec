"""From a failed test to a trusted certificate, over HTTP, against real TLS servers: what was compared is trusted."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from flask import Flask

from tests.support.mail_certificates import Issued, server_context
from tests.support.mail_server import MailServer
from tests.support.people import HTMX, Person, add_person, csrf_token
from tests.support.scripted_smtp import ScriptedServer, replying
from webapp.actor import Role, command_line
from webapp.audit.trail import AuditLine
from webapp.db import Database
from webapp.mail import settings
from webapp.trust import seen, store
from webapp.trust.certificates import sha256, with_colons
from webapp.trust.store import Trusted

PAGE, TEST, TRUST = "/admin/settings/mail", "/admin/settings/mail/test", "/admin/settings/mail/trust"


def typed(port: int, security: str = "ssl", **changes: str) -> dict[str, str]:
    return {
        "server_name": "localhost",
        "port": str(port),
        "security": security,
        "sender_address": "keypost@example.test",
        "access_url": "https://keypost.example.test",
        "requires_authentication": "y",
        "credential_source": "manual",
        "username": "user@example.test",
        "password": "correct-horse",
        "test_recipient": "ann@example.test",
        "version": "0",
        **changes,
    }


def outcome(text: str) -> tuple[str, str]:
    """Of the last result in the text: a stream holds one for each stage."""
    found = re.findall(r'data-outcome="([^"]*)" data-diagnosis="([^"]*)"', text)
    assert found, text
    last, diagnosis = found[-1]
    return last, diagnosis


def offered(text: str) -> str | None:
    """The fingerprint that the page offers to tick."""
    found = re.search(r'<input type="checkbox" name="sha256" id="compared" value="([0-9a-f]{64})"', text)
    return found[1] if found else None


def trusted(database: Database) -> list[Trusted]:
    with database.reading() as session:
        return store.trusted(session)


def presenting(leaf: Issued, *others: Issued) -> ScriptedServer:
    return ScriptedServer(replying(leaf.server_context(chain=others), at_once=True))


@pytest.fixture
def own() -> Issued:
    """A certificate that vouches for itself."""
    return Issued()


@pytest.fixture
def server(own: Issued) -> Iterator[ScriptedServer]:
    """A mail server that presents it."""
    with presenting(own) as running:
        yield running


@pytest.mark.parametrize("htmx", [False, True])
def test_a_certificate_is_trusted_after_the_failed_test_and_the_test_runs_again(
    alice: Person, database: Database, server: ScriptedServer, own: Issued, *, htmx: bool
) -> None:
    failed = alice.post(TEST, typed(server.port), htmx=htmx)
    ticked = offered(failed.text)
    assert ticked == sha256(own.certificate)
    again = alice.post(TRUST, {**typed(server.port), "sha256": ticked}, htmx=htmx)
    assert outcome(failed.text) == ("failed", "certificate-self-signed")
    assert (again.status_code, outcome(again.text)) == (200, ("accepted", ""))
    assert [each.sha256 for each in trusted(database)] == [ticked]


def test_the_second_test_streams_like_the_first(alice: Person, server: ScriptedServer, own: Issued) -> None:
    alice.post(TEST, typed(server.port))
    answer = alice.client.post(
        TRUST,
        data={**typed(server.port), "sha256": sha256(own.certificate), "csrf_token": csrf_token(alice.client)},
        headers={**HTMX, "Accept": "text/event-stream"},
    )
    assert answer.mimetype == "text/event-stream"
    assert outcome(answer.text) == ("accepted", "")


def test_the_page_shows_what_to_compare_and_the_line_that_does_the_same(
    alice: Person, server: ScriptedServer, own: Issued
) -> None:
    text = html.unescape(alice.post(TEST, typed(server.port), htmx=True).text).replace("<wbr>", "")
    assert with_colons(sha256(own.certificate)) in text
    assert "CN=localhost" in text
    assert "localhost, 127.0.0.1" in text
    assert "itself (self-signed)" in text
    assert f"{own.certificate.not_valid_after_utc:%Y}" in text
    assert f"bin/importCert localhost:{server.port} --security ssl" in text
    assert "signed itself" in text


def test_the_streamed_result_carries_no_attribute_of_htmx(alice: Person, server: ScriptedServer) -> None:
    answer = alice.client.post(
        TEST,
        data={**typed(server.port), "csrf_token": csrf_token(alice.client)},
        headers={**HTMX, "Accept": "text/event-stream"},
    )
    assert offered(answer.text)
    assert " hx-" not in answer.text


def test_the_root_is_trusted_when_the_server_presents_it(alice: Person, database: Database) -> None:
    root = Issued("A private root", authority=True)
    with presenting(Issued(issuer=root), root) as server:
        failed = alice.post(TEST, typed(server.port), htmx=True)
        ticked = offered(failed.text) or ""
        again = alice.post(TRUST, {**typed(server.port), "sha256": ticked}, htmx=True)
    assert "The chain: 2 certificates" in failed.text
    assert ticked == sha256(root.certificate)
    assert outcome(again.text) == ("accepted", "")
    assert [each.is_pinned for each in trusted(database)] == [False]


def test_the_servers_own_is_trusted_when_its_root_is_not_presented(alice: Person, database: Database) -> None:
    leaf = Issued(issuer=Issued("A private root", authority=True))
    with presenting(leaf) as server:
        ticked = offered(alice.post(TEST, typed(server.port), htmx=True).text) or ""
        again = alice.post(TRUST, {**typed(server.port), "sha256": ticked}, htmx=True)
    assert ticked == sha256(leaf.certificate)
    assert outcome(again.text) == ("accepted", "")
    assert [each.is_pinned for each in trusted(database)] == [False]


def test_a_certificate_for_another_name_is_pinned_to_this_server_alone(alice: Person, database: Database) -> None:
    other = Issued("elsewhere", names=("mail.example.test",))
    with presenting(other) as server, presenting(other) as next_door:
        failed = alice.post(TEST, typed(server.port), htmx=True)
        again = alice.post(TRUST, {**typed(server.port), "sha256": offered(failed.text) or ""}, htmx=True)
        beside = alice.post(TEST, typed(next_door.port), htmx=True)
    assert "trusted for localhost, port" in failed.text
    assert outcome(again.text) == ("accepted", "")
    assert outcome(beside.text)[0] == "failed"
    assert [(each.host, each.port) for each in trusted(database)] == [("localhost", server.port)]


def test_starttls_works_the_same(alice: Person) -> None:
    with MailServer("starttls", users={"user@example.test": "correct-horse"}) as server:
        failed = alice.post(TEST, typed(server.port, "tls"), htmx=True)
        again = alice.post(TRUST, {**typed(server.port, "tls"), "sha256": offered(failed.text) or ""}, htmx=True)
    assert f"bin/importCert localhost:{server.port}<" in failed.text
    assert outcome(again.text) == ("accepted", "")


@pytest.mark.parametrize("htmx", [False, True])
def test_without_the_tick_nothing_is_trusted_and_it_is_shown_once_more(
    alice: Person, database: Database, server: ScriptedServer, own: Issued, *, htmx: bool
) -> None:
    alice.post(TEST, typed(server.port), htmx=htmx)
    answer = alice.post(TRUST, typed(server.port), htmx=htmx)
    assert answer.status_code == 422
    assert "Nothing was trusted yet" in answer.text
    assert offered(answer.text) == sha256(own.certificate)
    assert trusted(database) == []


def test_a_server_with_letters_beyond_ascii_is_shown_once_more_too(
    alice: Person, database: Database, own: Issued
) -> None:
    with database.transaction() as session:
        seen.note(session, "xn--exmple-cua.test", 587, [own.certificate.public_bytes(Encoding.DER)])
    answer = alice.post(TRUST, typed(587, server_name="exämple.test"), htmx=True)
    assert "Nothing was trusted yet" in answer.text
    assert sha256(own.certificate) in answer.text.replace(":", "").lower()


def test_another_fingerprint_than_the_one_presented_is_refused(
    alice: Person, database: Database, server: ScriptedServer
) -> None:
    alice.post(TEST, typed(server.port), htmx=True)
    answer = alice.post(TRUST, {**typed(server.port), "sha256": sha256(Issued().certificate)}, htmx=True)
    assert answer.status_code == 422
    assert "not the certificate this server was last seen to present" in answer.text
    assert trusted(database) == []


def test_what_one_server_presented_is_not_trusted_for_another(
    alice: Person, database: Database, server: ScriptedServer, own: Issued
) -> None:
    alice.post(TEST, typed(server.port), htmx=True)
    answer = alice.post(TRUST, {**typed(server.port + 1), "sha256": sha256(own.certificate)}, htmx=True)
    assert answer.status_code == 422
    assert trusted(database) == []


def test_a_server_that_was_never_tested_has_nothing_to_trust(
    alice: Person, database: Database, server: ScriptedServer, own: Issued
) -> None:
    answer = alice.post(TRUST, {**typed(server.port), "sha256": sha256(own.certificate)}, htmx=True)
    assert answer.status_code == 422
    assert trusted(database) == []


def test_no_login_is_sent_before_the_certificate_is_trusted(alice: Person, server: ScriptedServer) -> None:
    alice.post(TEST, typed(server.port), htmx=True)
    assert [line for line in server.heard if line.upper().startswith("AUTH")] == []


def test_an_expired_certificate_is_not_offered_and_not_taken(alice: Person, database: Database) -> None:
    authority = trustme.CA()
    ended = datetime.now(UTC) - timedelta(days=2)
    leaf = authority.issue_cert("localhost", not_after=ended)
    with ScriptedServer(replying(server_context(leaf), at_once=True)) as server:
        failed = alice.post(TEST, typed(server.port), htmx=True)
        certificate = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
        answer = alice.post(TRUST, {**typed(server.port), "sha256": sha256(certificate)}, htmx=True)
    assert outcome(failed.text)[0] == "failed"
    assert offered(failed.text) is None
    assert "expired on" in failed.text
    assert answer.status_code == 422
    assert trusted(database) == []


def test_an_unsuitable_certificate_is_shown_but_not_offered(alice: Person, database: Database) -> None:
    root = Issued("A root", authority=True)
    wrong = Issued(issuer=root, purpose=ExtendedKeyUsageOID.CLIENT_AUTH)
    with database.transaction() as session:
        store.import_certificates(session, command_line(), root.pem, source="root.pem")
    with presenting(wrong) as server:
        failed = alice.post(TEST, typed(server.port), htmx=True)
    assert outcome(failed.text)[1] == "certificate-unsuitable"
    assert with_colons(sha256(wrong.certificate)) in failed.text.replace("<wbr>", "")
    assert offered(failed.text) is None
    assert "Trusting it would not help" in failed.text


def test_trusting_leaves_an_audit_line_and_saves_no_settings(
    alice: Person, database: Database, server: ScriptedServer, own: Issued
) -> None:
    alice.post(TEST, typed(server.port), htmx=True)
    alice.post(TRUST, {**typed(server.port), "sha256": sha256(own.certificate)}, htmx=True)
    with database.reading() as session:
        line = session.scalars(sa.select(AuditLine).where(AuditLine.action == "certificate:import")).one()
        assert settings.current(session) is None
    details: dict[str, Any] = json.loads(line.details)
    assert line.actor_id == alice.user.id
    assert details["sha256"] == with_colons(sha256(own.certificate))
    assert details["origin"] == f"presented by localhost, port {server.port}"


def test_a_form_that_cannot_be_tested_still_trusts_what_was_compared_and_says_so(
    alice: Person, database: Database, server: ScriptedServer, own: Issued
) -> None:
    alice.post(TEST, typed(server.port))
    answer = alice.post(TRUST, {**typed(server.port, password=""), "sha256": sha256(own.certificate)})
    assert answer.status_code == 422
    assert "The certificate is trusted from now on." in answer.text
    assert len(trusted(database)) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"server_name": ""},
        {"server_name": "no such name/"},
        {"port": "0"},
        {"port": "99999"},
        {"port": "x"},
        {"sha256": "zz"},
        {"sha256": "a" * 5000},
        {"security": "never"},
    ],
)
def test_whatever_is_posted_nothing_breaks_and_nothing_is_trusted(
    alice: Person, database: Database, server: ScriptedServer, own: Issued, changes: dict[str, str]
) -> None:
    alice.post(TEST, typed(server.port), htmx=True)
    fields = {**typed(server.port), "sha256": "0" * 64, **changes}
    assert [alice.post(TRUST, fields, htmx=htmx).status_code for htmx in (True, False)] == [422, 422]
    assert trusted(database) == []


def test_only_administrators_may_trust(
    app: Flask, database: Database, alice: Person, server: ScriptedServer, own: Issued
) -> None:
    alice.post(TEST, typed(server.port), htmx=True)
    others = [role for role in Role if role is not Role.ADMINISTRATOR]
    for role in others:
        person = add_person(app, database, email=f"{role}@example.test", name=role, role=role)
        answer = person.post(TRUST, {**typed(server.port), "sha256": sha256(own.certificate)})
        assert answer.status_code == 403
    assert trusted(database) == []


def test_a_chain_without_end_is_kept_in_part(database: Database, own: Issued) -> None:
    der = x509.load_pem_x509_certificate(own.pem).public_bytes(Encoding.DER)
    with database.transaction() as session:
        seen.note(session, "Localhost.", 465, [der] * 5000)
    with database.reading() as session:
        kept = seen.last_seen(session, "localhost", 465)
        assert kept is not None
        assert kept.certificates == (der,) * 10
