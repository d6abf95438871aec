"""Resources: what holds accounts."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Blueprint, flash, render_template, request
from werkzeug.wrappers import Response

from webapp import htmx
from webapp.access import Access, allow, current_actor
from webapp.blueprints import database, page_number
from webapp.errors import Conflict, Invalid
from webapp.forms import Form
from webapp.forms.vault import ResourceForm
from webapp.i18n import gettext as _
from webapp.search import LONGEST_QUERY
from webapp.vault import accounts, resources, shares
from webapp.vault.resources import ResourceDetails, Whose
from webapp.vault.rights import Right

bp = Blueprint("resources", __name__, url_prefix="/resources")


@bp.get("")
@allow(Access.SIGNED_IN)
def index() -> str:
    """List what this person may see."""
    part = whose(request.args)
    with database().reading() as session:
        page = resources.find_resources(session, current_actor(), query(request.args), page=page_number(), whose=part)
    return render_template("resources/index.html", page=page, whose=part)


@bp.get("/new")
@allow(Access.ADDS_RESOURCES)
def new() -> str:
    """Ask for a new resource, of the type in the address if there is one."""
    asked = request.args.get("kind")
    form = ResourceForm(formdata=None, data={"kind": asked} if asked in resources.KINDS else None)
    return render_template("resources/edit.html", form=form, resource=None)


@bp.post("/new")
@allow(Access.ADDS_RESOURCES)
def create() -> Response | tuple[str, int]:
    """Add it."""
    form = ResourceForm()
    if form.validate():
        try:
            with database().transaction() as session:
                resource = resources.add_resource(session, current_actor(), _details(form))
            flash(_("“%(name)s” was added. Now add the accounts it holds.", name=resource.name))
            return htmx.done("resources.show", resource_id=resource.id)
        except Invalid as error:
            form.blame(error)
    return htmx.invalid("resources/edit.html", form=form, resource=None)


@bp.get("/<id:resource_id>")
@allow(Access.SIGNED_IN)
def show(resource_id: int) -> str:
    """One resource and its accounts."""
    return _show(resource_id, Form(formdata=None))


@bp.get("/<id:resource_id>/edit")
@allow(Access.SIGNED_IN)
def edit(resource_id: int) -> str:
    """Ask for changes."""
    with database().reading() as session:
        resource = resources.get_resource(session, current_actor(), resource_id, Right.MODIFY)
    return render_template("resources/edit.html", form=ResourceForm(formdata=None, obj=resource), resource=resource)


@bp.post("/<id:resource_id>/edit")
@allow(Access.SIGNED_IN)
def update(resource_id: int) -> Response | tuple[str, int]:
    """Change it, unless somebody else has in the meantime."""
    form = ResourceForm()
    with database().reading() as session:
        resource = resources.get_resource(session, current_actor(), resource_id, Right.MODIFY)
    if form.validate():
        try:
            with database().transaction() as session:
                resources.edit_resource(
                    session, current_actor(), resource_id, _details(form), version=form.version.data or 0
                )
            flash(_("The changes were saved."))
            return htmx.done("resources.show", resource_id=resource_id)
        except Invalid as error:
            form.blame(error)
        except Conflict as error:
            form.problem = str(error)
            return render_template("resources/edit.html", form=form, resource=resource), 409
    return htmx.invalid("resources/edit.html", form=form, resource=resource)


@bp.post("/<id:resource_id>/delete")
@allow(Access.SIGNED_IN)
def delete(resource_id: int) -> Response | tuple[str, int]:
    """Delete it with its accounts, unless something uses one of them."""
    try:
        with database().transaction() as session:
            name = resources.get_resource(session, current_actor(), resource_id, Right.MANAGE).name
            resources.delete_resource(session, current_actor(), resource_id)
    except Conflict as error:
        form = Form(formdata=None)
        form.problem = str(error)
        return _show(resource_id, form), 409
    flash(_("“%(name)s” was deleted.", name=name))
    return htmx.done("resources.index")


def _show(resource_id: int, form: Form) -> str:
    with database().reading() as session:
        resource = resources.get_resource(session, current_actor(), resource_id, Right.RECOGNISE)
        standing = resources.standing_to_resource(session, current_actor(), resource_id)
        held = accounts.accounts_of(session, current_actor(), resource_id)
        holders = shares.holders_of_resource(session, current_actor(), resource_id) if standing.manages else []
    return render_template(
        "resources/show.html", resource=resource, standing=standing, accounts=held, holders=holders, form=form
    )


def query(given: Mapping[str, str]) -> str:
    """The words that are searched for."""
    return given.get("q", "")[:LONGEST_QUERY]


def whose(given: Mapping[str, str]) -> Whose:
    """Which part of the list is asked for; anything that is none means all of it."""
    asked = given.get("whose", "")
    return Whose(asked) if asked in set(Whose) else Whose.ALL


def _details(form: ResourceForm) -> ResourceDetails:
    return ResourceDetails(
        name=form.name.data or "",
        address=form.address.data or "",
        kind=form.kind.data or "",
        notes=form.notes.data or "",
    )
