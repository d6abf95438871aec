"""The settings before the last change: kept for a week, to tell administrators of a change that broke mail.

Whoever changes the mail server to one that does not work would otherwise silence the very message that says so. Only
that kind of message goes this way, and a secret goes only where it was saved for.
"""

from __future__ import annotations

import contextlib
import json
import logging
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp.db import Base, Database, Session, UtcDateTime, sealed_as
from webapp.i18n import gettext as _
from webapp.keyring import SealBroken, Secret
from webapp.mail import route, settings
from webapp.mail.dial import Resolver, system_resolver
from webapp.mail.ledger import claim
from webapp.mail.letters import Unwritable
from webapp.mail.route import NoWay, Route
from webapp.mail.settings import Target
from webapp.mail.transport import Connection, Fault, Login, Security, Server, Trust
from webapp.outbox import lease, messages, outcomes
from webapp.outbox.lease import Leased
from webapp.outbox.messages import Kind, Message
from webapp.outbox.outcomes import Outcome
from webapp.vault import accounts
from webapp.vault.accounts import Account

KEPT: Final = timedelta(days=7)
_ONLY: Final = 1
_PLACE: Final[dict[str, Any]] = {"table": "former_mail_settings", "row": _ONLY, "field": "settings"}
_MOST: Final = 50
_log = logging.getLogger("keypost.delivery")


class FormerMailSettings(Base):
    """The settings that the last change of the destination replaced, sealed as one."""

    __tablename__ = "former_mail_settings"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sealed: Mapped[bytes] = mapped_column(info=sealed_as("{id}", field="settings"))
    replaced_at: Mapped[datetime] = mapped_column(UtcDateTime)


def keep(session: Session, target: Target) -> None:
    """Remember what is about to be replaced, in the caller's transaction."""
    server, login = target.server, target.login
    content = {
        "server": [server.name, server.port, server.security.value, server.hello_name],
        "sender": [target.sender_address, target.sender_name, target.access_url],
        "account_id": target.account_id,
        "login": [login.username, login.password.reveal()] if login and target.account_id is None else None,
        "unencrypted_login_allowed": target.unencrypted_login_allowed,
    }
    sealed = session.keyring.seal(Secret(json.dumps(content)), **_PLACE)
    values = {"sealed": sealed, "replaced_at": session.now()}
    session.add_unless_there(FormerMailSettings, id=_ONLY, **values)
    session.execute(sa.update(FormerMailSettings).values(values))


settings.on_replaced(keep)


def read(session: Session) -> Target | None:
    """The former settings as a target; None when there are none, they are too old, or their login is gone."""
    kept = session.get(FormerMailSettings, _ONLY, populate_existing=True)
    if kept is None or session.now() - kept.replaced_at > KEPT:
        return None
    try:
        content = json.loads(session.keyring.unseal(kept.sealed, **_PLACE).reveal())
        login, version = _login(session, content)
    except (SealBroken, ValueError):
        return None
    name, port, security, hello_name = content["server"]
    address, sender_name, access_url = content["sender"]
    return Target(
        server=Server(name, port, Security(security), hello_name),
        sender_address=address,
        sender_name=sender_name,
        access_url=access_url,
        login=login,
        account_id=content["account_id"],
        password_version=version,
        unencrypted_login_allowed=content["unencrypted_login_allowed"],
    )


def _login(session: Session, content: dict[str, Any]) -> tuple[Login | None, int | None]:
    if content["account_id"] is not None:
        account = session.get(Account, content["account_id"])
        if account is None:
            raise ValueError("the account is gone")
        return Login(account.username, accounts.current_password(session, account)), account.password_version
    if content["login"] is None:
        return None, None
    username, password = content["login"]
    return Login(username, Secret(password)), None


def deliver_notice(database: Database, trust: Trust, *, resolver: Resolver = system_resolver) -> int:
    """Tell administrators that the settings were changed, by the way that worked before; gives how many were told.

    For the moment in which the present settings fail. Whatever goes wrong here leaves the messages waiting.
    """
    with database.reading() as session:
        waits = session.scalar(
            sa.select(Message.id)
            .where(
                Message.state == sa.literal_column("'queued'"),
                Message.kind == Kind.MAIL_SETTINGS_CHANGED.value,
                Message.due_at <= session.now(),
            )
            .limit(1)
        )
        target = read(session) if waits is not None else None
        way = route.route_to(session, target) if target is not None else None
    if way is None:
        return 0
    try:
        with route.go(way, trust, resolver=resolver) as connection:
            return _hand_over(database, connection, way)
    except NoWay as no_way:
        _log.warning("the former mail settings do not work either: %s", no_way.reason.code)
        return 0


def _hand_over(database: Database, connection: Connection, way: Route) -> int:
    with database.transaction() as session:
        taken = claim(session, _MOST, way.domain, kinds=[Kind.MAIL_SETTINGS_CHANGED.value])
    told = 0
    for at, message in enumerate(taken):
        outcome = _send(database, connection, way, message)
        if outcome is None:
            with database.transaction() as session:
                lease.release(session, taken[at:])
            break
        told += outcome.verdict == "accepted"
        with database.transaction() as session:
            outcomes.record(session, [outcome])
    connection.quit()
    return told


def _send(database: Database, connection: Connection, way: Route, message: Leased) -> Outcome | None:
    """One message, step by step; None when the connection is no good any more."""
    try:
        data = messages.read_data(database.keyring, message.token, message.sealed or b"")
        letter = way.letters.write(message, data)
    except (Unwritable, SealBroken, ValueError):
        sentence = _("Keypost could not write this message.")
        return Outcome(message, "unreadable", "unreadable", "message", sentence)
    try:
        connection.mail_from(way.target.sender_address, size=len(letter.content), smtputf8=letter.smtputf8)
        connection.rcpt_to(letter.recipient)
        reply = connection.data(letter.content)
    except Fault as fault:
        diagnosis = route.explain_briefly(connection, way, fault, recipient=message.recipient)
        if fault.reply is None or diagnosis.permanence != "message":
            return None
        with contextlib.suppress(Fault):  # Whether the next can be sent shows then.
            connection.rset()
        return Outcome(message, "refused", diagnosis.code, diagnosis.stage, diagnosis.reply or "", way.server)
    return Outcome(message, "accepted", reply=connection.masker.shown(reply), server=way.server)
