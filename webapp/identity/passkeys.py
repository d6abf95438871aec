"""Passkeys (W3C Web Authentication): keys that a browser or a device holds, each good for this site alone.

A passkey is a second factor beside the password. One that verified its owner, by a PIN or a finger, proves both at
once and signs in by itself. A challenge is good for one answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp.actor import Actor
from webapp.audit import trail
from webapp.db import NO_SECRET, Base, Session, UtcDateTime
from webapp.errors import Invalid, NotFound
from webapp.i18n import gettext as _
from webapp.i18n import lazy
from webapp.identity.users import User
from webapp.installation import InstallationRow

if TYPE_CHECKING:
    from webauthn.authentication.verify_authentication_response import VerifiedAuthentication
    from webauthn.helpers.structs import PublicKeyCredentialDescriptor
    from webauthn.registration.verify_registration_response import VerifiedRegistration

VALID_FOR: Final = timedelta(minutes=5)
MOST: Final = 20
_LONGEST_NAME: Final = 60
_LONGEST_ID: Final = 1023  # bytes, as Web Authentication says
_NOT_TAKEN = lazy(
    "This passkey could not be added. Try again; it may be the wrong device, or the page may have been open long."
)
_NOT_RIGHT = lazy("This passkey does not open an account here. Sign in with your password, or try another passkey.")


class Passkey(Base):
    """A public key whose private half never leaves its device. ``sign_count`` grows if the device counts at all."""

    __tablename__ = "passkeys"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(sa.String(_LONGEST_NAME))
    # In hex: neither database compares bytes with an index limit the other one has.
    credential_id: Mapped[str] = mapped_column(sa.String(2 * _LONGEST_ID), unique=True)
    public_key: Mapped[bytes] = mapped_column(info=NO_SECRET)
    sign_count: Mapped[int] = mapped_column(sa.BigInteger)
    made_at: Mapped[datetime] = mapped_column(UtcDateTime)
    used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class SpentChallenge(Base):
    """The SHA-256 of a challenge that was answered rightly: it is good no second time."""

    __tablename__ = "spent_challenges"

    challenge_hash: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    spent_at: Mapped[datetime] = mapped_column(UtcDateTime)


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """This site as a browser names it. id: the host's name; origin: scheme, host and port."""

    id: str
    origin: str


def passkeys_of(session: Session, user_id: int) -> Sequence[Passkey]:
    """A user's passkeys, the oldest first."""
    return session.scalars(sa.select(Passkey).where(Passkey.user_id == user_id).order_by(Passkey.id)).all()


def creation_options(session: Session, user: User, party: RelyingParty, challenge: bytes) -> str:
    """What the browser needs to make a passkey, as JSON."""
    from webauthn import generate_registration_options, options_to_json  # noqa: PLC0415 - a sixth of a second
    from webauthn.helpers.structs import (  # noqa: PLC0415
        AuthenticatorSelectionCriteria,
        ResidentKeyRequirement,
        UserVerificationRequirement,
    )

    options = generate_registration_options(
        rp_id=party.id,
        rp_name="Keypost",
        user_id=_handle(session, user.id),
        user_name=user.email,
        user_display_name=user.name,
        challenge=challenge,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.PREFERRED, user_verification=UserVerificationRequirement.PREFERRED
        ),
        exclude_credentials=_descriptors(session, user.id),
    )
    return options_to_json(options)


def add(
    session: Session, actor: Actor, user: User, party: RelyingParty, *, challenge: bytes, answer: str, name: str
) -> Passkey:
    """Keep the passkey that the browser made. Raises Invalid."""
    name = _valid_name(name)
    if len(passkeys_of(session, user.id)) >= MOST:
        raise Invalid(_("You have %(most)s passkeys. Remove one that you do not use first.", most=MOST))
    made = _verify_registration(party, challenge, answer)
    credential_id = made.credential_id.hex()
    taken = session.scalar(sa.select(Passkey.id).where(Passkey.credential_id == credential_id))
    if taken is not None or len(credential_id) > 2 * _LONGEST_ID:
        raise Invalid(_NOT_TAKEN)
    _spend(session, challenge, _NOT_TAKEN)
    passkey = Passkey(
        user_id=user.id,
        name=name,
        credential_id=credential_id,
        public_key=made.credential_public_key,
        sign_count=made.sign_count,
        made_at=session.now(),
    )
    session.add(passkey)
    session.flush()
    trail.record(session, actor, "second-factor:add", subject=f"user:{user.id}", kind=f"passkey {name}")
    return passkey


def request_options(
    session: Session, party: RelyingParty, challenge: bytes, user_id: int | None, *, owner_verified: bool
) -> str:
    """What the browser needs to answer with a passkey: one of the user's, or any that it holds for this site.

    owner_verified: by PIN, finger or face.
    """
    from webauthn import generate_authentication_options, options_to_json  # noqa: PLC0415
    from webauthn.helpers.structs import UserVerificationRequirement  # noqa: PLC0415

    verification = UserVerificationRequirement.REQUIRED if owner_verified else UserVerificationRequirement.PREFERRED
    options = generate_authentication_options(
        rp_id=party.id,
        challenge=challenge,
        allow_credentials=_descriptors(session, user_id) if user_id is not None else None,
        user_verification=verification,
    )
    return options_to_json(options)


def prove(
    session: Session, party: RelyingParty, *, challenge: bytes, answer: str, user_id: int | None, owner_verified: bool
) -> User:
    """Whose passkey gave the answer: the user's, or with None anybody's. Raises Invalid.

    owner_verified: the device must have made sure, by PIN, finger or face, who used it.
    """
    passkey = _answering(session, answer)
    if passkey is None or (user_id is not None and passkey.user_id != user_id):
        raise Invalid(_NOT_RIGHT)
    verified = _verify_answer(party, challenge, answer, passkey, owner_verified=owner_verified)
    user = session.get_one(User, passkey.user_id)
    if not user.active:
        raise Invalid(_NOT_RIGHT)
    _spend(session, challenge, _NOT_RIGHT)
    passkey.sign_count, passkey.used_at = verified.new_sign_count, session.now()
    return user


def rename(session: Session, actor: Actor, passkey_id: int, name: str) -> str:
    """Call one of the actor's own passkeys something else; gives the name as it is kept. Raises NotFound, Invalid."""
    passkey, name = _of(session, actor.id, passkey_id), _valid_name(name)
    if passkey.name != name:
        trail.record(
            session, actor, "second-factor:rename", subject=f"user:{actor.id}", kind=f"passkey {name}", was=passkey.name
        )
        passkey.name = name
    return name


def remove(session: Session, user_id: int, passkey_id: int) -> str:
    """Delete one of the user's passkeys; gives its name. Raises NotFound."""
    passkey = _of(session, user_id, passkey_id)
    session.delete(passkey)
    session.flush()
    return passkey.name


def forget_old(session: Session) -> None:
    """Forget challenges too old to be answered anyway."""
    session.execute(sa.delete(SpentChallenge).where(SpentChallenge.spent_at < session.now() - 2 * VALID_FOR))


def _of(session: Session, user_id: int | None, passkey_id: int) -> Passkey:
    passkey = session.get(Passkey, passkey_id)
    if passkey is None or passkey.user_id != user_id:
        raise NotFound(_("There is no such passkey; it may have been removed already."))
    return passkey


def _valid_name(name: str) -> str:
    """A passkey's name as it is kept. Raises Invalid."""
    name = " ".join(name.split()) or "Passkey"
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise Invalid(
            _("A passkey's name has at most %(longest_name)s printable characters.", longest_name=_LONGEST_NAME), "name"
        )
    return name


def _handle(session: Session, user_id: int) -> bytes:
    """What a device files the user under: it says nothing of who they are."""
    installation = session.get_one(InstallationRow, 1).identifier
    return hashlib.sha256(f"passkeys of {user_id} at {installation}".encode()).digest()


def _descriptors(session: Session, user_id: int) -> list[PublicKeyCredentialDescriptor]:
    from webauthn.helpers.structs import PublicKeyCredentialDescriptor  # noqa: PLC0415

    return [
        PublicKeyCredentialDescriptor(id=bytes.fromhex(each.credential_id)) for each in passkeys_of(session, user_id)
    ]


def _answering(session: Session, answer: str) -> Passkey | None:
    from webauthn.helpers import parse_authentication_credential_json  # noqa: PLC0415

    try:
        credential_id = parse_authentication_credential_json(answer).raw_id.hex()
    except Exception:
        return None
    return session.scalar(
        sa.select(Passkey).where(Passkey.credential_id == credential_id).with_for_update()
    )  # fmt: skip


def _verify_registration(party: RelyingParty, challenge: bytes, answer: str) -> VerifiedRegistration:
    from webauthn import verify_registration_response  # noqa: PLC0415

    try:
        return verify_registration_response(
            credential=answer, expected_challenge=challenge, expected_rp_id=party.id, expected_origin=party.origin
        )
    except Exception:  # Whatever stands in the answer comes from outside, and the library parses JSON and CBOR in it.
        raise Invalid(_NOT_TAKEN) from None


def _verify_answer(
    party: RelyingParty, challenge: bytes, answer: str, passkey: Passkey, *, owner_verified: bool
) -> VerifiedAuthentication:
    from webauthn import verify_authentication_response  # noqa: PLC0415

    try:
        return verify_authentication_response(
            credential=answer,
            expected_challenge=challenge,
            expected_rp_id=party.id,
            expected_origin=party.origin,
            credential_public_key=passkey.public_key,
            credential_current_sign_count=passkey.sign_count,
            require_user_verification=owner_verified,
        )
    except Exception:  # As above; a counter that did not grow, as a copied key's, ends here too.
        raise Invalid(_NOT_RIGHT) from None


def _spend(session: Session, challenge: bytes, refusal: str) -> None:
    """Use the challenge up. Raises Invalid when it has been."""
    challenge_hash = hashlib.sha256(challenge).hexdigest()
    if session.get(SpentChallenge, challenge_hash) is not None:
        raise Invalid(refusal)
    session.add(SpentChallenge(challenge_hash=challenge_hash, spent_at=session.now()))
