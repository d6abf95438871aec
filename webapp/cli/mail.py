"""`keypost mail`: show, set and test the saved settings, and probe unsaved ones."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any, Final

import click

from webapp.actor import command_line
from webapp.cli.find import find
from webapp.cli.options import as_json as as_json_option
from webapp.cli.options import password_stdin, read_password
from webapp.config import Config
from webapp.db import Session
from webapp.errors import Invalid, Problem
from webapp.installation import Installation
from webapp.keyring import Secret
from webapp.mail import access_url, checks, explanations, likeness, settings
from webapp.mail.address import permitted_port, valid_address, valid_hello_name, valid_server_name
from webapp.mail.oauth import ClientCredentials, valid_token_url
from webapp.mail.probe import Attempt, Result, Stage, probe
from webapp.mail.settings import Draft, InvalidFields, MailSettings
from webapp.mail.transport import DEFAULT_PORTS, Login, Security, Server
from webapp.trust.store import TrustStore

_OPTIONS: Final = {
    "server_name": "--server-name",
    "port": "--port",
    "security": "--security",
    "sender_address": "--sender",
    "sender_name": "--sender-name",
    "access_url": "--access-url",
    "username": "--username",
    "password": "--password-stdin",
    "account_id": "--account",
    "unencrypted_login_allowed": "--allow-unencrypted-login",
    "hello_name": "--hello-name",
    "test_recipient": "--to",
}
_SECURITY = click.Choice([mode.value for mode in Security], case_sensitive=False)
_UNENCRYPTED = click.option(
    "--allow-unencrypted-login", is_flag=True, help="Send the password over a connection without encryption."
)


@click.group("mail")
def group() -> None:
    """Mail Server Settings: find, show, set, test, probe."""


group.add_command(find)


@group.command()
@as_json_option
@click.pass_obj
def show(installation: Installation, as_json: bool) -> None:
    """Show the saved settings, and whether they are verified. No secret is ever shown."""
    with installation.database.reading() as session:
        _print_settings(_described(session), as_json)


@group.command("set")
@click.option("--server-name", help="Name of the mail server.")
@click.option("--port", type=int, help="Port; 587, 465 or 25.")
@click.option("--security", type=_SECURITY, help="never, ssl (TLS from the first byte) or tls (STARTTLS, required).")
@click.option("--sender", help="Address that Keypost's mail comes from.")
@click.option("--sender-name", help="Name beside the sender's address.")
@click.option("--access-url", help="Address that users open; every link in a mail begins with it.")
@click.option("--username", help="Sign in with this user name and a password from standard input.")
@password_stdin
@click.option("--account", type=int, help="Sign in with this account of the vault (its ID).")
@click.option("--no-authentication", is_flag=True, help="Do not sign in.")
@click.option("--hello-name", help="Name by which this machine introduces itself; empty leaves it to the system.")
@_UNENCRYPTED
@as_json_option
@click.pass_obj
def set_(installation: Installation, /, as_json: bool, **given: Any) -> None:
    """Change the saved settings; what is not named stays."""
    _refuse_contradictions(given)
    password = read_password() if given["password_stdin"] else Secret("")
    with _in_words(), installation.database.transaction() as session:
        draft = _changed(settings.current(session), given, password, installation.config)
        settings.save(session, command_line(), draft)
    with installation.database.reading() as session:
        _print_settings(_described(session), as_json)


@group.command()
@click.option("--to", "recipient", required=True, help="Send the test message to this address.")
@as_json_option
@click.pass_obj
def test(installation: Installation, recipient: str, as_json: bool) -> None:
    """Send a test message with the saved settings. Exit 0 when the server accepted it, 1 when not."""
    database = installation.database
    with _as_usage("--to"):
        recipient = valid_address(recipient)
    with _in_words():
        result = checks.check_saved(database, TrustStore(database), command_line(), recipient=recipient)
    if not as_json:
        for stage in result.stages:
            _print_stage(stage)
    _finish(result, as_json)


@group.command("probe")
@click.option("--server", "server_name", required=True, help="Name of the mail server.")
@click.option("--port", type=int, required=True)
@click.option("--security", type=_SECURITY, required=True, help="never, ssl or tls.")
@click.option("--sender", required=True, help="Address that the message comes from.")
@click.option("--to", "recipient", help="Send a message to this address; without it nothing is sent.")
@click.option("--username", help="Sign in with this user name; the password comes from standard input.")
@password_stdin
@click.option(
    "--timeout", type=click.FloatRange(0.5, 300), default=15.0, show_default=True, help="Seconds for the whole probe."
)
@click.option("--oauth-token-url", help="Sign in with a token (XOAUTH2) issued by this endpoint.")
@click.option("--oauth-client-id", help="Client id for it; the client secret comes from standard input.")
@click.option("--oauth-scope", default="", help="Scope to ask for, as the provider names it.")
@click.option("--hello-name", default="", help="Name by which this machine introduces itself.")
@_UNENCRYPTED
@as_json_option
@click.pass_obj
def probe_(installation: Installation, /, as_json: bool, **given: Any) -> None:
    """Try settings without saving them. Exit 0 when the server accepted, 1 when not."""
    if bool(given["username"]) != given["password_stdin"]:
        raise click.UsageError("--username and --password-stdin belong together.")
    oauth = _client_credentials(given)
    login = Login(given["username"], read_password(), oauth) if given["username"] else None
    with _as_usage("--hello-name"):
        hello_name = valid_hello_name(given["hello_name"])
    with _in_words():
        if installation.database.mail_ports is not None:
            permitted_port(given["port"], installation.database.mail_ports)
    attempt = Attempt(
        server=Server(_spelled(given["server_name"]), given["port"], Security(given["security"]), hello_name or None),
        login=login,
        sender=given["sender"],
        recipient=given["recipient"],
        timeout=given["timeout"],
        unencrypted_login_allowed=given["allow_unencrypted_login"],
    )
    found = likeness.of_host(given["server_name"])
    if found is not None and not as_json:
        click.echo(found.sentence)
    _finish(_probed(attempt, TrustStore(installation.database), as_json), as_json)


@group.command("check-access-url")
@click.option("--url", help="Check this address; without it, the saved one.")
@as_json_option
@click.pass_obj
def check_access_url(installation: Installation, url: str | None, as_json: bool) -> None:
    """Tell whether this very installation answers at its Access URL. Exit 0 when it does, 1 when not.

    Keypost must be running.
    """
    database = installation.database
    if url is None:
        with database.reading() as session:
            saved = settings.current(session)
        if saved is None:
            raise click.UsageError("No Access URL is saved yet: give one with --url.")
        url = saved.access_url
    finding = access_url.check(database, TrustStore(database), command_line(), url)
    if as_json:
        click.echo(json.dumps(asdict(finding) | {"good": finding.good}, ensure_ascii=False))
    else:
        for line in filter(None, (f"{finding.url}: {finding.said}", *finding.warnings, finding.remedy)):
            click.echo(line)
    sys.exit(0 if finding.good else 1)


@group.command()
@as_json_option
@click.option("--markdown", is_flag=True, help="Print the page docs/failures.md.")
def codes(as_json: bool, markdown: bool) -> None:
    """List every code that a failure can be given, with its cause and its remedy."""
    if as_json and markdown:
        raise click.UsageError("Choose one of --json and --markdown.")
    if as_json:
        click.echo(json.dumps({"codes": [row._asdict() for row in explanations.rows()]}, ensure_ascii=False))
    elif markdown:
        click.echo(explanations.as_markdown(), nl=False)
    else:
        for row in explanations.rows():
            click.echo(
                f"{row.code}{f' ({row.case})' if row.case else ''}\n  cause: {row.cause}\n  remedy: {row.remedy}"
            )


def _client_credentials(given: dict[str, Any]) -> ClientCredentials | None:
    """Where a token comes from, if one is to. Raises click.UsageError."""
    url, client_id = given["oauth_token_url"], given["oauth_client_id"]
    if not (url or client_id or given["oauth_scope"]):
        return None
    if not (url and client_id and given["username"]):
        raise click.UsageError("--oauth-token-url, --oauth-client-id and --username MAILBOX belong together.")
    with _as_usage("--oauth-token-url"):
        return ClientCredentials(valid_token_url(url), client_id, given["oauth_scope"])


def _probed(attempt: Attempt, trust: TrustStore, as_json: bool) -> Result:
    """Run it, saying how each stage went as soon as it ends."""
    try:
        for happened in probe(attempt, trust):
            if isinstance(happened, Result):
                return happened
            if not as_json:
                _print_stage(happened)
    except Invalid as error:
        option = "--to" if error.field == "test_recipient" else "--sender"
        raise click.BadParameter(str(error), param_hint=option) from None
    raise AssertionError("a probe ends with its result")


def _spelled(server_name: str) -> str:
    """The name as it is looked up; one that cannot exist is left to the probe, which explains it."""
    try:
        return valid_server_name(server_name)
    except Invalid:
        return server_name


def _refuse_contradictions(given: dict[str, Any]) -> None:
    ways = [name for name in ("username", "account", "no_authentication") if given[name] not in (None, False)]
    if len(ways) > 1:
        raise click.UsageError("Choose one of --username, --account and --no-authentication.")
    if given["password_stdin"] and ways not in ([], ["username"]):
        raise click.UsageError("--password-stdin goes with --username.")


def _changed(saved: MailSettings | None, given: dict[str, Any], password: Secret, config: Config) -> Draft:
    """What is saved, with what the command line says in its place. Raises click.UsageError."""
    draft = settings.draft_of(saved) if saved else _first(given, config)
    named = {
        "server_name": given["server_name"],
        "port": given["port"],
        "security": Security(given["security"]) if given["security"] else None,
        "sender_address": given["sender"],
        "sender_name": given["sender_name"],
        "access_url": given["access_url"],
        "hello_name": given["hello_name"],
    }
    draft = replace(draft, password=password, **{name: value for name, value in named.items() if value is not None})
    if saved is not None and draft.server_name != saved.server_name:
        draft = replace(draft, unencrypted_login_allowed=False)
    if given["allow_unencrypted_login"]:
        draft = replace(draft, unencrypted_login_allowed=True)
    if given["no_authentication"]:
        return replace(draft, requires_authentication=False)
    if given["account"] is not None:
        return replace(draft, requires_authentication=True, credential_source="account", account_id=given["account"])
    if given["username"] is not None:
        return replace(
            draft, requires_authentication=True, credential_source="manual", username=given["username"], account_id=None
        )
    if password and not (draft.requires_authentication and draft.credential_source == "manual"):
        raise click.UsageError("--password-stdin needs --username: no user name is saved.")
    return draft


def _first(given: dict[str, Any], config: Config) -> Draft:
    """The draft of the first settings: links lead to where this installation listens unless an address is named."""
    for name in ("server_name", "sender"):
        if not given[name]:
            raise click.UsageError(f"Nothing is saved yet: give --{name.replace('_', '-')} too.")
    security = Security(given["security"] or Security.TLS)
    host = f"[{config.host}]" if ":" in config.host else config.host
    return Draft(
        server_name=given["server_name"],
        port=DEFAULT_PORTS[security],
        security=security,
        sender_address=given["sender"],
        access_url=f"http://{host}:{config.port}",
    )


def _described(session: Session) -> dict[str, Any] | None:
    saved = settings.current(session)
    if saved is None:
        return None
    binding = settings.binding_for(session, command_line(), saved)
    proof = checks.verification(session, saved)
    login = checks.last_login_check(session)
    return {
        "server_name": saved.server_name,
        "port": saved.port,
        "security": saved.security,
        "sender_address": saved.sender_address,
        "sender_name": saved.sender_name,
        "access_url": saved.access_url,
        "requires_authentication": saved.requires_authentication,
        "credential_source": saved.credential_source if saved.requires_authentication else None,
        "username": saved.username or None,
        "password_stored": saved.sealed_password is not None,
        "account_id": saved.account_id,
        "account": binding.label if binding else None,
        "bound_by": binding.bound_by if binding else None,
        "unencrypted_host": saved.unencrypted_host,
        "hello_name": saved.hello_name or None,
        "version": saved.version,
        "updated_at": saved.updated_at.isoformat(),
        "updated_by": saved.updated_by_name,
        "verification": {
            "verified": proof.verified,
            "at": proof.at.isoformat() if proof.at else None,
            "by": proof.by or None,
            "reason": proof.reason or None,
        },
        "login_check": {"at": login.at.isoformat(), "outcome": login.outcome, "code": login.code or None}
        if login
        else None,
    }


def _print_settings(described: dict[str, Any] | None, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(described, ensure_ascii=False))
        return
    if described is None:
        click.echo("Mail is not set up yet. Set it up with: bin/keypost mail set")
        return
    for label, value in _lines(described):
        click.echo(f"{label + ':':<24} {value}")


def _lines(shown: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "Server name", shown["server_name"]
    if found := likeness.of_host(shown["server_name"]):
        yield "Warning" if found.warning else "Read as", found.sentence
    yield "Port", str(shown["port"])
    yield "Secure connection", {"never": "Never", "ssl": "SSL", "tls": "TLS"}[shown["security"]]
    yield "Sender e-mail address", shown["sender_address"]
    if shown["sender_name"]:
        yield "Sender name", shown["sender_name"]
    yield "Access URL", shown["access_url"]
    yield "Requires Authentication", "yes" if shown["requires_authentication"] else "no"
    if shown["account"]:
        yield "Account", f"{shown['account']} (ID {shown['account_id']}), bound by {shown['bound_by']}"
    elif shown["requires_authentication"]:
        yield "Username", f"{shown['username']} (its password is stored)"
    if shown["unencrypted_host"]:
        yield "Warning", f"the password is sent to {shown['unencrypted_host']} without encryption"
    if shown["hello_name"]:
        yield "Name of this machine", shown["hello_name"]
    proof, login = shown["verification"], shown["login_check"]
    yield "Verified", f"{_when(proof['at'])} by {proof['by']}" if proof["verified"] else f"no: {proof['reason']}"
    if login:
        yield "Last login check", " ".join(filter(None, (_when(login["at"]), login["outcome"], login["code"])))
    yield "Saved", f"{_when(shown['updated_at'])} by {shown['updated_by']}"


def _when(iso: str) -> str:
    return f"{iso[:16].replace('T', ' ')} UTC"


def _print_stage(stage: Stage) -> None:
    click.echo(f"{stage.name:<15} {stage.outcome:<8} {stage.milliseconds:>7.0f} ms  {stage.detail}")


def _finish(result: Result, as_json: bool) -> None:
    """Say how it ended, and end the program with 0 or 1."""
    if as_json:
        click.echo(json.dumps(result.as_dict(), ensure_ascii=False))
    else:
        for line in _ending(result):
            click.echo(line)
    sys.exit(0 if result.outcome == "accepted" else 1)


def _ending(result: Result) -> Iterator[str]:
    if result.diagnosis is None:
        yield f"accepted by the server{f': {result.reply}' if result.reply else ''}"
        return
    yield f"failed: {result.diagnosis.code}"
    yield f"cause: {result.diagnosis.cause}"
    yield f"remedy: {result.diagnosis.remedy}"
    if result.diagnosis.reply:
        yield f"the server said: {result.diagnosis.reply}"
    if result.certificate and not result.certificate.trusted:
        yield f"certificate: {result.certificate.subject}, SHA-256 {result.certificate.sha256}"


@contextmanager
def _as_usage(option: str) -> Iterator[None]:
    """What cannot be meant by an option is wrong usage."""
    try:
        yield
    except Invalid as error:
        raise click.BadParameter(str(error), param_hint=option) from None


@contextmanager
def _in_words() -> Iterator[None]:
    """A mistake in a field is told at the option where it was given."""
    try:
        yield
    except InvalidFields as error:
        told = [_at_option(field, sentence) for field, found in error.errors.items() for sentence in found]
        raise Problem("\n".join(told)) from None
    except Invalid as error:
        raise Problem(_at_option(error.field, str(error))) from None


def _at_option(field: str | None, sentence: str) -> str:
    option = _OPTIONS.get(field or "")
    return f"{option}: {sentence}" if option else sentence
