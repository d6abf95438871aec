"""X.509 certificates read from what people have: PEM, DER or PKCS#7, one or a chain (RFC 5280, RFC 7468, RFC 2315)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.hashes import MD5, SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from webapp.errors import Problem

LARGEST_BYTES = 64 * 1024
MOST_CERTIFICATES = 10
_LEAST_RSA_BITS = 2048
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----[^-]*-----END \1-----")


class CertificateRefused(Problem):
    """What was given is not a certificate that can be trusted; the sentence says why and what to do."""


@dataclass(frozen=True, slots=True)
class Description:
    """A certificate in words. Times are UTC; sha256 is lower-case hex of the DER form."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    sha256: str
    key: str
    is_authority: bool
    is_self_signed: bool

    @property
    def fingerprint(self) -> str:
        """The SHA-256 in pairs, as browsers and openssl show it."""
        upper = self.sha256.upper()
        return ":".join(upper[index : index + 2] for index in range(0, len(upper), 2))

    def as_dict(self) -> dict[str, Any]:
        """JSON of the public interface."""
        return {
            "subject": self.subject,
            "issuer": self.issuer,
            "names": list(self.names),
            "not_before": self.not_before.isoformat(),
            "not_after": self.not_after.isoformat(),
            "sha256": self.sha256,
            "key": self.key,
            "authority": self.is_authority,
            "self_signed": self.is_self_signed,
        }


def parse(data: bytes) -> list[x509.Certificate]:
    """The certificates in ``data``, in their order, each once. Raises CertificateRefused."""
    if not data.strip():
        raise CertificateRefused("The file is empty. Give a certificate in PEM, DER or PKCS#7 form.")
    if len(data) > LARGEST_BYTES:
        raise CertificateRefused(
            f"The file is larger than {LARGEST_BYTES // 1024} KB, which no certificate is. Give the certificate alone."
        )
    if b"PRIVATE KEY" in data:
        raise CertificateRefused(
            "The file contains a private key, which must never be handed to anybody. Nothing was kept. "
            "Give the certificate alone."
        )
    with _quietly():
        found = list(dict.fromkeys(_read_pem(data) if b"-----BEGIN" in data else _read_der(data)))
    if len(found) > MOST_CERTIFICATES:
        raise CertificateRefused(
            f"The file holds {len(found)} certificates; at most {MOST_CERTIFICATES} are taken at once. "
            "Give the certificate of your mail server's authority alone."
        )
    for certificate in found:
        _refuse_weak(certificate)
    return found


def describe(certificate: x509.Certificate) -> Description:
    """What a person needs to know to recognise a certificate."""
    with _quietly():
        return Description(
            subject=_readable(certificate.subject),
            issuer=_readable(certificate.issuer),
            names=_names(certificate),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            sha256=certificate.fingerprint(SHA256()).hex(),
            key=_key(certificate),
            is_authority=_is_authority(certificate),
            is_self_signed=certificate.subject == certificate.issuer,
        )


def _read_pem(data: bytes) -> Iterator[x509.Certificate]:
    rest = _BLOCK.sub(b"", data)
    if b"-----" in rest:
        raise CertificateRefused("The file is cut off or damaged: a PEM block in it has no end. Fetch it again.")
    for match in _BLOCK.finditer(data):
        label, block = match[1], match[0]
        try:
            if label in (b"CERTIFICATE", b"X509 CERTIFICATE"):
                yield x509.load_pem_x509_certificate(block.replace(b"X509 CERTIFICATE", b"CERTIFICATE"))
            elif label in (b"PKCS7", b"CMS"):
                yield from _some(pkcs7.load_pem_pkcs7_certificates(block.replace(b"-CMS", b"-PKCS7")))
            else:
                raise CertificateRefused(
                    f"The file contains “{label.decode().lower()}”, which is not a certificate. "
                    "Give the certificate in PEM, DER or PKCS#7 form."
                )
        except (ValueError, UnsupportedAlgorithm):
            raise CertificateRefused(
                "A certificate in the file is damaged and cannot be read. Fetch it again."
            ) from None


def _read_der(data: bytes) -> list[x509.Certificate]:
    if _is_private_key(data):
        raise CertificateRefused(
            "The file contains a private key, which must never be handed to anybody. Nothing was kept. "
            "Give the certificate alone."
        )
    try:
        certificate = x509.load_der_x509_certificate(data)
        if certificate.public_bytes(Encoding.DER) == data:
            return [certificate]
    except (ValueError, UnsupportedAlgorithm):
        pass
    try:
        return _some(pkcs7.load_der_pkcs7_certificates(data))
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateRefused(
            "The file is not a certificate. Give one in PEM form (it begins with -----BEGIN CERTIFICATE-----), "
            "in DER or in PKCS#7 form, with nothing before or after it."
        ) from None


def _some(found: list[x509.Certificate]) -> list[x509.Certificate]:
    if not found:
        raise CertificateRefused("The PKCS#7 file holds no certificate. Export it again with its certificates.")
    return found


def _is_private_key(data: bytes) -> bool:
    from cryptography.hazmat.primitives.serialization import load_der_private_key, pkcs12

    try:
        load_der_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if isinstance(error, TypeError):
            return True
    else:
        return True
    try:
        return pkcs12.load_pkcs12(data, None).key is not None
    except (ValueError, UnsupportedAlgorithm) as error:
        return "password" in str(error).lower()


def _refuse_weak(certificate: x509.Certificate) -> None:
    subject = _readable(certificate.subject)
    key = _public_key(certificate)
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _LEAST_RSA_BITS:
        raise CertificateRefused(
            f"The certificate “{subject}” has an RSA key of {key.key_size} bits, which can be broken. "
            f"Have it issued again with at least {_LEAST_RSA_BITS}."
        )
    if key is None or isinstance(key, dsa.DSAPublicKey):
        raise CertificateRefused(
            f"The certificate “{subject}” has a kind of key that is not used for TLS any more. "
            "Have it issued again with an RSA or an elliptic-curve key."
        )
    try:
        weak = isinstance(certificate.signature_hash_algorithm, MD5 | SHA1)
    except UnsupportedAlgorithm:
        weak = True
    if weak and certificate.subject != certificate.issuer:
        raise CertificateRefused(
            f"The certificate “{subject}” is signed with an outdated digest (SHA-1 or MD5), which can be forged. "
            "Have it issued again with SHA-256."
        )


def _readable(name: x509.Name) -> str:
    text = name.rfc4514_string()
    shown = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return (shown if len(shown) <= 300 else shown[:299] + "…") or "(no name)"


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    names = alternative.get_values_for_type(x509.DNSName)
    return tuple([*names, *(str(address) for address in alternative.get_values_for_type(x509.IPAddress))][:100])


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _public_key(certificate: x509.Certificate) -> object:
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None


def _key(certificate: x509.Certificate) -> str:
    key = _public_key(certificate)
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}"
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "Ed25519"
    return "Ed448" if isinstance(key, ed448.Ed448PublicKey) else "unknown"


@contextmanager
def _quietly() -> Iterator[None]:
    """The library warns of certificates that are a little out of order; the person is told by us or not at all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
