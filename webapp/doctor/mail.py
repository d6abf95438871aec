"""Whether mail can leave, and until when."""

from __future__ import annotations

from urllib.parse import urlsplit

from webapp.db import Session
from webapp.doctor.findings import Finding, failing, in_database, ok, warning
from webapp.mail import checks, reliance, settings
from webapp.mail.reliance import Ending
from webapp.outbox.standing import standing

_SET_UP = "Open Admin → Mail Server Settings, or: bin/keypost mail set"


@in_database("Access URL")
def access_url(session: Session) -> Finding:
    """Whether the links in mails lead over an encrypted connection."""
    saved = settings.current(session)
    if saved is None:
        return warning("No Access URL is set: no link can be mailed.", _SET_UP)
    parts = urlsplit(saved.access_url)
    if parts.scheme == "https":
        return ok(f"Users open {saved.access_url}.")
    if settings.is_this_machine(parts.hostname or ""):
        return warning(f"{saved.access_url} opens on this machine alone.", "Enter the address that others open.")
    return failing(
        f"Users open {saved.access_url}: everyone on the way can read what they type.",
        "Put a proxy with a certificate in front, and begin the Access URL with https://.",
    )


@in_database("Mail server settings")
def mail_settings(session: Session) -> Finding:
    """Whether exactly what is saved is proved to work."""
    saved = settings.current(session)
    if saved is None:
        return warning("Mail is not set up: nobody is told anything.", _SET_UP)
    proof = checks.verification(session, saved)
    if proof.verified:
        return ok(f"Verified for {saved.server_name}, port {saved.port}.")
    return failing(f"Not verified: {proof.reason}", "Test them: bin/keypost mail test --to ADDRESS")


@in_database("Certificates")
def certificates(session: Session) -> Finding:
    """Whether no certificate that mail relies on ends within a month."""
    endings = reliance.endings(session)
    if not endings:
        return ok("No certificate ends within 30 days.")
    first = next((each for each in endings if each.in_use), endings[0])
    over = first.term.days <= 0
    sentence = f"{first.about} {'ended' if over else 'ends'} on {first.term.not_after:%Y-%m-%d}."
    remedy = _remedy(first)
    return failing(sentence, remedy) if over and first.in_use else warning(sentence, remedy)


def _remedy(ending: Ending) -> str:
    if ending.sha256 is None:
        return "Have it renewed on the mail server, then test: bin/keypost mail test --to ADDRESS"
    if not ending.in_use:
        return f"Nothing is known to use it. Remove it: bin/keypost certificates remove {ending.sha256}"
    return "Ask who runs the server for the new one, and import it: bin/importCert FILE"


@in_database("Worker")
def worker(session: Session) -> Finding:
    """Whether somebody delivers."""
    found = standing(session)
    if found.alive:
        return ok(f"{found.alive} {'worker delivers' if found.alive == 1 else 'workers deliver'} mail.")
    waiting = "1 message waits" if found.waiting == 1 else f"{found.waiting} messages wait"
    sentence = f"Nobody delivers mail, and {waiting}." if found.waiting else "Nobody delivers mail."
    remedy = "Start bin/serve, or bin/keypost worker where the pages run without one."
    return failing(sentence, remedy) if found.waiting else warning(sentence, remedy)


@in_database("Delivery")
def delivery(session: Session) -> Finding:
    """Whether the mail server lets mail through."""
    paused = standing(session).pause
    if paused is None:
        return ok("Mail is not paused.")
    return failing(f"Mail is paused since {paused.since:%Y-%m-%d %H:%M} UTC. {paused.cause}", paused.remedy)
