"""Whether this process lives and can do its work; for machines, and without secrets."""

from __future__ import annotations

import sqlalchemy as sa
from flask import Blueprint
from sqlalchemy.exc import SQLAlchemyError

from webapp.access import Access, allow
from webapp.blueprints import database

bp = Blueprint("health", __name__)


@bp.get("/healthz")
@allow(Access.PUBLIC)
def healthz() -> tuple[dict[str, object], int]:
    """200 when the database answers, else 503 with the reason."""
    try:
        with database().reading() as session:
            session.execute(sa.text("SELECT 1"))
    except SQLAlchemyError:
        return {"status": "failing", "reasons": ["the database does not answer"]}, 503
    return {"status": "ok", "reasons": []}, 200
