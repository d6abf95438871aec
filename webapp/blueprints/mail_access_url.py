"""The check of the Access URL that is on the screen."""

from __future__ import annotations

from flask import Blueprint, render_template, request

from webapp import htmx
from webapp.access import Access, allow, current_actor
from webapp.blueprints import database, mail_settings, trust
from webapp.errors import Invalid, Refused
from webapp.forms.mail import MailSettingsForm
from webapp.mail import access_url
from webapp.mail.access_url import Finding

bp = Blueprint("mail_access_url", __name__, url_prefix="/admin/settings/mail")


@bp.post("/check-access-url")
@allow(Access.ADMINISTRATOR)
def check() -> str | tuple[str, int]:
    """Look whether the address leads here, with a better one in its place if one was chosen. Nothing is saved."""
    form = MailSettingsForm()
    form.access_url.data = request.form.get("instead") or form.access_url.data
    try:
        finding = access_url.check(database(), trust(), current_actor(), form.access_url.data or "")
    except Invalid as error:
        return _answer(form, problem=str(error)), htmx.INVALID
    except Refused as error:
        return _answer(form, problem=str(error)), htmx.TOO_MANY
    return _answer(form, finding)


def _answer(form: MailSettingsForm, finding: Finding | None = None, *, problem: str = "") -> str:
    if htmx.is_htmx():
        return render_template("mail_settings/_access_url.html", access_finding=finding, access_problem=problem)
    return mail_settings.page(form, access_finding=finding, access_problem=problem)
