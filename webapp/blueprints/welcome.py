"""The one-time link: its owner sets a password; a newcomer is signed in."""

from __future__ import annotations

from flask import Blueprint, flash, render_template, request
from werkzeug.wrappers import Response

from webapp import access, htmx
from webapp.access import Access, allow
from webapp.blueprints import database
from webapp.errors import Invalid
from webapp.forms.identity import WelcomeForm
from webapp.i18n import gettext as _
from webapp.identity import links
from webapp.identity.links import Opened
from webapp.keyring import Secret

bp = Blueprint("welcome", __name__, url_prefix="/welcome")


@bp.get("")
@allow(Access.PUBLIC)
def show() -> str:
    """Greet the link's owner; opening it spends nothing, because mail programs open links too."""
    token = request.args.get("token", "")
    return render_template(
        "welcome/form.html", form=WelcomeForm(formdata=None, token=token), **_context(_opened(token))
    )


@bp.post("")
@allow(Access.PUBLIC)
def spend() -> Response | tuple[str, int]:
    """Set the password; a newcomer is signed in, everybody else signs in with it."""
    form = WelcomeForm()
    token = form.token.data or ""
    opened = _opened(token)
    if form.validate():
        try:
            session_token = links.spend(database(), token, Secret(form.password.data or ""), access.source())
        except Invalid as error:
            form.blame(error)
        else:
            if session_token is None:
                access.forget()
                flash(_("Your new password is set, and every session has ended. Sign in with it."))
                return htmx.done("session.sign_in")
            access.remember(session_token, opened.user.id)
            return htmx.done("resources.index")
    return htmx.invalid("welcome/form.html", form=form, **_context(opened))


def _opened(token: str) -> Opened:
    with database().reading() as session:
        return links.open_link(session, token)


def _context(opened: Opened) -> dict[str, object]:
    return {"user": opened.user, "is_newcomer": opened.user.password_hash is None}
