"""Reading certificates that a person hands over, and saying what they are. No database, no files, no network.

What parse() returns is all that is ever stored: each certificate is read and written anew, so nothing that stood beside
it in the file survives (RFC 5280 for certificates, RFC 7468 for PEM, RFC 2315 and 5652 for PKCS#7).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from webapp.errors import Problem
from webapp.i18n import gettext as _
from webapp.i18n import lazy

MAXIMUM_BYTES = 64 * 1024
MAXIMUM_CERTIFICATES = 10
LEAST_RSA_BITS = 2048
LEAST_CURVE_BITS = 224
WEAK_DIGESTS = frozenset({"md5", "sha1"})
CURVES = {"secp224r1": "P-224", "secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}

_BLOCK = re.compile(rb"-----BEGIN ([A-Za-z0-9 .#]{1,60})-----([A-Za-z0-9+/=\s]*)-----END \1-----")
_PRIVATE = re.compile(rb"BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY|PuTTY-User-Key-File|SSH PRIVATE KEY", re.IGNORECASE)
_CERTIFICATE_LABELS = frozenset({"CERTIFICATE", "X509 CERTIFICATE"})
_PKCS7_LABELS = frozenset({"PKCS7", "CMS", "PKCS #7 SIGNED DATA"})
_PKCS7_OIDS = bytes.fromhex("06092a864886f70d0107")
_PKCS12_VERSION = b"\x02\x01\x03"
_JAVA_KEYSTORES = (b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce")
_NETSCAPE_TYPE = x509.ObjectIdentifier("2.16.840.1.113730.1.1")
_PRIVATE_KEY = lazy("The file contains a private key, which must never leave its owner; nothing was kept.")
_ONLY_PUBLIC = lazy("Hand over only the certificate, the part from BEGIN CERTIFICATE to END CERTIFICATE.")


class CertificateRefused(Problem):
    """A file or certificate that is not taken in; the sentence says why, and what to do instead."""


@dataclass(frozen=True, slots=True)
class Description:
    """What a person compares before trusting a certificate; every text is safe to print.

    subject, issuer: names as in RFC 4514; names: DNS names and IP addresses of the subjectAltName extension;
    not_before, not_after: aware, UTC; sha256: 64 lower-case hexadecimal digits; key: for instance "RSA 2048" or
    "EC P-256"; serial: hexadecimal.
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    sha256: str
    is_authority: bool
    is_self_signed: bool
    key: str
    serial: str

    @property
    def fingerprint(self) -> str:
        """The SHA-256 as other tools print it: upper-case pairs with colons."""
        return with_colons(self.sha256)

    def as_dict(self) -> dict[str, object]:
        """The object that commands print with --json; times in ISO 8601."""
        return {
            "subject": self.subject,
            "issuer": self.issuer,
            "names": list(self.names),
            "not_before": self.not_before.isoformat(),
            "not_after": self.not_after.isoformat(),
            "sha256": self.sha256,
            "key": self.key,
            "serial": self.serial,
            "authority": self.is_authority,
            "self_signed": self.is_self_signed,
        }

    @property
    def label(self) -> str:
        """The shortest name that tells this certificate from others: its common name, or else what comes first."""
        common = re.search(r"(?:^|,)CN=((?:\\.|[^,+\\])+)", self.subject)
        return common[1] if common else next(iter(self.names), self.subject or self.fingerprint[:23])


def with_colons(sha256: str) -> str:
    """Write a fingerprint in upper-case pairs with colons."""
    return ":".join(re.findall("..", sha256.upper()))


def parse(data: bytes) -> list[x509.Certificate]:
    """Read one to ten certificates from PEM, DER or PKCS#7 (PEM or DER), each once, in their order.

    Raises CertificateRefused for anything else: a private key, junk before, between or behind, more than 64 KB, more
    than ten certificates, or a certificate that is too weak or malformed to be trusted.
    """
    data = data.removeprefix(b"\xef\xbb\xbf")
    _refuse_by_sight(data)
    found = [certificate for block in _blocks(data) for certificate in block]
    if not found:
        raise CertificateRefused(_("The file holds no certificate. Export the certificate itself, as PEM or DER."))
    if len(found) > MAXIMUM_CERTIFICATES:
        raise CertificateRefused(
            _(
                "The file holds %(number)s certificates; at most %(maximum_certificates)s are imported "
                "at once. Import only the authority that issued the mail server's certificate.",
                number=len(found),
                maximum_certificates=MAXIMUM_CERTIFICATES,
            )
        )
    for certificate in found:
        _refuse_unsound(certificate)
    return list(dict.fromkeys(found))


def read_one(der: bytes) -> x509.Certificate:
    """Read one certificate from DER. Raises CertificateRefused when it is malformed or followed by anything."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        describe(certificate)
        return certificate
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, Warning) as error:
        raise CertificateRefused(
            _(
                "The certificate is damaged, is followed by other data, or is of a kind that cannot be "
                "read here. Export it anew, as PEM or DER."
            )
        ) from error


def describe(certificate: x509.Certificate) -> Description:
    """Say what a certificate is. Raises ValueError or UnsupportedAlgorithm for one that parse() would refuse."""
    return Description(
        subject=printable(certificate.subject.rfc4514_string()),
        issuer=printable(certificate.issuer.rfc4514_string()),
        names=tuple(map(printable, names(certificate))),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        sha256=sha256(certificate),
        is_authority=is_authority(certificate),
        is_self_signed=is_self_signed(certificate),
        key=_key_text(certificate),
        serial=f"{certificate.serial_number:x}",
    )


def sha256(certificate: x509.Certificate) -> str:
    """The SHA-256 over the DER form, 64 lower-case hexadecimal digits."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names and IP addresses a server may be reached by; the common name is none of them (RFC 9525)."""
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = alternative.get_values_for_type(x509.IPAddress)
    return (*alternative.get_values_for_type(x509.DNSName), *map(str, addresses))


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether it may issue others: basicConstraints says CA (RFC 5280, 4.2.1.9)."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Whether its own key made its signature; with digests too old to be verified here, whether it says so."""
    if certificate.issuer != certificate.subject:
        return False
    try:
        certificate.verify_directly_issued_by(certificate)
    except (TypeError, InvalidSignature):
        return False
    except (ValueError, UnsupportedAlgorithm):
        pass
    return True


def printable(text: str) -> str:
    """The text with everything escaped that could move a cursor, turn the writing direction or hide (threat 79)."""
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape", "backslashreplace").decode("ascii")


def refuse_private_key(data: bytes) -> None:
    """Raises CertificateRefused for a private key that is written as text: what holds one is shown and kept nowhere."""
    if _PRIVATE.search(data.replace(b"\0", b"")):
        raise CertificateRefused(f"{_PRIVATE_KEY} {_ONLY_PUBLIC}")


def _refuse_by_sight(data: bytes) -> None:
    """Refuse what can be told before anything is parsed."""
    if not data.strip():
        raise CertificateRefused(_("The file is empty. Export the certificate again, as PEM or DER."))
    if len(data) > MAXIMUM_BYTES:
        raise CertificateRefused(
            _("The file is larger than 64 KB, which no certificate is. Hand over the certificate alone, as PEM or DER.")
        )
    refuse_private_key(data)
    if data.startswith(_JAVA_KEYSTORES):
        raise CertificateRefused(
            _(
                "The file is a Java keystore, not a certificate. Export the certificate alone: %(command)s",
                command="keytool -exportcert -rfc -keystore FILE -alias NAME",
            )
        )


def _blocks(data: bytes) -> Iterator[list[x509.Certificate]]:
    if b"-----BEGIN" not in data:
        yield _from_der(data)
        return
    end = 0
    for block in _BLOCK.finditer(data):
        _refuse_text(data[end : block.start()])
        yield _from_block(block[1].decode("ascii"), block[2])
        end = block.end()
    _refuse_text(data[end:])


def _refuse_text(text: bytes) -> None:
    if text.strip():
        raise CertificateRefused(
            _(
                "The file holds other text before, between or behind its certificates, or one of them is "
                "damaged. Keep only the lines from -----BEGIN CERTIFICATE----- to -----END "
                "CERTIFICATE-----, both included."
            )
        )


def _from_block(label: str, body: bytes) -> list[x509.Certificate]:
    if label not in _CERTIFICATE_LABELS | _PKCS7_LABELS:
        another = _("The file holds a “%(label)s”, which is not a certificate.", label=label.lower())
        raise CertificateRefused(f"{another} {_ONLY_PUBLIC}")
    try:
        der = base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error as error:
        raise CertificateRefused(_("The certificate's Base64 text is damaged. Copy or export it again.")) from error
    return _from_pkcs7(der) if label in _PKCS7_LABELS else [read_one(der)]


def _from_der(data: bytes) -> list[x509.Certificate]:
    content = _der_content(data)
    if content is None:
        raise CertificateRefused(
            _(
                "The file is not a certificate in PEM, DER or PKCS#7 form, or other data follows it. "
                "Export the certificate again, as PEM or DER."
            )
        )
    if content.startswith(_PKCS7_OIDS):
        return _from_pkcs7(data)
    if content.startswith(_PKCS12_VERSION):
        raise CertificateRefused(
            _(
                "The file is a PKCS#12 container (.p12, .pfx), made to hold a private key. Export the certificate "
                "alone: %(command)s",
                command="openssl pkcs12 -in FILE -nokeys -clcerts -out certificate.pem",
            )
        )
    if _is_private_key(data):
        raise CertificateRefused(f"{_PRIVATE_KEY} {_ONLY_PUBLIC}")
    return [read_one(data)]


def _der_content(data: bytes) -> bytes | None:
    """What stands inside a SEQUENCE of definite length, or None when the data is not exactly one (X.690, 8.1.3)."""
    if len(data) < 2 or data[0] != 0x30:
        return None
    octets = data[1] & 0x7F if data[1] & 0x80 else 0
    content = data[2 + octets :]
    length = int.from_bytes(data[2 : 2 + octets]) if octets else data[1]
    return content if len(content) == length else None


def _is_private_key(data: bytes) -> bool:
    try:
        serialization.load_der_private_key(data, password=None)
    except TypeError:  # an encrypted one, asking for its password
        return True
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True


def _from_pkcs7(der: bytes) -> list[x509.Certificate]:
    try:
        if _der_content(der) is None:  # cryptography would overlook what follows
            raise ValueError("not one DER value")
        return [read_one(each.public_bytes(Encoding.DER)) for each in pkcs7.load_der_pkcs7_certificates(der)]
    except (ValueError, TypeError, UnsupportedAlgorithm, Warning) as error:
        raise CertificateRefused(
            _(
                "The PKCS#7 file is damaged, is followed by other data, or holds no certificates. Export "
                "the certificate again, as PEM or DER."
            )
        ) from error


def _refuse_unsound(certificate: x509.Certificate) -> None:
    """Refuse what no TLS library should build trust on."""
    about = _("The certificate “%(label)s”", label=describe(certificate).label)
    if certificate.version is not x509.Version.v3:
        raise CertificateRefused(
            _(
                "%(about)s is of X.509 version 1, which cannot say what it may be used for. Have it issued anew.",
                about=about,
            )
        )
    if weakness := _weakness(certificate):
        raise CertificateRefused(
            _(
                "%(about)s %(weakness)s, which is too weak to be trusted. Have it issued anew.",
                about=about,
                weakness=weakness,
            )
        )
    if _acts_as_authority_without_saying_so(certificate):
        raise CertificateRefused(
            _(
                "%(about)s may sign other certificates by its key usage, yet is not marked as an "
                "authority (basic constraints). Have it issued anew.",
                about=about,
            )
        )


def _weakness(certificate: x509.Certificate) -> str | None:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < LEAST_RSA_BITS:
        return _("has an RSA key of %(key_size)s bits", key_size=key.key_size)
    if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < LEAST_CURVE_BITS:
        return _("has an elliptic curve key of %(key_size)s bits", key_size=key.key_size)
    if isinstance(key, dsa.DSAPublicKey):
        return _("has a DSA key")
    digest = certificate.signature_hash_algorithm
    if digest is not None and digest.name in WEAK_DIGESTS and not is_self_signed(certificate):
        return _("is signed with %(replace)s", replace=digest.name.upper().replace("SHA1", "SHA-1"))
    return None


def _acts_as_authority_without_saying_so(certificate: x509.Certificate) -> bool:
    """OpenSSL lets such a certificate issue others (check_ca in v3_purp.c), which a leaf must not (threat 72)."""
    extensions = certificate.extensions
    if any(extension.oid == x509.BasicConstraints.oid for extension in extensions):
        return False
    usage = [extension.value for extension in extensions if isinstance(extension.value, x509.KeyUsage)]
    netscape = any(extension.oid == _NETSCAPE_TYPE for extension in extensions)
    return netscape or any(each.key_cert_sign for each in usage)


def _key_text(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey | dsa.DSAPublicKey):
        return f"{'RSA' if isinstance(key, rsa.RSAPublicKey) else 'DSA'} {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {CURVES.get(key.curve.name, key.curve.name)}"
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return "Ed25519" if isinstance(key, ed25519.Ed25519PublicKey) else "Ed448"
    return type(key).__name__.removesuffix("PublicKey")
