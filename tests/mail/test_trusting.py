"""The trust store and the road to a mail server, together: an import works at once, a pin at its own place only."""

from __future__ import annotations

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.mail_certificates import Issued, server_context
from tests.support.mail_server import MailServer
from tests.support.scripted_smtp import ScriptedServer, replying
from webapp.actor import command_line
from webapp.db import Database
from webapp.keyring import Secret
from webapp.mail.probe import Result, login_check, outcome_of
from webapp.mail.transport import Login, Security, Server
from webapp.trust.store import TrustStore, import_certificates

LOGIN = Login("user@example.test", Secret("correct-horse"))


def trust(database: Database, pem: bytes, *, host: str | None = None, port: int | None = None) -> None:
    with database.transaction() as session:
        import_certificates(session, command_line(), pem, source="test", host=host, port=port)


def check(store: TrustStore, port: int, host: str = "localhost") -> Result:
    return outcome_of(login_check(Server(host, port, Security.SSL, "keypost.example.test"), LOGIN), store)


def test_an_imported_authority_is_trusted_at_once(
    database: Database, mail_server_ssl: MailServer, mail_authority: trustme.CA
) -> None:
    store = TrustStore(database)
    before = check(store, mail_server_ssl.port)
    trust(database, mail_authority.cert_pem.bytes())
    after = check(store, mail_server_ssl.port)
    assert before.diagnosis is not None
    assert (before.diagnosis.code, after.outcome) == ("certificate-untrusted", "accepted")


def test_the_root_that_a_failed_test_shows_can_be_imported(database: Database) -> None:
    store = TrustStore(database)
    root = Issued("A private root", authority=True)
    leaf = Issued(issuer=root)
    with ScriptedServer(replying(leaf.server_context(chain=(root,)), at_once=True)) as server:
        shown = check(store, server.port).certificate
        assert shown is not None
        trust(database, x509.load_der_x509_certificate(shown.chain[-1]).public_bytes(Encoding.PEM))
        assert check(store, server.port).outcome == "accepted"


def test_a_self_signed_certificate_is_trusted_once_it_is_imported(database: Database) -> None:
    store = TrustStore(database)
    own = Issued()
    with ScriptedServer(replying(own.server_context(), at_once=True)) as server:
        before = check(store, server.port)
        trust(database, own.pem)
        after = check(store, server.port)
    assert before.diagnosis is not None
    assert (before.diagnosis.code, after.outcome) == ("certificate-self-signed", "accepted")
    assert after.certificate is not None
    assert after.certificate.trusted


def test_a_certificate_for_another_name_is_trusted_where_it_is_pinned(database: Database) -> None:
    store = TrustStore(database)
    authority = trustme.CA()
    other = authority.issue_cert("mail.example.test")
    trust(database, authority.cert_pem.bytes())
    script = replying(server_context(other), at_once=True)
    with ScriptedServer(script) as server, ScriptedServer(script) as elsewhere:
        before = check(store, server.port)
        trust(database, other.cert_chain_pems[0].bytes(), host="localhost", port=server.port)
        after, next_door = check(store, server.port), check(store, elsewhere.port)
    assert before.diagnosis is not None
    assert next_door.diagnosis is not None
    assert (before.diagnosis.code, after.outcome) == ("certificate-name-mismatch", "accepted")
    assert next_door.diagnosis.code == "certificate-name-mismatch"
