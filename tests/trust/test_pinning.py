"""Our own name check says what OpenSSL's says."""

from __future__ import annotations

import ssl

import pytest

from tests.trust.authorities import Issued, issue
from webapp.trust.pinning import matches

CASES = [
    ("mail.test", "mail.test"),
    ("mail.test", "MAIL.Test"),
    ("MAIL.test", "mail.test"),
    ("mail.test", "*.test"),
    ("mail.example.test", "*.example.test"),
    ("a.mail.example.test", "*.example.test"),
    ("example.test", "*.example.test"),
    ("mail.example.test", "m*.example.test"),
    ("mail.example.test", "*l.example.test"),
    ("mail.example.test", "*.*.test"),
    ("mail.example.test", "mail.*.test"),
    ("mail.test", "*"),
    ("mail", "*"),
    ("mail", "mail"),
    ("mail.example.test", "example.test"),
    ("mail.example.test.evil.test", "mail.example.test"),
    ("127.0.0.1", "127.0.0.1"),
    ("127.0.0.1", "127.0.0.2"),
    ("127.0.0.1", "*.0.0.1"),
    ("::1", "::1"),
    ("::1", "0:0:0:0:0:0:0:1"),
    ("bücher.example.test", "xn--bcher-kva.example.test"),
    ("bücher.example.test", "*.example.test"),
]


def openssl_accepts(leaf: Issued, host: str, folder: str) -> bool:
    """A handshake over a socket pair with OpenSSL's own name check."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.hostname_checks_common_name = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cadata=leaf.der)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(back, there, server_hostname=host)
    theirs = server.wrap_bio(there, back, server_side=True)
    for _ in range(4):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError:
                return False
    return ours.version() is not None


@pytest.mark.parametrize(("host", "certified"), CASES)
def test_names_match_as_openssl_has_it(host: str, certified: str, tmp_path: object) -> None:
    leaf = issue("mail", certified)
    file = f"{tmp_path}/server.pem"
    with open(file, "wb") as writing:
        writing.write(leaf.served)
    assert matches(host, [certified]) == openssl_accepts(leaf, host, file)


def test_without_names_nothing_matches() -> None:
    assert not matches("mail.test", [])
    assert not matches("", ["mail.test", "*.test"])
