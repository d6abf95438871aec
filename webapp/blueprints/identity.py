"""The proof that this very installation answers, for its own check of the Access URL."""

from __future__ import annotations

from flask import Blueprint, Response, request

from webapp.access import Access, allow
from webapp.blueprints import database
from webapp.mail import access_url

bp = Blueprint("identity", __name__)


@bp.get(access_url.PATH)
@allow(Access.PUBLIC)
def prove() -> Response:
    """The proof of a nonce, and nothing else."""
    with database().reading() as session:
        return Response(access_url.proof(session, request.args.get("nonce", "")), mimetype="text/plain")
