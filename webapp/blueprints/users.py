"""Users, as administrators see them: added, changed, disabled, and given a one-time link."""

from __future__ import annotations

from flask import Blueprint, flash, render_template, request, url_for
from werkzeug.wrappers import Response

from webapp import htmx
from webapp.access import Access, allow, current_actor
from webapp.actor import Role
from webapp.blueprints import database
from webapp.db import Session
from webapp.errors import Conflict, Invalid
from webapp.forms.identity import EditUserForm, NewUserForm
from webapp.identity import users
from webapp.identity.links import make_link
from webapp.identity.users import User
from webapp.keyring import Secret
from webapp.mail import settings

bp = Blueprint("users", __name__, url_prefix="/admin/users")


@bp.get("")
@allow(Access.ADMINISTRATOR)
def index() -> str:
    """Everybody who has an account here."""
    with database().reading() as session:
        everybody = users.users_by_name(session)
    return render_template("users/index.html", users=everybody)


@bp.get("/new")
@allow(Access.ADMINISTRATOR)
def new() -> str:
    """Ask for a new user."""
    return render_template("users/new.html", form=NewUserForm(formdata=None))


@bp.post("/new")
@allow(Access.ADMINISTRATOR)
def create() -> str | tuple[str, int]:
    """Add the user, and show the link to hand over."""
    form = NewUserForm()
    if form.validate():
        try:
            with database().transaction() as session:
                user = users.add_user(
                    session,
                    current_actor(),
                    email=form.email.data or "",
                    name=form.name.data or "",
                    role=Role(form.role.data),
                )
                link = _link(session, make_link(session, current_actor(), user))
            return _hand_over(user, link)
        except Invalid as error:
            form.blame(error)
    return htmx.invalid("users/new.html", form=form)


@bp.get("/<id:user_id>")
@allow(Access.ADMINISTRATOR)
def show(user_id: int) -> str:
    """One user."""
    return _show(user_id)


@bp.post("/<id:user_id>")
@allow(Access.ADMINISTRATOR)
def update(user_id: int) -> Response | tuple[str, int]:
    """Change name and role, or disable."""
    form = EditUserForm()
    if not form.validate():
        return _show(user_id, form), htmx.INVALID
    try:
        with database().transaction() as session:
            users.edit_user(
                session,
                current_actor(),
                user_id,
                name=form.name.data or "",
                role=Role(form.role.data),
                active=bool(form.active.data),
            )
    except Invalid as error:
        form.blame(error)
        return _show(user_id, form), htmx.INVALID
    except Conflict as error:
        form.problem = str(error)
        return _show(user_id, form), 409
    flash("The changes were saved.")
    return htmx.done("users.index")


@bp.post("/<id:user_id>/link")
@allow(Access.ADMINISTRATOR)
def link(user_id: int) -> str:
    """A new one-time link for somebody without a password; the one before ends.

    Who has a password has secrets of their own: an administrator who could set it would read them all. Such a link is
    made at the machine's command line.
    """
    with database().transaction() as session:
        user = users.get_user(session, user_id)
        if user.password_hash is not None:
            raise Conflict(
                f"{user.name} has a password already, and a link would let you read what is theirs alone. If it is "
                f"forgotten, run this on the machine of Keypost: bin/keypost users link {user.email}"
            )
        fresh = _link(session, make_link(session, current_actor(), user))
    return _hand_over(user, fresh)


def _show(user_id: int, typed: EditUserForm | None = None) -> str:
    with database().reading() as session:
        user = users.get_user(session, user_id)
    return render_template("users/edit.html", user=user, form=typed or EditUserForm(formdata=None, obj=user))


def _link(session: Session, token: Secret) -> str:
    """The link under the address that users are told to open, or under this request's before mail is set up."""
    saved = settings.current(session)
    base = saved.access_url if saved else request.host_url.rstrip("/")
    return base + url_for("welcome.show", token=token.reveal())


def _hand_over(user: User, fresh: str) -> str:
    return render_template("users/link.html", user=user, link=fresh)
