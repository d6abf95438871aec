"""What a connection trusts, seen in real handshakes."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.trust.authorities import issue
from tests.trust.tls_server import Serve
from webapp.actor import command_line
from webapp.db import Database
from webapp.installation import Installation
from webapp.trust.store import TrustedCertificate, TrustStore, import_certificates, remove

ROOT = Path(__file__).parents[2]
NAME_MISMATCH, EXPIRED, NOT_AN_AUTHORITY = 62, 10, 79


@pytest.fixture
def trust(database: Database) -> TrustStore:
    return TrustStore(database)


def put(database: Database, data: bytes, **where: object) -> None:
    with database.transaction() as session:
        import_certificates(session, command_line(), data, source="a test", **where)  # type: ignore[arg-type]


def greeting(trust: TrustStore, address: tuple[str, int], name: str, *, port: int | None = None) -> bytes:
    """Connect as the mail transport does, calling the server by this name."""
    with (
        socket.create_connection(address, timeout=5) as plain,
        trust.ssl_context(name, port or address[1]).wrap_socket(plain, server_hostname=name) as secured,
    ):
        return secured.recv(100)


def refusal(trust: TrustStore, address: tuple[str, int], name: str, *, port: int | None = None) -> int:
    """The verify code with which the connection is refused."""
    with pytest.raises(ssl.SSLCertVerificationError) as refused:
        greeting(trust, address, name, port=port)
    return refused.value.verify_code


def test_a_stranger_is_refused(trust: TrustStore, serve: Serve) -> None:
    assert refusal(trust, serve(issue("mail", "mail.test")), "mail.test") == 18


def test_an_imported_authority_vouches_for_its_servers(trust: TrustStore, database: Database, serve: Serve) -> None:
    root = issue("root", authority=True)
    put(database, root.pem)
    assert greeting(trust, serve(issue("mail", "mail.test", by=root)), "mail.test") == b"220 ready\r\n"


def test_an_imported_intermediate_needs_no_root(trust: TrustStore, database: Database, serve: Serve) -> None:
    middle = issue("middle", by=issue("root", authority=True), authority=True)
    put(database, middle.pem)
    assert greeting(trust, serve(issue("mail", "mail.test", by=middle)), "mail.test") == b"220 ready\r\n"


def test_an_imported_self_signed_leaf_is_trusted_as_itself(trust: TrustStore, database: Database, serve: Serve) -> None:
    leaf = issue("mail", "mail.test")
    put(database, leaf.pem)
    assert greeting(trust, serve(leaf), "mail.test") == b"220 ready\r\n"


def test_an_address_matches_as_a_name_does(trust: TrustStore, database: Database, serve: Serve) -> None:
    leaf = issue("mail", "127.0.0.1")
    put(database, leaf.pem)
    assert greeting(trust, serve(leaf), "127.0.0.1") == b"220 ready\r\n"


def test_a_wrong_name_is_refused(trust: TrustStore, database: Database, serve: Serve) -> None:
    leaf = issue("mail", "mail.test")
    put(database, leaf.pem)
    assert refusal(trust, serve(leaf), "other.test") == NAME_MISMATCH


def test_the_common_name_is_no_server_name(trust: TrustStore, database: Database, serve: Serve) -> None:
    root = issue("root", authority=True)
    put(database, root.pem)
    assert refusal(trust, serve(issue("mail.test", by=root)), "mail.test") == NAME_MISMATCH


def test_an_expired_server_is_refused(trust: TrustStore, database: Database, serve: Serve) -> None:
    root = issue("root", authority=True)
    put(database, root.pem)
    assert refusal(trust, serve(issue("mail", "mail.test", by=root, days=(-9, -1))), "mail.test") == EXPIRED


def test_an_expired_certificate_taken_with_consent_is_still_refused(
    trust: TrustStore, database: Database, serve: Serve
) -> None:
    leaf = issue("mail", "mail.test", days=(-9, -1))
    put(database, leaf.pem, confirm_expired=True)
    assert refusal(trust, serve(leaf), "mail.test") == EXPIRED


@pytest.mark.parametrize("authority", [False, None])
def test_a_leaf_issues_nothing(trust: TrustStore, database: Database, serve: Serve, authority: bool | None) -> None:
    leaf = issue("mail", "mail.test", authority=authority)
    put(database, leaf.pem)
    assert refusal(trust, serve(issue("forged", "bank.test", by=leaf)), "bank.test") in {24, 79, 32, 26}


def test_a_pinned_certificate_needs_no_matching_name(trust: TrustStore, database: Database, serve: Serve) -> None:
    leaf = issue("appliance")
    address = serve(leaf)
    put(database, leaf.pem, host="Mail.Test", port=address[1])
    assert greeting(trust, address, "mail.test") == b"220 ready\r\n"


def test_a_pin_holds_for_no_other_host(trust: TrustStore, database: Database, serve: Serve) -> None:
    leaf = issue("appliance")
    address = serve(leaf)
    put(database, leaf.pem, host="mail.test", port=address[1])
    assert refusal(trust, address, "other.test") == 18


def test_a_pin_holds_for_no_other_port(trust: TrustStore, database: Database, serve: Serve) -> None:
    leaf = issue("appliance")
    address = serve(leaf)
    put(database, leaf.pem, host="mail.test", port=address[1])
    assert refusal(trust, address, "mail.test", port=address[1] ^ 1) == 18


def test_the_context_of_a_pin_does_not_serve_another_name(trust: TrustStore, database: Database, serve: Serve) -> None:
    leaf = issue("appliance")
    address = serve(leaf)
    put(database, leaf.pem, host="mail.test", port=address[1])
    context = trust.ssl_context("mail.test", address[1])
    with (
        socket.create_connection(address, timeout=5) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        context.wrap_socket(plain, server_hostname="other.test")


def test_a_pinned_authority_issues_nothing(trust: TrustStore, database: Database, serve: Serve) -> None:
    pinned = issue("appliance", "mail.test", authority=True)
    address = serve(issue("forged", "mail.test", by=pinned))
    put(database, pinned.pem, host="mail.test", port=address[1])
    assert refusal(trust, address, "mail.test") == NOT_AN_AUTHORITY


def test_beside_a_pin_others_still_need_a_matching_name(trust: TrustStore, database: Database, serve: Serve) -> None:
    root = issue("root", authority=True)
    address = serve(issue("mail", "mail.test", by=root))
    put(database, root.pem)
    put(database, issue("old").pem, host="mail.test", port=address[1])
    put(database, issue("old").pem, host="other.test", port=address[1])
    assert greeting(trust, address, "mail.test") == b"220 ready\r\n"
    assert refusal(trust, address, "other.test") == NAME_MISMATCH


def test_one_certificate_may_be_pinned_to_two_ports(trust: TrustStore, database: Database, serve: Serve) -> None:
    leaf = issue("appliance")
    for address in (serve(leaf), serve(leaf)):
        put(database, leaf.pem, host="mail.test", port=address[1])
        assert greeting(trust, address, "mail.test") == b"220 ready\r\n"


def by_memory(context: ssl.SSLContext, _: socket.socket) -> None:
    context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="mail.test")


def by_a_late_handshake(context: ssl.SSLContext, plain: socket.socket) -> None:
    context.wrap_socket(plain, server_hostname="mail.test", do_handshake_on_connect=False)


def by_no_name(context: ssl.SSLContext, plain: socket.socket) -> None:
    context.wrap_socket(plain)


@pytest.mark.parametrize("way", [by_memory, by_a_late_handshake, by_no_name])
def test_a_pinned_context_offers_no_way_around_its_check(
    trust: TrustStore, database: Database, way: Callable[[ssl.SSLContext, socket.socket], None]
) -> None:
    put(database, issue("appliance").pem, host="mail.test", port=465)
    with socket.socket() as plain, pytest.raises(ValueError, match="pinned context"):
        way(trust.ssl_context("mail.test", 465), plain)


def test_the_same_context_serves_until_something_changes(trust: TrustStore, database: Database) -> None:
    first = trust.ssl_context("mail.test", 465)
    assert trust.ssl_context("other.test", 587) is first
    put(database, issue("root", authority=True).pem)
    assert trust.ssl_context("mail.test", 465) is not first


def test_what_is_removed_is_refused_at_once(trust: TrustStore, database: Database, serve: Serve) -> None:
    leaf = issue("mail", "mail.test")
    address = serve(leaf)
    put(database, leaf.pem)
    greeting(trust, address, "mail.test")
    with database.transaction() as session:
        remove(session, command_line(), leaf.sha256)
    assert refusal(trust, address, "mail.test") == 18


IMPORT_ELSEWHERE = """
import sys
from pathlib import Path
from webapp.actor import command_line
from webapp.config import Config
from webapp.installation import open_installation
from webapp.trust.store import import_certificates

installation = open_installation(Config.from_environment(
    {"KEYPOST_INSTANCE": sys.argv[1], "KEYPOST_DATABASE_URL": sys.argv[2]}))
with installation.database.transaction() as session:
    import_certificates(session, command_line(), Path(sys.argv[3]).read_bytes(), source="another process")
installation.close()
"""


def test_an_import_in_another_process_works_at_once(
    trust: TrustStore, installation: Installation, serve: Serve, tmp_path: Path
) -> None:
    leaf = issue("mail", "mail.test")
    address = serve(leaf)
    assert refusal(trust, address, "mail.test") == 18
    file = tmp_path / "leaf.pem"
    file.write_bytes(leaf.pem)
    config = installation.config
    subprocess.run(
        [sys.executable, "-c", IMPORT_ELSEWHERE, str(config.instance), config.database_url, str(file)],
        cwd=ROOT,
        check=True,
        timeout=60,
    )
    assert greeting(trust, address, "mail.test") == b"220 ready\r\n"


def test_a_certificate_exchanged_in_the_database_is_not_trusted(
    trust: TrustStore, database: Database, serve: Serve
) -> None:
    forged = issue("mail", "mail.test")
    put(database, issue("root", authority=True).pem)
    with database.transaction() as session:
        session.execute(sa.update(TrustedCertificate).values(der=forged.der))
    assert refusal(trust, serve(forged), "mail.test") == 18


def test_every_python_verifies_alike(trust: TrustStore, database: Database) -> None:
    put(database, issue("appliance").pem, host="mail.test", port=465)
    for context in (trust.ssl_context("mail.test", 465), trust.ssl_context("other.test", 465)):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert context.verify_flags & ssl.VERIFY_X509_PARTIAL_CHAIN
        assert not context.verify_flags & ssl.VERIFY_X509_STRICT
        assert len(context.get_ca_certs()) > 1 or ssl.get_default_verify_paths().cafile is None


def test_only_a_pin_leaves_names_to_our_own_check(trust: TrustStore, database: Database) -> None:
    put(database, issue("root", authority=True).pem)
    assert trust.ssl_context("mail.test", 465).check_hostname
