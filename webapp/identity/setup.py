"""Claiming a new installation: one token, printed on the console, makes the first administrator."""

from __future__ import annotations

import hmac
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp.actor import Actor, Role
from webapp.db import CLOCK_TOLERANCE, Base, Database, Session, UtcDateTime
from webapp.errors import Conflict, Refused
from webapp.i18n import gettext as _
from webapp.identity import passwords
from webapp.identity.sessions import begin_session
from webapp.identity.tokens import new_token, token_hash
from webapp.identity.users import User, add_user, count_users
from webapp.keyring import Secret

VALID_FOR = timedelta(hours=1)


class SetupToken(Base):
    """The token's SHA-256; one row, replaced at each start until somebody has claimed the installation."""

    __tablename__ = "setup_token"

    id: Mapped[int] = mapped_column(primary_key=True)
    token_hash: Mapped[str] = mapped_column(sa.String(64))
    made_at: Mapped[datetime] = mapped_column(UtcDateTime)


def offer_setup(database: Database) -> str | None:
    """A fresh set-up token while there is no user, else None."""
    with database.transaction() as session:
        if count_users(session):
            return None
        token = new_token()
        fresh = {"token_hash": token_hash(token), "made_at": session.now()}
        session.add_unless_there(SetupToken, id=1, **fresh)
        session.execute(sa.update(SetupToken).where(SetupToken.id == 1).values(**fresh))
        return token


def check_token(session: Session, token: str) -> None:
    """Raises Refused for a wrong, spent or expired token."""
    row = session.get(SetupToken, 1)
    if row is None or count_users(session) or not hmac.compare_digest(row.token_hash, token_hash(token)):
        raise Refused(
            _(
                "This set-up link is not valid. It works once, and only for a new installation: start "
                "Keypost again to have a new one printed, or sign in if somebody has set it up already."
            )
        )
    if not -CLOCK_TOLERANCE <= session.now() - row.made_at <= VALID_FOR:
        raise Refused(_("This set-up link has expired after an hour. Start Keypost again to have a new one printed."))


def claim(database: Database, token: str, *, email: str, name: str, password: Secret, source: str) -> tuple[str, User]:
    """Make the first administrator and sign them in; gives the session's token. Raises Refused, Invalid, Conflict."""
    passwords.check_new(password, about=(name, email))
    with database.transaction() as session:
        # Two who hold the same link race here: on SQLite the write lock decides, on PostgreSQL this row's lock.
        session.get(SetupToken, 1, with_for_update=True)
        check_token(session, token)
        actor = Actor(None, name[:200], source, Role.ADMINISTRATOR)
        user = add_user(session, actor, email=email, name=name, role=Role.ADMINISTRATOR, password=password)
        if session.connection().execute(sa.delete(SetupToken).where(SetupToken.id == 1)).rowcount != 1:
            raise Conflict(_("Somebody else has just set up this installation. Sign in, or ask them to add you."))
        return begin_session(session, user, source), user
