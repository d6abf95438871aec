"""The trusted certificates, and the TLS contexts made from them: for mail connections only.

Nothing else reads or writes trusted certificates. What is trusted stands in the database, so that an import by another
process works at the next connection.
"""

from __future__ import annotations

import hashlib
import hmac
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, defer, mapped_column

from webapp.actor import Actor
from webapp.audit import trail
from webapp.db import NO_SECRET, Base, Database, Session, UtcDateTime
from webapp.errors import NotFound
from webapp.i18n import day
from webapp.i18n import gettext as _
from webapp.outbox import wake
from webapp.trust.certificates import CertificateRefused, Description, describe, parse, printable, read_one, with_colons
from webapp.trust.pinning import PinnedContext

ANYWHERE = ("", 0)
KEPT_CONTEXTS = 16
VERIFY_FLAGS = ssl.VerifyFlags.VERIFY_X509_TRUSTED_FIRST | ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
"""The same on every Python. PARTIAL_CHAIN lets an imported leaf or intermediate be trusted without its root. STRICT
(on by default since Python 3.13) is left out: it refuses private authorities made before their tools knew all of
RFC 5280, after a mere upgrade of Python, and the next advice an administrator finds is to switch verification off."""


class TrustedCertificate(Base):
    """A certificate trusted for mail: wherever its names match (host "" and port 0), or pinned to one host and port.

    mark: a keyed fingerprint of who trusted what, where and when. A row without the right one was written by somebody
    who holds the database but not the master key, and counts for nothing.
    """

    __tablename__ = "trusted_certificates"

    sha256: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    host: Mapped[str] = mapped_column(sa.String(255), primary_key=True, default="")
    port: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, default=0)
    der: Mapped[bytes] = mapped_column(info=NO_SECRET)
    not_after: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    imported_at: Mapped[datetime] = mapped_column(UtcDateTime)
    imported_by: Mapped[int | None]
    imported_by_name: Mapped[str] = mapped_column(sa.String(320))
    source: Mapped[str] = mapped_column(sa.String(200))
    mark: Mapped[str] = mapped_column(sa.String(64))


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one certificate of an import."""

    description: Description
    already_there: bool


@dataclass(frozen=True, slots=True)
class Trusted:
    """A trusted certificate as lists show it; host and port are None unless it is pinned to them.

    imported_by is a user's id, None for the command line; source says where it came from. forged: the row was not
    written by Keypost, and no connection trusts it.
    """

    description: Description
    host: str | None
    port: int | None
    imported_at: datetime
    imported_by: int | None
    imported_by_name: str
    source: str
    forged: bool = False

    @property
    def sha256(self) -> str:
        return self.description.sha256

    @property
    def is_pinned(self) -> bool:
        return self.host is not None


def import_certificates(
    session: Session,
    actor: Actor,
    data: bytes,
    *,
    source: str,
    host: str | None = None,
    port: int | None = None,
    confirm_expired: bool = False,
) -> list[Imported]:
    """Trust every certificate in the data, in the caller's transaction: all of them or none.

    With a host and port the one certificate given is pinned there: accepted from that server whatever names it holds,
    and from no other. ``confirm_expired`` also takes what has expired or is not valid yet; connections still refuse it
    for as long as the clock says so. Raises CertificateRefused.
    """
    certificates = parse(data)
    place = _place(host, port)
    if place != ANYWHERE and len(certificates) > 1:
        raise CertificateRefused(
            _(
                "%(number)s certificates were given, and only the server's own can be pinned to "
                "%(host)s, port %(port)s. Give that one alone.",
                number=len(certificates),
                host=host,
                port=port,
            )
        )
    for certificate in certificates:
        _refuse_useless(certificate, session.now(), pinned=place != ANYWHERE, confirm_expired=confirm_expired)
    wake.ring_after_commit(session)  # Delivery may have waited for just this certificate.
    return [_import(session, actor, certificate, place, printable(source)[:200]) for certificate in certificates]


def trusted(session: Session) -> list[Trusted]:
    """Every trusted certificate, those that end first in front."""
    rows = session.scalars(
        sa.select(TrustedCertificate).order_by(
            TrustedCertificate.not_after,
            TrustedCertificate.sha256,
            TrustedCertificate.host,
            TrustedCertificate.port,
        )
    )
    return [_trusted(session, row) for row in rows]


def expiring(session: Session, within_days: int) -> list[Trusted]:
    """The trusted certificates that end within so many days or have ended, the first to end in front."""
    until = session.now() + timedelta(days=within_days)
    return [each for each in trusted(session) if each.description.not_after <= until]


def certificate_of(session: Session, trusted: Trusted) -> x509.Certificate:
    """The certificate itself. Raises NotFound when it is not trusted any more."""
    row = session.get(TrustedCertificate, (trusted.sha256, trusted.host or "", trusted.port or 0))
    if row is None:
        raise NotFound(_("This certificate is not trusted any more."))
    return read_one(row.der)


def remove(session: Session, actor: Actor, sha256: str, *, host: str | None = None, port: int | None = None) -> None:
    """Trust a certificate no longer: at the host and port given, or else anywhere.

    The fingerprint is 64 hexadecimal digits in any case, with or without colons. Raises NotFound.
    """
    sha256 = sha256.replace(":", "").lower()
    rows = session.scalars(sa.select(TrustedCertificate).where(TrustedCertificate.sha256 == sha256)).all()
    chosen = [row for row in rows if host is None or (row.host, row.port) == _place(host, port)]
    if not chosen:
        raise NotFound(
            _(
                "No trusted certificate has the SHA-256 fingerprint “%(printable)s”. Look it up in the list.",
                printable=printable(sha256)[:100],
            )
        )
    for row in chosen:
        session.delete(row)
        trail.record(session, actor, "certificate:remove", subject=f"certificate:{sha256}", **_details(row))
    session.flush()


def imported_since(session: Session, host: str, port: int, since: datetime, *, not_by: int | None) -> list[Trusted]:
    """What a connection to this host and port trusts because somebody on the pages imported it after ``since``.

    not_by: the user whose own imports do not count. Those of the command line do not either: who works there may read
    the master key.
    """
    place, table = _place(host, port), TrustedCertificate
    here = sa.and_(table.host == place[0], table.port == place[1])
    rows = session.scalars(
        sa.select(table)
        .where(sa.or_(table.host == "", here), table.imported_at >= since, table.imported_by.is_not(None))
        .order_by(table.imported_at, table.sha256)
    )
    return [_trusted(session, row) for row in rows if row.imported_by != not_by and _is_ours(session, row)]


def fingerprints(session: Session, host: str, port: int) -> frozenset[str]:
    """The SHA-256 of every imported certificate that a connection to this host and port would trust."""
    return frozenset(sha256 for sha256, _ in _trusted_at(session, _place(host, port)))


class TrustStore:
    """Makes the TLS context of each mail connection. Safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._contexts: dict[_Key, ssl.SSLContext] = {}
        self._lock = threading.Lock()

    def ssl_context(self, host: str, port: int) -> ssl.SSLContext:
        """A context that verifies: public roots, what was imported, and what is pinned to this host and port.

        The fingerprints are read each time, which is one cheap query, so that an import elsewhere works at once; the
        context itself, which takes some 24 ms to make, is kept for as long as they are the same.
        """
        place = _place(host, port)
        with self._database.reading() as session:
            rows = _trusted_at(session, place)
            pins = frozenset(sha256 for sha256, pinned in rows if pinned)
            key = (frozenset(sha256 for sha256, pinned in rows if not pinned), pins, host if pins else "")
            with self._lock:
                if key not in self._contexts:
                    self._keep(key, _context(key, _load(session, key[0] | pins)))
                return self._contexts[key]

    def public_context(self, host: str, port: int) -> ssl.SSLContext:
        """A context that verifies by the public roots alone: what was imported for mail counts for mail only."""
        return _context((frozenset(), frozenset(), ""), [])

    def _keep(self, key: _Key, context: ssl.SSLContext) -> None:
        while len(self._contexts) >= KEPT_CONTEXTS:
            del self._contexts[next(iter(self._contexts))]
        self._contexts[key] = context


_Key = tuple[frozenset[str], frozenset[str], str]


def _place(host: str | None, port: int | None) -> tuple[str, int]:
    if host is None and port is None:
        return ANYWHERE
    if not host or not port:
        raise CertificateRefused(_("A certificate is pinned to a host and a port; name both."))
    return host.rstrip(".").lower(), port


def _refuse_useless(certificate: x509.Certificate, now: datetime, *, pinned: bool, confirm_expired: bool) -> None:
    about = describe(certificate)
    if about.not_after < now and not confirm_expired:
        raise CertificateRefused(
            _(
                "The certificate “%(label)s” expired on %(not_after)s. Have it renewed, and import the new one.",
                label=about.label,
                not_after=day(about.not_after),
            )
        )
    if about.not_before > now and not confirm_expired:
        raise CertificateRefused(
            _(
                "The certificate “%(label)s” is not valid before %(not_before)s. Check this machine's "
                "clock, or import it then.",
                label=about.label,
                not_before=day(about.not_before),
            )
        )
    if not pinned and not about.is_authority and not about.names:
        raise CertificateRefused(
            _(
                "The certificate “%(label)s” holds no server name (subject alternative name), so it would "
                "match no server. Have it issued anew with one, or pin it to the one server that uses it.",
                label=about.label,
            )
        )


def _import(
    session: Session, actor: Actor, certificate: x509.Certificate, place: tuple[str, int], source: str
) -> Imported:
    about = describe(certificate)
    row = TrustedCertificate(
        sha256=about.sha256,
        host=place[0],
        port=place[1],
        der=certificate.public_bytes(Encoding.DER),
        not_after=about.not_after,
        imported_at=session.now(),
        imported_by=actor.id,
        imported_by_name=actor.name[:320],
        source=source,
    )
    row.mark = _mark(session, row)
    there = session.get(TrustedCertificate, (about.sha256, *place))
    if there is not None and not _is_ours(session, there):
        session.delete(there)
        session.flush()
        there = None
    if there is not None or not _insert(session, row):
        return Imported(about, already_there=True)
    trail.record(session, actor, "certificate:import", subject=f"certificate:{about.sha256}", **_details(row))
    return Imported(about, already_there=False)


def _insert(session: Session, row: TrustedCertificate) -> bool:
    """Add a row unless another transaction has just added the same one."""
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        return False
    return True


def _details(row: TrustedCertificate) -> dict[str, str]:
    pin = {"pinned_to": f"{row.host}:{row.port}"} if row.host else {}
    return {"name": _describe(row).label, "sha256": with_colons(row.sha256), "origin": row.source, **pin}


def _describe(row: TrustedCertificate) -> Description:
    return describe(read_one(row.der))


def _trusted(session: Session, row: TrustedCertificate) -> Trusted:
    return Trusted(
        description=_describe(row),
        host=row.host or None,
        port=row.port or None,
        imported_at=row.imported_at,
        imported_by=row.imported_by,
        imported_by_name=row.imported_by_name,
        source=row.source,
        forged=not _is_ours(session, row),
    )


def _trusted_at(session: Session, place: tuple[str, int]) -> list[tuple[str, bool]]:
    """What a connection to this place trusts beyond the public roots: each fingerprint, and whether by a pin."""
    table = TrustedCertificate
    here = sa.and_(table.host == place[0], table.port == place[1])
    rows = session.scalars(sa.select(table).where(sa.or_(table.host == "", here)).options(defer(table.der)))
    return [(row.sha256, bool(row.host)) for row in rows if _is_ours(session, row)]


def _mark(session: Session, row: TrustedCertificate) -> str:
    return session.keyring.digest(
        "trusted certificate", row.sha256, row.host, str(row.port), row.imported_at.isoformat(), str(row.imported_by)
    )


def _is_ours(session: Session, row: TrustedCertificate) -> bool:
    return hmac.compare_digest(row.mark, _mark(session, row))


def _load(session: Session, sha256: frozenset[str]) -> list[bytes]:
    """The certificates with these fingerprints; one whose bytes were exchanged in the database is left out."""
    rows = session.execute(
        sa.select(TrustedCertificate.sha256, TrustedCertificate.der).where(TrustedCertificate.sha256.in_(sha256))
    )
    return sorted({der for fingerprint, der in rows if hashlib.sha256(der).hexdigest() == fingerprint})


def _context(key: _Key, certificates: Sequence[bytes]) -> ssl.SSLContext:
    anywhere, pins, host = key
    context = PinnedContext.to(host, pins, only_pinned=pins - anywhere) if pins else _plain_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags = VERIFY_FLAGS
    context.hostname_checks_common_name = False
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if certificates:
        context.load_verify_locations(cadata=b"".join(certificates))
    return context


def _plain_context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
