"""Which of the certificates a server presents is the right one to trust."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from webapp.trust.certificates import is_authority, is_self_signed, names, read_one
from webapp.trust.pinning import matches


@dataclass(frozen=True, slots=True)
class Choice:
    """The certificate to import, and whether it has to be pinned to the server because its names do not match."""

    certificate: x509.Certificate
    pinned: bool


def choose(chain: Sequence[bytes], host: str) -> Choice:
    """Choose from the presented certificates, DER, the server's own first.

    The root, when it is among them, really vouches for the server's own and that one is for this host; else the
    server's own, pinned when it is not for this host. Raises CertificateRefused for one that cannot be read, and
    ValueError for an empty chain.
    """
    if not chain:
        raise ValueError("no certificate was presented")
    leaf, *others = map(read_one, chain)
    if not matches(host, names(leaf)):
        return Choice(leaf, pinned=True)
    root = _root(leaf, others)
    return Choice(root or leaf, pinned=root is None and is_authority(leaf))


def _root(leaf: x509.Certificate, others: Sequence[x509.Certificate]) -> x509.Certificate | None:
    """The self-signed authority at the end of the signatures that begin with the leaf, if it is there."""
    top, left = leaf, list(others)
    while (issuer := next((each for each in left if issued(each, top)), None)) is not None:
        left.remove(issuer)
        top = issuer
    return top if top is not leaf and is_self_signed(top) else None


def issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Whether an authority's key made the signature of a certificate."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return is_authority(issuer)
