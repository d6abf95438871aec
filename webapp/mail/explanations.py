"""Every code a failed conversation can be given, with its cause and its remedy, as data.

Placeholders are filled by diagnosis.diagnose(): server, port, mode, hello, sender, recipient, username, addresses,
names, subject, issuer, not_before, not_after, sha256, detail, seconds, stage, other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from webapp.i18n import N_

Permanence = Literal["message", "passing", "server"]
"""Whose fault it is, for the outbox: of this message (do not retry), passing (retry), of the server (pause all)."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """cause: what happened and why; remedy: what to do; permanence: what the outbox does with it."""

    cause: str
    remedy: str
    permanence: Permanence


CODES: Final[dict[str, Explanation]] = {
    "name-not-found": Explanation(
        N_("There is no server named {server} in the DNS that this machine asks."),
        N_(
            "Check the name letter by letter. If it is right, it may be known only inside another "
            "network: look it up on the machine that runs Keypost."
        ),
        "server",
    ),
    "name-unresolvable": Explanation(
        N_("This machine could not look up {server}: its own DNS resolver does not answer."),
        N_(
            "Check the network and the DNS settings of the machine that runs Keypost; the mail "
            "settings may well be right."
        ),
        "server",
    ),
    "name-invalid": Explanation(
        N_("“{server}” cannot be the name of a server."),
        N_("Enter the bare name, such as mail.example.com: no smtp://, no spaces, no port, no double dots."),
        "server",
    ),
    "port-invalid": Explanation(
        N_("{port} is not a port: ports run from 1 to 65535."),
        N_("Enter 587 for TLS, 465 for SSL, or 25 for an internal server without encryption."),
        "server",
    ),
    "connection-refused": Explanation(
        N_("{server} can be reached, but nothing accepts connections on port {port} ({addresses})."),
        N_(
            "Check the port: mail servers use 587 (TLS), 465 (SSL) or 25. If it is right, the mail "
            "service is not running, or a firewall rejects this machine."
        ),
        "server",
    ),
    "connection-timeout": Explanation(
        N_("{server} did not answer on port {port} in time ({addresses}): a firewall on the way drops the packets."),
        N_("Allow the connection in the firewall. Many providers block port 25 for good: use 587 (TLS) or 465 (SSL)."),
        "server",
    ),
    "network-unreachable": Explanation(
        N_("This machine has no network route to {server} ({addresses})."),
        N_(
            "Check its network connection and routing. Often the server has an IPv6 address while this machine has no "
            "working IPv6."
        ),
        "server",
    ),
    "connection-dropped": Explanation(
        N_("{server} closed the connection on port {port} without saying why."),
        N_(
            "Most often the server does not allow the address of this machine, or a proxy stands in between: have this "
            "machine allowed on the mail server, and look into that server's log."
        ),
        "passing",
    ),
    "greeting-timeout": Explanation(
        N_("{server} accepted the connection on port {port} and then said nothing for {seconds} seconds."),
        N_(
            "Some servers make strangers wait while they look up who is calling: see that this machine's address has a "
            "reverse DNS entry, or allow a longer time-out. Check also that the port belongs to a mail server."
        ),
        "passing",
    ),
    "not-smtp": Explanation(
        N_("What answers on port {port} of {server} is not a mail server for sending ({detail})."),
        N_(
            "Enter the port for sending mail (SMTP): 587, 465 or 25. Ports 143 and 993 (IMAP) or 110 "
            "and 995 (POP3) are for reading mail."
        ),
        "server",
    ),
    "greeting-refused": Explanation(
        N_("{server} greeted this machine with a refusal."),
        N_(
            "Read the server's words: it has either too many connections at the moment (wait), or it "
            "blocks the address of this machine (have it allowed)."
        ),
        "server",
    ),
    "protocol-violation": Explanation(
        N_("{server} sent something at the step “{stage}” that no sound mail server sends ({detail})."),
        N_(
            "Check server name and port. If they are right, a device in between or the server itself "
            "is broken: show its operator the transcript."
        ),
        "server",
    ),
    "implicit-tls-expected": Explanation(
        N_("Port {port} of {server} expects encryption from the first byte, but {mode} was chosen."),
        N_("Choose SSL as the secure connection."),
        "server",
    ),
    "starttls-expected": Explanation(
        N_(
            "Port {port} of {server} begins without encryption, but SSL, which encrypts from the "
            "first byte, was chosen."
        ),
        N_("Choose TLS as the secure connection."),
        "server",
    ),
    "starttls-not-offered": Explanation(
        N_("{server} does not offer encryption (STARTTLS) on port {port}, so Keypost stopped before sending anything."),
        N_(
            "Try SSL on port 465. If this server did offer TLS before, a firewall that inspects mail may be hiding it: "
            "have that switched off for this machine."
        ),
        "server",
    ),
    "starttls-refused": Explanation(
        N_("{server} offers encryption on port {port} but refused to start it."),
        N_(
            "Its certificate or its key is probably missing or broken: the operator of the mail "
            "server must repair that."
        ),
        "server",
    ),
    "tls-handshake-failed": Explanation(
        N_("The encrypted connection to {server} on port {port} broke off while it was being set up ({detail})."),
        N_(
            "A device that inspects encrypted traffic, or a fault of the server, is the usual cause: "
            "look into the log of the mail server and of the firewall."
        ),
        "server",
    ),
    "tls-version": Explanation(
        N_("{server} and Keypost have no version of TLS in common: Keypost speaks TLS 1.2 and newer."),
        N_("Update the mail server, or let it speak TLS 1.2. Older versions are no longer safe."),
        "server",
    ),
    "tls-cipher": Explanation(
        N_("{server} and Keypost have no common cipher: the server's encryption settings are outdated ({detail})."),
        N_(
            "Let the operator of the mail server enable current ciphers, and replace small keys and "
            "Diffie-Hellman groups."
        ),
        "server",
    ),
    "client-certificate-wanted": Explanation(
        N_("{server} demands that Keypost show a certificate of its own on port {port}."),
        N_(
            "Use a port where user name and password are enough (usually 587), or have this demand lifted for this "
            "machine."
        ),
        "server",
    ),
    "certificate-self-signed": Explanation(
        N_("{server} shows a certificate that it signed itself ({subject}), so nobody vouches for it."),
        N_(
            "Compare its SHA-256 fingerprint {sha256} with the one on the mail server; if they are equal, import this "
            "certificate."
        ),
        "server",
    ),
    "certificate-untrusted": Explanation(
        N_("The certificate of {server} was issued by “{issuer}”, which this machine does not know."),
        N_(
            "If that is your own certificate authority, import its root certificate. If it is a public one, the server "
            "leaves out its intermediate certificate, and its operator should add it."
        ),
        "server",
    ),
    "certificate-name-mismatch": Explanation(
        N_("The certificate is valid, but not for {server}: it is for {names}."),
        N_(
            "Enter one of these names as the server name, if it leads to the same server; or pin this certificate to "
            "{server} and port {port} after comparing its fingerprint."
        ),
        "server",
    ),
    "certificate-expired": Explanation(
        N_("The certificate of {server}, or of an authority above it, has expired; the server's own ends {not_after}."),
        N_(
            "It must be renewed on the mail server. If that date is still to come, check the date of "
            "this machine and the certificates of the authority."
        ),
        "server",
    ),
    "certificate-not-yet-valid": Explanation(
        N_("The certificate of {server} becomes valid only on {not_before}."),
        N_("Check date and time of the machine that runs Keypost: its clock is probably behind."),
        "server",
    ),
    "certificate-unsuitable": Explanation(
        N_("The certificate of {server} must not be used for a mail server ({detail})."),
        N_(
            "It has the wrong purpose, a key that is too weak, or an issuer that may not issue: the "
            "operator of the mail server must have it issued anew."
        ),
        "server",
    ),
    "hello-refused": Explanation(
        N_("{server} does not accept the name {hello}, by which this machine introduces itself."),
        N_(
            "Under Advanced, set Name of this machine to a full name that exists in the DNS, such as "
            "keypost.example.com."
        ),
        "server",
    ),
    "encryption-required": Explanation(
        N_("{server} demands an encrypted connection before it goes on."),
        N_("Choose TLS (port 587) or SSL (port 465) as the secure connection."),
        "server",
    ),
    "authentication-not-offered": Explanation(
        N_("{server} offers no way to sign in on port {port}."),
        N_(
            "If this server does not need a login, clear Requires Authentication. Otherwise it offers one only after "
            "encryption, or on port 587: choose TLS or SSL."
        ),
        "server",
    ),
    "mechanism-unsupported": Explanation(
        N_("{server} offers only ways to sign in that Keypost does not know: {detail}."),
        N_("Let the mail server also offer PLAIN or LOGIN over an encrypted connection."),
        "server",
    ),
    "credentials-refused": Explanation(
        N_("{server} refused the user name {username} with this password."),
        N_(
            "Check both. The user name is often the whole mail address. If an account stored in Keypost is used, its "
            "password in Keypost and that of the mailbox may differ: change one of them."
        ),
        "server",
    ),
    "application-password-required": Explanation(
        N_("{server} does not accept the normal password of {username} from a program."),
        N_("Create an app password in the settings of that mailbox, and use it here."),
        "server",
    ),
    "basic-authentication-disabled": Explanation(
        N_("The provider of {server} has switched off signing in with user name and password for {username}."),
        N_(
            "Ask the provider's administrator to allow SMTP sign-in for this mailbox, or use a server or relay that "
            "accepts a password."
        ),
        "server",
    ),
    "authentication-unavailable": Explanation(
        N_("{server} could not check the login just now; it says nothing about the password."),
        N_("Wait a few minutes and try again. If it stays, the operator of the mail server must look into it."),
        "passing",
    ),
    "oauth-token-refused": Explanation(
        N_("The sign-in service refused to issue a token for {username}: {detail}."),
        N_("Check client id, client secret and permissions at the provider."),
        "server",
    ),
    "oauth-token-unreachable": Explanation(
        N_("The sign-in service that issues tokens for {username} could not be reached: {detail}."),
        N_("Check its address, and that this machine may connect to it."),
        "server",
    ),
    "authentication-required": Explanation(
        N_("{server} accepts mail only from those who sign in."),
        N_("Tick Requires Authentication and enter the login of a mailbox on this server."),
        "server",
    ),
    "sender-refused": Explanation(
        N_("{server} does not let this login send mail as {sender}."),
        N_(
            "Use a sender address that belongs to the login, often the user name itself, or have the mail server allow "
            "this sender for it."
        ),
        "server",
    ),
    "relay-denied": Explanation(
        N_("{server} does not pass mail on to {recipient} for this machine."),
        N_("Sign in (tick Requires Authentication), or have this machine allowed to send through the server."),
        "message",
    ),
    "recipient-unknown": Explanation(
        N_("{server} knows no mailbox {recipient}."),
        N_("Correct the recipient's address."),
        "message",
    ),
    "recipient-refused": Explanation(
        N_("{server} refused the recipient {recipient}."),
        N_("Read the server's words: they name its rule."),
        "message",
    ),
    "greylisted": Explanation(
        N_(
            "{server} asks to try again later: it does so with every sender it does not know yet. This is not an error."
        ),
        N_("Nothing needs to be done: try again in a few minutes. Real mail is tried again by itself."),
        "passing",
    ),
    "throttled": Explanation(
        N_("{server} takes no more mail from Keypost for the moment: too much in too short a time."),
        N_("Wait a few minutes. If it happens often, ask for a higher limit."),
        "passing",
    ),
    "message-too-big": Explanation(
        N_("The message is larger than {server} accepts ({detail})."),
        N_("Send less, or have the limit on the mail server raised."),
        "message",
    ),
    "message-refused": Explanation(
        N_("{server} refused the message because of its content or its origin: a rule against spam, usually."),
        N_(
            "Read the server's words. See that SPF, DKIM and DMARC of the domain of {sender} allow this server to send."
        ),
        "message",
    ),
    "server-storage": Explanation(
        N_("{server} cannot store the message at the moment: a disk or mailbox is full, or the server is overloaded."),
        N_("Wait; Keypost tries real mail again by itself. If it stays, tell the operator of the mail server."),
        "passing",
    ),
    "message-deferred": Explanation(
        N_("{server} did not take the message now, but may take it later."),
        N_("Wait; Keypost tries real mail again by itself. The server's words say why."),
        "passing",
    ),
    "conversation-broken": Explanation(
        N_(
            "The connection to {server} broke while the message was being handed over: it is unknown "
            "whether it arrived."
        ),
        N_(
            "Look into the recipient's mailbox. Real mail is sent again with the same Message-ID, so "
            "that a mail program can recognise a second copy."
        ),
        "passing",
    ),
    "internationalized-address-unsupported": Explanation(
        N_("{server} cannot handle an address with letters beyond ASCII before the @ ({detail})."),
        N_("Use an address written in plain letters, or a mail server that offers SMTPUTF8."),
        "message",
    ),
    "unclassified": Explanation(
        N_("{server} answered at the step “{stage}” in a way that Keypost does not know ({detail})."),
        N_("Read the server's own words and show them, with the transcript, to the operator of the mail server."),
        "server",
    ),
}

VARIANTS: Final[dict[str, tuple[str, str]]] = {
    "name-invalid/forbidden": (
        N_(
            "{server} leads to {detail}, an address Keypost never connects to: it is of a kind that is meant for this "
            "machine's closest network or for the inner services of a cloud."
        ),
        N_("Correct the name, or have its DNS entry corrected."),
    ),
    "network-unreachable/forbidden-here": (
        N_("This machine itself forbids the connection to {server} on port {port} ({addresses})."),
        N_("Allow it in the firewall or the service settings of the machine that runs Keypost."),
    ),
    "connection-dropped/silent": (
        N_("{server} stopped answering at the step “{stage}”."),
        N_(
            "Try again. If it stays, the server is overloaded or a firewall in between cuts the connection: look into "
            "their logs."
        ),
    ),
    "starttls-expected/never": (
        N_("Port {port} of {server} does not use encryption, but SSL, which encrypts from the first byte, was chosen."),
        N_("Ask for the port with encryption (465 for SSL, 587 for TLS). Choose Never only in a network you trust."),
    ),
    "tls-handshake-failed/injected": (
        N_(
            "Before the encryption with {server} began, somebody on the way slipped in unencrypted "
            "text. Keypost threw it away and stopped."
        ),
        N_(
            "A device between this machine and the mail server meddles with the connection, or the "
            "server is broken: have both checked."
        ),
    ),
    "encryption-required/consent": (
        N_(
            "Without encryption, the password for {server} would cross the network readable to everyone on the way; "
            "Keypost did not send it."
        ),
        N_(
            "Choose TLS (port 587) or SSL (port 465). Only if that is impossible in a network you trust, allow an "
            "unencrypted login for this server expressly."
        ),
    ),
    "credentials-refused/unsendable": (
        N_("User name or password contain a NUL character or bytes that are no text: no mail server can be told them."),
        N_("Type them again."),
    ),
    "credentials-refused/token": (
        N_("{server} refused the token with which {username} was to sign in."),
        N_(
            "Check that the user name is the address of the mailbox, that the application may send "
            "as this mailbox, and that the scope is the one the provider names for SMTP."
        ),
    ),
    "mechanism-unsupported/token": (
        N_("{server} offers no way to sign in with a token (XOAUTH2), only: {detail}."),
        N_("Check server name and port, have XOAUTH2 switched on there, or sign in with a password."),
    ),
    "certificate-name-mismatch/none": (
        N_("The certificate of {server} names no server at all."),
        N_(
            "Have it issued anew with the server's name in it; or pin this certificate to {server} "
            "and port {port} after comparing its fingerprint."
        ),
    ),
    "message-too-big/limit": (
        N_("The message is larger than the {detail} bytes that {server} accepts."),
        N_("Send less, or have the limit on the mail server raised."),
    ),
}

PERMANENCES: Final[dict[Permanence, str]] = {
    "message": "this message",
    "passing": "passing",
    "server": "server or settings",
}


class Row(NamedTuple):
    """A code as the documentation shows it; ``case`` tells the special cases of one code apart."""

    code: str
    case: str
    cause: str
    remedy: str
    permanence: Permanence


def rows() -> Iterator[Row]:
    """Every code, each followed by its special cases; what a real conversation fills in is left as {placeholders}."""
    for code, explanation in CODES.items():
        yield Row(code, "", explanation.cause, explanation.remedy, explanation.permanence)
        for name, (cause, remedy) in VARIANTS.items():
            of, _, case = name.partition("/")
            if of == code:
                yield Row(code, case, cause, remedy, explanation.permanence)


def as_markdown() -> str:
    """The table of docs/failures.md."""
    lines = [
        "# When mail does not go out: every code, its cause and its remedy",
        "",
        "The test on the settings page, the login check after a change of the password, `bin/keypost mail test` and",
        "`bin/keypost mail probe` sort a failure into exactly one of these codes, all in the same way. What stands in",
        "*italics* is filled in from the conversation; the server's words are shown beside it, with secrets masked.",
        "",
        "This page is written by `bin/keypost mail codes --markdown`; do not edit it.",
        "",
        "| Code | What happened | What to do | Fault of |",
        "|---|---|---|---|",
    ]
    for row in rows():
        code = f"`{row.code}`" + (f" ({row.case.replace('-', ' ')})" if row.case else "")
        cells = (code, _cell(row.cause), _cell(row.remedy), PERMANENCES[row.permanence])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: f"*{found[1].replace('_', ' ')}*", text.replace("|", "\\|"))
