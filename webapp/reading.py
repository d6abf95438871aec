"""In whose language and time zone a request is answered: the user's own choice, or else the browser's."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from flask import Flask, Response, request
from werkzeug.wrappers import Response as BaseResponse

from webapp.db import Database
from webapp.i18n import LANGUAGES, SOURCE, Reader, read_by, reader, valid_language, valid_zone
from webapp.identity import languages
from webapp.identity.users import get_user

if TYPE_CHECKING:
    from webapp.identity.users import User

LANGUAGE_COOKIE: Final = "keypost-language"
ZONE_COOKIE: Final = "keypost-zone"
"""What app.js leaves there, because no browser sends its time zone by itself."""
_NOTED_EVERY: Final = 60  # seconds
_MOST_NOTED: Final = 10_000
_NOTED: Final[WeakKeyDictionary[Database, dict[int, float]]] = WeakKeyDictionary()
_A_YEAR: Final = 365 * 24 * 60 * 60  # seconds


def guard(app: Flask) -> None:
    """Answer each request in the language its browser asks for, until it is known whose request it is."""

    def begin() -> None:
        read_by(Reader(_asked() or SOURCE, _zone() or "UTC"))

    def end(_error: BaseException | None) -> None:
        read_by(Reader())

    app.before_request(begin)
    app.after_request(_say_so)
    app.teardown_request(end)


def meet(database: Database, user: User, sign_in_id: int) -> None:
    """Answer in this user's language and zone; and remember what their browser says, for mails, when that is easy."""
    asked, zone = _asked(), _zone()
    differs = (asked or user.seen_language, zone or user.seen_zone) != (user.seen_language, user.seen_zone)
    if differs and _is_due(database, sign_in_id):
        database.note(lambda session: languages.note(get_user(session, user.id), language=asked, time_zone=zone))
    language = valid_language(user.language) or asked or SOURCE
    read_by(Reader(language, valid_zone(user.time_zone) or zone or valid_zone(user.seen_zone) or "UTC"))


def _is_due(database: Database, sign_in_id: int) -> bool:
    """Whether nothing was noted for this session within the minute: two browsers may differ at each page."""
    noted, now = _NOTED.setdefault(database, {}), time.monotonic()
    if now - noted.get(sign_in_id, -_NOTED_EVERY) < _NOTED_EVERY:
        return False
    if len(noted) > _MOST_NOTED:
        noted.clear()
    noted[sign_in_id] = now
    return True


def remember(response: BaseResponse, language: str) -> None:
    """Keep the language for this browser, whoever signs in with it."""
    response.set_cookie(
        LANGUAGE_COOKIE, language, max_age=_A_YEAR, secure=request.is_secure, httponly=True, samesite="Lax"
    )


def _asked() -> str:
    """The language chosen on this browser, or else the best that the browser accepts; "" when it says nothing."""
    chosen = valid_language(request.cookies.get(LANGUAGE_COOKIE))
    return chosen or request.accept_languages.best_match(list(LANGUAGES)) or ""


def _zone() -> str:
    return valid_zone(request.cookies.get(ZONE_COOKIE))


def _say_so(response: Response) -> Response:
    if request.endpoint != "static":
        response.headers["Content-Language"] = reader().language
        response.vary.add("Accept-Language")
    return response
