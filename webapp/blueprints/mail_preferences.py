"""Which mails a person wants: one's own choice, beside one's profile."""

from __future__ import annotations

from flask import Blueprint, flash, render_template, request
from werkzeug.wrappers import Response

from webapp import htmx
from webapp.access import Access, allow, current_actor, current_user
from webapp.blueprints import database
from webapp.i18n import gettext as _
from webapp.identity import preferences
from webapp.mail.kinds import OUTLINES
from webapp.outbox.messages import Kind

bp = Blueprint("mail_preferences", __name__, url_prefix="/profile/mails")


@bp.get("")
@allow(Access.SIGNED_IN)
def show() -> str:
    """The mails one gets, each with a tick."""
    with database().reading() as session:
        off = preferences.switched_off(session, current_user().id)
    return render_template("profile/mails.html", kinds=_kinds(), outlines=OUTLINES, off=off)


@bp.post("")
@allow(Access.SIGNED_IN)
def choose() -> Response:
    """Get what is ticked, and no longer what is not."""
    wanted = request.form.getlist("wanted")
    off = [kind for kind in _kinds() if kind.value not in wanted]
    with database().transaction() as session:
        preferences.switch(session, current_actor(), current_user().id, _kinds(), off)
    flash(_("Your choice was saved. What is queued already is still sent."))
    return htmx.done("mail_preferences.show")


def _kinds() -> list[Kind]:
    """What this person may ever get."""
    return [kind for kind in Kind if current_actor().is_administrator or not OUTLINES[kind].for_administrators]
