"""Claiming a new installation with the link printed on its console."""

from __future__ import annotations

from flask import Blueprint, render_template, request
from werkzeug.wrappers import Response

from webapp import access, htmx
from webapp.access import Access, allow
from webapp.blueprints import database
from webapp.errors import Invalid
from webapp.forms.identity import SetupForm
from webapp.identity import setup
from webapp.keyring import Secret

bp = Blueprint("setup", __name__)


@bp.get("/setup")
@allow(Access.PUBLIC)
def show() -> str:
    """Ask for the first administrator's name, address and password."""
    token = request.args.get("token", "")
    with database().reading() as session:
        setup.check_token(session, token)
    return render_template("setup/form.html", form=SetupForm(formdata=None, token=token))


@bp.post("/setup")
@allow(Access.PUBLIC)
def claim() -> Response | tuple[str, int]:
    """Make the first administrator and sign them in."""
    form = SetupForm()
    with database().reading() as session:
        setup.check_token(session, form.token.data or "")
    if not form.validate():
        return htmx.invalid("setup/form.html", form=form)
    try:
        token, user = setup.claim(
            database(),
            form.token.data or "",
            email=form.email.data or "",
            name=form.name.data or "",
            password=Secret(form.password.data or ""),
            source=access.source(),
        )
    except Invalid as error:
        form.blame(error)
        return htmx.invalid("setup/form.html", form=form)
    access.remember(token, user.id)
    return htmx.done("admin.index")
