"""The form of the mail server settings."""

from __future__ import annotations

from urllib.parse import parse_qsl

from wtforms import (
    BooleanField,
    IntegerField,
    PasswordField,
    RadioField,
    SearchField,
    SelectField,
    StringField,
)
from wtforms.fields.choices import SelectChoice  # type: ignore[attr-defined]  # newer than its types
from wtforms.validators import AnyOf, Length
from wtforms.widgets import HiddenInput

from webapp.errors import Invalid
from webapp.forms import Form, stripped
from webapp.i18n import gettext as _
from webapp.i18n import lazy
from webapp.keyring import Secret
from webapp.mail.settings import Draft, MailSettings
from webapp.mail.transport import DEFAULT_PORTS, Security

SECURITY_CHOICES = [
    SelectChoice(Security.NEVER, lazy("Never")),
    SelectChoice(Security.SSL, lazy("SSL")),
    SelectChoice(Security.TLS, lazy("TLS")),
]
_SECURITY_WORDS = {choice.value: choice.label for choice in SECURITY_CHOICES}
SOURCE_CHOICES = [
    SelectChoice("manual", lazy("Specify a username and password manually")),
    SelectChoice("account", lazy("Use an account stored in Keypost")),
]
_REMEDIED = frozenset({"server_name", "port", "security", "sender_address", "requires_authentication"})
_LONGEST_REMEDY = 1000
_SHOWN_AS_SAVED = (
    "server_name", "security", "sender_address", "sender_name", "access_url", "username", "hello_name", "version",
)  # fmt: skip
_SHORT = [Length(max=500, message=lazy("That is too long."))]


def _number_or_none(text: object) -> int | None:
    digits = str(text) if text is not None else ""
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 9 else None


class MailSettingsForm(Form):
    beside = frozenset({"fill", "find_from", "instead", "confirmation_code", "sha256"})
    server_name = StringField(lazy("Server name"), _SHORT, filters=[stripped])
    port = StringField(lazy("Port"), _SHORT, filters=[stripped])
    security = RadioField(
        lazy("Secure connection"), [AnyOf([*Security], message=lazy("Choose one."))], choices=SECURITY_CHOICES
    )
    sender_address = StringField(lazy("Sender e-mail address"), _SHORT, filters=[stripped])
    sender_name = StringField(lazy("Sender name"), _SHORT, filters=[stripped])
    access_url = StringField(lazy("Access URL"), _SHORT, filters=[stripped])
    requires_authentication = BooleanField(lazy("Requires Authentication"))
    credential_source = RadioField(
        lazy("How Keypost signs in"), choices=SOURCE_CHOICES, default="manual", validate_choice=False
    )
    username = StringField(lazy("Username"), _SHORT, filters=[stripped])
    password = PasswordField(lazy("Password"), [Length(max=2000, message=lazy("That is too long for a password."))])
    q = SearchField(lazy("Find an account"), _SHORT, filters=[stripped])
    account_id = SelectField(lazy("Account"), coerce=_number_or_none, choices=[], validate_choice=False)
    unencrypted_login_allowed = BooleanField(lazy("Allow signing in without encryption"))
    hello_name = StringField(lazy("Name of this machine"), _SHORT, filters=[stripped])
    test_recipient = StringField(lazy("Send the test mail to"), _SHORT, filters=[stripped])
    version = IntegerField(widget=HiddenInput(), default=0)

    def draft(self) -> Draft:
        """What the form says, for the domain to judge; what is no number becomes port 0, which it refuses.

        Raises Invalid for an unknown way to secure the connection.
        """
        try:
            security = Security(self.security.data or Security.TLS)
        except ValueError:
            raise Invalid(_("Choose how the connection is secured: Never, SSL or TLS."), "security") from None
        return Draft(
            server_name=self.server_name.data or "",
            port=_number_or_none(self.port.data) or 0 if self.port.data else DEFAULT_PORTS[security],
            security=security,
            sender_address=self.sender_address.data or "",
            sender_name=self.sender_name.data or "",
            access_url=self.access_url.data or "",
            requires_authentication=bool(self.requires_authentication.data),
            credential_source="account" if self.credential_source.data == "account" else "manual",
            username=self.username.data or "",
            password=Secret(self.password.data or ""),
            account_id=self.account_id.data,
            unencrypted_login_allowed=self._consents(),
            hello_name=self.hello_name.data or "",
            version=self.version.data or 0,
        )

    def _consents(self) -> bool:
        """Whether the tick is for this very server: one carried over from another name counts for that one alone."""
        ticked = (self.unencrypted_login_allowed.raw_data or [""])[0]
        return bool(self.unencrypted_login_allowed.data) and ticked in ("y", (self.server_name.data or "").lower())

    def fill(self, remedy: str) -> None:
        """Put a remedy's fields, ``name=value&…``, over what was typed; other fields than a remedy's are ignored."""
        for name, value in parse_qsl(remedy[:_LONGEST_REMEDY]):
            if name == "server_name" and value.lower() != (self.server_name.data or "").lower():
                self.unencrypted_login_allowed.data = False
            if name in _REMEDIED:
                self[name].data = True if name == "requires_authentication" else value

    def show(self, saved: MailSettings | None) -> None:
        """Fill in what is saved; the password never is."""
        if saved is None:
            self.security.data, self.port.data = Security.TLS, str(DEFAULT_PORTS[Security.TLS])
            self.requires_authentication.data, self.credential_source.data = True, "account"
            return
        for name in _SHOWN_AS_SAVED:
            self[name].data = getattr(saved, name) or ""
        self.port.data = str(saved.port)
        self.requires_authentication.data = saved.requires_authentication
        self.credential_source.data = saved.credential_source or "manual"
        self.account_id.data = saved.account_id
        self.unencrypted_login_allowed.data = saved.unencrypted_host == saved.server_name

    def overtake(self, version: int) -> None:
        """Let the next save replace the settings of that version. A field shows what was sent as long as it has it."""
        self.version.data, self.version.raw_data = version, None

    def blame_all(self, errors: dict[str, list[str]]) -> None:
        """Put each of the domain's sentences at its field."""
        for field, sentences in errors.items():
            for sentence in sentences:
                self.blame(Invalid(sentence, field))


class ConfirmationForm(Form):
    confirmation_code = StringField(lazy("Code from the test mail"), _SHORT, filters=[stripped])


def remedy_in_words(remedy: dict[str, str]) -> str:
    """What a remedy's button says it will do."""
    parts = []
    if "security" in remedy:
        parts.append(_("Use %(instead)s", instead=_SECURITY_WORDS[remedy["security"]]))
    if "port" in remedy:
        parts.append(
            _("port %(remedy)s", remedy=remedy["port"]) if parts else _("Use port %(remedy)s", remedy=remedy["port"])
        )
    if "server_name" in remedy:
        parts.append(_("Use %(instead)s", instead=remedy["server_name"]))
    if "sender_address" in remedy:
        parts.append(_("Send as %(remedy)s", remedy=remedy["sender_address"]))
    if "requires_authentication" in remedy:
        parts.append(_("Sign in"))
    return ", ".join(parts)
