"""Confirmed delivery: the code of a test mail, typed in or brought along by the mail's link."""

from __future__ import annotations

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from webapp import htmx
from webapp.access import Access, allow, current_actor
from webapp.blueprints import database, mail_settings
from webapp.errors import Conflict, Invalid, Refused
from webapp.forms.mail import ConfirmationForm
from webapp.i18n import gettext as _
from webapp.mail import confirmation
from webapp.mail.checks import MailCheck

bp = Blueprint("mail_confirmation", __name__, url_prefix=confirmation.PATH)


@bp.get("")
@allow(Access.ADMINISTRATOR)
def show() -> str:
    """What the mail's link opens. It looks nothing up: opening a link, as mail scanners do, proves nothing."""
    form = ConfirmationForm(formdata=None)
    form.confirmation_code.data = request.args.get("code", "")[:20]
    return render_template("mail_settings/confirm.html", form=form)


@bp.post("")
@allow(Access.ADMINISTRATOR)
def confirm() -> Response | str | tuple[str, int]:
    """Take the code."""
    form = ConfirmationForm()
    try:
        check = confirmation.confirm(database(), current_actor(), form.confirmation_code.data or "")
    except Invalid as error:
        form.blame(error)
        return _answer(form), htmx.INVALID
    except Conflict as error:
        form.problem = str(error)
        return _answer(form), 409
    except Refused as error:
        form.problem = str(error)
        return _answer(form), htmx.TOO_MANY
    if htmx.is_htmx() or _within_settings():
        return _answer(form, check)
    flash(_("The test mail to %(recipient)s is confirmed: it arrived.", recipient=check.recipient))
    return redirect(url_for("mail_settings.show"), 303)


def _within_settings() -> bool:
    """Whether the code came with the whole form of the settings, which must not be lost."""
    return "server_name" in request.form


def _answer(form: ConfirmationForm, check: MailCheck | None = None) -> str:
    if htmx.is_htmx():
        return render_template("mail_settings/_confirm.html", confirmation=form, confirmed=check)
    if _within_settings():
        return mail_settings.redrawn(form, check)
    return render_template("mail_settings/confirm.html", form=form)
