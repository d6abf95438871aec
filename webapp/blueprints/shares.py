"""Shares: who may use a resource or an account of somebody else, and handing a resource over to another owner."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Blueprint, flash, render_template, request
from werkzeug.wrappers import Response

from webapp import htmx
from webapp.access import Access, allow, current_actor
from webapp.blueprints import database
from webapp.db import Session
from webapp.errors import Invalid
from webapp.forms.shares import ShareAccountForm, ShareForm, TransferForm, WithdrawForm
from webapp.i18n import gettext as _
from webapp.identity.users import User
from webapp.search import LONGEST_QUERY
from webapp.vault import accounts, resources, shares
from webapp.vault.rights import ON_ACCOUNT, ON_RESOURCE, Right
from webapp.vault.shares import Holder, StillUsed

bp = Blueprint("shares", __name__)


@bp.get("/resources/<id:resource_id>/sharing")
@allow(Access.SIGNED_IN)
def resource(resource_id: int) -> str:
    """Who may use a resource, and a form to share it with somebody."""
    return _resource(resource_id, ShareForm(formdata=None))


@bp.get("/resources/<id:resource_id>/sharing/_people")
@allow(Access.SIGNED_IN)
def people_for_resource(resource_id: int) -> str:
    """The people found, as options of the form."""
    with database().reading() as session:
        holders = shares.holders_of_resource(session, current_actor(), resource_id)
        people = shares.find_people(session, current_actor(), _query(), besides=holders)
    return render_template("shares/_people.html", people=people, q=_query(), chosen=None)


@bp.post("/resources/<id:resource_id>/sharing")
@allow(Access.SIGNED_IN, step_up=True)
def share_resource(resource_id: int) -> Response | tuple[str, int]:
    """Give somebody a right on it, or another one."""
    form = ShareForm()
    if form.validate():
        try:
            with database().transaction() as session:
                shares.share_resource(session, current_actor(), resource_id, form.who.data or 0, form.given())
            flash(_("The share was saved."))
            return htmx.done("shares.resource", resource_id=resource_id)
        except Invalid as error:
            form.blame(error)
    return _resource(resource_id, form), htmx.INVALID


@bp.post("/resources/<id:resource_id>/sharing/<id:user_id>/withdraw")
@allow(Access.SIGNED_IN)
def withdraw_resource(resource_id: int, user_id: int) -> Response | tuple[str, int]:
    """Take a share back; when something rests on it, only after that was told."""
    form = WithdrawForm()
    try:
        with database().transaction() as session:
            shares.withdraw_resource(
                session, current_actor(), resource_id, user_id, although_used=bool(form.although_used.data)
            )
    except StillUsed as told:
        return _resource(resource_id, ShareForm(formdata=None), told=told, of=user_id), 409
    flash(_("The share was withdrawn."))
    return _left(user_id) or htmx.done("shares.resource", resource_id=resource_id)


@bp.get("/accounts/<id:account_id>/sharing")
@allow(Access.SIGNED_IN)
def account(account_id: int) -> str:
    """Who may use an account, and a form to share it with somebody."""
    return _account(account_id, ShareAccountForm(formdata=None))


@bp.get("/accounts/<id:account_id>/sharing/_people")
@allow(Access.SIGNED_IN)
def people_for_account(account_id: int) -> str:
    """The people found, as options of the form."""
    with database().reading() as session:
        holders = shares.holders_of_account(session, current_actor(), account_id)
        people = shares.find_people(session, current_actor(), _query(), besides=holders)
    return render_template("shares/_people.html", people=people, q=_query(), chosen=None)


@bp.post("/accounts/<id:account_id>/sharing")
@allow(Access.SIGNED_IN, step_up=True)
def share_account(account_id: int) -> Response | tuple[str, int]:
    """Give somebody a right on it, or another one."""
    form = ShareAccountForm()
    if form.validate():
        try:
            with database().transaction() as session:
                shares.share_account(session, current_actor(), account_id, form.who.data or 0, form.given())
            flash(_("The share was saved."))
            return htmx.done("shares.account", account_id=account_id)
        except Invalid as error:
            form.blame(error)
    return _account(account_id, form), htmx.INVALID


@bp.post("/accounts/<id:account_id>/sharing/<id:user_id>/withdraw")
@allow(Access.SIGNED_IN)
def withdraw_account(account_id: int, user_id: int) -> Response | tuple[str, int]:
    """Take a share back; when something rests on it, only after that was told."""
    form = WithdrawForm()
    try:
        with database().transaction() as session:
            shares.withdraw_account(
                session, current_actor(), account_id, user_id, although_used=bool(form.although_used.data)
            )
    except StillUsed as told:
        return _account(account_id, ShareAccountForm(formdata=None), told=told, of=user_id), 409
    flash(_("The share was withdrawn."))
    return _left(user_id) or htmx.done("shares.account", account_id=account_id)


@bp.get("/resources/<id:resource_id>/transfer")
@allow(Access.SIGNED_IN)
def transfer(resource_id: int) -> str:
    """Ask who shall own a resource."""
    return _transfer(resource_id, TransferForm(formdata=None))


@bp.get("/resources/<id:resource_id>/transfer/_people")
@allow(Access.SIGNED_IN)
def heirs(resource_id: int) -> str:
    """The people found who can own it, as options of the form."""
    with database().reading() as session:
        people = shares.find_heirs(session, current_actor(), resource_id, _query())
    return render_template("shares/_people.html", people=people, q=_query(), chosen=None)


@bp.post("/resources/<id:resource_id>/transfer")
@allow(Access.SIGNED_IN, step_up=True)
def hand_over(resource_id: int) -> Response | tuple[str, int]:
    """Make somebody else the owner; when something rests on the owner's access, only after that was told."""
    form = TransferForm()
    if form.validate():
        try:
            with database().transaction() as session:
                shares.transfer(
                    session,
                    current_actor(),
                    resource_id,
                    form.who.data or 0,
                    keep=form.kept(),
                    although_used=bool(form.although_used.data),
                )
            flash(_("The resource was handed over."))
            if form.kept() is None:
                return htmx.done("resources.index")
            return htmx.done("resources.show", resource_id=resource_id)
        except Invalid as error:
            form.blame(error)
        except StillUsed as told:
            form.problem = str(told)
            return _transfer(resource_id, form, told=True), 409
    return _transfer(resource_id, form), htmx.INVALID


def _query() -> str:
    return request.values.get("q", "")[:LONGEST_QUERY]


def _resource(resource_id: int, form: ShareForm, *, told: StillUsed | None = None, of: int | None = None) -> str:
    with database().reading() as session:
        found = resources.get_resource(session, current_actor(), resource_id, Right.MANAGE)
        holders = shares.holders_of_resource(session, current_actor(), resource_id)
        people = _people(session, holders)
    return render_template(
        "shares/resource.html", resource=found, holders=holders, people=people, q=_query(), form=form, told=told, of=of,
        rights=ON_RESOURCE,
    )  # fmt: skip


def _account(account_id: int, form: ShareForm, *, told: StillUsed | None = None, of: int | None = None) -> str:
    with database().reading() as session:
        found = accounts.get_account(session, current_actor(), account_id, Right.MANAGE)
        holders = shares.holders_of_account(session, current_actor(), account_id)
        people = _people(session, holders)
    return render_template(
        "shares/account.html", account=found, resource=found.resource, holders=holders, people=people, q=_query(),
        form=form, told=told, of=of, rights=ON_ACCOUNT,
    )  # fmt: skip


def _people(session: Session, holders: Sequence[Holder]) -> list[User]:
    """Whom this person can share with; nobody when their role shares nothing, and then there is no form either."""
    if not current_actor().adds_resources:
        return []
    return shares.find_people(session, current_actor(), _query(), besides=holders)


def _left(user_id: int) -> Response | None:
    """The way home of who has given up a share of their own, and may not see the page any more."""
    return htmx.done("resources.index") if user_id == current_actor().id else None


def _transfer(resource_id: int, form: TransferForm, *, told: bool = False) -> str:
    with database().reading() as session:
        found = resources.get_resource(session, current_actor(), resource_id, Right.OWN)
        people = shares.find_heirs(session, current_actor(), resource_id, _query())
    return render_template(
        "shares/transfer.html", resource=found, people=people, q=_query(), form=form, told=told, rights=ON_RESOURCE
    )
