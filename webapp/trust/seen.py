"""What a server was last seen to present, and the step from having seen it to trusting it.

A person compares what a page shows them; so the server keeps the very bytes that were shown, and imports them and
nothing else: a fingerprint names what was compared, and what does not have it is not imported.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy.orm import Mapped, mapped_column

from webapp.actor import Actor
from webapp.db import Base, Session, UtcDateTime
from webapp.errors import Conflict, Invalid
from webapp.i18n import day
from webapp.i18n import gettext as _
from webapp.trust import store
from webapp.trust.certificates import (
    MAXIMUM_BYTES,
    MAXIMUM_CERTIFICATES,
    CertificateRefused,
    Description,
    describe,
    parse,
    read_one,
)
from webapp.trust.choice import Choice, choose, issued

_PRESENTED = re.compile(r"presented by (?P<host>.+), port (?P<port>\d+)")
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----\n.*?-----END CERTIFICATE-----\n", re.DOTALL)


class SeenChain(Base):
    """The certificates a server presented when it was last asked, PEM, its own first; at most 10 and 64 KB."""

    __tablename__ = "seen_chains"

    host: Mapped[str] = mapped_column(sa.String(255), primary_key=True)
    port: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    chain: Mapped[str] = mapped_column(sa.Text)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)

    @property
    def certificates(self) -> tuple[bytes, ...]:
        """Each certificate, DER, the server's own first."""
        return tuple(map(ssl.PEM_cert_to_DER_cert, _PEM.findall(self.chain)))


@dataclass(frozen=True, slots=True)
class Offer:
    """What a person is shown of a presented chain, and what they may trust.

    chain: what could be read, the server's own first; chosen: what would be imported, pinned to the server alone when
    ``pinned``; obstacle: why it is not offered, as a sentence, or "" when it is.
    """

    chain: tuple[Description, ...]
    chosen: Description | None
    pinned: bool
    obstacle: str


def note(session: Session, host: str, port: int, chain: Sequence[bytes]) -> None:
    """Remember what a server presented just now, in place of what it presented before."""
    if not chain:
        return
    fitting: list[str] = []
    for der in chain[:MAXIMUM_CERTIFICATES]:
        fitting.append(ssl.DER_cert_to_PEM_cert(der))
        if sum(map(len, fitting)) > MAXIMUM_BYTES:
            fitting.pop()
            break
    session.merge(SeenChain(**_key(host, port), chain="".join(fitting), seen_at=session.now()))
    session.flush()


def last_seen(session: Session, host: str, port: int) -> SeenChain | None:
    """What this server presented last, if it was ever asked."""
    return session.get(SeenChain, _key(host, port))


def offer(chain: Sequence[bytes], host: str, now: datetime) -> Offer:
    """What to show of a chain, and whether it may be trusted at this moment. Never raises for what the chain holds."""
    shown = tuple(describe(each) for each in readable(chain))
    try:
        choice = choose(chain, host)
        parse(choice.certificate.public_bytes(Encoding.DER))
    except (CertificateRefused, ValueError) as error:
        reason = str(error) if isinstance(error, CertificateRefused) else _("The server presented no certificate.")
        return Offer(shown, None, pinned=False, obstacle=reason)
    chosen = describe(choice.certificate)
    return Offer(shown, chosen, choice.pinned, _untimely((shown[0], chosen), now))


def trust_seen(session: Session, actor: Actor, host: str, port: int, sha256: str) -> store.Imported:
    """Trust what this server was last seen to present, if it is the certificate with the fingerprint that was compared.

    sha256: hexadecimal, with or without colons; blank when nothing was compared. Raises Invalid when nothing was,
    Conflict when the server has presented something else meanwhile, CertificateRefused for what is not imported.
    """
    compared = sha256.replace(":", "").strip().lower()
    if not compared:
        raise Invalid(
            _(
                "Nothing was trusted yet. Compare the SHA-256 with the one that whoever runs the server "
                "tells you, tick that you did, and choose “Trust this certificate” again."
            ),
            "sha256",
        )
    seen = last_seen(session, host, port)
    choice = _choice(seen, host)
    if seen is None or choice is None or describe(choice.certificate).sha256 != compared:
        raise Conflict(
            _(
                "Nothing was trusted: that is not the certificate this server was last seen to present. "
                "Test again, and compare the SHA-256 anew."
            )
        )
    now = session.now()
    if obstacle := _untimely((describe(readable(seen.certificates)[0]),), now):
        raise CertificateRefused(obstacle)
    [imported] = store.import_certificates(
        session,
        actor,
        choice.certificate.public_bytes(Encoding.DER),
        source=f"presented by {host}, port {port}",
        host=host if choice.pinned else None,
        port=port if choice.pinned else None,
    )
    return imported


def origin(source: str) -> str:
    """Where a trusted certificate came from, in the reader's language: a server, or the name of a file."""
    found = _PRESENTED.fullmatch(source)
    return _("presented by %(host)s, port %(port)s", **found.groupdict()) if found else source


def vouches(sha256: str, anchor: x509.Certificate, chain: Sequence[bytes]) -> bool:
    """Whether a trusted certificate stands in a presented chain, or issued one of the certificates in it."""
    presented = readable(chain)
    return any(describe(each).sha256 == sha256 for each in presented) or any(issued(anchor, each) for each in presented)


def readable(chain: Sequence[bytes]) -> list[x509.Certificate]:
    """The certificates of a chain up to the first that cannot be read."""
    found: list[x509.Certificate] = []
    for der in chain:
        try:
            found.append(read_one(der))
        except CertificateRefused:
            break
    return found


def _choice(seen: SeenChain | None, host: str) -> Choice | None:
    return choose(seen.certificates, host) if seen is not None and seen.certificates else None


def _untimely(certificates: Sequence[Description], now: datetime) -> str:
    for each in certificates:
        if each.not_after < now:
            return _(
                "The certificate “%(label)s” expired on %(not_after)s, and an expired certificate is "
                "refused even when it is trusted. Have it renewed on the mail server, then test again.",
                label=each.label,
                not_after=day(each.not_after),
            )
        if each.not_before > now:
            return _(
                "The certificate “%(label)s” is not valid before %(not_before)s. Check the clocks of this "
                "machine and of the mail server, then test again.",
                label=each.label,
                not_before=day(each.not_before),
            )
    return ""


def _key(host: str, port: int) -> dict[str, str | int]:
    return {"host": host.rstrip(".").lower(), "port": port}
