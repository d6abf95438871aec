"""A second click never doubles an action, also where no script runs: the same form of the same page is done once.

A form opts in by the macro once(), which makes its page's copy one of a kind. What is sent twice, word for word, is
answered with what the first was answered, after waiting for it. Only a form that was done (303) is remembered: what
was refused may be sent again as it is.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
from typing import TYPE_CHECKING, Final

from flask import Flask, Response, g, redirect, request, session
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.datastructures import FileStorage
from werkzeug.wrappers import Response as BaseResponse

from webapp import htmx
from webapp.access import current_actor_or_none
from webapp.errors import Conflict
from webapp.i18n import gettext as _
from webapp.identity import submissions

if TYPE_CHECKING:
    from webapp.db import Database
    from webapp.installation import Installation

FIELD: Final = "once"
_PATIENCE: Final = 20.0  # seconds
_PAUSE: Final = 0.05  # seconds
_FLASHES: Final = "_flashes"
_log = logging.getLogger("keypost.once")


def guard(app: Flask, installation: Installation) -> None:
    """Do each form once. To be registered after whatever may refuse a request."""
    database = installation.database

    def check() -> BaseResponse | None:
        actor = current_actor_or_none()
        if request.method != "POST" or htmx.is_htmx() or actor is None or not request.form.get(FIELD):
            return None
        typed = sorted(request.form.items(multi=True))
        files = sorted((name, _content(file)) for name, file in request.files.items(multi=True))
        key = installation.keyring.digest("submission", json.dumps([actor.id, request.full_path, typed, files]))
        answer = _begin_or_wait(database, key)
        if answer is None:
            g.submission = key
            return None
        location, said = json.loads(answer)
        session[_FLASHES] = said
        return redirect(location, 303)

    def keep(response: Response) -> Response:
        key = g.pop("submission", None)
        if key is not None:
            done = response.status_code == 303
            answer = json.dumps([response.headers["Location"], session.get(_FLASHES, [])]) if done else ""
            try:
                with database.transaction() as transaction:
                    submissions.end(transaction, key, answer)
            except SQLAlchemyError as error:  # What the form asked for is done all the same, and must be said so.
                _log.warning("what a form was answered could not be noted: %s", type(error).__name__)
        return response

    app.before_request(check)
    app.after_request(keep)
    app.jinja_env.globals["one_of_a_kind"] = lambda: secrets.token_urlsafe(12)


def _content(file: FileStorage) -> str:
    """What a file holds, as its hash: a file of the same name may have been changed meanwhile."""
    hashed = hashlib.sha256(file.stream.read()).hexdigest()
    file.stream.seek(0)
    return hashed


def _begin_or_wait(database: Database, key: str) -> str | None:
    """What the same form was answered before, or None when it is for this request to do. Raises Conflict."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        with database.transaction() as transaction:
            if submissions.begin(transaction, key):
                return None
        with database.reading() as reading:
            answer = submissions.answered(reading, key)
        if answer:
            return answer
        time.sleep(_PAUSE)
    raise Conflict(_("This is being done already. Open the page again in a moment to see what became of it."))
