"""The mail server settings: one row, judged by one function for the test and for saving.

Two rules live here and nowhere else. The pass-back guard: a stored secret goes only where it was meant to go, so a
changed destination needs the password typed again, or an account chosen by someone who may see it. The binding: a
bound account is named, never copied; who signs in, and with what, is looked up for each connection.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import partial
from typing import Any, Final, Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

from webapp.actor import Actor
from webapp.audit import trail
from webapp.db import Base, Session, UtcDateTime, sealed_as
from webapp.errors import Conflict, Invalid, NotFound, Problem
from webapp.i18n import N_, joined, later, lazy
from webapp.i18n import gettext as _
from webapp.identity.telling import tell
from webapp.identity.users import User, active_administrators
from webapp.keyring import SealBroken, Secret
from webapp.mail.address import permitted_port, valid_address, valid_header_text, valid_hello_name, valid_server_name
from webapp.mail.message import compose_test
from webapp.mail.probe import Attempt, login_check
from webapp.mail.transport import Login, Security, Server
from webapp.outbox import wake
from webapp.outbox.messages import Kind
from webapp.trust import store
from webapp.trust.store import Trusted
from webapp.vault import accounts, uses
from webapp.vault.accounts import Account

CredentialSource = Literal["manual", "account"]
USE: Final = N_("Mail Server Settings")

_ONLY: Final = 1
_LONGEST_URL: Final = 500
_LONGEST_USERNAME: Final = 500
_LONGEST_PASSWORD: Final = 2000
_MASK: Final = frozenset("*•●⬤∙·‧◦○")
_URL_PATH: Final = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")
_LABELS: Final = {
    "server_name": lazy("Server name"),
    "port": lazy("Port"),
    "security": lazy("Secure connection"),
    "sender_address": lazy("Sender e-mail address"),
    "sender_name": lazy("Sender name"),
    "access_url": lazy("Access URL"),
    "requires_authentication": lazy("Requires Authentication"),
    "credential_source": lazy("How Keypost signs in"),
    "username": lazy("Username"),
    "account_id": lazy("Account"),
    "hello_name": lazy("Name of this machine"),
}
_SECURITY_WORDS: Final = {Security.NEVER: lazy("Never"), Security.SSL: "SSL", Security.TLS: "TLS"}
_SOURCE_WORDS: Final = {
    "manual": lazy("Specify a username and password manually"),
    "account": lazy("Use an account stored in Keypost"),
}


class MailSettings(Base):
    """The settings as saved. A typed password is sealed here; a bound account is only named.

    credential_set_at, credential_set_by_id: when and by whom the password was typed or the account chosen, for this
    destination as it was trusted then.
    """

    __tablename__ = "mail_settings"
    __table_args__ = (sa.CheckConstraint("id = 1", name="only_one"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    server_name: Mapped[str] = mapped_column(sa.String(255))
    port: Mapped[int]
    security: Mapped[str] = mapped_column(sa.String(10))
    sender_address: Mapped[str] = mapped_column(sa.String(320))
    sender_name: Mapped[str] = mapped_column(sa.Text)
    access_url: Mapped[str] = mapped_column(sa.String(_LONGEST_URL))
    requires_authentication: Mapped[bool]
    credential_source: Mapped[str] = mapped_column(sa.String(10))
    username: Mapped[str] = mapped_column(sa.String(_LONGEST_USERNAME))
    sealed_password: Mapped[bytes | None] = mapped_column(info=sealed_as("{id}/{password_version}", field="password"))
    password_version: Mapped[int] = mapped_column(default=0)
    account_id: Mapped[int | None] = mapped_column(sa.ForeignKey("accounts.id", ondelete="RESTRICT"))
    bound_by_id: Mapped[int | None]
    bound_by_name: Mapped[str] = mapped_column(sa.String(320))
    credential_set_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    credential_set_by_id: Mapped[int | None]
    unencrypted_host: Mapped[str | None] = mapped_column(sa.String(255))
    hello_name: Mapped[str] = mapped_column(sa.String(255))
    version: Mapped[int]
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_by_id: Mapped[int | None]
    updated_by_name: Mapped[str] = mapped_column(sa.String(320))

    @property
    def is_bound(self) -> bool:
        """Whether mail signs in with an account of the vault."""
        return self.requires_authentication and self.credential_source == "account"

    @property
    def unencrypted_login_allowed(self) -> bool:
        """Whether somebody agreed to send the password without encryption, to exactly this server."""
        return self.unencrypted_host == self.server_name


@dataclass(frozen=True, slots=True)
class Draft:
    """What is on the screen, or on the command line, and may be wrong.

    password: blank keeps the stored one. version: of the settings the person saw; 0 when there were none. hello_name:
    how Keypost introduces itself (EHLO); blank leaves it to the system.
    """

    server_name: str
    port: int
    security: Security
    sender_address: str
    sender_name: str = ""
    access_url: str = ""
    requires_authentication: bool = False
    credential_source: CredentialSource = "manual"
    username: str = ""
    password: Secret = Secret("")  # noqa: RUF009 - a Secret never changes
    account_id: int | None = None
    unencrypted_login_allowed: bool = False
    hello_name: str = ""
    version: int = 0


class InvalidFields(Problem):
    """Some fields cannot be used as they are: ``errors`` maps each to its sentences."""

    def __init__(self, errors: dict[str, list[str]]) -> None:
        super().__init__(" ".join(sentence for sentences in errors.values() for sentence in sentences))
        self.errors = errors


class PortClosed(Conflict):
    """Mail may not use the saved port any more: KEYPOST_MAIL_PORTS leaves it out."""


class Difference(NamedTuple):
    """A field that two people set differently; never one that holds a secret."""

    label: str
    yours: str
    theirs: str


class VersionConflict(Conflict):
    """Somebody saved in the meantime: ``current`` is what stands now, ``differences`` what a save would change."""

    def __init__(self, current: MailSettings, differences: list[Difference]) -> None:
        super().__init__(
            _(
                "%(updated_by_name)s saved these settings while you were changing them. Nothing of yours "
                "was saved. Compare the two, and save again what should hold.",
                updated_by_name=current.updated_by_name,
            )
        )
        self.current = current
        self.differences = differences


@dataclass(frozen=True, slots=True)
class Target:
    """Where mail goes and who signs in, checked and resolved.

    account_id, password_version: of the bound account; None when the password was typed or nobody signs in.
    """

    server: Server
    sender_address: str
    sender_name: str
    access_url: str
    login: Login | None
    account_id: int | None = None
    password_version: int | None = None
    unencrypted_login_allowed: bool = False

    def attempt(
        self,
        recipient: str | None,
        *,
        code: str | None = None,
        confirmation_url: str | None = None,
        timeout: float = 15.0,
    ) -> Attempt:
        """A test message to ``recipient``; without one it ends after MAIL FROM. Raises Invalid for test_recipient.

        code, confirmation_url: let the reader of the message confirm that it arrived.
        """
        message = None
        if recipient is not None:
            recipient = valid_address(recipient, field="test_recipient")
            message = compose_test(
                self.sender_address,
                self.sender_name,
                recipient,
                self.access_url,
                code=code,
                confirmation_url=confirmation_url,
            )
        return Attempt(
            server=self.server,
            login=self.login,
            sender=self.sender_address,
            sender_name=self.sender_name,
            recipient=recipient,
            message=message,
            timeout=timeout,
            unencrypted_login_allowed=self.unencrypted_login_allowed,
        )

    def login_check(self, *, timeout: float = 15.0) -> Attempt:
        """An attempt that ends once the server has accepted the login."""
        return login_check(
            self.server, self.login, timeout=timeout, unencrypted_login_allowed=self.unencrypted_login_allowed
        )


@dataclass(frozen=True, slots=True)
class Binding:
    """The bound account as one person may see it.

    label: "resource — username", None unless visible. binder_has_access: whether who bound it may still see it; the
    command line always may.
    """

    account_id: int | None
    label: str | None
    bound_by: str
    visible: bool
    exists: bool
    binder_has_access: bool = True


def current(session: Session) -> MailSettings | None:
    """The saved settings, if there are any."""
    return session.get(MailSettings, _ONLY)


def draft_of(settings: MailSettings) -> Draft:
    """The saved settings as a draft that changes nothing; its password is blank."""
    return Draft(
        server_name=settings.server_name,
        port=settings.port,
        security=Security(settings.security),
        sender_address=settings.sender_address,
        sender_name=settings.sender_name,
        access_url=settings.access_url,
        requires_authentication=settings.requires_authentication,
        credential_source="account" if settings.credential_source == "account" else "manual",
        username=settings.username,
        account_id=settings.account_id,
        unencrypted_login_allowed=settings.unencrypted_login_allowed,
        hello_name=settings.hello_name,
        version=settings.version,
    )


def save(session: Session, actor: Actor, draft: Draft) -> MailSettings:
    """Save a draft in the caller's transaction. Raises InvalidFields, or VersionConflict.

    What is no longer needed to sign in is not kept: the stored password goes when authentication is switched off or an
    account is used instead, and with it every way to send it elsewhere later; a binding goes likewise, so that the
    vault no longer holds the account back. The username stays.
    """
    saved = current(session)
    if saved is not None and saved.version != draft.version:
        raise _conflict(session, actor, saved, draft)
    judged = _judge(session, actor, draft, saved)
    values = _values(session, actor, judged, saved)
    going = _target_or_none(session)
    before = {name: getattr(saved, name) for name in _LABELS} if saved else {}
    consent_before = saved.unencrypted_host if saved else None
    saved = _write(session, actor, draft, saved, values)
    changed = _note(session, actor, judged, saved, before=before, consent_before=consent_before)
    if before:
        _tell_administrators(session, actor, saved, changed, before=before, consent_before=consent_before)
    if going is not None:
        _tell_replaced(session, going, judged.target)
    wake.ring_after_commit(session)  # Delivery may have waited for just this change.
    return saved


def target_for(session: Session, actor: Actor, draft: Draft) -> Target:
    """What is on the screen, under the same rules as save(). Raises InvalidFields."""
    return _judge(session, actor, draft, current(session)).target


def attempt_for(session: Session, actor: Actor, draft: Draft, *, recipient: str | None) -> Attempt:
    """A test of what is on the screen, under the same rules as save().

    Raises InvalidFields, a wrong recipient (field ``test_recipient``) among the rest.
    """
    errors = _Errors()
    if recipient is not None:
        errors.of(valid_address, recipient, field="test_recipient")
    target = _judge(session, actor, draft, current(session), errors).target
    return target.attempt(recipient)


def saved_target(session: Session) -> Target:
    """The saved settings with the credential as it is at this moment.

    Raises NotFound when nothing is saved, Conflict when the credential is gone or does not open, or when mail may not
    use the port any more.
    """
    saved = current(session)
    if saved is None:
        raise NotFound(_("Mail is not set up yet. Save the Mail Server Settings first."))
    try:
        permitted_port(saved.port, session.mail_ports)
    except Invalid as error:
        raise PortClosed(error.sentence) from None
    login, account = _saved_login(session, saved)
    return Target(
        server=Server(saved.server_name, saved.port, Security(saved.security), saved.hello_name or None),
        sender_address=saved.sender_address,
        sender_name=saved.sender_name,
        access_url=saved.access_url,
        login=login,
        account_id=account.id if account else None,
        password_version=account.password_version if account else None,
        unencrypted_login_allowed=saved.unencrypted_login_allowed,
    )


def binding_for(session: Session, actor: Actor, settings: MailSettings) -> Binding | None:
    """The binding as ``actor`` may see it, or None when no account is bound."""
    if not settings.is_bound:
        return None
    account = _visible(session, actor, settings.account_id)
    exists = account is not None or _existing(session, settings.account_id) is not None
    return Binding(
        account_id=settings.account_id,
        label=account.label if account else None,
        bound_by=settings.bound_by_name,
        visible=account is not None,
        exists=exists,
        binder_has_access=exists and _binder_has_access(session, settings),
    )


def valid_access_url(text: str, *, field: str | None = "access_url") -> str:
    """The address users are told to open, without a slash at its end. Raises Invalid."""
    text = text.strip()
    why = _("Every link in a mail begins with it")
    if not text:
        raise Invalid(
            _("Enter the address users open, for example https://keypost.example.com. %(why)s.", why=why), field
        )
    if not text.isprintable() or " " in text:
        raise Invalid(_("An address has no blanks, line breaks or invisible characters. %(why)s.", why=why), field)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise Invalid(
            _("This address cannot be opened. %(why)s: enter one like https://keypost.example.com.", why=why), field
        ) from None
    if len(text) > _LONGEST_URL:
        raise Invalid(
            _(
                "This address is too long: at most %(longest_url)s characters. %(why)s.",
                longest_url=_LONGEST_URL,
                why=why,
            ),
            field,
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Invalid(_("The Access URL begins with https:// or http:// and names a server. %(why)s.", why=why), field)
    if "@" in parts.netloc:
        raise Invalid(
            _("Leave the user name out of the Access URL. %(why)s, and would show it to everyone.", why=why), field
        )
    if any(mark in text for mark in "?#"):
        raise Invalid(_("Leave out everything from “?” or “#” on. %(why)s, and goes on with a path.", why=why), field)
    if not _URL_PATH.fullmatch(parts.path):
        raise Invalid(
            _("The path of the Access URL holds characters that no address may have. %(why)s.", why=why), field
        )
    host = valid_server_name(parts.hostname, field=field)
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path.rstrip('/')}"


def access_host(session: Session) -> str | None:
    """The name under which users open Keypost, or None before the Access URL is saved."""
    url = session.scalar(sa.select(MailSettings.access_url).where(MailSettings.id == _ONLY))
    return urlsplit(url).hostname if url else None


def is_this_machine(server_name: str) -> bool:
    """Whether a connection to this name never leaves the machine; the transport checks the address it connects to."""
    if server_name == "localhost" or server_name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(server_name).is_loopback
    except ValueError:
        return False


def use_of(session: Session, account_id: int) -> str | None:
    """The name under which the vault refuses to delete a bound account."""
    saved = current(session)
    return _(USE) if saved is not None and saved.is_bound and saved.account_id == account_id else None


def relies_on(session: Session, user_id: int) -> list[tuple[int, str]]:
    """The bound account, when this user bound it: the vault tells whoever takes their access away."""
    saved = current(session)
    if saved is None or not saved.is_bound or saved.account_id is None or saved.bound_by_id != user_id:
        return []
    return [(saved.account_id, _(USE))]


uses.register_use(use_of)
uses.register_reliance(relies_on)
uses.on_password_change(lambda session, _actor, _account_id: wake.ring_after_commit(session))

ReplacedListener = Callable[[Session, Target], None]
_replaced: list[ReplacedListener] = []


def on_replaced(listener: ReplacedListener) -> None:
    """Have ``listener`` given the target that a save is about to replace by another, in the transaction of the save."""
    if listener not in _replaced:
        _replaced.append(listener)


def _target_or_none(session: Session) -> Target | None:
    try:
        return saved_target(session)
    except Problem:
        return None


def _tell_replaced(session: Session, going: Target, coming: Target) -> None:
    if (going.server, going.login, going.account_id) != (coming.server, coming.login, coming.account_id):
        for listener in list(_replaced):
            listener(session, going)


T = TypeVar("T")


class _Errors:
    """Collects what is wrong, field by field, so that all of it can be shown at once."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def add(self, field: str, sentence: str) -> None:
        self._found.setdefault(field, []).append(sentence)

    def of(self, check: Callable[..., T], given: object, *, field: str) -> T | None:
        try:
            return check(given, field=field)
        except Invalid as error:
            self.add(error.field or field, str(error))
            return None

    def raise_if_any(self) -> None:
        if self._found:
            raise InvalidFields(self._found)


@dataclass(frozen=True, slots=True)
class _Judged:
    """A draft that passed: in its final spelling, with its target. kept: the binding is somebody else's, left as is."""

    draft: Draft
    target: Target
    kept: bool


def _judge(
    session: Session, actor: Actor, draft: Draft, saved: MailSettings | None, errors: _Errors | None = None
) -> _Judged:
    """The one judge of a draft, for the test and for saving. Raises InvalidFields with everything that is wrong."""
    errors = errors or _Errors()
    draft = _spelled(draft, errors, session.mail_ports)
    login: Login | None = None
    account: Account | None = None
    kept = False
    if draft.requires_authentication and draft.credential_source == "account":
        account, kept = _chosen(session, actor, draft, saved, errors)
        login = _login_with(session, account, errors) if account else None
    elif draft.requires_authentication:
        login = _typed_login(session, draft, saved, errors)
    if draft.requires_authentication:
        _check_consent(draft, errors)
    errors.raise_if_any()
    target = Target(
        server=Server(draft.server_name, draft.port, draft.security, draft.hello_name or None),
        sender_address=draft.sender_address,
        sender_name=draft.sender_name,
        access_url=draft.access_url,
        login=login,
        account_id=account.id if account else None,
        password_version=account.password_version if account else None,
        unencrypted_login_allowed=draft.unencrypted_login_allowed and login is not None,
    )
    return _Judged(draft, target, kept)


def _spelled(draft: Draft, errors: _Errors, mail_ports: frozenset[int] | None) -> Draft:
    check_port = partial(permitted_port, allowed=mail_ports)
    return replace(
        draft,
        server_name=errors.of(valid_server_name, draft.server_name, field="server_name") or draft.server_name,
        port=errors.of(check_port, draft.port, field="port") or draft.port,
        sender_address=errors.of(valid_address, draft.sender_address, field="sender_address") or draft.sender_address,
        sender_name=errors.of(valid_header_text, draft.sender_name, field="sender_name") or "",
        access_url=errors.of(valid_access_url, draft.access_url, field="access_url") or draft.access_url,
        username=draft.username.strip(),
        hello_name=errors.of(valid_hello_name, draft.hello_name, field="hello_name") or "",
    )


def _typed_login(session: Session, draft: Draft, saved: MailSettings | None, errors: _Errors) -> Login | None:
    username, password = draft.username, draft.password
    if not username:
        errors.add("username", _("Enter the user name; for most servers it is the whole mail address."))
    elif len(username) > _LONGEST_USERNAME or not username.isprintable():
        errors.add(
            "username",
            _(
                "A user name is one line of at most %(longest_username)s visible characters.",
                longest_username=_LONGEST_USERNAME,
            ),
        )
    if password:
        text = password.reveal()
        if set(text) <= _MASK:
            errors.add("password", _("This is the mask that stands for a password, not a password. Type the password."))
        elif len(text) > _LONGEST_PASSWORD or any(character in text for character in "\0\r\n"):
            errors.add(
                "password",
                _(
                    "A password is one line of at most %(longest_password)s characters.",
                    longest_password=_LONGEST_PASSWORD,
                ),
            )
        return Login(username, password)
    stored = _stored_password(session, draft, saved, errors)
    return Login(username, stored) if stored else None


def _stored_password(session: Session, draft: Draft, saved: MailSettings | None, errors: _Errors) -> Secret | None:
    """The pass-back guard of a typed password: it is used again only for the destination it was saved for."""
    manual = saved is not None and saved.requires_authentication and saved.credential_source == "manual"
    if saved is None or not manual or saved.sealed_password is None:
        errors.add("password", _("Type the password; none is stored for this way to sign in."))
        return None
    changes = list(_changes_of_destination(draft, saved)) or list(_changes_of_trust(session, draft.security, saved))
    if changes:
        errors.add(
            "password",
            _(
                "Type the password again: %(list)s. The stored one goes only where it was saved for.",
                list=joined(changes),
            ),
        )
        return None
    try:
        return _unseal(session, saved)
    except SealBroken:
        errors.add(
            "password", _("Type the password again: the stored one was altered in the database and does not open.")
        )
        return None


def _changes_of_destination(draft: Draft, saved: MailSettings) -> Iterable[str]:
    if draft.server_name != saved.server_name:
        yield _("the server name was %(server_name)s", server_name=saved.server_name)
    if draft.port != saved.port:
        yield _("the port was %(port)s", port=saved.port)
    was = Security(saved.security)
    if draft.security is Security.NEVER and was is not Security.NEVER:
        yield _("the secure connection was %(security_words)s", security_words=_SECURITY_WORDS[was])
    if draft.username != saved.username:
        yield _("the username was %(username)s", username=saved.username)


def newly_trusted(session: Session, saved: MailSettings) -> list[Trusted]:
    """The certificates with which somebody else could since have led the saved secret to another server.

    Trust is part of the destination: a password was typed, or an account chosen, for a server that public authorities
    or the certificates of that day vouch for. Who imports their own certificate may stand in for it.
    """
    if saved.security == Security.NEVER or not saved.requires_authentication or saved.credential_set_at is None:
        return []
    return store.imported_since(
        session, saved.server_name, saved.port, saved.credential_set_at, not_by=saved.credential_set_by_id
    )


def _changes_of_trust(session: Session, security: Security, saved: MailSettings) -> Iterable[str]:
    if security is not Security.NEVER:
        for each in newly_trusted(session, saved):
            yield _(
                "%(imported_by_name)s has imported the certificate “%(label)s” since it was stored",
                imported_by_name=each.imported_by_name,
                label=each.description.label,
            )


def _chosen(
    session: Session, actor: Actor, draft: Draft, saved: MailSettings | None, errors: _Errors
) -> tuple[Account | None, bool]:
    """The account to sign in with, and whether it is only kept. The pass-back guard of a binding."""
    if draft.account_id is None:
        errors.add("account_id", _("Choose the account that signs in to the mail server."))
        return None, False
    account = _visible(session, actor, draft.account_id)
    if account is not None:
        return account, False
    if saved is None or not saved.is_bound or saved.account_id != draft.account_id:
        errors.add("account_id", _("There is no such account among those you can see. Choose another."))
        return None, False
    if (draft.server_name, draft.port, draft.security) != (saved.server_name, saved.port, saved.security):
        errors.add(
            "account_id",
            _(
                "The account bound by %(bound_by_name)s is not shared with you. You can keep it for "
                "%(server_name)s, port %(port)s, %(security_words)s, as saved; for another destination "
                "choose an account that you can see, or ask for this one to be shared with you.",
                bound_by_name=saved.bound_by_name,
                server_name=saved.server_name,
                port=saved.port,
                security_words=_SECURITY_WORDS[Security(saved.security)],
            ),
        )
        return None, False
    if changes := list(_changes_of_trust(session, draft.security, saved)):
        errors.add(
            "account_id",
            _(
                "The account bound by %(bound_by_name)s is not shared with you, and cannot be kept just "
                "like that: %(list)s. Whoever may see the account has to save these settings once more.",
                bound_by_name=saved.bound_by_name,
                list=joined(changes),
            ),
        )
        return None, False
    return _existing(session, draft.account_id), True


def _login_with(session: Session, account: Account, errors: _Errors) -> Login | None:
    try:
        return Login(account.username, accounts.current_password(session, account))
    except (SealBroken, NotFound):
        errors.add("account_id", _("The password of this account is missing or altered in the database. Set it anew."))
        return None


def _check_consent(draft: Draft, errors: _Errors) -> None:
    if draft.security is not Security.NEVER or is_this_machine(draft.server_name):
        return
    if not draft.unencrypted_login_allowed:
        errors.add(
            "unencrypted_login_allowed",
            _(
                "Without encryption everyone on the way to %(server_name)s can read the password. Choose "
                "TLS or SSL, or tick this to send it nevertheless.",
                server_name=draft.server_name,
            ),
        )


def _saved_login(session: Session, saved: MailSettings) -> tuple[Login | None, Account | None]:
    if not saved.requires_authentication:
        return None, None
    try:
        if saved.credential_source == "manual":
            return Login(saved.username, _unseal(session, saved)), None
        account = _existing(session, saved.account_id)
        if account is None:
            raise Conflict(
                _("The account that mail signs in with is gone. Choose another in the Mail Server Settings.")
            )
        return Login(account.username, accounts.current_password(session, account)), account
    except (SealBroken, NotFound):
        raise Conflict(
            _(
                "The password that mail signs in with does not open: it is missing or was altered in the "
                "database. Set it again, in the Mail Server Settings or at the bound account."
            )
        ) from None


def _unseal(session: Session, saved: MailSettings) -> Secret:
    if saved.sealed_password is None:
        raise SealBroken(_("no password is stored"))
    return session.keyring.unseal(saved.sealed_password, **_place(saved.password_version))


def _place(password_version: int) -> dict[str, Any]:
    return {"table": "mail_settings", "row": f"{_ONLY}/{password_version}", "field": "password"}


def _values(session: Session, actor: Actor, judged: _Judged, saved: MailSettings | None) -> dict[str, Any]:
    """The columns to write."""
    draft, target = judged.draft, judged.target
    bound = target.account_id is not None
    values = {name: getattr(draft, name) for name in _LABELS if name not in ("account_id", "security")}
    values.update(security=draft.security.value, account_id=target.account_id, unencrypted_host=None)
    if bound:
        values["username"] = ""
    if draft.security is Security.NEVER and target.unencrypted_login_allowed:
        values["unencrypted_host"] = draft.server_name
    if (bound and not judged.kept) or (target.login is not None and not bound and draft.password):
        values.update(credential_set_at=session.now(), credential_set_by_id=actor.id)
    if not judged.kept:
        values.update(bound_by_id=actor.id if bound else None, bound_by_name=actor.name[:320] if bound else "")
    values.update(_password_values(session, judged, saved))
    return values


def _password_values(session: Session, judged: _Judged, saved: MailSettings | None) -> dict[str, Any]:
    """A typed password is sealed anew under the next number; a stored one stays, or goes when nobody needs it."""
    typed = judged.draft.requires_authentication and judged.draft.credential_source == "manual"
    number = saved.password_version if saved else 0
    if not typed:
        return {"sealed_password": None, "password_version": number}
    if not judged.draft.password:
        return {}
    sealed = session.keyring.seal(judged.draft.password, **_place(number + 1))
    return {"sealed_password": sealed, "password_version": number + 1}


def _write(
    session: Session, actor: Actor, draft: Draft, saved: MailSettings | None, values: dict[str, Any]
) -> MailSettings:
    values.update(
        version=(saved.version if saved else 0) + 1,
        updated_at=session.now(),
        updated_by_id=actor.id,
        updated_by_name=actor.name[:320],
    )
    if saved is None:
        return _insert(session, actor, draft, values)
    matching = sa.update(MailSettings).where(MailSettings.id == _ONLY, MailSettings.version == draft.version)
    written = session.connection().execute(matching.values(values)).rowcount
    session.refresh(saved)
    if not written:
        raise _conflict(session, actor, saved, draft)
    return saved


def _insert(session: Session, actor: Actor, draft: Draft, values: dict[str, Any]) -> MailSettings:
    made = MailSettings(id=_ONLY, **values)
    try:
        with session.begin_nested():
            session.add(made)
    except IntegrityError:
        theirs = session.get(MailSettings, _ONLY, populate_existing=True)
        if theirs is None:
            raise
        raise _conflict(session, actor, theirs, draft) from None
    return made


def _note(
    session: Session,
    actor: Actor,
    judged: _Judged,
    saved: MailSettings,
    *,
    before: dict[str, Any],
    consent_before: str | None,
) -> list[str]:
    """Leave the audit lines of one save; gives the names of the changed fields, a typed password among them."""
    after = {name: getattr(saved, name) for name in _LABELS}
    changed = {name: value for name, value in after.items() if name not in before or before[name] != value}
    typed = bool(judged.draft.password) and judged.target.account_id is None and judged.target.login is not None
    names = [*changed, *(["password"] if typed else [])]
    trail.record(
        session,
        actor,
        "mail:save",
        subject="mail-settings",
        changed=names,
        values=changed,
        version=saved.version,
    )
    destination = {"server_name", "port", "security", "account_id", "credential_source", "requires_authentication"}
    if judged.target.account_id is not None and destination & changed.keys():
        trail.record(
            session,
            actor,
            "mail:bind",
            subject=f"account:{saved.account_id}",
            server=saved.server_name,
            port=saved.port,
            security=saved.security,
        )
    if saved.unencrypted_host is not None and saved.unencrypted_host != consent_before:
        trail.record(
            session, actor, "mail:allow-unencrypted-login", subject="mail-settings", host=saved.unencrypted_host
        )
    return names


def _tell_administrators(
    session: Session,
    actor: Actor,
    saved: MailSettings,
    changed: list[str],
    *,
    before: dict[str, Any],
    consent_before: str | None,
) -> None:
    """Queue a mail to each: who changed what. Passwords are only named, and so is an account not all may see."""
    lines = [later(_change_in_words, name, before.get(name), getattr(saved, name, None)) for name in changed]
    if saved.unencrypted_host is not None and saved.unencrypted_host != consent_before:
        host = saved.unencrypted_host
        lines.append(lazy("Signing in without encryption: allowed, for %(host)s", host=host))
    for administrator in active_administrators(session) if lines else ():
        changes = later(lambda: "\n".join(map(str, lines)))
        tell(session, actor, administrator, Kind.MAIL_SETTINGS_CHANGED, about="mail-settings", changes=changes)


def _change_in_words(name: str, before: object, after: object) -> str:
    if name in ("password", "account_id"):
        return _("%(name)s: changed", name=_LABELS.get(name, _("Password")))
    return _(
        "%(name)s: %(now)s (was %(before)s)",
        name=_LABELS[name],
        now=_value_in_words(name, after),
        before=_value_in_words(name, before),
    )


def _value_in_words(name: str, value: object) -> str:
    if name == "security":
        return str(_SECURITY_WORDS[Security(str(value))])
    if name == "credential_source":
        return str(_SOURCE_WORDS.get(str(value), value))
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return str(value or "") or _("empty")


def _conflict(session: Session, actor: Actor, saved: MailSettings, draft: Draft) -> VersionConflict:
    theirs = draft_of(saved)
    names = [field.name for field in fields(Draft) if field.name in _LABELS]
    differing = [name for name in names if getattr(draft, name) != getattr(theirs, name)]
    return VersionConflict(
        saved,
        [
            Difference(
                str(_LABELS[name]), _in_words(session, actor, draft, name), _in_words(session, actor, theirs, name)
            )
            for name in differing
        ],
    )


def _in_words(session: Session, actor: Actor, draft: Draft, name: str) -> str:
    if name == "account_id":
        account = _visible(session, actor, draft.account_id)
        return account.label if account else _("an account not shared with you") if draft.account_id else _("none")
    if name == "security":
        return str(_SECURITY_WORDS[draft.security])
    if name == "hello_name":
        return draft.hello_name or _("as the system gives it")
    if name == "requires_authentication":
        return _("yes") if draft.requires_authentication else _("no")
    if name == "credential_source":
        return str(_SOURCE_WORDS[draft.credential_source])
    return str(getattr(draft, name))


def _visible(session: Session, actor: Actor, account_id: int | None) -> Account | None:
    if account_id is None:
        return None
    try:
        return accounts.get_account(session, actor, account_id)
    except NotFound:
        return None


def _existing(session: Session, account_id: int | None) -> Account | None:
    """The account itself, whoever may see it: the binding was made by someone who might."""
    return session.get(Account, account_id, populate_existing=True) if account_id is not None else None


def _binder_has_access(session: Session, settings: MailSettings) -> bool:
    if settings.bound_by_id is None:
        return True
    binder = session.get(User, settings.bound_by_id)
    if binder is None or not binder.active:
        return False
    return _visible(session, binder.actor("mail settings"), settings.account_id) is not None
