"""Taking out, in clear, what one may reveal."""

from __future__ import annotations

from flask import Blueprint, Response, render_template, request

from webapp import htmx
from webapp.access import Access, allow, current_actor, require_proof
from webapp.blueprints import as_table, database
from webapp.blueprints.resources import query, whose
from webapp.errors import Invalid, Unavailable
from webapp.forms import Form
from webapp.vault import exports
from webapp.vault.exports import Wanted

bp = Blueprint("resource_exports", __name__, url_prefix="/resources/export")


@bp.get("")
@allow(Access.SIGNED_IN)
def show() -> str:
    """Say what the file will hold, and what is to become of it."""
    return _show(Form(formdata=None))


@bp.post("")
@allow(Access.SIGNED_IN)
def export() -> Response | tuple[str, int]:
    """The table, for who proves in this very request who they are; each time leaves an audit line."""
    form = Form()
    try:
        require_proof(afresh=True)
    except (Invalid, Unavailable) as error:
        form.problem = str(error)
        return _show(form), htmx.INVALID
    made = exports.export(database(), current_actor(), _wanted())
    return as_table(made.text, f"keypost-{database().clock():%Y-%m-%d}.csv")


def _show(form: Form) -> str:
    with database().reading() as session:
        passwords = exports.count(session, current_actor(), _wanted())
    return render_template("resource_exports/show.html", form=form, wanted=_wanted(), passwords=passwords)


def _wanted() -> Wanted:
    return Wanted(query(request.values), whose(request.values))
