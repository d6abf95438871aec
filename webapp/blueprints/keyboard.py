"""The keys of the pages, and whether a key alone does something: one's own choice, beside one's profile."""

from __future__ import annotations

from flask import Blueprint, flash, render_template
from werkzeug.wrappers import Response

from webapp import htmx
from webapp.access import Access, allow, current_actor, current_user
from webapp.blueprints import database
from webapp.forms.keyboard import KeyboardForm
from webapp.i18n import gettext as _
from webapp.identity import keyboard
from webapp.identity.users import get_user

bp = Blueprint("keyboard", __name__, url_prefix="/profile/keyboard")


@bp.get("")
@allow(Access.SIGNED_IN)
def show() -> str:
    """The keys there are, and the choice."""
    return render_template("profile/keyboard.html", form=KeyboardForm(formdata=None, obj=current_user()))


@bp.post("")
@allow(Access.SIGNED_IN)
def choose() -> Response | tuple[str, int]:
    """Have single keys do something from now on, or nothing."""
    form = KeyboardForm()
    if not form.validate():
        return htmx.invalid("profile/keyboard.html", form=form)
    with database().transaction() as session:
        user = get_user(session, current_user().id)
        keyboard.choose(session, current_actor(), user, single_keys=bool(form.single_keys.data))
    flash(_("Your choice was saved."))
    return htmx.done("keyboard.show")
