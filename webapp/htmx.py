"""The one place that knows htmx's headers: page or dialog, answers, Vary and no-store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from flask import Response, make_response, redirect, render_template, request, stream_with_context, url_for
from werkzeug.wrappers import Response as BaseResponse

from webapp.i18n import throughout

INVALID = 422
TOO_MANY = 429


def is_htmx() -> bool:
    """Whether htmx asked; true is a wish about the answer's form, never a proof of anything."""
    return request.headers.get("HX-Request") == "true"


def wants_stream() -> bool:
    """Whether the asking htmx can show an answer piece by piece (text/event-stream)."""
    return is_htmx() and "text/event-stream" in request.headers.get("Accept", "")


def stream(parts: Iterator[str]) -> Response:
    """Each part of a page as an event of its own, as soon as it is made, in the language of who asked."""
    events = (_event(part) for part in throughout(parts))
    return Response(stream_with_context(events), mimetype="text/event-stream")


def _event(part: str) -> str:
    """One event of a stream (WHATWG HTML, server-sent events)."""
    return "".join(f"data: {line}\n" for line in part.splitlines()) + "\n"


def layout() -> str:
    """The template that a view's page extends: a dialog's inside under htmx, a whole page without."""
    return "layouts/dialog.html" if is_htmx() else "layouts/page.html"


def invalid(template: str, **context: Any) -> tuple[str, int]:
    """The form once more, with its errors at their fields."""
    return render_template(template, **context), INVALID


def done(endpoint: str, *, event: str | None = None, say: str = "", **values: Any) -> BaseResponse:
    """The form has done its work: 303 to the next page, or 204 with an event under htmx when one is given.

    ``say`` is what the page announces to the person once the dialog has closed.
    """
    if not is_htmx():
        return redirect(url_for(endpoint, **values), 303)
    response: Response = make_response("", 204)
    if event is None:
        response.headers["HX-Redirect"] = url_for(endpoint, **values)
        return response
    response.headers["HX-Trigger"] = json.dumps({event: {}, "keypost:done": {"say": say}})
    return response


def say(response: Response, sentence: str) -> None:
    """Have the page say this above whatever it shows: an error's own page is not swapped into a part of another."""
    response.headers["HX-Trigger"] = json.dumps({"keypost:say": {"say": sentence}})


def ask_for_proof() -> Response:
    """Have the page open its dialog that asks who it is. What was asked for is not done."""
    response = make_response("", 403)
    response.headers["HX-Trigger"] = json.dumps({"keypost:prove": {}})
    return response


def session_ended() -> Response:
    """Have the page say so above whatever it shows, so that nothing typed is lost. What was asked for is not done."""
    response = make_response("", 401)
    response.headers["HX-Trigger"] = json.dumps({"keypost:ended": {}})
    return response


def proved() -> Response:
    """Have the page close that dialog, and ask for the same once more."""
    response = make_response("", 204)
    response.headers["HX-Trigger"] = json.dumps({"keypost:proved": {}})
    return response


def go(url: str, status: int = 401) -> BaseResponse:
    """Send the whole page elsewhere, also when htmx asked for a part of it."""
    if not is_htmx():
        return redirect(url, 302 if status == 401 else 303)
    response: Response = make_response("", status)
    response.headers["HX-Redirect"] = url
    return response
