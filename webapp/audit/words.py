"""The trail in a person's words: pages and exports never show an internal code alone."""

from __future__ import annotations

from typing import Final

from webapp.i18n import N_
from webapp.i18n import gettext as _

ACTIONS: Final = {
    "access:refuse": N_("Was refused"),
    "account:add": N_("Added an account"),
    "account:delete": N_("Deleted an account"),
    "account:edit": N_("Changed an account"),
    "account:reveal": N_("Revealed a password"),
    "account:set-password": N_("Changed an account's password"),
    "account:share": N_("Shared an account"),
    "account:withdraw": N_("Withdrew a share of an account"),
    "audit:export": N_("Exported the audit trail"),
    "audit:prune": N_("Removed old lines of the audit trail"),
    "backup:make": N_("Made a backup"),
    "backup:restore": N_("Restored a backup"),
    "certificate:import": N_("Trusted a certificate"),
    "certificate:remove": N_("Ended the trust in a certificate"),
    "keys:begin-term": N_("Put a new data key in force"),
    "keys:destroy-terms": N_("Destroyed earlier data keys"),
    "mail:allow-unencrypted-login": N_("Allowed a sign-in without encryption"),
    "mail:bind": N_("Bound mail to an account"),
    "mail:check-access-url": N_("Checked the Access URL"),
    "mail:confirm": N_("Confirmed that the test mail arrived"),
    "mail:delivery": N_("Delivered mail"),
    "mail:find": N_("Searched for a mail server"),
    "mail:login-check": N_("Checked the mail login"),
    "mail:save": N_("Saved the mail server settings"),
    "mail:test": N_("Tested mail"),
    "outbox:again": N_("Sent a message again"),
    "outbox:ask-now": N_("Had the mail server asked at once"),
    "outbox:cancel": N_("Cancelled a message"),
    "outbox:cancel-all": N_("Cancelled messages"),
    "outbox:keep": N_("Changed how long messages are kept"),
    "mail-text:edit": N_("Changed a text of mails"),
    "mail-text:restore": N_("Took back a text of mails"),
    "outbox:pause": N_("Paused the delivery of mail"),
    "outbox:resume": N_("Resumed the delivery of mail"),
    "outbox:retry": N_("Had a message tried again"),
    "outbox:retry-all": N_("Had messages tried again"),
    "recovery-codes:renew": N_("Made new recovery codes"),
    "resource:add": N_("Added a resource"),
    "resource:delete": N_("Deleted a resource"),
    "resource:edit": N_("Changed a resource"),
    "resource:share": N_("Shared a resource"),
    "resource:transfer": N_("Gave a resource to another owner"),
    "resource:withdraw": N_("Withdrew a share of a resource"),
    "second-factor:add": N_("Set up a second factor"),
    "second-factor:remove": N_("Removed a second factor"),
    "session:confirm": N_("Confirmed who they are"),
    "session:end": N_("Ended a session"),
    "session:second-factor": N_("Gave a second factor"),
    "session:sign-in": N_("Signed in"),
    "session:sign-out": N_("Signed out"),
    "sign-in-policy:save": N_("Saved the sign-in policy"),
    "user:add": N_("Added a user"),
    "user:invite": N_("Invited a user"),
    "user:invite-again": N_("Sent a user another link"),
    "user-import:start": N_("Imported users"),
    "user:choose-language": N_("Chose language and time zone"),
    "user:choose-keys": N_("Switched single-key shortcuts on or off"),
    "user:choose-mails": N_("Chose which mails to get"),
    "second-factor:rename": N_("Renamed a passkey"),
    "resource:export": N_("Exported passwords in clear"),
    "resource-import:end": N_("Ended an import of resources"),
    "resource-import:start": N_("Imported resources"),
    "resource-import:stop": N_("Stopped an import of resources"),
    "user:edit": N_("Changed a user"),
    "user:link": N_("Made a one-time link"),
    "user:set-password": N_("Set a user's password"),
    "user:unlock": N_("Ended the waiting after wrong attempts"),
}

_NOUNS: Final = {
    "access": N_("Refusals"),
    "account": N_("Accounts"),
    "audit": N_("Audit trail"),
    "backup": N_("Backups"),
    "certificate": N_("Certificates"),
    "keys": N_("Keys"),
    "mail": N_("Mail"),
    "mail-text": N_("Mail"),
    "outbox": N_("Outbox"),
    "recovery-codes": N_("Sign-in"),
    "resource": N_("Resources"),
    "second-factor": N_("Sign-in"),
    "session": N_("Sign-in"),
    "sign-in-policy": N_("Sign-in"),
    "resource-import": N_("Resources"),
    "user": N_("Users"),
    "user-import": N_("Users"),
}


_THINGS: Final = {
    "account": N_("account"),
    "certificate": N_("certificate"),
    "key": N_("key"),
    "line": N_("line"),
    "mail-settings": N_("mail settings"),
    "mail-text": N_("mail text"),
    "message": N_("message"),
    "outbox": N_("outbox"),
    "resource": N_("resource"),
    "resource-import": N_("resource import"),
    "user": N_("user"),
    "user-import": N_("user import"),
}


_OUTCOMES: Final = {
    "done": N_("Done"),
    "accepted": N_("Accepted"),
    "failed": N_("Failed"),
    "refused": N_("Refused"),
}


_ENDED: Final = {
    "done": N_("done"),
    "accepted": N_("accepted"),
    "failed": N_("failed"),
    "refused": N_("refused"),
}


_DETAILS: Final = {
    "access url": N_("access url"),
    "account id": N_("account id"),
    "accounts": N_("accounts"),
    "action": N_("action"),
    "active": N_("active"),
    "added": N_("added"),
    "address": N_("address"),
    "already there": N_("already there"),
    "asked": N_("asked"),
    "before": N_("before"),
    "by": N_("by"),
    "changed": N_("changed"),
    "code": N_("code"),
    "credential source": N_("credential source"),
    "days": N_("days"),
    "email": N_("email"),
    "file": N_("file"),
    "found": N_("found"),
    "free attempts": N_("free attempts"),
    "hello name": N_("hello name"),
    "host": N_("host"),
    "idle minutes": N_("idle minutes"),
    "kept": N_("kept"),
    "keys": N_("keys"),
    "kind": N_("kind"),
    "language": N_("language"),
    "left out": N_("left out"),
    "lines": N_("lines"),
    "longest hours": N_("longest hours"),
    "looked for": N_("looked for"),
    "made at": N_("made at"),
    "message": N_("message"),
    "messages": N_("messages"),
    "messages held": N_("messages held"),
    "milliseconds": N_("milliseconds"),
    "name": N_("name"),
    "note": N_("note"),
    "notes": N_("notes"),
    "origin": N_("origin"),
    "outcome": N_("outcome"),
    "owner": N_("owner"),
    "password": N_("password"),
    "password version": N_("password version"),
    "passwords set": N_("passwords set"),
    "person": N_("person"),
    "pinned to": N_("pinned to"),
    "port": N_("port"),
    "recipient": N_("recipient"),
    "requires authentication": N_("requires authentication"),
    "resource": N_("resource"),
    "right": N_("right"),
    "role": N_("role"),
    "search": N_("search"),
    "second factor roles": N_("second factor roles"),
    "security": N_("security"),
    "sender address": N_("sender address"),
    "sender name": N_("sender name"),
    "server": N_("server"),
    "server name": N_("server name"),
    "sha256": N_("sha256"),
    "since": N_("since"),
    "single keys": N_("single keys"),
    "size": N_("size"),
    "stage": N_("stage"),
    "state": N_("state"),
    "subject": N_("subject"),
    "switched off": N_("switched off"),
    "test": N_("test"),
    "time zone": N_("time zone"),
    "title": N_("title"),
    "until": N_("until"),
    "url": N_("url"),
    "user": N_("user"),
    "username": N_("username"),
    "version": N_("version"),
    "was": N_("was"),
    "whose": N_("whose"),
}


def detail(name: str) -> str:
    """What a detail is called: “password version” in the reader's language; one without words of its own stays."""
    return _(_DETAILS[name]) if name in _DETAILS else name


def action(code: str) -> str:
    """What was done: “Added an account”; a code without words of its own is spelled out."""
    noun, _rest, verb = code.partition(":")
    spelled = f"{noun}: {verb}" if verb else noun
    return _(ACTIONS[code]) if code in ACTIONS else spelled.replace("-", " ").capitalize()


def subject(code: str) -> str:
    """To what: “account 7” for “account:7”, nothing for nothing."""
    noun, _rest, number = code.partition(":")
    said = _(_THINGS[noun]) if noun in _THINGS else noun.replace("-", " ")
    return f"{said} {number}".strip()


def outcome(code: str) -> str:
    """How it ended: “Done” for “done”."""
    return _(_OUTCOMES[code]) if code in _OUTCOMES else code.capitalize()


def ended(code: str) -> str:
    """The same where it stands beside what was done: “refused”."""
    return _(_ENDED[code]) if code in _ENDED else code


def choices() -> list[tuple[str, str, str]]:
    """The actions that have words of their own, by what they are about: code, words, and the noun's name."""
    named = [(code, _(said), _(_NOUNS[code.partition(":")[0]])) for code, said in ACTIONS.items()]
    return sorted(named, key=lambda each: (each[2], each[1]))
