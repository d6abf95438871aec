"""Accounts: a user name and a sealed password on a resource."""

from __future__ import annotations

from flask import Blueprint, flash, render_template, request
from werkzeug.wrappers import Response

from webapp import htmx
from webapp.access import Access, allow, current_actor
from webapp.blueprints import LARGEST_ID, database
from webapp.errors import Conflict, Invalid, NotFound
from webapp.forms.vault import EditAccountForm, NewAccountForm, NewPasswordForm
from webapp.i18n import gettext as _
from webapp.keyring import Secret
from webapp.vault import accounts, resources, shares, uses
from webapp.vault.generator import generate
from webapp.vault.rights import Right

bp = Blueprint("accounts", __name__)


@bp.get("/resources/<id:resource_id>/accounts/new")
@allow(Access.SIGNED_IN)
def new(resource_id: int) -> str:
    """Ask for a new account."""
    with database().reading() as session:
        resource = resources.get_resource(session, current_actor(), resource_id, Right.MODIFY)
    return render_template("accounts/new.html", form=NewAccountForm(formdata=None), resource=resource, generated=None)


@bp.post("/resources/<id:resource_id>/accounts/new")
@allow(Access.SIGNED_IN)
def create(resource_id: int) -> Response | tuple[str, int]:
    """Add it, its password sealed."""
    form = NewAccountForm()
    with database().reading() as session:
        resource = resources.get_resource(session, current_actor(), resource_id, Right.MODIFY)
    if form.validate():
        try:
            with database().transaction() as session:
                account = accounts.add_account(
                    session,
                    current_actor(),
                    resource_id,
                    form.username.data or "",
                    Secret(form.password.data or ""),
                    notes=form.notes.data or "",
                )
            flash(_("The account “%(username)s” was added.", username=account.username))
            return htmx.done("resources.show", resource_id=resource_id)
        except Invalid as error:
            form.blame(error)
    return htmx.invalid("accounts/new.html", form=form, resource=resource, generated=None)


@bp.get("/accounts/<id:account_id>")
@allow(Access.SIGNED_IN)
def show(account_id: int) -> str:
    """One account: who uses it, its password on demand, and the history."""
    return _show(account_id)


@bp.post("/accounts/<id:account_id>")
@allow(Access.SIGNED_IN)
def update(account_id: int) -> Response | tuple[str, int]:
    """Change user name and notes."""
    form = EditAccountForm()
    with database().reading() as session:
        accounts.get_account(session, current_actor(), account_id, Right.MODIFY)
    if form.validate():
        try:
            with database().transaction() as session:
                accounts.edit_account(
                    session,
                    current_actor(),
                    account_id,
                    form.username.data or "",
                    form.notes.data or "",
                    version=form.version.data,
                )
            flash(_("The changes were saved."))
            return htmx.done("accounts.show", account_id=account_id)
        except Invalid as error:
            form.blame(error)
        except Conflict as error:
            form.problem = str(error)
            return _show(account_id, form), 409
    return _show(account_id, form), htmx.INVALID


@bp.post("/accounts/<id:account_id>/delete")
@allow(Access.SIGNED_IN)
def delete(account_id: int) -> Response | tuple[str, int]:
    """Delete it with its history, unless something uses it."""
    try:
        with database().transaction() as session:
            account = accounts.get_account(session, current_actor(), account_id, Right.MANAGE)
            resource_id = account.resource_id
            accounts.delete_account(session, current_actor(), account_id)
    except Conflict as error:
        return _show(account_id, problem=str(error)), 409
    flash(_("The account was deleted."))
    return htmx.done("resources.show", resource_id=resource_id)


@bp.get("/accounts/<id:account_id>/password")
@allow(Access.SIGNED_IN)
def password(account_id: int) -> str:
    """Ask for a new password."""
    return _password(account_id, NewPasswordForm(formdata=None))


@bp.post("/accounts/<id:account_id>/password")
@allow(Access.SIGNED_IN)
def change_password(account_id: int) -> Response | tuple[str, int]:
    """Keep the new password; the old one goes into the history."""
    form = NewPasswordForm()
    if form.validate():
        try:
            with database().transaction() as session:
                accounts.set_password(session, current_actor(), account_id, Secret(form.password.data or ""))
                used = uses.uses_of(session, account_id)
            then = (
                " " + _("%(used)s: the next connection uses it, and a login check is under way.", used=used[0])
                if used
                else ""
            )
            flash(_("The password was changed.%(then)s", then=then))
            return htmx.done("accounts.show", account_id=account_id)
        except Invalid as error:
            form.blame(error)
    return _password(account_id, form), htmx.INVALID


@bp.post("/accounts/<id:account_id>/reveal")
@allow(Access.SIGNED_IN, step_up=True)
def reveal(account_id: int) -> str:
    """Show the password, current or earlier; each time leaves an audit line."""
    version = request.form.get("version", type=int)
    if version is not None and not 0 < version <= LARGEST_ID:
        raise NotFound(_("There is no such password."))
    with database().transaction() as session:
        account = accounts.get_account(session, current_actor(), account_id)
        secret = accounts.reveal(session, current_actor(), account_id, version=version)
    template = "accounts/_secret.html" if htmx.is_htmx() else "accounts/reveal.html"
    return render_template(template, account=account, secret=secret, version=version or account.password_version)


@bp.post("/accounts/_generated")
@allow(Access.SIGNED_IN)
def generated() -> str:
    """A fresh random password for the form that asked."""
    template = "accounts/_generated.html" if htmx.is_htmx() else "accounts/generated.html"
    return render_template(template, generated=generate().reveal())


def _show(account_id: int, typed: EditAccountForm | None = None, *, problem: str = "") -> str:
    with database().reading() as session:
        account = accounts.get_account(session, current_actor(), account_id)
        standing = accounts.standing_to_account(session, current_actor(), account_id)
        history = accounts.history(session, current_actor(), account_id)
        used = uses.uses_of(session, account_id)
        resource = account.resource
        holders = shares.holders_of_account(session, current_actor(), account_id) if standing.manages else []
    form = typed or EditAccountForm(formdata=None, obj=account)
    form.problem = form.problem or problem
    return render_template(
        "accounts/show.html",
        account=account,
        resource=resource,
        standing=standing,
        history=history,
        uses=used,
        holders=holders,
        form=form,
    )


def _password(account_id: int, form: NewPasswordForm) -> str:
    with database().reading() as session:
        account = accounts.get_account(session, current_actor(), account_id, Right.MODIFY)
        used = uses.uses_of(session, account_id)
        resource = account.resource
    return render_template(
        "accounts/password.html", account=account, resource=resource, uses=used, form=form, generated=None
    )
