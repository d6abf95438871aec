"""Authenticator apps: six digits that change each half minute (TOTP, RFC 6238).

The secret is sealed. A code is good for its own time step and the ones beside it, and each time step for one code.
"""

from __future__ import annotations

import hmac
from datetime import datetime
from typing import Final

import pyotp
import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp.actor import Actor
from webapp.audit import trail
from webapp.db import Base, Session, UtcDateTime, sealed_as
from webapp.errors import Conflict, Invalid
from webapp.i18n import gettext as _
from webapp.identity.users import User
from webapp.keyring import Secret

STEP_SECONDS: Final = 30
_DRIFT: Final = 1  # steps, either way


class TotpSecret(Base):
    """What an authenticator app shares with Keypost. Until ``confirmed_at`` is set the app has not proved to hold it.

    last_step: the time step of the last code accepted, in half minutes since 1970.
    """

    __tablename__ = "totp_secrets"

    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    sealed: Mapped[bytes] = mapped_column(info=sealed_as("{user_id}", field="secret"))
    made_at: Mapped[datetime] = mapped_column(UtcDateTime)
    confirmed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_step: Mapped[int] = mapped_column(sa.BigInteger)


def propose(session: Session, user: User) -> None:
    """Make a new secret for an app to take in; one proposed before is forgotten. Raises Conflict: there is one."""
    if is_confirmed(session, user.id):
        raise Conflict(_("An authenticator app is set up already. Remove it first to set up another."))
    session.execute(sa.delete(TotpSecret).where(TotpSecret.user_id == user.id))
    sealed = session.keyring.seal(
        Secret(pyotp.random_base32()), table=TotpSecret.__tablename__, row=user.id, field="secret"
    )
    session.add(TotpSecret(user_id=user.id, sealed=sealed, made_at=session.now(), last_step=0))


def proposed(session: Session, user: User) -> Secret | None:
    """The secret that waits for its app, in base 32."""
    row = session.get(TotpSecret, user.id)
    return _secret(session, row) if row is not None and row.confirmed_at is None else None


def address(secret: Secret, user: User, issuer: str) -> Secret:
    """The otpauth address that an app reads from a QR code."""
    return Secret(pyotp.TOTP(secret.reveal()).provisioning_uri(name=user.email, issuer_name=issuer))


def confirm(session: Session, actor: Actor, user: User, code: str) -> None:
    """Take the app in, once it has shown a code of the proposed secret. Raises Conflict and Invalid."""
    row = session.get(TotpSecret, user.id, with_for_update=True)
    if row is None or row.confirmed_at is not None:
        raise Conflict(_("No authenticator app waits to be confirmed. Begin again."))
    if not _accept(session, row, code):
        raise Invalid(
            _(
                "That code does not fit. Type the one your app shows now; if it never fits, check that "
                "the clock of the device is right."
            ),
            "code",
        )
    row.confirmed_at = session.now()
    trail.record(session, actor, "second-factor:add", subject=f"user:{user.id}", kind="authenticator app")


def is_confirmed(session: Session, user_id: int) -> bool:
    row = session.get(TotpSecret, user_id)
    return row is not None and row.confirmed_at is not None


def accept(session: Session, user_id: int, code: str) -> bool:
    """Whether the code is one of the user's app, not used before; it is from now on."""
    row = session.get(TotpSecret, user_id, with_for_update=True, populate_existing=True)
    return row is not None and row.confirmed_at is not None and _accept(session, row, code)


def _accept(session: Session, row: TotpSecret, code: str) -> bool:
    app, now = pyotp.TOTP(_secret(session, row).reveal()), int(session.now().timestamp()) // STEP_SECONDS
    given = "".join(code.split()).encode("utf-8", "surrogatepass")
    steps = range(now - _DRIFT, now + _DRIFT + 1)
    fitting = [step for step in steps if hmac.compare_digest(app.generate_otp(step).encode(), given)]
    if not fitting or fitting[-1] <= row.last_step:
        return False
    row.last_step = fitting[-1]
    return True


def _secret(session: Session, row: TotpSecret) -> Secret:
    return session.keyring.unseal(row.sealed, table=TotpSecret.__tablename__, row=row.user_id, field="secret")
