"""Confirming within a session who one is, before something that matters more than the rest."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from webapp import access, htmx
from webapp.access import Access, allow
from webapp.errors import Invalid, Unavailable

bp = Blueprint("confirmation", __name__, url_prefix="/confirm")


@bp.get("")
@allow(Access.SIGNED_IN)
def show() -> str:
    """Ask for the password or a code."""
    return _form()


@bp.post("")
@allow(Access.SIGNED_IN)
def confirm() -> Response | tuple[str, int]:
    """Take it, and go on to where the person was going."""
    try:
        access.take_proof()
    except (Invalid, Unavailable) as error:
        return _form(str(error)), htmx.INVALID
    if htmx.is_htmx():
        return htmx.proved()
    return redirect(access.safe_next(request.form.get("next")) or url_for("resources.index"), 303)


def _form(problem: str = "") -> str:
    target = access.safe_next(request.values.get("next"))
    return render_template("confirmation/form.html", action=None, carried=[], next=target, problem=problem)
