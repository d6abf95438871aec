"""The audit trail, for who may read it."""

from __future__ import annotations

from flask import Blueprint, render_template, request

from webapp.access import Access, allow
from webapp.audit import trail
from webapp.blueprints import LARGEST_ID, database

bp = Blueprint("audit", __name__, url_prefix="/admin/audit")


@bp.get("")
@allow(Access.AUDITOR)
def index() -> str:
    """The latest lines, or those before a given one."""
    before = max(1, min(request.args.get("before", LARGEST_ID, type=int), LARGEST_ID))
    with database().reading() as session:
        lines = trail.latest(session, before=before)
    return render_template("audit/index.html", lines=lines)
