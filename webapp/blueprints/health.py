"""Whether this process lives and can do its work, and figures about it; for machines, without names and secrets."""

from __future__ import annotations

import hmac
from typing import Final, cast

from flask import Blueprint, Flask, current_app, make_response, request
from flask.blueprints import BlueprintSetupState
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.wrappers import Response

from webapp.access import Access, allow, current_actor_or_none
from webapp.blueprints import database, installation
from webapp.db import Session
from webapp.i18n import gettext as _
from webapp.ingress import FORWARDED
from webapp.installation import has_its_key
from webapp.mail import figures
from webapp.mail.settings import is_this_machine
from webapp.outbox import health

bp = Blueprint("health", __name__)

_STARTED: Final = "started at"
_PASSED_ON: Final = ("Forwarded", "Via", "X-Real-IP")
_NO_KEY: Final = "the master key is not the one of this database"

Answer = tuple[dict[str, object], int]


@bp.record_once
def _note_start(state: BlueprintSetupState) -> None:
    app = cast(Flask, state.app)
    app.extensions[_STARTED] = app.extensions["installation"].database.clock()


@bp.get("/healthz")
@allow(Access.PUBLIC)
def healthz() -> Answer:
    """200 when everything does its work, delivery of mail included; else 503 with the reasons."""
    return _answer(with_mail=True)


@bp.get("/healthz/ready")
@allow(Access.PUBLIC)
def ready() -> Answer:
    """200 when pages can be answered, for a balancer: a pause of mail must not take them away."""
    return _answer(with_mail=False)


@bp.get("/healthz/live")
@allow(Access.PUBLIC)
def live() -> Answer:
    """200 as long as this process answers at all: starting it anew would mend nothing."""
    return {"status": "ok", "reasons": []}, 200


@bp.get("/metrics")
@allow(Access.PUBLIC)
def metrics() -> Response:
    """The figures for Prometheus: to programs on this machine, or to who presents KEYPOST_METRICS_TOKEN."""
    if not _may_read_figures():
        answer = make_response(
            _(
                "Figures are given to programs on this machine that ask without a proxy in between, to "
                "administrators who are signed in, and to who presents the KEYPOST_METRICS_TOKEN of this "
                "installation as a bearer token.\n"
            ),
            401,
        )
        answer.headers["WWW-Authenticate"] = 'Bearer realm="metrics"'
        answer.mimetype = "text/plain"
        return answer
    with database().reading() as session:
        found = figures.read(session)
    answer = make_response(figures.exposition(found))
    answer.headers["Content-Type"] = figures.CONTENT_TYPE
    return answer


def _may_read_figures() -> bool:
    actor = current_actor_or_none()
    if actor is not None and actor.is_administrator:
        return True
    token = installation().config.metrics_token
    if token:
        given = request.headers.get("Authorization", "")
        return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), f"Bearer {token}".encode())
    return _asked_on_this_machine()


def _asked_on_this_machine() -> bool:
    """Whether a program on this machine asked by itself. A proxy here asks for the whole world, and most say so."""
    passed_on = request.environ.get(FORWARDED) or any(name in request.headers for name in _PASSED_ON)
    host = request.host.rpartition(":")[0] or request.host
    return not passed_on and is_this_machine(request.remote_addr or "") and is_this_machine(host.strip("[]"))


def _answer(*, with_mail: bool) -> Answer:
    try:
        with database().reading() as session:
            reasons = _reasons(session, with_mail=with_mail)
    except SQLAlchemyError:
        reasons = ["the database does not answer"]
    return {"status": "failing" if reasons else "ok", "reasons": reasons}, 503 if reasons else 200


def _reasons(session: Session, *, with_mail: bool) -> list[str]:
    reasons = [] if has_its_key(session) else [_NO_KEY]
    return reasons + (health.troubles(session, started_at=current_app.extensions[_STARTED]) if with_mail else [])
