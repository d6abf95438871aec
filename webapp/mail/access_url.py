"""Whether the Access URL is true: does it resolve, and does this very installation answer there?

The server opens its own Access URL as a visitor would, and asks for the proof of a number nobody can know before. Only
who holds this installation's key can give it. Nothing else is asked, no redirect is followed, and what another program
answers is not shown.
"""

from __future__ import annotations

import errno
import hmac
import re
import secrets
import socket
import ssl
from dataclasses import dataclass
from http.client import HTTPException
from typing import Final, Literal
from urllib.parse import urlsplit

import sqlalchemy as sa

from webapp.actor import Actor
from webapp.audit import trail
from webapp.db import Database, Session
from webapp.errors import Invalid
from webapp.i18n import gettext as _
from webapp.installation import InstallationRow
from webapp.mail import checks, fetch
from webapp.mail.dial import Resolver, system_resolver
from webapp.mail.fetch import Answer, SslContext
from webapp.mail.settings import is_this_machine, valid_access_url
from webapp.mail.transport import Trust
from webapp.mail.wire import Deadline

PATH: Final = "/identity-check"
SECONDS: Final = 8.0
_NONCE: Final = re.compile(r"[A-Za-z0-9_-]{16,64}")
_NO_TLS: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF_WHILE_READING")
_PROOF: Final = re.compile(rb"keypost ([0-9a-f]{64})\s*")

Code = Literal[
    "this-installation",
    "name-not-found",
    "resolver-failed",
    "address-forbidden",
    "refused",
    "unreachable",
    "no-answer",
    "certificate",
    "not-https",
    "tls-failed",
    "not-http",
    "redirect",
    "proxy-cannot-reach-keypost",
    "another-program",
    "another-keypost",
]


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of a look. said: what happened and why; remedy: what to do, "" when there is nothing to do.

    instead: an Access URL that probably works, or "". warnings: what is wrong although it answers.
    """

    url: str
    code: Code
    said: str
    remedy: str = ""
    instead: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        return self.code == "this-installation"


def proof(session: Session, nonce: str) -> str:
    """What this installation alone can answer to ``nonce``. Raises Invalid for what is no nonce."""
    if not _NONCE.fullmatch(nonce):
        raise Invalid(_("This address answers to Keypost itself. There is nothing to see here."))
    identifier = session.scalar(sa.select(InstallationRow.identifier).where(InstallationRow.id == 1)) or ""
    return f"keypost {session.keyring.digest('identity check', identifier, nonce)}"


def check(
    database: Database, trust: Trust, actor: Actor, text: str, *, resolver: Resolver = system_resolver
) -> Finding:
    """Look at an Access URL that may not be saved yet; counted and limited as a test, and audited.

    Takes at most SECONDS. Raises Invalid for what is no Access URL, Refused after too many tests.
    """
    url = valid_access_url(text)
    nonce = secrets.token_urlsafe(24)
    with database.transaction() as session:
        check_id = checks.begin_look_at_access_url(session, actor, url)
        expected = proof(session, nonce)
    finding = look(url, nonce, expected, trust.public_context, resolver=resolver)
    with database.transaction() as session:
        checks.end(session, check_id, "accepted" if finding.good else "failed")
        trail.record(
            session,
            actor,
            "mail:check-access-url",
            subject="mail-settings",
            outcome="done" if finding.good else "failed",
            url=url,
            code=finding.code,
        )
    return finding


def look(
    url: str,
    nonce: str,
    expected: str,
    ssl_context: SslContext,
    *,
    resolver: Resolver = system_resolver,
    seconds: float = SECONDS,
) -> Finding:
    """Ask ``url`` for the proof of ``nonce``. Never raises for what is found there."""
    try:
        answer = fetch.send(
            f"{url}{PATH}?nonce={nonce}",
            {"Accept": "text/plain", "User-Agent": "Keypost"},
            ssl_context=ssl_context,
            deadline=Deadline(seconds),
            resolver=resolver,
            plain_to_anywhere=True,
        )
    except fetch.Forbidden:
        return Finding(
            url,
            "address-forbidden",
            _(
                "%(host)s leads to an address that Keypost never connects to: link-local, multicast or none at all.",
                host=_host(url),
            ),
            _("Have its DNS record corrected."),
        )
    except (OSError, UnicodeError, HTTPException) as error:
        return _unanswered(url, error)
    return _read(url, answer, expected)


def _unanswered(url: str, error: Exception) -> Finding:
    host, place = _host(url), _place(url)
    if isinstance(error, ssl.SSLCertVerificationError):
        return Finding(
            url,
            "certificate",
            _(
                "%(place)s presents a certificate that browsers will not accept: %(rstrip)s.",
                place=place,
                rstrip=error.verify_message.rstrip("."),
            ),
            _(
                "Give the proxy a certificate for %(host)s from an authority that your users' computers "
                "trust. A private authority has to be in the certificate store of this machine too; what "
                "is imported under Certificates counts for mail alone.",
                host=host,
            ),
        )
    if isinstance(error, ssl.SSLError) and error.reason and error.reason not in _NO_TLS:
        return Finding(
            url,
            "tls-failed",
            _(
                "No encrypted connection to %(place)s came about (%(replace)s).",
                place=place,
                replace=error.reason.replace("_", " ").lower(),
            ),
            _("Check the proxy in front of Keypost: it needs TLS 1.2 or newer, and a certificate for this name."),
        )
    if isinstance(error, ssl.SSLError):
        return Finding(
            url,
            "not-https",
            _("%(place)s does not speak TLS, so https:// cannot be opened there.", place=place),
            _("Set up TLS in the proxy in front of Keypost, or check the port."),
        )
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
        return Finding(
            url,
            "resolver-failed",
            _("The name %(host)s could not be looked up: the DNS resolver of this machine does not answer.", host=host),
            _("Check the network of this machine, then check again."),
        )
    if isinstance(error, socket.gaierror | UnicodeError):
        return Finding(
            url,
            "name-not-found",
            _("The name %(host)s is not known to the DNS resolver of this machine.", host=host),
            _("Check it letter by letter, or have a DNS record made for it."),
        )
    number = getattr(error, "errno", None)
    if isinstance(error, TimeoutError) or number == errno.ETIMEDOUT:
        return Finding(
            url,
            "no-answer",
            _("%(place)s gave no answer within %(seconds)s seconds.", place=place, seconds=f"{SECONDS:.0f}"),
            _("Check that the proxy runs, and that a firewall lets this machine reach it as your users do."),
        )
    if number == errno.ECONNREFUSED:
        return Finding(
            url,
            "refused",
            _("Nothing listens at %(place)s: the connection was refused.", place=place),
            _("Start Keypost, or the proxy in front of it, or correct the port."),
        )
    if isinstance(error, HTTPException | ConnectionError):
        return Finding(
            url,
            "not-http",
            _("What listens at %(place)s does not answer as a web server does.", place=place),
            _("Check scheme and port: https:// for what speaks TLS, http:// for what does not."),
        )
    return Finding(
        url,
        "unreachable",
        _(
            "%(place)s cannot be reached from this machine (%(value)s).",
            place=place,
            value=getattr(error, "strerror", None) or _("no further words"),
        ),
        _("Check the route and the firewall between this machine and that address."),
    )


def _read(url: str, answer: Answer, expected: str) -> Finding:
    given = _PROOF.fullmatch(answer.body) if answer.status == 200 else None
    if given and hmac.compare_digest(f"keypost {given[1].decode()}", expected):
        return Finding(url, "this-installation", _("This very installation answers there."), warnings=_warnings(url))
    if given:
        return Finding(
            url,
            "another-keypost",
            _(
                "Another installation of Keypost answers at %(place)s: it has another key or another database.",
                place=_place(url),
            ),
            _("Lead the address to this installation, or enter the address that leads here."),
        )
    if answer.location:
        return _redirected(url, answer)
    if answer.status in (502, 503, 504):
        return Finding(
            url,
            "proxy-cannot-reach-keypost",
            _(
                "The proxy at %(place)s answers, but says that it does not reach Keypost (HTTP %(status)s).",
                place=_place(url),
                status=answer.status,
            ),
            _("In the proxy's settings, correct the address and port where Keypost listens."),
        )
    return Finding(
        url,
        "another-program",
        _(
            "Something else than Keypost answers at %(place)s (HTTP %(status)s).",
            place=_place(url),
            status=answer.status,
        ),
        _("Check name, port and path, and that the proxy hands every path below the Access URL to Keypost."),
    )


def _redirected(url: str, answer: Answer) -> Finding:
    instead, place, status = _instead(answer.location), _place(url), answer.status
    where = (
        _("%(place)s sends on to %(instead)s (HTTP %(status)s).", place=place, instead=instead, status=status)
        if instead
        else _("%(place)s sends on to another address (HTTP %(status)s).", place=place, status=status)
    )
    detour = _(
        "Links in mails would take that detour, and a check of another address would prove nothing about this one."
    )
    return Finding(
        url,
        "redirect",
        f"{where} {detour}",
        _("Enter the address that it leads to, and check again.")
        if instead
        else _("Enter the address that answers itself."),
        instead=instead,
    )


def _instead(location: str) -> str:
    """The Access URL that a redirect points to, or "" when it points to none."""
    base, found, _rest = location.partition(PATH)
    try:
        return valid_access_url(base) if found else ""
    except Invalid:
        return ""


def _warnings(url: str) -> tuple[str, ...]:
    found = []
    if is_this_machine(_host(url)):
        found.append(
            _(
                "It is the name of this machine for itself: on your users' computers it leads to their "
                "own, and they cannot open it. Enter the name by which they reach this one."
            )
        )
    elif url.startswith("http://"):
        found.append(
            _(
                "It is not encrypted: whoever is on the way reads the passwords that people look up and "
                "sign in with. Put a TLS proxy in front, and enter https://."
            )
        )
    return tuple(found)


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname} (port {parts.port or (443 if parts.scheme == 'https' else 80)})"
