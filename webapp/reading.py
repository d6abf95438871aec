"""In whose language and time zone a request is answered: the user's own choice, or else the browser's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

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


def meet(database: Database, user: User) -> None:
    """Answer in this user's language and zone; and remember what their browser says, for mails."""
    asked, zone = _asked(), _zone()
    if (asked or user.seen_language, zone or user.seen_zone) != (user.seen_language, user.seen_zone):
        with database.transaction() as session:
            languages.note(get_user(session, user.id), language=asked, time_zone=zone)
    language = valid_language(user.language) or asked or SOURCE
    read_by(Reader(language, valid_zone(user.time_zone) or zone or valid_zone(user.seen_zone) or "UTC"))


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
