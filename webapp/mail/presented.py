"""The certificate a mail server presents, described for a person."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography import x509


@dataclass(frozen=True, slots=True)
class Presented:
    """What a server showed. names: DNS names and IP addresses it is for; times are UTC; sha256: lower-case hex of the
    leaf; trusted: whether it was accepted; chain: every certificate presented, DER, the server's own first."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: datetime | None
    not_after: datetime | None
    sha256: str
    trusted: bool
    chain: tuple[bytes, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON of the public interface; the chain stays out."""
        return {
            "subject": self.subject,
            "issuer": self.issuer,
            "names": list(self.names),
            "not_before": self.not_before.isoformat() if self.not_before else None,
            "not_after": self.not_after.isoformat() if self.not_after else None,
            "sha256": self.sha256,
            "trusted": self.trusted,
        }


def describe(chain: Sequence[bytes], *, trusted: bool) -> Presented | None:
    """Describe a presented chain; None for an empty one. A certificate that cannot be read is described by its hash."""
    if not chain:
        return None
    fingerprint = hashlib.sha256(chain[0]).hexdigest()
    try:
        leaf = x509.load_der_x509_certificate(chain[0])
        return Presented(
            subject=_one_line(leaf.subject.rfc4514_string()),
            issuer=_one_line(leaf.issuer.rfc4514_string()),
            names=_names(leaf),
            not_before=leaf.not_valid_before_utc,
            not_after=leaf.not_valid_after_utc,
            sha256=fingerprint,
            trusted=trusted,
            chain=tuple(chain),
        )
    except (ValueError, x509.UnsupportedGeneralNameType):
        return Presented("(unreadable)", "(unreadable)", (), None, None, fingerprint, trusted, tuple(chain))


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        alternative = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    names = [*alternative.get_values_for_type(x509.DNSName)]
    names += [str(address) for address in alternative.get_values_for_type(x509.IPAddress)]
    return tuple(_one_line(name) for name in names[:100])


def _one_line(text: str) -> str:
    shown = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return shown if len(shown) <= 300 else shown[:299] + "…"
