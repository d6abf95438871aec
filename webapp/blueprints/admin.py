"""The administrator's front page."""

from __future__ import annotations

from flask import Blueprint, render_template

from webapp.access import Access, allow
from webapp.blueprints import database
from webapp.identity.invitations import count_not_told
from webapp.identity.users import count_users
from webapp.mail import checks, reliance, settings
from webapp.outbox import ledger
from webapp.trust import store

bp = Blueprint("admin", __name__, url_prefix="/admin")


@bp.get("")
@allow(Access.ADMINISTRATOR)
def index() -> str:
    """A card for each thing an administrator looks after."""
    return render_template("admin/index.html", **_context())


@bp.get("/_mail-card")
@allow(Access.ADMINISTRATOR)
def mail_card() -> str:
    """The card of the mail server settings, fresh."""
    return render_template("admin/_mail-card.html", **_context())


@bp.get("/_certificates-card")
@allow(Access.ADMINISTRATOR)
def certificates_card() -> str:
    """The card of the trusted certificates, fresh."""
    return render_template("admin/_certificates-card.html", **_context())


@bp.get("/_expiry")
@allow(Access.ADMINISTRATOR)
def expiry() -> str:
    """The notice of certificates that end soon, fresh; empty when none does."""
    return render_template("admin/_expiry.html", **_context())


def _context() -> dict[str, object]:
    with database().reading() as session:
        saved = settings.current(session)
        return {
            "saved": saved,
            "verification": checks.verification(session, saved) if saved else None,
            "login_check": checks.last_login_check(session) if saved else None,
            "user_count": count_users(session),
            "untold_count": count_not_told(session),
            "endings": reliance.endings(session),
            "certificate_count": len(store.trusted(session)),
            "outbox": ledger.counts(session),
        }
