"""Certificates trusted for mail connections."""

from __future__ import annotations

from flask import Blueprint, flash, render_template
from werkzeug.wrappers import Response

from webapp import htmx
from webapp.access import Access, allow, current_actor
from webapp.blueprints import database
from webapp.trust import store

bp = Blueprint("certificates", __name__, url_prefix="/admin/certificates")


@bp.get("")
@allow(Access.ADMINISTRATOR)
def index() -> str:
    """What is trusted beyond the public authorities."""
    with database().reading() as session:
        trusted = store.trusted(session)
        now = session.now()
    return render_template("certificates/index.html", certificates=trusted, now=now)


@bp.post("/<sha256>/remove")
@allow(Access.ADMINISTRATOR)
def remove(sha256: str) -> Response:
    """Trust it no longer."""
    with database().transaction() as session:
        store.remove(session, current_actor(), sha256)
    flash("The certificate is not trusted any more.")
    return htmx.done("certificates.index")
