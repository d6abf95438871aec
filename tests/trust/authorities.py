"""Certificates made for the run."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Issued:
    """A certificate and its key; ``signed_by`` is who issued it, None for a self-signed one."""

    certificate: x509.Certificate
    key: CertificateIssuerPrivateKeyTypes
    signed_by: Issued | None = None

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def sha256(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def root(self) -> Issued:
        return self.signed_by.root if self.signed_by else self

    @property
    def served(self) -> bytes:
        """What a server needs in its certificate file: key, own certificate, and the intermediates above it."""
        chain, each = [self.key_pem, self.pem], self.signed_by
        while each and each.signed_by:
            chain, each = [*chain, each.pem], each.signed_by
        return b"".join(chain)


def issue(
    common_name: str,
    *names: str,
    by: Issued | None = None,
    authority: bool | None = False,
    key: CertificateIssuerPrivateKeyTypes | None = None,
    digest: hashes.HashAlgorithm | None = None,
    days: tuple[int, int] = (-1, 90),
    key_usage: x509.KeyUsage | None = None,
) -> Issued:
    """Issue a certificate; ``authority`` None leaves basicConstraints out; ``days`` counts from now."""
    own = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(own.public_key())  # type: ignore[arg-type]
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
    )
    if authority is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    if key_usage is not None:
        builder = builder.add_extension(key_usage, critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_name(each) for each in names]), critical=False)
    signed = builder.sign(by.key if by else own, digest or hashes.SHA256())
    return Issued(signed, own, by)


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
