"""What was tried with which settings, and what that proves about the settings as they stand.

A check belongs to a fingerprint of everything that decides whether mail can be handed over, the password (or the bound
account's password version) included: change any of it and the proof is gone. A test of a draft therefore counts after
saving exactly the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

from webapp.actor import Actor
from webapp.audit import trail
from webapp.db import Base, Database, Session, UtcDateTime
from webapp.errors import NotFound, Problem, Refused
from webapp.i18n import gettext as _
from webapp.i18n import lazy, moment
from webapp.mail.probe import Result, outcome_of
from webapp.mail.settings import MailSettings, Target, current, saved_target
from webapp.mail.transport import Trust
from webapp.outbox.codes import name_of
from webapp.trust import seen
from webapp.vault.accounts import AccountPassword

Kind = Literal["test", "login", "delivery", "search", "access-url"]

RUNNING: Final = "running"
ABANDONED: Final = "abandoned"
_ASKED_FOR: Final = ("test", "search", "access-url")
_LIMITS: Final = ((timedelta(minutes=1), 10, lazy("a minute")), (timedelta(hours=1), 60, lazy("an hour")))
_LIMITS_OF_ALL: Final = (
    (timedelta(minutes=1), 30, lazy("a minute")),
    (timedelta(hours=1), 180, lazy("an hour")),
)
_ABANDONED_AFTER: Final = timedelta(minutes=1)
_DAILY: Final = timedelta(days=1)
_SHOWN: Final = 1000


class MailCheck(Base):
    """One test, login check, delivery, search or look at the Access URL.

    outcome: "running", "accepted", "failed", or "abandoned" when nobody waited for the end; reply: masked.

    place: the fingerprint without the secret. account_id, password_version: of the bound account that signed in.
    claim: set on automatic login checks, unique per password version, so that only one process makes each.
    confirmation_digest, confirmation_until: of the code in a test's mail, see confirmation.py; confirmed_at,
    confirmed_by_name: when and by whom that code came back, which proves that the mail arrived.
    """

    __tablename__ = "mail_checks"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(sa.String(10))
    fingerprint: Mapped[str] = mapped_column(sa.String(64), index=True)
    place: Mapped[str] = mapped_column(sa.String(64), index=True)
    account_id: Mapped[int | None]
    password_version: Mapped[int | None]
    claim: Mapped[str | None] = mapped_column(sa.String(60), unique=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    by_id: Mapped[int | None]
    by_name: Mapped[str] = mapped_column(sa.String(320))
    recipient: Mapped[str] = mapped_column(sa.String(320))
    outcome: Mapped[str] = mapped_column(sa.String(10))
    code: Mapped[str] = mapped_column(sa.String(60))
    stage: Mapped[str] = mapped_column(sa.String(20))
    reply: Mapped[str] = mapped_column(sa.Text)
    confirmation_digest: Mapped[str | None] = mapped_column(sa.String(64))
    confirmation_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    confirmed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    confirmed_by_name: Mapped[str | None] = mapped_column(sa.String(320))

    @property
    def accepted(self) -> bool:
        return self.outcome == "accepted"

    @property
    def running(self) -> bool:
        return self.outcome == RUNNING


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a check is about. exact: with the secret; place: without it; the rest is for the record."""

    exact: str
    place: str
    server_name: str
    port: int
    account_id: int | None = None
    password_version: int | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether exactly these settings and this password are proved to work.

    at, by, kind: of the check that proves it. reason: why not, as the end of "Not verified: …". arrived_at,
    arrived_by: when and by whom the code of a test mail was given, when one was: more than the server's word.
    """

    verified: bool
    at: datetime | None = None
    by: str = ""
    reason: str = ""
    kind: str = ""
    arrived_at: datetime | None = None
    arrived_by: str = ""


def fingerprint_of(session: Session, target: Target) -> Fingerprint:
    """The keyed fingerprint of a target; worthless without the master key."""
    server, login = target.server, target.login
    place = [server.name, str(server.port), server.security.value, target.sender_address, "yes" if login else "no"]
    place.append(server.hello_name or "")  # a server may turn a stranger's name away, at EHLO or only at RCPT
    if login is not None:
        place += [login.username, f"account {target.account_id}" if target.account_id is not None else "typed"]
    secret = ""
    if target.account_id is not None:
        secret = f"version {target.password_version}"
    elif login is not None:
        secret = login.password.reveal()
    return Fingerprint(
        exact=session.keyring.digest("mail check", *place, secret),
        place=session.keyring.digest("mail check place", *place),
        server_name=server.name,
        port=server.port,
        account_id=target.account_id,
        password_version=target.password_version,
    )


def verification(session: Session, settings: MailSettings | None = None) -> Verification:
    """Whether the saved settings are proved to work as they stand now. ``settings`` is the row the page shows."""
    try:
        about = fingerprint_of(session, saved_target(session))
    except Problem as problem:
        return Verification(False, reason=str(problem))
    telling = sa.or_(MailCheck.outcome == "accepted", MailCheck.stage.not_in(("recipient", "message")))
    last = _newest(
        session, MailCheck.fingerprint == about.exact, MailCheck.outcome.in_(("accepted", "failed")), telling
    )
    sent = _newest(
        session,
        MailCheck.place == about.place,
        MailCheck.outcome == "accepted",
        MailCheck.kind.in_(("test", "delivery")),
    )
    if last is None:
        return Verification(False, reason=_why_unproved(session, about, sent))
    if not last.accepted:
        when = {"moment": moment(last.at), "code": name_of(last.code)}
        failed = (
            _("signing in failed on %(moment)s (%(code)s).", **when)
            if last.kind == "login"
            else _("sending failed on %(moment)s (%(code)s).", **when)
        )
        return Verification(
            False,
            last.at,
            last.by_name,
            failed,
            last.kind,
        )
    if sent is None:
        reason = _(
            "the sign-in was accepted on %(moment)s, but no message has been sent with these settings.",
            moment=moment(last.at),
        )
        return Verification(False, last.at, last.by_name, reason, last.kind)
    arrived = _newest(session, MailCheck.fingerprint == about.exact, MailCheck.confirmed_at.is_not(None))
    return Verification(
        True,
        last.at,
        last.by_name,
        kind=last.kind,
        arrived_at=arrived.confirmed_at if arrived else None,
        arrived_by=(arrived.confirmed_by_name or "") if arrived else "",
    )


def was_ever_sent(session: Session) -> bool:
    """Whether a mail server ever took a message of this installation, as a test or for somebody."""
    sent = sa.and_(MailCheck.outcome == "accepted", MailCheck.kind.in_(("test", "delivery")))
    return session.scalar(sa.select(sa.exists().where(sent))) or False


def last_login_check(session: Session) -> MailCheck | None:
    """The newest login check, running or ended, of the server and login that are saved now.

    None once it failed and the same login was accepted after that, by a test or a delivery.
    """
    try:
        about = fingerprint_of(session, saved_target(session))
    except Problem:
        return None
    last = _newest(session, MailCheck.kind == "login", MailCheck.place == about.place)
    if last is None or last.running or last.accepted:
        return last
    same = sa.and_(MailCheck.fingerprint == about.exact, MailCheck.outcome == "accepted", MailCheck.at > last.at)
    return None if _newest(session, same) else last


def refuse_too_many(session: Session, actor: Actor) -> None:
    """Raise Refused while a test or search of ``actor`` runs, or when a minute or an hour has no room for another.

    Counted in the database, for one and for all, so that a restart forgets nothing. The command line is exempt.
    """
    if actor.id is None:
        return
    _refuse_second(session, actor)
    for period, limit, name in _LIMITS:
        if _made(session, period, MailCheck.by_id == actor.id) >= limit:
            raise Refused(
                _(
                    "You have made %(limit)s tests within %(name)s, which is the limit: a test reaches out "
                    "to other people's servers and mailboxes. Wait up to %(name)s and test again.",
                    limit=limit,
                    name=name,
                )
            )
    for period, limit, name in _LIMITS_OF_ALL:
        if _made(session, period, MailCheck.by_id.is_not(None)) >= limit:
            raise Refused(
                _(
                    "All administrators together have made %(limit)s tests within %(name)s, which is the "
                    "limit: a test reaches out to other people's servers and mailboxes. Wait up to %(name)s "
                    "and test again.",
                    limit=limit,
                    name=name,
                )
            )


def _refuse_second(session: Session, actor: Actor) -> None:
    running = sa.exists().where(
        MailCheck.kind.in_(_ASKED_FOR),
        MailCheck.by_id == actor.id,
        MailCheck.outcome == RUNNING,
        MailCheck.at > session.now() - _ABANDONED_AFTER,
    )
    if session.scalar(sa.select(running)):
        raise Refused(
            _(
                "A test or search of yours is still running. It ends by itself, within half a minute at "
                "most; then test again."
            )
        )


def _made(session: Session, period: timedelta, by: sa.ColumnElement[bool]) -> int:
    """How many tests and searches were asked for within the last ``period``."""
    counted = sa.select(sa.func.count()).select_from(MailCheck)
    return session.scalar(counted.where(MailCheck.kind.in_(_ASKED_FOR), by, MailCheck.at > session.now() - period)) or 0


def begin_test(session: Session, actor: Actor, fingerprint: Fingerprint, recipient: str) -> int:
    """Note that a test begins, so that it counts however it ends; gives the id for record_check(). Raises Refused."""
    return _begin(session, actor, "test", fingerprint, recipient)


def begin_search(session: Session, actor: Actor, looked_for: str) -> int:
    """Note that a search for settings begins: it counts as a test. Gives the id for end_search(). Raises Refused."""
    digest = session.keyring.digest("mail search", looked_for)
    return _begin(session, actor, "search", Fingerprint(digest, digest, "", 0))


def begin_look_at_access_url(session: Session, actor: Actor, url: str) -> int:
    """Note that the Access URL is tried, which counts as a test. Gives the id for end(). Raises Refused."""
    digest = session.keyring.digest("access url", url)
    return _begin(session, actor, "access-url", Fingerprint(digest, digest, "", 0))


def _begin(session: Session, actor: Actor, kind: Kind, fingerprint: Fingerprint, recipient: str = "") -> int:
    session.get(trail.AuditHead, 1, with_for_update=True)  # two at once must not both be the tenth
    refuse_too_many(session, actor)
    check = _new(session, kind, fingerprint, actor, recipient)
    session.add(check)
    session.flush()
    return check.id


def end(session: Session, check_id: int, outcome: str) -> None:
    """Note how what was begun ended, for those that prove nothing about the settings."""
    check = session.get(MailCheck, check_id)
    if check is not None:
        check.at, check.outcome = session.now(), outcome


def end_search(
    session: Session, actor: Actor, check_id: int, *, looked_for: str, outcome: str, found: list[str]
) -> None:
    """Record how a search ended, with its audit line. outcome: "found", "nothing" or "abandoned"."""
    end(session, check_id, "accepted" if outcome == "found" else "failed")
    trail.record(
        session,
        actor,
        "mail:find",
        subject="mail-settings",
        outcome=outcome,
        looked_for=looked_for[:320],
        found=found[:12],
    )


def record_check(
    session: Session,
    *,
    kind: Kind,
    fingerprint: Fingerprint,
    result: Result,
    actor: Actor,
    recipient: str | None = None,
    check_id: int | None = None,
) -> MailCheck:
    """Record how a check ended, with its audit line. ``check_id``: of the row that was begun, if one was."""
    check = session.get(MailCheck, check_id) if check_id is not None else None
    if check is None:
        check = _new(session, kind, fingerprint, actor, recipient or "")
        session.add(check)
    diagnosis = result.diagnosis
    check.fingerprint, check.place = fingerprint.exact, fingerprint.place
    check.account_id, check.password_version = fingerprint.account_id, fingerprint.password_version
    check.at = session.now()
    check.outcome = result.outcome
    check.code = diagnosis.code if diagnosis else ""
    check.stage = diagnosis.stage if diagnosis else ""
    check.reply = ((diagnosis.reply if diagnosis else result.reply) or "")[:_SHOWN]
    if result.certificate is not None:
        seen.note(session, fingerprint.server_name, fingerprint.port, result.certificate.chain)
    trail.record(
        session,
        actor,
        "mail:test" if kind == "test" else "mail:login-check" if kind == "login" else "mail:delivery",
        subject="mail-settings",
        outcome=result.outcome,
        server=fingerprint.server_name,
        port=fingerprint.port,
        code=check.code,
        **({"recipient": recipient} if recipient else {}),
        **(
            {"account": fingerprint.account_id, "password_version": fingerprint.password_version}
            if fingerprint.account_id is not None
            else {}
        ),
    )
    return check


def run_saved(database: Database, trust: Trust, recipient: str | None = None) -> Result:
    """Try the saved settings: a message to ``recipient``, or without one the login alone. Nothing is recorded.

    When the server refuses a bound account, the password is read again, and if it changed meanwhile tried once more.
    Raises what saved_target() raises, and Invalid for the recipient.
    """
    return _run_saved(database, trust, recipient)[1]


def check_saved(
    database: Database,
    trust: Trust,
    actor: Actor,
    *,
    recipient: str | None = None,
    check_id: int | None = None,
) -> Result:
    """run_saved(), recorded: a test when there is a recipient, else a login check."""
    target, result = _run_saved(database, trust, recipient)
    with database.transaction() as session:
        record_check(
            session,
            kind="test" if recipient is not None else "login",
            fingerprint=fingerprint_of(session, target),
            result=result,
            actor=actor,
            recipient=recipient,
            check_id=check_id,
        )
    return result


def claim_login_check(database: Database, actor: Actor) -> int | None:
    """Take the login check that the bound account's password is due, if no process has; gives its id.

    Each version of the password is checked by itself once; what a test of the same settings proved is not repeated. A
    check whose process died is taken over after a minute.
    """
    with database.reading() as session:
        if _due(session) is None:
            return None
    try:
        with database.transaction() as session:
            about = _due(session)
            return _claim(session, actor, about, f"{about.account_id}/{about.password_version}") if about else None
    except IntegrityError:
        return None


def claim_daily_check(database: Database, actor: Actor) -> int | None:
    """Take the check of the day, if nothing has used the saved settings for a day and no process has; gives its id."""
    with database.reading() as session:
        if _due_today(session) is None:
            return None
    try:
        with database.transaction() as session:
            about = _due_today(session)
            return _claim(session, actor, about, f"day {session.now():%Y-%m-%d}") if about else None
    except IntegrityError:
        return None


def _due_today(session: Session) -> Fingerprint | None:
    try:
        about = fingerprint_of(session, saved_target(session))
    except Problem:
        return None
    saved, since = current(session), session.now() - _DAILY
    recent = _newest(session, MailCheck.place == about.place, MailCheck.at > since, _lives(session))
    return None if recent is not None or saved is None or saved.updated_at > since else about


def _due(session: Session) -> Fingerprint | None:
    try:
        target = saved_target(session)
    except Problem:
        return None
    if target.account_id is None:
        return None
    about = fingerprint_of(session, target)
    same_version = sa.and_(
        MailCheck.kind == "login",
        MailCheck.account_id == about.account_id,
        MailCheck.password_version == about.password_version,
    )
    same = sa.and_(MailCheck.fingerprint == about.exact, MailCheck.kind.in_(("test", "delivery")))
    return None if _newest(session, sa.or_(same_version, same), _lives(session)) else about


def _lives(session: Session) -> sa.ColumnElement[bool]:
    """Whether a check has ended, or began so lately that it still may."""
    return sa.or_(MailCheck.outcome.not_in((RUNNING, ABANDONED)), MailCheck.at > session.now() - _ABANDONED_AFTER)


def _claim(session: Session, actor: Actor, about: Fingerprint, claim: str) -> int | None:
    abandoned = session.scalar(sa.select(MailCheck).where(MailCheck.claim == claim).with_for_update())
    if abandoned is None:
        fresh = _new(session, "login", about, actor, "")
        fresh.claim = claim
        session.add(fresh)
        session.flush()
        return fresh.id
    if not abandoned.running or abandoned.at > session.now() - _ABANDONED_AFTER:
        return None
    abandoned.at = session.now()
    return abandoned.id


def _run_saved(database: Database, trust: Trust, recipient: str | None) -> tuple[Target, Result]:
    target = _read(database)
    result = _try(target, trust, recipient)
    refused = result.diagnosis is not None and result.diagnosis.code == "credentials-refused"
    if refused and target.account_id is not None:
        now = _read(database)
        if now.login != target.login:
            return now, _try(now, trust, recipient)
    return target, result


def _read(database: Database) -> Target:
    with database.reading() as session:
        return saved_target(session)


def _try(target: Target, trust: Trust, recipient: str | None) -> Result:
    return outcome_of(target.attempt(recipient) if recipient is not None else target.login_check(), trust)


def _why_unproved(session: Session, about: Fingerprint, sent: MailCheck | None) -> str:
    if sent is None:
        return _("these settings have not been tested.")
    if about.account_id is None:
        return _("the password was changed after the test of %(moment)s.", moment=moment(sent.at))
    changed = session.get(AccountPassword, (about.account_id, about.password_version))
    if changed is None:
        raise NotFound(_("The bound account has no password."))
    return _("the account's password was changed on %(moment)s.", moment=moment(changed.set_at))


def _new(session: Session, kind: Kind, about: Fingerprint, actor: Actor, recipient: str) -> MailCheck:
    return MailCheck(
        kind=kind,
        fingerprint=about.exact,
        place=about.place,
        account_id=about.account_id,
        password_version=about.password_version,
        at=session.now(),
        by_id=actor.id,
        by_name=actor.name[:320],
        recipient=recipient[:320],
        outcome=RUNNING,
        code="",
        stage="",
        reply="",
    )


def _newest(session: Session, *conditions: sa.ColumnElement[bool]) -> MailCheck | None:
    return session.scalar(sa.select(MailCheck).where(*conditions).order_by(MailCheck.id.desc()).limit(1))
