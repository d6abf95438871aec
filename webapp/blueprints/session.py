"""Signing in, in one step or two, and out."""

from __future__ import annotations

from flask import Blueprint, flash, make_response, redirect, render_template, request, session, url_for
from flask_wtf.csrf import generate_csrf
from werkzeug.wrappers import Response

from webapp import access, htmx
from webapp.access import Access, allow
from webapp.blueprints import database
from webapp.errors import Invalid, Unavailable
from webapp.forms.identity import SecondStepForm, SignInForm
from webapp.i18n import gettext as _
from webapp.i18n import ngettext
from webapp.identity import recovery, second_factor, sessions
from webapp.identity.second_factor import SecondFactors
from webapp.identity.users import User, count_users
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
    return _sign_in(SignInForm(formdata=None, next=target))


@bp.post("/sign-in")
@allow(Access.PUBLIC)
def begin() -> Response | tuple[str, int]:
    """Check both, and begin a session, or ask for the second factor."""
    form = SignInForm()
    if not form.validate():
        return _sign_in(form), htmx.INVALID
    try:
        token, user = sessions.sign_in(
            database(),
            form.email.data or "",
            Secret(form.password.data or ""),
            access.source(),
            browser=access.known_browser(),
            former=session.get("token"),
        )
    except Invalid as error:
        form.blame(error)
        return _sign_in(form), htmx.INVALID
    except Unavailable as error:
        form.problem = str(error)
        return _sign_in(form), 503
    access.remember(token, user.id)
    return _go_on(token, access.safe_next(form.next.data))


@bp.get("/sign-in/second-step")
@allow(Access.PUBLIC)
def second_step() -> Response | str:
    """Ask for the second factor."""
    target = access.safe_next(request.args.get("next"))
    half = _awaiting()
    if half is None:
        return redirect(url_for("session.sign_in", next=target), 303)
    return _second_step(SecondStepForm(formdata=None, next=target), half[1])


@bp.post("/sign-in/second-step")
@allow(Access.PUBLIC)
def finish() -> Response | tuple[str, int]:
    """Check the code, and open the session."""
    form = SecondStepForm()
    half = _awaiting()
    if half is None:
        flash(_("The second step took too long. Sign in again."))
        return redirect(url_for("session.sign_in", next=access.safe_next(form.next.data)), 303)
    user, factors = half
    if not form.validate():
        return _second_step(form, factors), htmx.INVALID
    try:
        token, how = sessions.finish_sign_in(database(), session["token"], form.code.data or "", access.source())
    except Invalid as error:
        form.blame(error)
        return _second_step(form, factors), htmx.INVALID
    access.remember(token, user.id)
    if how == "recovery code":
        _say_how_many_are_left(user)
    return redirect(access.safe_next(form.next.data) or url_for("resources.index"), 303)


@bp.get("/sign-in/_token")
@allow(Access.SIGNED_IN)
def token() -> Response:
    """A form's token of this session, for a page that the same person opened in the session before."""
    if request.args.get("user", type=int) != access.current_user().id:
        return make_response("", 409)
    return make_response(generate_csrf(), {"Content-Type": "text/plain; charset=utf-8"})


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


def _sign_in(form: SignInForm) -> str:
    with database().reading() as reading:
        unclaimed = count_users(reading) == 0
    return render_template("session/sign_in.html", form=form, unclaimed=unclaimed)


def _awaiting() -> tuple[User, SecondFactors] | None:
    """Who is half signed in on this browser, and what they can prove the rest with."""
    with database().reading() as reading:
        user = sessions.awaiting(reading, session.get("token", ""))
        return (user, second_factor.of(reading, user.id)) if user is not None else None


def _second_step(form: SecondStepForm, factors: SecondFactors) -> str:
    form.code.data = ""  # A code is not shown again: it may be a recovery code with one letter wrong.
    return render_template("session/second_step.html", form=form, factors=factors)


def _go_on(token: str, target: str | None) -> Response:
    with database().reading() as reading:
        half = sessions.awaiting(reading, token) is not None
    if half:
        return redirect(url_for("session.second_step", next=target), 303)
    return redirect(target or url_for("resources.index"), 303)


def _say_how_many_are_left(user: User) -> None:
    with database().reading() as reading:
        left = recovery.left(reading, user.id)
    flash(
        ngettext(
            "That recovery code is used up; %(num)s is left. You can make new ones.",
            "That recovery code is used up; %(num)s are left. You can make new ones.",
            left,
        )
    )
