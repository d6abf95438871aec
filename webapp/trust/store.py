"""The trust store: the only place that reads or writes trusted certificates, and that makes TLS contexts of them."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy.orm import Mapped, mapped_column

from webapp.actor import Actor
from webapp.audit import trail
from webapp.db import Base, Database, Session, UtcDateTime
from webapp.errors import Invalid, NotFound
from webapp.trust.certificates import CertificateRefused, Description, describe, parse

_MOST_CONTEXTS = 32


class TrustedCertificate(Base):
    """A certificate trusted for mail. With a host and port it is a pin: trusted there alone, whatever its names."""

    __tablename__ = "trusted_certificates"

    id: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(sa.String(64))
    host: Mapped[str] = mapped_column(sa.String(255), default="")
    port: Mapped[int] = mapped_column(default=0)
    der: Mapped[bytes] = mapped_column(sa.LargeBinary)
    subject: Mapped[str] = mapped_column(sa.String(300))
    not_after: Mapped[datetime] = mapped_column(UtcDateTime)
    imported_at: Mapped[datetime] = mapped_column(UtcDateTime)
    imported_by_id: Mapped[int | None]
    imported_by_name: Mapped[str] = mapped_column(sa.String(320))
    source: Mapped[str] = mapped_column(sa.String(300))

    __table_args__ = (sa.UniqueConstraint("sha256", "host", "port"),)

    def description(self) -> Description:
        return describe(x509.load_der_x509_certificate(self.der))


@dataclass(frozen=True, slots=True)
class Imported:
    """One certificate of an import."""

    description: Description
    already_there: bool


def import_certificates(
    session: Session, actor: Actor, data: bytes, *, source: str, host: str = "", port: int = 0
) -> list[Imported]:
    """Trust every certificate in ``data``, or none. ``host`` and ``port`` pin a single one to that server.

    Raises CertificateRefused.
    """
    certificates = parse(data)
    if host and len(certificates) != 1:
        raise CertificateRefused("Exactly one certificate can be pinned to a server. Give the server's own alone.")
    for certificate in certificates:
        _refuse_out_of_date(certificate, session.now())
    return [_import_one(session, actor, certificate, source, host.lower(), port) for certificate in certificates]


def _refuse_out_of_date(certificate: x509.Certificate, now: datetime) -> None:
    seen = describe(certificate)
    if now > seen.not_after:
        raise CertificateRefused(
            f"The certificate “{seen.subject}” expired on {seen.not_after:%Y-%m-%d}, so no connection would accept it. "
            "Have it renewed, or correct this machine's clock."
        )
    if now < seen.not_before:
        raise CertificateRefused(
            f"The certificate “{seen.subject}” is not valid before {seen.not_before:%Y-%m-%d}. "
            "Wait until then, or correct this machine's clock."
        )


def _import_one(
    session: Session, actor: Actor, certificate: x509.Certificate, source: str, host: str, port: int
) -> Imported:
    seen = describe(certificate)
    known = session.scalar(
        sa.select(TrustedCertificate.id).where(
            TrustedCertificate.sha256 == seen.sha256, TrustedCertificate.host == host, TrustedCertificate.port == port
        )
    )
    if known is not None:
        return Imported(seen, already_there=True)
    session.add(
        TrustedCertificate(
            sha256=seen.sha256,
            host=host,
            port=port,
            der=certificate.public_bytes(Encoding.DER),
            subject=seen.subject,
            not_after=seen.not_after,
            imported_at=session.now(),
            imported_by_id=actor.id,
            imported_by_name=actor.name,
            source=source[:300],
        )
    )
    session.flush()
    pinned = f"{host}:{port}" if host else ""
    trail.record(
        session, actor, "certificate:import", subject=f"certificate:{seen.sha256}", name=seen.subject, pinned=pinned
    )
    return Imported(seen, already_there=False)


def trusted(session: Session) -> Sequence[TrustedCertificate]:
    """Everything trusted beyond the public authorities, by subject."""
    return session.scalars(
        sa.select(TrustedCertificate).order_by(TrustedCertificate.subject, TrustedCertificate.id)
    ).all()


def expiring(session: Session, within: timedelta) -> Sequence[TrustedCertificate]:
    """What is trusted now and will have expired after ``within``."""
    limit = session.now() + within
    return [certificate for certificate in trusted(session) if certificate.not_after <= limit]


def remove(session: Session, actor: Actor, sha256: str) -> None:
    """Trust a certificate no longer, wherever it was pinned. Raises NotFound; Invalid for an ambiguous beginning."""
    wanted = sha256.replace(":", "").lower()
    found = [
        certificate for certificate in trusted(session) if len(wanted) >= 8 and certificate.sha256.startswith(wanted)
    ]
    if not found:
        raise NotFound("No trusted certificate has this SHA-256. List them to see what is there.")
    if len({certificate.sha256 for certificate in found}) > 1:
        raise Invalid("Several certificates begin with this SHA-256. Give more of it.")
    for certificate in found:
        session.delete(certificate)
    trail.record(session, actor, "certificate:remove", subject=f"certificate:{found[0].sha256}", name=found[0].subject)


class TrustStore:
    """Makes the TLS contexts of mail connections.

    The fingerprints are read from the database at each call, so that an import works at once in every process; a
    context is made anew only when they changed, because making one takes as long as a hundred queries.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._contexts: dict[tuple[object, ...], ssl.SSLContext] = {}
        self._lock = threading.Lock()

    def ssl_context(self, host: str, port: int) -> ssl.SSLContext:
        """A verifying client context for one server: the public authorities, what was imported, and its pins."""
        table = TrustedCertificate
        with self._database.reading() as session:
            rows = session.execute(
                sa.select(table.sha256, table.host).where(
                    (table.host == "") | ((table.host == host.lower()) & (table.port == port))
                )
            ).all()
        pins = tuple(sorted(row.sha256 for row in rows if row.host))
        imported = tuple(sorted(row.sha256 for row in rows if not row.host))
        key = (pins, imported)
        with self._lock:
            context = self._contexts.get(key)
            if context is None:
                context = self._make(pins, imported)
                if len(self._contexts) >= _MOST_CONTEXTS:
                    self._contexts.clear()
                self._contexts[key] = context
            return context

    def _make(self, pins: tuple[str, ...], imported: tuple[str, ...]) -> ssl.SSLContext:
        if pins:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            # The certificate itself is what was compared and pinned; its names were looked at then.
            context.check_hostname = False
            wanted = pins
        else:
            context = ssl.create_default_context()
            wanted = imported
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # An imported leaf or intermediate is an anchor on every Python, not from 3.13 on alone; and the strict checks
        # of 3.13 would refuse authorities that other mail programs accept.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        with self._database.reading() as session:
            ders = session.scalars(sa.select(TrustedCertificate.der).where(TrustedCertificate.sha256.in_(wanted))).all()
        if ders:
            context.load_verify_locations(cadata="".join(ssl.DER_cert_to_PEM_cert(der) for der in set(ders)))
        return context
