"""Users, as administrators see them."""

from __future__ import annotations

from flask import Blueprint, render_template

from webapp.access import Access, allow
from webapp.blueprints import database
from webapp.identity.users import users_by_name

bp = Blueprint("users", __name__, url_prefix="/admin/users")


@bp.get("")
@allow(Access.ADMINISTRATOR)
def index() -> str:
    """Everybody who has an account here."""
    with database().reading() as session:
        users = users_by_name(session)
    return render_template("users/index.html", users=users)
