"""What the mails of each kind may say: their placeholders, and the data that whoever queues one has to give.

This table is the contract with those who call ``tell()`` or ``queue()``. Whom a mail is for, who brought it about and
when come with every message; ``about`` and the data are the caller's:

| kind | about | data |
|---|---|---|
| account-created | ``user:ID`` | ``token`` of the one-time link, ``role`` (label), ``valid_until`` (ISO 8601) |
| password-reset | ``user:ID`` | ``token`` of the one-time link, ``valid_until`` (ISO 8601) |
| role-changed | ``user:ID`` | ``role`` (label), ``before`` (label) |
| resource-shared | ``resource:ID`` | ``resource`` (name), ``right`` (label) |
| account-shared | ``account:ID`` | ``account`` (label), ``right`` (label) |
| password-changed | ``account:ID`` | ``account`` (label) |
| mail-settings-changed | ``mail-settings`` | ``changes`` (a line each; no secrets) |
| certificate-expiring | ``certificate:SHA256``, or ``certificate`` for the mail server's own | ``certificate`` (which),
``ends`` (ISO 8601), ``days`` (a whole number), ``effect`` (a sentence) |

``language`` and ``zone`` are added by tell(): those of whom the mail is for. Labels and sentences are worded in that
language when the message is queued, moments when it is written. A link is made when the mail is written, from the
Access URL of that moment; data holds the token alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

from webapp.actor import COMMAND_LINE, name_in_words
from webapp.i18n import N_, Reader, lazy, moment, ngettext, reading_as, valid_language, valid_zone
from webapp.outbox.lease import Leased
from webapp.outbox.messages import Kind

Fact = Callable[[Leased, Mapping[str, str], str], str]
"""What stands for a placeholder, from the message, its data, and the Access URL."""

_DEFAULT: Final = Reader()
_EXAMPLE: Final = "an-example-that-opens-nothing"
_PAGES: Final = {
    "resource": "/resources/",
    "account": "/accounts/",
    "certificate": "/admin/certificates/",
    "mail-settings": "/admin/settings/mail/",
}


@dataclass(frozen=True, slots=True)
class Placeholder:
    """Something a text can name. meaning: for the person who edits it. needed: no text works without it.

    is_link: it starts with the Access URL, and HTML leads there. has_lines: its value may have several.
    """

    name: str
    meaning: str
    fact: Fact
    needed: bool = False
    is_link: bool = False
    has_lines: bool = False

    @property
    def slot(self) -> str:
        """How a text names it."""
        return f"{{{{ {self.name} }}}}"


@dataclass(frozen=True, slots=True)
class Outline:
    """What is known of a kind beside its text.

    purpose: when it is sent, a sentence; to_you: the same to who gets it; button: what HTML made of a text writes on
    its link. for_administrators: nobody else gets it. about, data: of an example.
    """

    purpose: str
    to_you: str
    button: str
    placeholders: tuple[Placeholder, ...]
    about: str
    data: Mapping[str, str]
    for_administrators: bool = False

    @property
    def names(self) -> frozenset[str]:
        return frozenset(placeholder.name for placeholder in self.placeholders)


def _by(message: Leased, data: Mapping[str, str], access_url: str) -> str:
    if not message.cause.startswith(COMMAND_LINE):  # Nearly every time, and then at once.
        return message.cause
    return _actor_in_words(message.cause, reader_of(data))


# Many mails in a row are for readers of few languages, tell of the same moment and were caused by one: it is put into
# words for the first of them.
@functools.lru_cache
def _actor_in_words(name: str, reader: Reader) -> str:
    with reading_as(reader):
        return name_in_words(name)


@functools.lru_cache
def _minute_in_words(minute: datetime, reader: Reader) -> str:
    with reading_as(reader):
        return moment(minute)


@functools.lru_cache
def _reader(language: str, zone: str) -> Reader:
    return Reader(valid_language(language) or _DEFAULT.language, valid_zone(zone) or _DEFAULT.zone)


def _given(name: str) -> Fact:
    return lambda message, data, access_url: data.get(name, "")


def _moment_given(name: str) -> Fact:
    return lambda message, data, access_url: _moment(data.get(name, ""), data)


def _moment(text: str, data: Mapping[str, str]) -> str:
    try:
        return in_words(datetime.fromisoformat(text), data)
    except ValueError:
        return text


def in_words(when: datetime, data: Mapping[str, str]) -> str:
    """An instant as mails write it, for whom the data says; one without a zone is in UTC."""
    return _minute_in_words(when.replace(second=0, microsecond=0), reader_of(data))


def reader_of(data: Mapping[str, str]) -> Reader:
    """For whom the message was queued: the language and the zone of that moment."""
    return _reader(data.get("language", ""), data.get("zone", ""))


def _one_time_link(message: Leased, data: Mapping[str, str], access_url: str) -> str:
    token = data.get("token", "")
    return f"{access_url}/welcome?token={quote(token, safe='')}" if token else ""


def _page(message: Leased, data: Mapping[str, str], access_url: str) -> str:
    noun, _, id = message.about.partition(":")
    page = _PAGES.get(noun, "/")
    return access_url + (page + quote(id, safe="") if id else page.rstrip("/"))


def _days(message: Leased, data: Mapping[str, str], access_url: str) -> str:
    days = data.get("days", "")
    with reading_as(reader_of(data)):
        return ngettext("%(num)s day", "%(num)s days", int(days)) if days.isdigit() else days


_NAME: Final = Placeholder(
    "name",
    lazy("The name of the person who gets the mail"),
    lambda message, *_: message.recipient_name or message.recipient,
)
_BY: Final = Placeholder("by", lazy("Who did it"), _by)
_WHEN: Final = Placeholder(
    "when", lazy("When it was done"), lambda message, data, access_url: in_words(message.queued_at, data)
)
_ACCESS_URL: Final = Placeholder(
    "access_url", lazy("The address of Keypost"), lambda message, data, access_url: access_url, is_link=True
)
_CHOICE: Final = Placeholder(
    "choice",
    lazy("Where the person switches such mails off"),
    lambda message, data, access_url: f"{access_url}/profile/mails",
    is_link=True,
)
_COMMON: Final = (_NAME, _BY, _WHEN, _ACCESS_URL)
_OPTIONAL: Final = (*_COMMON, _CHOICE)


def _one_time(meaning: str) -> Placeholder:
    return Placeholder("link", meaning, _one_time_link, needed=True, is_link=True)


def _to(meaning: str) -> Placeholder:
    return Placeholder("link", meaning, _page, needed=True, is_link=True)


_VALID_UNTIL: Final = Placeholder("valid_until", lazy("Until when the link works"), _moment_given("valid_until"))
_RIGHT: Final = Placeholder("right", lazy("What the person may do with it, for example Modify"), _given("right"))
_ACCOUNT: Final = Placeholder(
    "account", lazy("The account, with its resource in front"), _given("account"), needed=True
)

OUTLINES: Final[Mapping[Kind, Outline]] = MappingProxyType(
    {
        Kind.ACCOUNT_CREATED: Outline(
            lazy("Sent when somebody is added, and when their link is sent again."),
            lazy("When you are added: the link that sets your password."),
            lazy("Set your password"),
            (
                _one_time(lazy("The one-time link that sets the password")),
                _NAME,
                Placeholder("added_by", lazy("Who added the person"), _by),
                Placeholder("role", lazy("The person’s role"), _given("role")),
                _ACCESS_URL,
                _VALID_UNTIL,
            ),
            "user:2",
            {
                "token": "an-example-that-opens-nothing",
                "role": N_("Password User"),
                "valid_until": "2027-03-04T09:30+00:00",
            },
        ),
        Kind.PASSWORD_RESET: Outline(
            lazy("Sent to somebody who forgot their password and asked for a link."),
            lazy("When you forgot your password and ask for a link."),
            lazy("Choose a new password"),
            (_one_time(lazy("The one-time link that sets a new password")), _NAME, _ACCESS_URL, _VALID_UNTIL),
            "user:2",
            {"token": _EXAMPLE, "valid_until": "2027-03-01T10:30+00:00"},
        ),
        Kind.ROLE_CHANGED: Outline(
            lazy("Sent to somebody who was given another role."),
            lazy("When you are given another role."),
            lazy("Open Keypost"),
            (
                Placeholder("role", lazy("The new role"), _given("role"), needed=True),
                Placeholder("before", lazy("The role until now"), _given("before")),
                *_OPTIONAL,
            ),
            "user:2",
            {"role": N_("Password Administrator"), "before": N_("Password User")},
        ),
        Kind.RESOURCE_SHARED: Outline(
            lazy("Sent to somebody with whom a resource was shared."),
            lazy("When somebody shares a resource with you."),
            lazy("Open the resource"),
            (
                Placeholder("resource", lazy("The resource’s name"), _given("resource"), needed=True),
                _to(lazy("The page of the resource")),
                _RIGHT,
                *_OPTIONAL,
            ),
            "resource:12",
            {"resource": "Build server 3", "right": N_("Modify")},
        ),
        Kind.ACCOUNT_SHARED: Outline(
            lazy("Sent to somebody with whom one account was shared."),
            lazy("When somebody shares an account with you."),
            lazy("Open the account"),
            (_ACCOUNT, _to(lazy("The page of the account")), _RIGHT, *_OPTIONAL),
            "account:34",
            {"account": "Build server 3 — deploy", "right": N_("View")},
        ),
        Kind.PASSWORD_CHANGED: Outline(
            lazy("Sent to everybody else who may use an account whose password was changed."),
            lazy("When somebody else changes the password of an account that you may use."),
            lazy("Open the account"),
            (_ACCOUNT, _to(lazy("The page of the account")), *_OPTIONAL),
            "account:34",
            {"account": "Build server 3 — deploy"},
        ),
        Kind.MAIL_SETTINGS_CHANGED: Outline(
            lazy("Sent to all administrators when somebody changed the Mail Server Settings."),
            lazy("When somebody changes the Mail Server Settings."),
            lazy("See the settings"),
            (
                Placeholder(
                    "changes",
                    lazy("What was changed, a line each; never a password"),
                    _given("changes"),
                    needed=True,
                    has_lines=True,
                ),
                _to(lazy("The page of the settings")),
                *_OPTIONAL,
            ),
            "mail-settings",
            {"changes": N_("Server name: smtp.example.com (was mail.example.com)\nSecure connection: TLS (was SSL)")},
            for_administrators=True,
        ),
        Kind.CERTIFICATE_EXPIRING: Outline(
            lazy("Sent to all administrators 30, 14, 7 and 1 days before a certificate ends that mail may rely on."),
            lazy("30, 14, 7 and 1 days before a certificate ends that mail may rely on."),
            lazy("See the certificates"),
            (
                Placeholder("certificate", lazy("Which certificate"), _given("certificate"), needed=True),
                Placeholder("days", lazy("How long it still holds, for example 7 days"), _days, needed=True),
                _to(lazy("The page of the certificate")),
                Placeholder("ends", lazy("When it ends"), _moment_given("ends")),
                Placeholder("effect", lazy("What happens then, a sentence"), _given("effect")),
                _NAME,
                _ACCESS_URL,
                _CHOICE,
            ),
            "certificate",
            {
                "certificate": N_("The certificate of your mail server smtp.example.com"),
                "ends": "2027-03-08T12:00+00:00",
                "days": "7",
                "effect": N_("Once it has ended, no mail can be sent."),
            },
            for_administrators=True,
        ),
    }
)
