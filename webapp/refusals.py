"""What a person sees when a request cannot be answered: one page, one sentence, never a traceback."""

from __future__ import annotations

import logging
import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from flask import Flask, Response, abort, current_app, make_response, render_template, request
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as BaseResponse

from webapp import access, htmx, once
from webapp.actor import NOBODY, Actor, Role
from webapp.audit import refused
from webapp.db import is_full
from webapp.errors import Conflict, Invalid, NotFound, Problem, Refused, Unavailable
from webapp.i18n import gettext as _
from webapp.i18n import lazy
from webapp.ingress import Malformed, OtherSite, UnknownHost
from webapp.keyring import SealBroken

if TYPE_CHECKING:
    from webapp.db import Database
    from webapp.installation import Installation

log = logging.getLogger("keypost")

_STATUS: dict[type[Problem], int] = {
    Malformed: 400,
    OtherSite: 400,
    UnknownHost: 421,
    Invalid: 422,
    NotFound: 404,
    Refused: 403,
    Conflict: 409,
    Unavailable: 503,
}
_SENTENCES = {
    400: lazy("The request could not be understood. Go back, reload the page and try again."),
    403: lazy("Your role does not include this. Ask an administrator if you need it."),
    404: lazy("There is nothing here, or nothing that you may see. Check the address, or start from Resources."),
    405: lazy("This address does not work that way. Go back and use the page's own buttons."),
    413: lazy(
        "That was more than Keypost takes at once: one megabyte, five hundred fields. Nothing was changed. Split the "
        "file or the text, and send its parts one after another."
    ),
    429: lazy("That was too often. Wait a minute and try again."),
}
_TITLES = {
    400: lazy("Not understood"),
    403: lazy("Not allowed"),
    404: lazy("Not found"),
    405: lazy("Not possible here"),
    409: lazy("Changed meanwhile"),
    413: lazy("Too much at once"),
    421: lazy("Unknown address"),
    422: lazy("Not usable like this"),
    429: lazy("Too often"),
    500: lazy("Something went wrong"),
    503: lazy("Not available"),
    507: lazy("No room left"),
}
_MAX_FIELDS = 500
UPLOAD = "file"
"""The one field of all forms that takes a file."""


def register(app: Flask) -> None:
    """Answer every kind of failure with the same page."""
    app.register_error_handler(Problem, _problem)
    app.register_error_handler(CSRFError, _stale_form)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(OperationalError, _database_busy)
    app.register_error_handler(InterfaceError, _database_busy)
    app.register_error_handler(PoolTimeout, _database_busy)
    app.register_error_handler(SealBroken, _altered)
    app.register_error_handler(Exception, _unexpected)


def refuse_malformed() -> None:
    """Refuse what no form of ours can have sent, before a view or a database meets it."""
    values = [*request.args.items(multi=True), *request.form.items(multi=True)]
    if len(values) > _MAX_FIELDS:
        abort(413)
    if any(_is_malformed(part) for pair in values for part in pair) or _is_malformed(request.path):
        abort(400)
    # A file in the place of a text would meet code that expects a string.
    if any(name != UPLOAD or _is_malformed(file.filename or "") for name, file in request.files.items(multi=True)):
        abort(400)


def _is_malformed(text: str) -> bool:
    return "\x00" in text or "\ufffd" in text or any("\ud800" <= char <= "\udfff" for char in text)


def _answer(status: int, sentence: str, reference: str = "") -> Response:
    title = _TITLES.get(status, _("This did not work"))
    text = render_template("errors/error.html", title=title, status=status, sentence=sentence, reference=reference)
    response = make_response(text, status)
    if htmx.is_htmx():
        told = _("(reference %(reference)s)", reference=reference) if reference else ""
        htmx.say(response, f"{sentence} {told}".strip())
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = "5"
    return response


def _problem(problem: Problem) -> Response:
    status = next((code for kind, code in _STATUS.items() if isinstance(problem, kind)), 400)
    if status == HTTPStatus.FORBIDDEN:
        _note_refusal()
    return _answer(status, str(problem))


def _stale_form(error: CSRFError) -> BaseResponse:
    installation = cast("Installation", current_app.extensions["installation"])
    again = once.answered_this_session()
    if again is not None:
        return again
    if access.can_send_again(installation):
        access.recognise(installation)
        if htmx.is_htmx():
            return htmx.session_ended()
        if access.is_of_somebody_else():
            return _answer(
                409,
                _(
                    "Somebody else filled in this form, who was signed in on this browser before you. It was not sent, "
                    "and nothing of it is kept. Open its page anew to do this yourself."
                ),
            )
        return access.send_again_page(400)
    return _answer(
        400,
        _(
            "This form is out of date: you have signed in or out since it was opened, or cookies are "
            "switched off. Reload the page and send it again; what you typed may still be there when "
            "you go back."
        ),
    )


def _http(error: HTTPException) -> Response:
    if error.code is None or error.code < 400:
        return make_response(error.get_response())
    if error.code == HTTPStatus.FORBIDDEN:
        _note_refusal()
    return _answer(error.code, _SENTENCES.get(error.code, _("This did not work. Go back and try again.")))


def _note_refusal(why: str = "") -> None:
    """Leave a line in the audit trail. The act was refused already, so it does not hang on the line."""
    actor = access.current_actor_or_none() or Actor(None, NOBODY, access.source(), Role.PASSWORD_USER)
    try:
        with _database().transaction() as session:
            refused.record(session, actor, f"{request.method} {request.path} {why}".strip())
    except (OperationalError, PoolTimeout, Unavailable) as error:
        log.warning("a refusal was not recorded: %s", type(error).__name__)


def _database() -> Database:
    return cast("Installation", current_app.extensions["installation"]).database


def _altered(error: SealBroken) -> Response:
    log.error("%s", error)  # It names a place, and nothing of what is sealed there.
    _note_refusal(f"({error})")
    return _answer(
        500,
        _(
            "Something that is kept sealed does not open: it was altered or moved in the database. It is not shown, "
            "and nothing was changed. Tell whoever runs Keypost, who finds the place in the audit trail and has it in "
            "a backup; an account’s password can also be set anew."
        ),
    )


def _database_busy(error: Exception) -> Response:
    if is_full(error):
        log.error("the disk of the database is full")
        return _answer(
            507,
            _(
                "The disk of this Keypost is full, so nothing can be saved, and nothing was changed. "
                "Reading goes on. Ask whoever runs it to make room, then try again."
            ),
        )
    log.warning("database not available: %s", type(error).__name__)
    return _answer(
        503, _("The database is busy or cannot be reached. Nothing was changed; try again in a few seconds.")
    )


def _unexpected(error: Exception) -> Response:
    reference = secrets.token_hex(4)
    # The exception's own text may quote what somebody typed, so only its type and place are logged.
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place is not None else "unknown"
    log.error("unexpected %s at %s, reference %s", type(error).__name__, where, reference)
    return _answer(
        500,
        _(
            "Something went wrong inside Keypost, and it was not your doing. Nothing was half saved. "
            "Try again; if it stays, give your administrator the reference below."
        ),
        reference,
    )
