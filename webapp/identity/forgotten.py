"""A forgotten password: whoever asks gets the same answer in the same time, and the owner of the address a link.

Asking writes down the address as it was typed and looks nobody up; who that is, if anybody, is found out in the
background. So neither the answer nor the time it takes tells who has an account.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp.actor import Actor, Role
from webapp.db import Base, Database, Session, UtcDateTime
from webapp.i18n import lazy
from webapp.identity import links, quota
from webapp.identity.quota import Quota
from webapp.identity.telling import tell
from webapp.identity.throttle import network
from webapp.identity.users import check_email, email_key, find_user
from webapp.outbox.messages import Kind

_AT_ONCE = 25
_FROM_HERE = Quota(
    "forgotten from", 10, timedelta(hours=1), lazy("Ten links were asked for from your network within the hour.")
)
_FOR_ADDRESS = Quota(
    "forgotten for", 3, timedelta(hours=1), lazy("Three links were asked for with this address within the hour.")
)
_ALL = Quota("forgotten", 300, timedelta(hours=1), lazy("Very many links were asked for within the hour."))


class ForgottenRequest(Base):
    """Somebody asked for a link; there for the seconds until it is answered. email: as it was typed."""

    __tablename__ = "forgotten_requests"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(sa.String(320))
    source: Mapped[str] = mapped_column(sa.String(100))
    asked_at: Mapped[datetime] = mapped_column(UtcDateTime)


def ask(session: Session, email: str, source: str) -> None:
    """Write down that somebody at ``source`` asks for a link. Raises Invalid for what is no address, or too often."""
    email = check_email(email)
    quota.take(session, _ALL)
    quota.take(session, _FROM_HERE, network(source))
    quota.take(session, _FOR_ADDRESS, email_key(email))
    session.add(ForgottenRequest(email=email, source=source[:100], asked_at=session.now()))
    session.flush()


def answer(database: Database) -> bool:
    """Queue a link for those who exist and may come in; tells whether there is more to do.

    What was asked longer ago than a link lives is dropped: who asked has given up waiting.
    """
    with database.reading() as session:
        if session.scalar(sa.select(ForgottenRequest.id).limit(1)) is None:
            return False
    with database.transaction() as session:
        requests = session.scalars(
            sa.select(ForgottenRequest).order_by(ForgottenRequest.id).limit(_AT_ONCE).with_for_update(skip_locked=True)
        ).all()
        for request in requests:
            if session.now() - request.asked_at < links.Purpose.RESET.life:
                _send(session, request.email, request.source)
            session.delete(request)
        return len(requests) == _AT_ONCE


def _send(session: Session, email: str, source: str) -> None:
    user = find_user(session, email)
    if user is None or not user.active:
        return
    # Whoever asked has proved nothing: their address alone is known.
    somebody = Actor(None, f"somebody at {source}", source, Role.PASSWORD_USER)
    life = links.Purpose.RESET.life
    token = links.make_link(session, somebody, user, links.Purpose.RESET, action="user:forgotten-password")
    tell(
        session,
        somebody,
        user,
        Kind.PASSWORD_RESET,
        about=f"user:{user.id}",
        life=life,
        token=token.reveal(),
        valid_until=(session.now() + life).isoformat(timespec="seconds"),
    )
