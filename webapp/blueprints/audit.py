"""The audit trail, for who may read it."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Blueprint, Response, render_template, request

from webapp import htmx
from webapp.access import Access, allow, current_actor
from webapp.audit import search, trail
from webapp.audit.search import Wanted
from webapp.blueprints import LARGEST_ID, database
from webapp.db import Database
from webapp.forms.audit import AuditFilterForm
from webapp.spreadsheet import lines

bp = Blueprint("audit", __name__, url_prefix="/admin/audit")
PAGE = 50


@bp.get("")
@allow(Access.AUDITOR)
def index() -> str | tuple[str, int]:
    """The latest lines that fit, or those before a given one."""
    form = AuditFilterForm(request.args)
    if not form.validate():
        return htmx.invalid("audit/index.html", form=form, lines=[], wanted=Wanted(), earlier=None)
    before = max(1, min(request.args.get("before", LARGEST_ID, type=int), LARGEST_ID))
    with database().reading() as session:
        found = search.page(session, form.wanted(), before=before, limit=PAGE + 1)
    shown = found[:PAGE]
    earlier = shown[-1].id if len(found) > PAGE else None
    return render_template("audit/index.html", form=form, lines=shown, wanted=form.wanted(), earlier=earlier)


@bp.post("/export")
@allow(Access.AUDITOR, step_up=True)
def export() -> Response | tuple[str, int]:
    """Every line that fits as CSV, read while it is sent; the export leaves a line of its own."""
    form = AuditFilterForm(request.form)
    if not form.validate():
        return htmx.invalid("audit/index.html", form=form, lines=[], wanted=Wanted(), earlier=None)
    with database().transaction() as session:
        trail.record(session, current_actor(), "audit:export", wanted=form.wanted().given)
        today = session.now()
    answer = Response(_csv(database(), form.wanted()), mimetype="text/csv")
    answer.headers["Content-Disposition"] = f'attachment; filename="keypost-audit-{today:%Y-%m-%d}.csv"'
    return answer


def _csv(source: Database, wanted: Wanted) -> Iterator[str]:
    # Excel reads UTF-8 only after this mark.
    yield "\ufeff"
    with source.reading() as session:
        yield from lines(search.rows(session, wanted))
