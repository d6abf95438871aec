"""A second click never doubles an action, also where no script runs: the same form of the same page is done once.

A form opts in by the macro once(), which makes its page's copy one of a kind. What is sent twice, word for word, is
answered with what the first was answered, after waiting for it. Only a form that was done is remembered: what was
refused may be sent again as it is.

The first click may have given the session another token, and a browser that sends the second one drops that answer
with its cookie. So the second is answered with the cookie too, within a minute: whoever can send the same form once
more, with the token from before, is who sent it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from flask import Flask, Response, current_app, g, make_response, redirect, request, session, url_for
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.datastructures import FileStorage
from werkzeug.wrappers import Response as BaseResponse

from webapp import htmx
from webapp.errors import Conflict
from webapp.i18n import gettext as _
from webapp.identity import submissions
from webapp.identity.submissions import Answered
from webapp.keyring import Secret

if TYPE_CHECKING:
    from webapp.db import Database
    from webapp.installation import Installation

FIELD: Final = "once"
_PATIENCE: Final = 20.0  # seconds
_PAUSE: Final = 0.05  # seconds
_TOKEN_HANDED_ON: Final = timedelta(minutes=1)
_FLASHES: Final = "_flashes"
_log = logging.getLogger("keypost.once")


@dataclass(frozen=True, slots=True)
class _Taken:
    """The form that this request does. token: of the session in which it was sent."""

    key: str
    token: str | None


def guard(app: Flask, installation: Installation) -> None:
    """Keep what each form is answered. Whether one was answered before, access asks where it lets requests in."""

    def keep(response: Response) -> Response:
        taken: _Taken | None = g.pop("submission", None)
        if taken is not None:
            try:
                with installation.database.transaction() as transaction:
                    submissions.end(transaction, taken.key, _answer(response, taken))
            except SQLAlchemyError as error:  # What the form asked for is done all the same, and must be said so.
                _log.warning("what a form was answered could not be noted: %s", type(error).__name__)
        return response

    app.after_request(keep)
    app.jinja_env.globals["one_of_a_kind"] = lambda: secrets.token_urlsafe(12)


def begin() -> BaseResponse | None:
    """Take this request's form on; or what the same one was answered, once it is. Raises Conflict when that is late."""
    key = _key()
    if key is None:
        return None
    found = _begin_or_wait(_database(), key)
    if found is None:
        g.submission = _Taken(key, session.get("token"))
        return None
    return _repeat(found)


def answered_before() -> BaseResponse | None:
    """What the same form was answered, for a browser that still holds the token from before. Raises Conflict."""
    found = _find()
    return _repeat(found) if found is not None and _may_have_token(found) else None


def answered_this_session() -> BaseResponse | None:
    """What the same form was answered when it opened the very session that sends it now. Raises Conflict."""
    found = _find()
    return _repeat(found) if found is not None and _opened_this_session(found) else None


def _key() -> str | None:
    """Which form of which page this request sends; the page's anti-forgery token, which is in it, says whose."""
    if request.method != "POST" or htmx.is_htmx() or not request.form.get(FIELD):
        return None
    typed = sorted(request.form.items(multi=True))
    files = sorted((name, _content(file)) for name, file in request.files.items(multi=True))
    return _installation().keyring.digest("submission", json.dumps([request.full_path, typed, files]))


def _content(file: FileStorage) -> str:
    """What a file holds, as its hash: a file of the same name may have been changed meanwhile."""
    hashed = hashlib.sha256(file.stream.read()).hexdigest()
    file.stream.seek(0)
    return hashed


def _answer(response: Response, taken: _Taken) -> Secret | None:
    """What a second click is to be answered: the next page, and this one only where there is no second chance to see
    it, because the token that opened it is gone."""
    renewed = session.get("token") not in (None, taken.token)
    if response.status_code != 303 and not (renewed and response.status_code == 200):
        return None
    kept = {
        "location": response.headers.get("Location"),
        "page": response.get_data(as_text=True) if response.status_code == 200 else None,
        "nonce": g.get("nonce"),
        "before": taken.token,
        "session": dict(session),
    }
    return Secret(json.dumps(kept))


def _kept(found: Answered) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(found.answer.reveal() if found.answer is not None else "{}"))


def _may_have_token(found: Answered) -> bool:
    """Whether the first click changed the token, and this one comes with that from before, soon after."""
    before = _kept(found)["before"]
    return _is_fresh(found) and session.get("token") == before and _kept(found)["session"].get("token") != before


def _opened_this_session(found: Answered) -> bool:
    opened = _kept(found)["session"].get("token")
    return opened is not None and opened == session.get("token")


def _is_fresh(found: Answered) -> bool:
    return _database().clock() - found.at <= _TOKEN_HANDED_ON


def _repeat(found: Answered) -> BaseResponse:
    kept = _kept(found)
    if _may_have_token(found):
        session.clear()
        session.update(kept["session"])
    else:
        session[_FLASHES] = kept["session"].get(_FLASHES, [])
    if kept["page"] is not None and _is_fresh(found) and _opened_this_session(found):
        g.nonce = kept["nonce"]
        return make_response(kept["page"])
    return redirect(kept["location"] or url_for("session.home"), 303)


def _begin_or_wait(database: Database, key: str) -> Answered | None:
    """What the same form was answered before, or None when it is for this request to do. Raises Conflict."""
    until = time.monotonic() + _PATIENCE
    while not _begin(database, key):
        found = _wait(database, key, until)
        if found is not None:
            return found
    return None


def _begin(database: Database, key: str) -> bool:
    with database.transaction() as transaction:
        return submissions.begin(transaction, key)


def _find() -> Answered | None:
    key = _key()
    return _wait(_database(), key, time.monotonic() + _PATIENCE) if key is not None else None


def _wait(database: Database, key: str, until: float) -> Answered | None:
    """What the form was answered, once it is; None when it came to nothing. Who waits keeps nobody from writing."""
    while True:
        with database.reading() as reading:
            found = submissions.look_up(reading, key)
        if found is None or found.answer is not None:
            return found
        if time.monotonic() > until:
            raise Conflict(_("This is being done already. Open the page again in a moment to see what became of it."))
        time.sleep(_PAUSE)


def _database() -> Database:
    return _installation().database


def _installation() -> Installation:
    return cast("Installation", current_app.extensions["installation"])
