"""Certificates for mail tests that trustme does not make, and a Trust that knows the authorities of a test."""

from __future__ import annotations

import ipaddress
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Trusting:
    """Verifies as Keypost does on every Python, with the authorities given here (PEM) as the only ones."""

    def __init__(self, *authorities: trustme.CA | bytes) -> None:
        pem = [each.cert_pem.bytes() if isinstance(each, trustme.CA) else each for each in authorities]
        self._pem = b"".join(pem).decode()

    def ssl_context(self, host: str, port: int) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.verify_flags = ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN
        context.hostname_checks_common_name = False
        if self._pem:
            context.load_verify_locations(cadata=self._pem)
        return context

    public_context = ssl_context


class Issued:
    """A key and its certificate, issued by ``issuer`` or by itself."""

    def __init__(
        self,
        name: str = "localhost",
        *,
        issuer: Issued | None = None,
        names: tuple[str, ...] = ("localhost", "127.0.0.1"),
        authority: bool = False,
        path_length: int | None = None,
        purpose: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.SERVER_AUTH,
        key: Key | None = None,
    ) -> None:
        self.key: Key = key or ec.generate_private_key(ec.SECP256R1())
        self.issuer = issuer
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer = issuer or self
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=path_length), critical=True)
        )
        if not authority:
            if names:
                builder = builder.add_extension(x509.SubjectAlternativeName([_name(each) for each in names]), False)
            if purpose:
                builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        self.certificate: x509.Certificate = builder.sign(signer.key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def server_context(self, *, chain: tuple[Issued, ...] = (), ciphers: str | None = None) -> ssl.SSLContext:
        """A server's context that presents this certificate, followed by ``chain``."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if ciphers:
            context.set_ciphers(ciphers)
        key = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "server.pem"
            file.write_bytes(key + self.pem + b"".join(each.pem for each in chain))
            context.load_cert_chain(file)
        return context


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """A server's context for a certificate made by trustme."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
