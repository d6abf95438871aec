"""Passkeys: made on the page of one's second factor, used to sign in. They need a script; nothing else does."""

from __future__ import annotations

from flask import Blueprint, Response, flash, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response as BaseResponse

from webapp import access, challenge, htmx
from webapp.access import Access, allow, current_actor, current_user
from webapp.blueprints import database
from webapp.challenge import Purpose
from webapp.errors import Invalid
from webapp.forms.identity import PasskeyForm, SignInForm
from webapp.i18n import gettext as _
from webapp.identity import passkeys, second_factor, sessions
from webapp.keyring import Secret

bp = Blueprint("passkeys", __name__)


@bp.post("/profile/second-factor/passkeys/options")
@allow(Access.SIGNED_IN, step_up=True)
def creation_options() -> Response:
    """What the browser needs to make a passkey."""
    with database().reading() as reading:
        options = passkeys.creation_options(
            reading, current_user(), challenge.party(reading), challenge.give(Purpose.MADE)
        )
    return Response(options, mimetype="application/json")


@bp.post("/profile/second-factor/passkeys")
@allow(Access.SIGNED_IN)
def add() -> BaseResponse | str | tuple[str, int]:
    """Keep what the browser made; the first second factor brings recovery codes, shown this once."""
    form = PasskeyForm()
    asked = challenge.take(Purpose.MADE)
    if form.validate() and asked:
        try:
            with database().transaction() as transaction:
                user = sessions.still_signed_in(transaction, current_actor(), session["token"])
                passkeys.add(
                    transaction,
                    current_actor(),
                    user,
                    challenge.party(transaction),
                    challenge=asked,
                    answer=form.credential.data or "",
                    name=form.name.data or "",
                )
                codes = second_factor.codes_if_none(transaction, current_actor(), user)
                session["token"] = sessions.keep_this_one(transaction, session["token"], user)
            return _added(codes)
        except Invalid as error:
            form.blame(error)
    form.problem = form.problem or _("The passkey was not added. Press “Add a passkey” and follow the browser.")
    with database().reading() as reading:
        factors = second_factor.of(reading, current_user().id)
    return render_template("second_factor/show.html", factors=factors, passkey_form=form), htmx.INVALID


@bp.post("/profile/second-factor/passkeys/<id:passkey_id>/remove")
@allow(Access.SIGNED_IN, step_up=True)
def remove(passkey_id: int) -> BaseResponse:
    """Take one away again."""
    with database().transaction() as transaction:
        user = sessions.still_signed_in(transaction, current_actor(), session["token"])
        second_factor.remove_passkey(transaction, current_actor(), user, passkey_id)
        session["token"] = sessions.keep_this_one(transaction, session["token"], user)
    flash(_("The passkey was removed. Your other sessions ended."))
    return htmx.done("second_factor.show")


@bp.post("/profile/second-factor/passkeys/<id:passkey_id>/rename")
@allow(Access.SIGNED_IN)
def rename(passkey_id: int) -> BaseResponse:
    """Call it something else."""
    try:
        with database().transaction() as transaction:
            name = passkeys.rename(transaction, current_actor(), passkey_id, request.form.get("name", ""))
        flash(_("The passkey is now called %(name)s.", name=name))
    except Invalid as error:
        flash(str(error))
    return htmx.done("second_factor.show")


@bp.post("/confirm/passkey/options")
@allow(Access.SIGNED_IN)
def proof_options() -> Response:
    """What the browser needs to confirm by a passkey that it is still the same person."""
    with database().reading() as reading:
        options = passkeys.request_options(
            reading,
            challenge.party(reading),
            challenge.give(Purpose.PROOF),
            current_user().id,
            owner_verified=True,
        )
    return Response(options, mimetype="application/json")


@bp.post("/sign-in/passkey/options")
@allow(Access.PUBLIC)
def request_options() -> Response:
    """What the browser needs to answer with a passkey: as the second step, or to sign in by it alone."""
    with database().reading() as reading:
        half = sessions.awaiting(reading, session.get("token", ""))
        options = passkeys.request_options(
            reading,
            challenge.party(reading),
            challenge.give(Purpose.SIGN_IN),
            half.id if half is not None else None,
            owner_verified=half is None,
        )
    return Response(options, mimetype="application/json")


@bp.post("/sign-in/passkey")
@allow(Access.PUBLIC)
def sign_in() -> BaseResponse | tuple[str, int]:
    """Sign in with what the browser answered."""
    target = access.safe_next(request.form.get("next"))
    asked = challenge.take(Purpose.SIGN_IN)
    try:
        if asked is None:
            raise Invalid(_("That took too long. Try again."))
        with database().transaction() as transaction:
            token, user = sessions.sign_in_by_passkey(
                transaction,
                challenge.party(transaction),
                challenge=asked,
                answer=request.form.get("credential", "")[:20_000],
                token=session.get("token"),
                source=access.source(),
            )
    except Invalid as error:
        with database().transaction() as transaction:
            sessions.refuse_passkey(transaction, access.source())
        form = SignInForm(formdata=None, next=target)
        form.problem = str(error)
        return render_template("session/sign_in.html", form=form, unclaimed=False), htmx.INVALID
    access.remember(token, user.id)
    return redirect(target or url_for("resources.index"), 303)


def _added(codes: list[Secret]) -> BaseResponse | str:
    if not codes:
        flash(_("The passkey was added."))
        return htmx.done("second_factor.show")
    return render_template("second_factor/codes.html", codes=codes, done=_("Your passkey is set up."))
