"""Signing in and out."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from webapp import access, htmx
from webapp.access import Access, allow
from webapp.blueprints import database
from webapp.errors import Invalid
from webapp.forms.identity import SignInForm
from webapp.identity import sessions
from webapp.identity.users import count_users
from webapp.keyring import Secret

bp = Blueprint("session", __name__)


@bp.get("/")
@allow(Access.PUBLIC)
def home() -> Response:
    """Lead to where most visits begin."""
    return redirect(url_for("resources.index"), 303)


@bp.get("/sign-in")
@allow(Access.PUBLIC)
def sign_in() -> Response | str:
    """Ask for address and password."""
    target = access.safe_next(request.args.get("next"))
    if access.current_actor_or_none() is not None:
        return redirect(target or url_for("resources.index"), 303)
    with database().reading() as reading:
        unclaimed = count_users(reading) == 0
    return render_template("session/sign_in.html", form=SignInForm(formdata=None, next=target), unclaimed=unclaimed)


@bp.post("/sign-in")
@allow(Access.PUBLIC)
def begin() -> Response | tuple[str, int]:
    """Check both, and begin a session."""
    form = SignInForm()
    if not form.validate():
        return htmx.invalid("session/sign_in.html", form=form)
    try:
        token, _user = sessions.sign_in(
            database(), form.email.data or "", Secret(form.password.data or ""), access.source()
        )
    except Invalid as error:
        form.blame(error)
        return htmx.invalid("session/sign_in.html", form=form)
    access.remember(token)
    return redirect(access.safe_next(form.next.data) or url_for("resources.index"), 303)


@bp.post("/sign-out")
@allow(Access.SIGNED_IN)
def sign_out() -> Response:
    """End this session."""
    with database().transaction() as transaction:
        sessions.sign_out(transaction, access.current_actor(), session["token"])
    access.forget()
    response = redirect(url_for("session.sign_in"), 303)
    response.headers["Clear-Site-Data"] = '"cache", "storage"'
    return response
