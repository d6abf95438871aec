"""A forgotten password: whoever asks gets one answer, whether the address is known or not."""

from __future__ import annotations

from flask import Blueprint, render_template
from werkzeug.wrappers import Response

from webapp import access, htmx
from webapp.access import Access, allow
from webapp.blueprints import database
from webapp.errors import Invalid
from webapp.forms.people import ForgottenForm
from webapp.identity import forgotten
from webapp.mail.leaving import leaving

bp = Blueprint("forgotten", __name__, url_prefix="/forgotten")


@bp.get("")
@allow(Access.PUBLIC)
def show() -> str:
    """Ask for the address, or say whom to ask while no mail leaves."""
    return _show(ForgottenForm(formdata=None))


@bp.post("")
@allow(Access.PUBLIC)
def ask() -> Response | tuple[str, int]:
    """Write down that somebody asks; who that is, is found out later."""
    form = ForgottenForm()
    if form.validate():
        try:
            with database().transaction() as session:
                if leaving(session).is_set_up:
                    forgotten.ask(session, form.email.data or "", access.source())
        except Invalid as error:
            form.blame(error)
        else:
            return htmx.done("forgotten.asked")
    return _show(form), htmx.INVALID


@bp.get("/asked")
@allow(Access.PUBLIC)
def asked() -> str:
    """The one answer."""
    with database().reading() as session:
        return render_template("forgotten/asked.html", mail=leaving(session))


def _show(form: ForgottenForm) -> str:
    with database().reading() as session:
        return render_template("forgotten/form.html", form=form, mail=leaving(session))
