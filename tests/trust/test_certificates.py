"""What is read from a file, and what is refused with a sentence."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7, pkcs12
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.trust.authorities import Issued, issue
from webapp.i18n import Reader, reading_as
from webapp.trust.certificates import CertificateRefused, describe, is_authority, parse, printable, read_one

ROOT = issue("root", authority=True)
LEAF = issue("mail", "mail.test", "127.0.0.1", by=ROOT)
BOTH = [LEAF.certificate, ROOT.certificate]
CHAIN = LEAF.pem + ROOT.pem
PKCS7_DER = pkcs7.serialize_certificates(BOTH, Encoding.DER)
PKCS7_PEM = pkcs7.serialize_certificates(BOTH, Encoding.PEM)
RSA = rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize(
    "data",
    [
        CHAIN,
        CHAIN.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf\n\n" + LEAF.pem + b"\n \n" + ROOT.pem + b"\n\n",
        CHAIN.replace(b"CERTIFICATE", b"X509 CERTIFICATE"),
        LEAF.pem + LEAF.pem + ROOT.pem,
    ],
    ids=["PEM", "Windows lines", "byte order mark and blanks", "old label", "one twice"],
)
def test_it_reads_a_chain_in_its_order(data: bytes) -> None:
    assert parse(data) == BOTH


def test_it_reads_der() -> None:
    assert parse(LEAF.der) == [LEAF.certificate]


@pytest.mark.parametrize("data", [PKCS7_DER, PKCS7_PEM, PKCS7_PEM.replace(b"PKCS7", b"CMS")])
def test_it_reads_pkcs7(data: bytes) -> None:
    assert set(parse(data)) == set(BOTH)


@pytest.mark.parametrize("key", [RSA, ed25519.Ed25519PrivateKey.generate()])
def test_it_reads_other_keys(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> None:
    issued = issue("mail", "mail.test", by=ROOT, key=key)
    assert parse(issued.pem) == [issued.certificate]


def test_an_old_root_may_be_signed_with_sha1() -> None:
    old = with_sha1(issue("old root", authority=True, key=RSA), RSA)
    assert describe(parse(old)[0]).label == "old root"


def test_a_description_says_what_a_person_compares() -> None:
    about = describe(LEAF.certificate)
    assert (about.subject, about.issuer, about.label) == ("CN=mail", "CN=root", "mail")
    assert about.names == ("mail.test", "127.0.0.1")
    assert about.key == "EC P-256"
    assert (about.is_authority, about.is_self_signed) == (False, False)
    assert about.fingerprint.replace(":", "").lower() == about.sha256 == LEAF.sha256
    assert about.not_before < datetime.now(UTC) < about.not_after


def test_an_authority_is_described_as_one() -> None:
    about = describe(ROOT.certificate)
    assert about.is_authority
    assert about.is_self_signed


def test_the_same_name_on_both_sides_is_no_self_signature() -> None:
    assert not describe(issue("root", by=ROOT).certificate).is_self_signed


def test_names_cannot_move_the_cursor_or_turn_the_writing() -> None:
    shown = describe(issue("a\x1b[2Jb\u202ec\x00").certificate).subject
    assert shown.isprintable()
    assert printable("\x1b\u202e\n") == r"\x1b\u202e\n"


def signing_without_being_an_authority() -> bytes:
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return issue("mail", "mail.test", authority=None, key_usage=usage).pem


def private_der(**options: object) -> bytes:
    encryption = serialization.BestAvailableEncryption(b"word") if options else serialization.NoEncryption()
    return RSA.private_bytes(Encoding.DER, serialization.PrivateFormat.PKCS8, encryption)


def private_pem(form: serialization.PrivateFormat) -> bytes:
    return RSA.private_bytes(Encoding.PEM, form, serialization.NoEncryption())


def request() -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    return builder.sign(RSA, hashes.SHA256()).public_bytes(Encoding.PEM)


def version_one() -> bytes:
    """The leaf without its version and extensions, which is version 1; nobody checks its signature here."""
    tbs = LEAF.certificate.tbs_certificate_bytes
    fields = _content(tbs)[len(b"\xa0\x03\x02\x01\x02") :]
    extensions = next(at for at, tag in enumerate(fields) if tag == 0xA3 and _fills(fields[at:]))
    return _sequence(_sequence(fields[:extensions]) + _content(LEAF.der)[len(tbs) :])


def with_sha1(issued: Issued, signer: rsa.RSAPrivateKey) -> bytes:
    """The certificate with an SHA-1 signature, which the library verifies but no longer makes."""
    sha256_rsa, sha1_rsa = bytes.fromhex("06092a864886f70d01010b"), bytes.fromhex("06092a864886f70d010105")
    tbs = issued.certificate.tbs_certificate_bytes.replace(sha256_rsa, sha1_rsa)
    signature = signer.sign(tbs, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303 - it is what is tested
    return _sequence(tbs + _sequence(sha1_rsa + b"\x05\0") + _sequence(b"\0" + signature, tag=0x03))


def _content(der: bytes) -> bytes:
    return der[2 + (der[1] & 0x7F if der[1] & 0x80 else 0) :]


def _fills(der: bytes) -> bool:
    """Whether this one value reaches to the very end."""
    return _sequence(_content(der), tag=der[0]) == der


def _sequence(content: bytes, tag: int = 0x30) -> bytes:
    octets = len(content).to_bytes((len(content).bit_length() + 7) // 8)
    size = octets if len(content) < 0x80 else bytes([0x80 | len(octets)]) + octets
    return bytes([tag]) + size + content


KEYSTORE = pkcs12.serialize_key_and_certificates(
    b"mail",
    LEAF.key,
    LEAF.certificate,
    None,
    serialization.BestAvailableEncryption(b"word"),  # type: ignore[arg-type]
)
SMALL = rsa.generate_private_key(65537, 1024)  # noqa: S505 - it is what is refused

HOSTILE: dict[str, tuple[bytes | Callable[[], bytes], str]] = {
    "empty": (b"", "empty"),
    "blanks": (b" \r\n\t", "empty"),
    "zero bytes": (b"\0" * 1000, "not a certificate"),
    "text": (b"hello", "not a certificate"),
    "web page": (b"<!doctype html><title>Download</title>", "not a certificate"),
    "64 KB and one": (b"\0" * (64 * 1024 + 1), "larger than 64 KB"),
    "key, PKCS#8": (private_pem(serialization.PrivateFormat.PKCS8), "contains a private key"),
    "key, PKCS#1": (private_pem(serialization.PrivateFormat.TraditionalOpenSSL), "contains a private key"),
    "key, OpenSSH": (private_pem(serialization.PrivateFormat.OpenSSH), "contains a private key"),
    "key, DER": (private_der, "contains a private key"),
    "key, encrypted DER": (lambda: private_der(encrypted=True), "contains a private key"),
    "key behind the certificate": (LEAF.pem + LEAF.key_pem, "contains a private key"),
    "key before the certificate": (LEAF.key_pem + LEAF.pem, "contains a private key"),
    "key, UTF-16": (LEAF.key_pem.decode().encode("utf-16"), "contains a private key"),
    "key behind DER": (LEAF.der + LEAF.key_pem, "contains a private key"),
    "key, PuTTY": (b"PuTTY-User-Key-File-3: ssh-rsa", "contains a private key"),
    "PKCS#12": (KEYSTORE, "PKCS#12"),
    "Java keystore": (b"\xfe\xed\xfe\xed\0\0\0\2", "Java keystore"),
    "request": (request, "certificate request"),
    "public key": (
        RSA.public_key().public_bytes(Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        "public key",
    ),
    "OpenSSL's own label": (LEAF.pem.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE"), "trusted certificate"),
    "text before": (b"subject=CN = mail\n" + LEAF.pem, "other text"),
    "text between": (LEAF.pem + b"and\n" + ROOT.pem, "other text"),
    "text behind": (LEAF.pem + b"junk", "other text"),
    "no end": (LEAF.pem[:-30], "other text"),
    "another end": (LEAF.pem.replace(b"END CERTIFICATE", b"END PKCS7"), "other text"),
    "damaged Base64": (LEAF.pem.replace(b"MII", b"MI=I", 1), "damaged"),
    "empty block": (b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "damaged"),
    "DER cut off": (LEAF.der[:-1], "not a certificate"),
    "DER with a byte behind": (LEAF.der + b"\0", "not a certificate"),
    "two in DER": (LEAF.der + ROOT.der, "not a certificate"),
    "a byte behind, inside PEM": (
        b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(LEAF.der + b"\0") + b"-----END CERTIFICATE-----\n",
        "followed by other data",
    ),
    "a bit turned in the key": (LEAF.der.replace(b"\x03\x42\x00\x04", b"\x03\x42\x00\x05"), "damaged"),
    "PKCS#7 with a byte behind": (PKCS7_DER + b"\0", "not a certificate"),
    "PKCS#7 without certificates": (bytes.fromhex("300b06092a864886f70d010702"), "PKCS#7 file is damaged"),
    "PKCS#7 cut off inside": (PKCS7_PEM.replace(b"A" * 2, b"B" * 2), "PKCS#7 file is damaged|damaged"),
    "eleven": (b"".join(issue(f"root {n}", authority=True).pem for n in range(11)), "holds 11 certificates"),
    "RSA 1024": (lambda: issue("mail", "mail.test", by=ROOT, key=SMALL).pem, "RSA key of 1024 bits"),
    "EC P-192": (
        lambda: issue("mail", "mail.test", key=ec.generate_private_key(ec.SECP192R1())).pem,
        "elliptic curve key of 192 bits",
    ),
    "DSA": (lambda: issue("mail", "mail.test", key=dsa.generate_private_key(2048)).pem, "DSA key"),
    "SHA-1": (lambda: with_sha1(issue("mail", "mail.test", by=issue("r", key=RSA)), RSA), "signed with SHA-1"),
    "version 1": (version_one, "version 1"),
    "may sign, yet no authority": (signing_without_being_an_authority, "not marked as an authority"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_it_refuses_with_a_clear_sentence(name: str) -> None:
    made, reason = HOSTILE[name]
    with pytest.raises(CertificateRefused, match=reason) as refused:
        parse(made if isinstance(made, bytes) else made())
    assert str(refused.value).endswith((".", ".pem", "NAME"))


@pytest.mark.parametrize("name", ["key, PKCS#8", "key, DER", "request", "PKCS#12", "Java keystore"])
def test_it_refuses_in_the_readers_language(name: str) -> None:
    made, _reason = HOSTILE[name]
    with reading_as(Reader("de")), pytest.raises(CertificateRefused, match=r"^Die Datei ") as refused:
        parse(made if isinstance(made, bytes) else made())
    assert "The file" not in str(refused.value)


def test_a_refusal_shows_nothing_of_the_key() -> None:
    with pytest.raises(CertificateRefused) as refused:
        parse(LEAF.key_pem)
    assert LEAF.key_pem.splitlines()[1].decode() not in repr(refused.getrepr(chain=True))


def read_or_refuse(data: bytes) -> None:
    """What every input must end in: certificates that survive being written and read again, or a sentence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = parse(data)
        except CertificateRefused:
            return
        assert 1 <= len(found) <= 10
        for certificate in found:
            assert read_one(certificate.public_bytes(Encoding.DER)) == certificate
            assert describe(certificate).subject.isprintable()
            is_authority(certificate)


@given(st.binary(max_size=2000))
def test_no_bytes_upset_it(data: bytes) -> None:
    read_or_refuse(data)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from([LEAF.der, ROOT.der, PKCS7_DER, LEAF.pem, CHAIN, PKCS7_PEM, KEYSTORE]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=3), st.integers(0, 3)), max_size=4),
)
def test_no_damage_upsets_it(sound: bytes, damages: list[tuple[float, bytes, int]]) -> None:
    for where, put, cut in damages:
        at = int(where * len(sound))
        sound = sound[:at] + put + sound[at + cut :]
    read_or_refuse(sound)


@given(st.lists(st.sampled_from([b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----", b"\n", b"MIIB", b"-----BEGIN PKCS7-----", LEAF.pem]), max_size=30))  # fmt: skip  # noqa: E501
def test_no_arrangement_of_blocks_upsets_it(parts: list[bytes]) -> None:
    read_or_refuse(b"".join(parts))
