"""Users, as administrators see them: found, added, told, changed and disabled."""

from __future__ import annotations

from flask import Blueprint, flash, render_template, request, url_for
from werkzeug.wrappers import Response

from webapp import htmx
from webapp.access import Access, allow, current_actor, require_proof
from webapp.actor import Role
from webapp.blueprints import LARGEST_ID, database
from webapp.errors import Conflict, Invalid
from webapp.forms import Form
from webapp.forms.identity import EditUserForm, NewUserForm
from webapp.forms.people import PeopleFilter
from webapp.i18n import gettext as _
from webapp.i18n import joined, ngettext
from webapp.identity import invitations, people, second_factor, users
from webapp.identity.invitations import Invited, ToldMany
from webapp.identity.links import make_link
from webapp.mail.leaving import Leaving, leaving
from webapp.vault import uses

bp = Blueprint("users", __name__, url_prefix="/admin/users")


@bp.get("")
@allow(Access.ADMINISTRATOR)
def index() -> str:
    """Everybody who has an account here, or those who are looked for."""
    chosen = PeopleFilter(request.args, meta={"csrf": False})
    number = min(request.args.get("page", 1, type=int), LARGEST_ID)
    with database().reading() as session:
        found = people.find_people(
            session,
            q=request.args.get("q", "")[:200],
            role=chosen.chosen_role,
            standing=chosen.chosen_standing,
            page=number,
        )
        untold, mail = invitations.count_not_told(session), leaving(session)
    return render_template("users/index.html", found=found, filter=chosen, untold=untold, mail=mail)


@bp.get("/new")
@allow(Access.ADMINISTRATOR)
def new() -> str:
    """Ask for a new user."""
    return _new(NewUserForm(formdata=None))


@bp.post("/new")
@allow(Access.ADMINISTRATOR)
def create() -> Response | str | tuple[str, int]:
    """Add the user and queue their mail; when mail does not leave, show the link to hand over."""
    form = NewUserForm()
    if form.validate():
        try:
            if Role(form.role.data) is Role.ADMINISTRATOR:
                require_proof()
            with database().transaction() as session:
                invited = invitations.invite(
                    session,
                    current_actor(),
                    email=form.email.data or "",
                    name=form.name.data or "",
                    role=Role(form.role.data),
                )
                mail = leaving(session)
        except Invalid as error:
            form.blame(error)
        else:
            return _told(invited, mail) if mail.works else _hand_over(invited, mail)
    return _new(form), htmx.INVALID


@bp.post("/tell")
@allow(Access.ADMINISTRATOR)
def tell_everybody() -> Response:
    """Send a new link to all who have not been told."""
    result = invitations.invite_everybody(database(), current_actor())
    with database().reading() as session:
        mail = leaving(session)
    flash(f"{_in_words(result)} {mail.reason}".strip())
    return htmx.done("users.index")


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
        if _becomes_administrator(user_id, Role(form.role.data), active=bool(form.active.data)):
            require_proof()
        with database().transaction() as session:
            people.change(
                session,
                current_actor(),
                user_id,
                name=form.name.data or "",
                role=Role(form.role.data),
                active=bool(form.active.data),
            )
            used = {} if form.active.data else uses.relying_on(session, user_id)
    except Invalid as error:
        form.blame(error)
        return _show(user_id, form), htmx.INVALID
    except Conflict as error:
        form.problem = str(error)
        return _show(user_id, form), 409
    then = f" {_still_used(used)}" if used else ""
    flash(_("The changes were saved.") + then)
    return htmx.done("users.index")


@bp.post("/<id:user_id>/tell")
@allow(Access.ADMINISTRATOR)
def tell_again(user_id: int) -> Response | tuple[str, int]:
    """Send the mail once more, with a new link; the old one is dead."""
    try:
        with database().transaction() as session:
            invited = invitations.invite_again(session, current_actor(), user_id)
            mail = leaving(session)
    except Invalid as error:
        telling = Form(formdata=None)
        telling.problem = str(error)
        return _show(user_id, telling=telling), htmx.INVALID
    queued = _("A mail with a new link for %(email)s is queued; the old link is dead.", email=invited.user.email)
    flash(f"{queued} {mail.reason}".strip())
    return htmx.done("users.show", user_id=user_id)


@bp.post("/<id:user_id>/link")
@allow(Access.ADMINISTRATOR, step_up=True)
def link(user_id: int) -> str:
    """A new one-time link, to hand over to somebody without a password; the one before ends.

    Who has a password has secrets of their own: an administrator who could set it would read them all. Such a link is
    made at the machine's command line.
    """
    with database().transaction() as session:
        user = users.get_user(session, user_id)
        if user.password_hash is not None:
            raise Conflict(
                _(
                    "%(name)s has a password already, and a link would let you read what is theirs alone. If "
                    "it is forgotten, run this on the machine of Keypost: bin/keypost users link %(email)s",
                    name=user.name,
                    email=user.email,
                )
            )
        made = Invited(user, make_link(session, current_actor(), user))
        mail = leaving(session)
    return _hand_over(made, mail, by_mail=False)


def _becomes_administrator(user_id: int, role: Role, *, active: bool) -> bool:
    """Whether this would make an administrator of somebody who is none, or let one in again who was disabled."""
    with database().reading() as session:
        user = users.get_user(session, user_id)
    return role is Role.ADMINISTRATOR and (user.role != role or (active and not user.active))


@bp.post("/<id:user_id>/second-factor/remove")
@allow(Access.ADMINISTRATOR, step_up=True)
def remove_second_factor(user_id: int) -> Response:
    """Take the second factors from somebody who lost theirs; they sign in by password and set up a new one."""
    try:
        with database().transaction() as session:
            user = users.get_user(session, user_id)
            second_factor.remove_all(session, current_actor(), user)
    except Conflict as error:
        flash(str(error))
    else:
        flash(_("%(name)s has no second factor any more, and was signed out everywhere.", name=user.name))
    return htmx.done("users.show", user_id=user_id)


def _still_used(used: dict[int, str]) -> str:
    return _(
        "This person chose the account that is used by %(places)s. It stays in use until somebody "
        "with access chooses an account there.",
        places=joined(sorted(set(used.values()))),
    )


def _new(form: NewUserForm) -> str:
    with database().reading() as session:
        return render_template("users/new.html", form=form, mail=leaving(session))


def _show(user_id: int, typed: EditUserForm | None = None, telling: Form | None = None) -> str:
    with database().reading() as session:
        user = users.get_user(session, user_id)
        factors = second_factor.of(session, user_id)
        story, mail = invitations.stories(session, [user])[user.id], leaving(session)
    return render_template(
        "users/edit.html",
        user=user,
        factors=factors,
        story=story,
        mail=mail,
        form=typed or EditUserForm(formdata=None, obj=user),
        telling=telling or Form(formdata=None),
    )


def _told(invited: Invited, mail: Leaving) -> Response:
    flash(
        _("%(name)s was added, and the mail to %(email)s is queued.", name=invited.user.name, email=invited.user.email)
    )
    return htmx.done("users.show", user_id=invited.user.id)


def _hand_over(invited: Invited, mail: Leaving, *, by_mail: bool = True) -> str:
    """The link under the address that users are told to open, or under this request's before mail is set up."""
    base = mail.access_url or request.host_url.rstrip("/")
    link = base + url_for("welcome.show", token=invited.token.reveal())
    return render_template("users/link.html", user=invited.user, link=link, mail=mail, by_mail=by_mail)


def _in_words(result: ToldMany) -> str:
    said = ngettext("%(num)s mail with a new link queued.", "%(num)s mails with a new link queued.", result.told)
    if result.passed_over:
        said += " " + _(
            "%(passed_over)s passed over: they were sent three mails within the hour.", passed_over=result.passed_over
        )
    if result.left:
        said += " " + _("%(left)s are left; press the button again for them.", left=result.left)
    return said
