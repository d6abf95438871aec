"""One's own profile: who one is here, one's password, and where one is signed in."""

from __future__ import annotations

from flask import Blueprint, flash, render_template, session
from werkzeug.wrappers import Response

from webapp import access, htmx
from webapp.access import Access, allow
from webapp.blueprints import database
from webapp.errors import Invalid, Unavailable
from webapp.forms.identity import PasswordForm
from webapp.i18n import gettext as _
from webapp.i18n import ngettext
from webapp.identity import second_factor, sessions
from webapp.keyring import Secret

bp = Blueprint("profile", __name__, url_prefix="/profile")


@bp.get("")
@allow(Access.SIGNED_IN)
def show() -> str:
    """Show the profile."""
    return render_template("profile/show.html", form=PasswordForm(formdata=None), **_context())


@bp.post("")
@allow(Access.SIGNED_IN)
def change_password() -> Response | tuple[str, int]:
    """Change one's own password, and end one's other sessions."""
    form = PasswordForm()
    if not form.validate():
        return htmx.invalid("profile/show.html", form=form, **_context())
    try:
        session["token"], ended = sessions.change_own_password(
            database(),
            access.current_actor(),
            session["token"],
            current=Secret(form.current.data or ""),
            new=Secret(form.password.data or ""),
        )
    except Invalid as error:
        form.blame(error)
        return htmx.invalid("profile/show.html", form=form, **_context())
    except Unavailable as error:
        form.problem = str(error)
        return render_template("profile/show.html", form=form, **_context()), 503
    others = " " + ngettext("%(num)s other session ended.", "%(num)s other sessions ended.", ended) if ended else ""
    flash(_("Your password was changed.%(others)s", others=others))
    return htmx.done("profile.show")


@bp.post("/sessions/<id:sign_in_id>/end")
@allow(Access.SIGNED_IN)
def end_session(sign_in_id: int) -> Response:
    """End one of one's own sessions."""
    with database().transaction() as transaction:
        sessions.end_session(transaction, access.current_actor(), sign_in_id)
    flash(_("That session was ended."))
    return htmx.done("profile.show")


def _context() -> dict[str, object]:
    with database().reading() as reading:
        listed = sessions.sessions_of(reading, access.current_user().id)
        current = sessions.is_current(listed, session["token"])
        factors = second_factor.of(reading, access.current_user().id)
    return {"user": access.current_user(), "sessions": listed, "current_session": current, "factors": factors}
