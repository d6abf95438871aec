"""Confirmed delivery: a test mail carries a code, and who types it in proves that the mail arrived.

"Accepted by server" is the server's word; a code that came back is proof. The code is random, known to the mail alone
(the database holds a keyed fingerprint), good for three days and for one test; wrong ones are counted.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Final

import sqlalchemy as sa

from webapp.actor import Actor
from webapp.audit import trail
from webapp.db import Database, Session
from webapp.errors import Conflict, Invalid, NotFound, Refused
from webapp.i18n import gettext as _
from webapp.i18n import moment
from webapp.keyring import Secret
from webapp.mail.checks import MailCheck

PATH: Final = "/admin/settings/mail/confirm"
ALPHABET: Final = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"  # without what is taken for something else: I L O 0 1
LENGTH: Final = 6
LIFETIME: Final = timedelta(hours=72)
_FIELD: Final = "confirmation_code"
_ACTION: Final = "mail:confirm"
_WRONG_PER_HOUR: Final = 10


def expect(session: Session, check_id: int) -> Secret:
    """Let a test that begins wait for its confirmation; gives the code for its mail. Raises NotFound."""
    check = session.get(MailCheck, check_id)
    if check is None:
        raise NotFound(_("There is no such test."))
    code = Secret("".join(secrets.choice(ALPHABET) for _ in range(LENGTH)))
    check.confirmation_digest = _digest(session, code.reveal())
    check.confirmation_until = session.now() + LIFETIME
    return code


def url(access_url: str, code: Secret) -> str:
    """The address that a reader of the mail may open instead of typing the code."""
    return f"{access_url}{PATH}?code={code.reveal()}"


def confirm(database: Database, actor: Actor, given: str) -> MailCheck:
    """Mark the test whose code was given as arrived, with an audit line; gives that test.

    What arrived was accepted, also when the conversation broke before the server could say so. Raises Invalid for a
    code that no test waits for, Conflict for one that was used, Refused after ten wrong ones within an hour.
    """
    code = "".join(given.split()).replace("-", "").upper()
    if len(code) != LENGTH or not set(code) <= set(ALPHABET):
        raise Invalid(
            _(
                "The code has %(length)s letters and digits. It stands in the subject of the test mail "
                "and in its text.",
                length=LENGTH,
            ),
            _FIELD,
        )
    with database.transaction() as session:
        session.get(trail.AuditHead, 1, with_for_update=True)  # two guesses at once must not both be the tenth
        _refuse_too_many(session, actor)
        check = _expecting(session, code)
        if check is not None:
            _mark(session, actor, check)
            return check
        trail.record(session, actor, _ACTION, subject="mail-settings", outcome="refused")
    raise Invalid(
        _(
            "No test waits for this code. Compare it with the newest test mail: each test has its "
            "own code, which is good for three days."
        ),
        _FIELD,
    )


def waiting(session: Session) -> MailCheck | None:
    """The newest test, if its mail was accepted and it still waits for its confirmation."""
    newest = session.scalar(sa.select(MailCheck).where(MailCheck.kind == "test").order_by(MailCheck.id.desc()).limit(1))
    if newest is None or not newest.accepted or newest.confirmed_at is not None:
        return None
    return newest if newest.confirmation_until is not None and newest.confirmation_until > session.now() else None


def _expecting(session: Session, code: str) -> MailCheck | None:
    now = session.now()
    return session.scalar(
        sa.select(MailCheck)
        .where(
            MailCheck.at > now - LIFETIME,
            MailCheck.confirmation_until > now,
            MailCheck.confirmation_digest == _digest(session, code),
        )
        .order_by(MailCheck.id.desc())
        .limit(1)
    )


def _mark(session: Session, actor: Actor, check: MailCheck) -> None:
    if check.confirmed_at is not None:
        raise Conflict(
            _(
                "This code was used already: %(confirmed_by_name)s confirmed on %(when)s "
                "that the mail arrived. Nothing needs to be done.",
                confirmed_by_name=check.confirmed_by_name,
                when=moment(check.confirmed_at),
            )
        )
    check.outcome, check.code, check.stage = "accepted", "", ""
    check.confirmed_at, check.confirmed_by_name = session.now(), actor.name[:320]
    trail.record(session, actor, _ACTION, subject="mail-settings", test=check.id, recipient=check.recipient)


def _refuse_too_many(session: Session, actor: Actor) -> None:
    """Counted in the audit trail, so that a restart forgets nothing."""
    wrong = session.scalar(
        sa.select(sa.func.count())
        .select_from(trail.AuditLine)
        .where(
            trail.AuditLine.action == _ACTION,
            trail.AuditLine.outcome == "refused",
            trail.AuditLine.actor_id == actor.id,
            trail.AuditLine.at > session.now() - timedelta(hours=1),
        )
    )
    if (wrong or 0) >= _WRONG_PER_HOUR:
        raise Refused(
            _(
                "You have given %(wrong_per_hour)s wrong codes within an hour, which is the limit: codes "
                "are not for guessing. Wait an hour, or send a new test mail and have another "
                "administrator confirm it.",
                wrong_per_hour=_WRONG_PER_HOUR,
            )
        )


def _digest(session: Session, code: str) -> str:
    return session.keyring.digest("mail confirmation", code)
