"""The one-time link: its owner sets a password and is signed in."""

from __future__ import annotations

from flask import Blueprint, render_template, request
from werkzeug.wrappers import Response

from webapp import access, htmx
from webapp.access import Access, allow
from webapp.blueprints import database
from webapp.errors import Invalid
from webapp.forms.identity import WelcomeForm
from webapp.identity import links
from webapp.identity.users import User
from webapp.keyring import Secret

bp = Blueprint("welcome", __name__, url_prefix="/welcome")


@bp.get("")
@allow(Access.PUBLIC)
def show() -> str:
    """Greet the link's owner; opening it spends nothing, because mail programs open links too."""
    token = request.args.get("token", "")
    return render_template("welcome/form.html", form=WelcomeForm(formdata=None, token=token), user=_owner(token))


@bp.post("")
@allow(Access.PUBLIC)
def spend() -> Response | tuple[str, int]:
    """Set the password and sign in."""
    form = WelcomeForm()
    token = form.token.data or ""
    user = _owner(token)
    if form.validate():
        try:
            session_token = links.spend(database(), token, Secret(form.password.data or ""), access.source())
        except Invalid as error:
            form.blame(error)
        else:
            access.remember(session_token)
            return htmx.done("resources.index")
    return htmx.invalid("welcome/form.html", form=form, user=user)


def _owner(token: str) -> User:
    with database().reading() as session:
        return links.owner_of(session, token)
