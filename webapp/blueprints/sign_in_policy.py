"""The sign-in policy: who needs a second factor, and the limits of sessions and attempts."""

from __future__ import annotations

from flask import Blueprint, flash, render_template
from werkzeug.wrappers import Response

from webapp import htmx
from webapp.access import Access, allow, current_actor, require_proof
from webapp.actor import Role
from webapp.blueprints import database
from webapp.errors import Conflict, Invalid
from webapp.forms.identity import PolicyForm
from webapp.i18n import gettext as _
from webapp.identity import policy, second_factor

bp = Blueprint("sign_in_policy", __name__, url_prefix="/admin/sign-in")


@bp.get("")
@allow(Access.ADMINISTRATOR)
def show() -> str:
    """The policy as it is."""
    with database().reading() as session:
        current = policy.current(session)
    form = PolicyForm(formdata=None, obj=current)
    form.second_factor_roles.data = current.second_factor_roles.split()
    return _page(form)


@bp.post("")
@allow(Access.ADMINISTRATOR)
def save() -> Response | tuple[str, int]:
    """Save another."""
    form = PolicyForm()
    if form.validate():
        try:
            require_proof()
            with database().transaction() as session:
                policy.save(
                    session,
                    current_actor(),
                    roles=[Role(role) for role in form.second_factor_roles.data or []],
                    idle_minutes=form.idle_minutes.data or 0,
                    longest_hours=form.longest_hours.data or 0,
                    free_attempts=form.free_attempts.data or 0,
                    version=form.version.data or 0,
                )
            flash(_("The sign-in policy was saved."))
            return htmx.done("admin.index")
        except Invalid as error:
            form.blame(error)
        except Conflict as error:
            form.problem = str(error)
            return _page(form), 409
    return _page(form), htmx.INVALID


def _page(form: PolicyForm) -> str:
    with database().reading() as session:
        lacking = second_factor.lacking(session)
    return render_template("sign_in_policy/form.html", form=form, lacking=lacking)
