"""One's own second factor: the authenticator app and the recovery codes; passkeys have a file of their own."""

from __future__ import annotations

from flask import Blueprint, flash, render_template, session, url_for
from werkzeug.wrappers import Response

from webapp import access, htmx
from webapp.access import Access, allow, current_actor, current_user
from webapp.blueprints import database
from webapp.db import Session
from webapp.errors import Conflict, Invalid
from webapp.forms.identity import AppForm
from webapp.i18n import gettext as _
from webapp.identity import second_factor, sessions, totp
from webapp.identity.qr import QrCode
from webapp.identity.users import User
from webapp.keyring import Secret
from webapp.mail import settings

bp = Blueprint("second_factor", __name__, url_prefix="/profile/second-factor")


@bp.get("")
@allow(Access.SIGNED_IN)
def show() -> str:
    """What is set up, and what can be."""
    with database().reading() as reading:
        factors = second_factor.of(reading, current_user().id)
    return render_template("second_factor/show.html", factors=factors)


@bp.post("/app")
@allow(Access.SIGNED_IN, step_up=True)
def propose_app() -> Response:
    """Make the secret that an app is to take in."""
    with database().transaction() as transaction:
        totp.propose(transaction, _me(transaction))
    return htmx.done("second_factor.show_app")


@bp.get("/app")
@allow(Access.SIGNED_IN, step_up=True)
def show_app() -> Response | str:
    """Show that secret as a QR code, and ask for the app's first code."""
    return _app(AppForm(formdata=None))


@bp.post("/app/confirm")
@allow(Access.SIGNED_IN)
def confirm_app() -> Response | str | tuple[str, int]:
    """Take the app in; the first second factor brings recovery codes, shown this once."""
    form = AppForm()
    if form.validate():
        try:
            with database().transaction() as transaction:
                user = _me(transaction)
                codes = second_factor.add_app(transaction, current_actor(), user, form.code.data or "")
                session["token"] = sessions.keep_this_one(transaction, session["token"], user)
            return shown_once(codes, _("Your authenticator app is set up."))
        except Invalid as error:
            form.blame(error)
    if not access.is_proved():  # The page with the secret is for who has proved just now who they are.
        flash(" ".join(form.code.errors))
        return htmx.done("second_factor.show_app")
    answer = _app(form)
    return (answer, htmx.INVALID) if isinstance(answer, str) else answer


@bp.post("/app/remove")
@allow(Access.SIGNED_IN, step_up=True)
def remove_app() -> Response:
    """Take the app away again."""
    with database().transaction() as transaction:
        user = _me(transaction)
        second_factor.remove_app(transaction, current_actor(), user)
        session["token"] = sessions.keep_this_one(transaction, session["token"], user)
    flash(_("The authenticator app was removed. Your other sessions ended."))
    return htmx.done("second_factor.show")


@bp.post("/recovery-codes")
@allow(Access.SIGNED_IN, step_up=True)
def renew_codes() -> Response | str:
    """Show ten new recovery codes; those before end."""
    try:
        with database().transaction() as transaction:
            codes = second_factor.renew_codes(transaction, current_actor(), _me(transaction))
    except Conflict as error:
        flash(str(error))
        return htmx.done("second_factor.show")
    return shown_once(codes, _("These are your new recovery codes. Those before are worth nothing now."))


def shown_once(codes: list[Secret], done: str) -> Response | str:
    """The page with the recovery codes, or the overview when there are none to show."""
    if not codes:
        flash(done)
        return htmx.done("second_factor.show")
    return render_template("second_factor/codes.html", codes=codes, done=done)


def _app(form: AppForm) -> Response | str:
    user = access.current_user()
    with database().reading() as reading:
        secret = totp.proposed(reading, user)
        saved = settings.current(reading)
    form.code.data = ""
    if secret is None:
        return htmx.go(url_for("second_factor.show"), 303)
    issuer = "Keypost" + (f" {saved.access_url.split('//')[1].split('/')[0].split(':')[0]}" if saved else "")
    qr = QrCode(totp.address(secret, user, issuer))
    return render_template("second_factor/app.html", form=form, secret=secret, qr=qr)


def _me(transaction: Session) -> User:
    """The signed-in user within this transaction. Raises Refused when their session has just ended."""
    return sessions.still_signed_in(transaction, current_actor(), session["token"])
