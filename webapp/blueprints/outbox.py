"""The outbox, as administrators see it: what waits, what became of each message, and what can be done about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, flash, render_template, request
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.wrappers import Response

from webapp import htmx, i18n
from webapp.access import Access, allow, current_actor
from webapp.actor import Actor
from webapp.blueprints import LARGEST_ID, database
from webapp.db import Session
from webapp.errors import Conflict, Invalid
from webapp.forms.outbox import OutboxSettingsForm
from webapp.i18n import gettext as _
from webapp.i18n import ngettext
from webapp.mail.retrospect import Meaning, meaning_of
from webapp.outbox import keeping, ledger, pause
from webapp.outbox.day import last_day
from webapp.outbox.ledger import Wanted
from webapp.outbox.messages import FailedAttempt, Kind, Message, State
from webapp.outbox.standing import Standing, standing

bp = Blueprint("outbox", __name__, url_prefix="/admin/outbox")


@bp.get("")
@allow(Access.ADMINISTRATOR)
def index() -> str:
    """The messages by state, and the last 24 hours."""
    with database().reading() as session:
        return render_template("outbox/index.html", hours=last_day(session), **_list(session))


@bp.get("/_list")
@allow(Access.ADMINISTRATOR)
def list_() -> str:
    """The list alone, fresh."""
    with database().reading() as session:
        return render_template("outbox/_list.html", **_list(session))


@bp.get("/<id:message_id>")
@allow(Access.ADMINISTRATOR)
def show(message_id: int) -> str:
    """One message and what became of it; never what it says."""
    return _show(message_id)


@bp.post("/<id:message_id>/retry")
@allow(Access.ADMINISTRATOR)
def retry(message_id: int) -> Response | tuple[str, int]:
    """Try it now."""
    return _act(message_id, ledger.retry, _("It will be tried at once."))


@bp.post("/<id:message_id>/cancel")
@allow(Access.ADMINISTRATOR)
def cancel(message_id: int) -> Response | tuple[str, int]:
    """See to it that it is never sent."""
    return _act(message_id, ledger.cancel, _("It is cancelled and will not be sent."))


@bp.post("/<id:message_id>/again")
@allow(Access.ADMINISTRATOR)
def again(message_id: int) -> Response | tuple[str, int]:
    """Say the same once more, in a new message."""
    try:
        with database().transaction() as session:
            fresh = ledger.again(session, current_actor(), message_id)
    except Conflict as problem:
        return _show(message_id, str(problem)), 409
    flash(_("It is queued to be sent again, as this new message."))
    return htmx.done("outbox.show", message_id=fresh)


@bp.post("/retry-all")
@allow(Access.ADMINISTRATOR)
def retry_all() -> Response:
    """Try all of these now."""
    wanted = _wanted()
    tried = _in_steps(ledger.retry_all, wanted)
    flash(
        _("%(messages)s will be tried at once.", messages=_messages(tried))
        if tried
        else _("There was nothing that can be tried again.")
    )
    return htmx.done("outbox.index", **_query(wanted))


@bp.get("/cancel-all")
@allow(Access.ADMINISTRATOR)
def ask_cancel_all() -> str:
    """Ask whether all of these are meant."""
    wanted = Wanted(State.QUEUED, _wanted().kind, _wanted().q)
    with database().reading() as session:
        page = ledger.find(session, wanted, per_page=5)
    return render_template("outbox/cancel_all.html", page=page, wanted=wanted)


@bp.post("/cancel-all")
@allow(Access.ADMINISTRATOR)
def cancel_all() -> Response:
    """Cancel all of these."""
    gone = _in_steps(ledger.cancel_all, _wanted())
    flash(
        _("%(messages)s will not be sent.", messages=_messages(gone))
        if gone
        else _("Nothing waited any more, and nothing was cancelled.")
    )
    return htmx.done("outbox.index", state=State.CANCELLED if gone else None)


@bp.post("/ask-now")
@allow(Access.ADMINISTRATOR)
def ask_now() -> Response:
    """Have the mail server asked at once, although delivery is paused."""
    with database().transaction() as session:
        asked = pause.ask_now(session, current_actor())
    flash(
        _("The mail server is being asked now. Look again in a minute.")
        if asked
        else _("Delivery is not paused any more.")
    )
    return htmx.done("outbox.index")


@bp.get("/settings")
@allow(Access.ADMINISTRATOR)
def settings() -> str:
    """Ask how long ended messages are kept."""
    with database().reading() as session:
        form = OutboxSettingsForm(formdata=None, data={"kept_days": keeping.kept_days(session)})
    return render_template("outbox/settings.html", form=form)


@bp.post("/settings")
@allow(Access.ADMINISTRATOR)
def save_settings() -> Response | tuple[str, int]:
    """Keep them so long from now on."""
    form = OutboxSettingsForm()
    if form.validate():
        try:
            with database().transaction() as session:
                keeping.keep(session, current_actor(), form.kept_days.data or 0)
            flash(_("Saved. What is older goes within minutes."))
            return htmx.done("outbox.index")
        except Invalid as error:
            form.blame(error)
    return htmx.invalid("outbox/settings.html", form=form)


def banner() -> Standing | None:
    """How delivery stands, for the top of an administrator's pages; None when it is well or cannot be known."""
    try:
        with database().reading() as session:
            found = standing(session)
    except SQLAlchemyError:  # The page itself says what is wrong with the database.
        return None
    return found if found.pause or found.is_deserted else None


def _list(session: Session) -> dict[str, Any]:
    wanted = _wanted()
    number = min(request.args.get("page", 1, type=int), LARGEST_ID)
    counts = ledger.counts(session)
    return {
        "wanted": wanted,
        "query": _query(wanted),
        "page": ledger.find(session, wanted, page=number),
        "counts": counts,
        "moving": counts[State.QUEUED] + counts[State.SENDING],
        "states": list(State),
        "kinds": list(Kind),
        "now": session.now(),
    }


def _wanted() -> Wanted:
    """Which messages the address or the form means; what is not known there is left open."""
    state, kind = request.values.get("state", ""), request.values.get("kind", "")
    return Wanted(
        State(state) if state in tuple(State) else None,
        kind if kind in tuple(Kind) else "",
        request.values.get("q", "")[:200],
    )


def _query(wanted: Wanted) -> dict[str, Any]:
    return {"state": wanted.state, "kind": wanted.kind or None, "q": wanted.q or None}


def _show(message_id: int, problem: str = "") -> str:
    with database().reading() as session:
        entry = ledger.get(session, message_id)
        return render_template(
            "outbox/show.html",
            entry=entry,
            message=entry.message,
            state=State(entry.message.state),
            meaning=_meaning(entry.message, entry.message),
            attempts=[(attempt, _meaning(entry.message, attempt)) for attempt in entry.attempts],
            pause=pause.current(session),
            problem=problem,
            now=session.now(),
        )


def _meaning(message: Message, attempt: Message | FailedAttempt) -> Meaning | None:
    return meaning_of(attempt.code, server=attempt.server, recipient=message.recipient, stage=attempt.stage)


def _act(message_id: int, act: Callable[[Session, Actor, int], None], said: str) -> Response | tuple[str, int]:
    try:
        with database().transaction() as session:
            act(session, current_actor(), message_id)
    except Conflict as problem:
        return _show(message_id, str(problem)), 409
    flash(said)
    return htmx.done("outbox.show", message_id=message_id)


def _in_steps(act: Callable[[Session, Actor, Wanted], int], wanted: Wanted) -> int:
    """Act on all of these, a thousand in each transaction, so that nobody waits long for the database."""
    total = 0
    while True:
        with database().transaction() as session:
            done = act(session, current_actor(), wanted)
        total += done
        if done < ledger.AT_ONCE:
            return total


def _messages(number: int) -> str:
    return ngettext("One message", "%(num)s messages", number, num=i18n.number(number))
