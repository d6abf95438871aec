"""`keypost certificates …`, and through it `bin/importCert FILE...`."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click
from cryptography.hazmat.primitives.serialization import Encoding

from webapp.actor import command_line
from webapp.errors import Invalid, Problem
from webapp.installation import Installation
from webapp.mail.address import permitted_port, valid_port, valid_server_name
from webapp.mail.probe import Attempt, outcome_of
from webapp.mail.transport import DEFAULT_PORTS, Security, Server
from webapp.trust import store
from webapp.trust.certificates import MAXIMUM_BYTES, CertificateRefused, Description, describe, read_one
from webapp.trust.choice import Choice, choose
from webapp.trust.store import TrustStore

BESIDE = Path(__file__).resolve().parents[2] / "bin"
EXAMPLES = """\b
  bin/importCert company-ca.pem
  bin/importCert mail-server.cer intermediate.p7b
  bin/importCert mail.example.com:465
"""

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group()
def group() -> None:
    """The certificates that mail connections trust beside the public authorities."""


@group.command("import", epilog=EXAMPLES)
@click.argument("files", nargs=-1, required=True, metavar="FILE...|HOST:PORT")
@click.option(
    "--security",
    type=click.Choice(["ssl", "tls"], case_sensitive=False),
    help="How HOST:PORT begins TLS: ssl from the first byte, tls by STARTTLS. Unless given, ssl on port 465.",
)
@click.option("--sha256", metavar="FINGERPRINT", help="Trust what HOST:PORT presents without asking, if it is this.")
@as_json
@click.pass_obj
def import_(
    installation: Installation, files: Sequence[str], security: str | None, sha256: str | None, as_json: bool
) -> None:
    """Trust the certificates in each FILE (PEM, DER or PKCS#7), for mail connections only.

    All of them are imported, or none. It works at once, without a restart. With HOST:PORT in place of a file the
    certificate that this mail server presents is shown, and trusted once you have compared its SHA-256. Exit status: 0
    imported or already there, 1 refused, 2 wrong usage.
    """
    try:
        servers = [server for server in (_server(each, security) for each in files) if server]
    except Invalid as problem:
        raise click.UsageError(str(problem)) from None
    if servers and len(files) > 1:
        raise click.UsageError("One HOST:PORT is imported at a time, and no file beside it.")
    if servers and as_json and not sha256:
        raise click.UsageError("--json does not ask; give the fingerprint to trust with --sha256.")
    if not servers and (sha256 or security):
        raise click.UsageError("--sha256 and --security go with HOST:PORT.")
    try:
        if servers:
            imported = _import_from(installation, servers[0], sha256)
        else:
            imported = _import_all(installation, [(name, _read(name)) for name in files])
    except Problem as problem:
        _refuse(problem, as_json)
    if as_json:
        click.echo(json.dumps({"outcome": "imported", "certificates": [_imported_dict(each) for each in imported]}))
        return
    for each in imported:
        _show(each.description, "already imported" if each.already_there else "imported")
    if all(each.already_there for each in imported):
        click.echo("Nothing changed: mail connections already trust all of it.")
    else:
        click.echo("Mail connections trust it from now on. Check with: bin/keypost mail test --to ADDRESS")


@group.command("list")
@as_json
@click.pass_obj
def list_(installation: Installation, as_json: bool) -> None:
    """Show what is trusted, the first to end in front."""
    with installation.database.reading() as session:
        trusted = store.trusted(session)
    if as_json:
        click.echo(json.dumps({"certificates": [_trusted_dict(each) for each in trusted]}))
        return
    for each in trusted:
        _show(each.description, _where(each))
        origin = each.source if each.source.startswith("presented by ") else f"from {each.source}"
        click.echo(f"  imported     {each.imported_at:%Y-%m-%d %H:%M} UTC by {each.imported_by_name}, {origin}")
    if not trusted:
        click.echo("No certificate is imported; the public authorities are trusted. Import with: bin/importCert FILE")


@group.command("remove")
@click.argument("sha256")
@as_json
@click.pass_obj
def remove(installation: Installation, sha256: str, as_json: bool) -> None:
    """Trust the certificate with this SHA-256 fingerprint no longer."""
    try:
        with installation.database.transaction() as session:
            store.remove(session, command_line(), sha256)
    except Problem as problem:
        _refuse(problem, as_json)
    click.echo(json.dumps({"outcome": "removed"}) if as_json else "Mail connections trust it no longer.")


def _where(each: store.Trusted) -> str:
    if each.forged:
        return "trusted nowhere: the entry was written or altered in the database without Keypost; remove it"
    return f"pinned to {each.host}, port {each.port}" if each.is_pinned else "wherever its names match"


def _import_all(installation: Installation, contents: Sequence[tuple[str, bytes]]) -> list[store.Imported]:
    """Import every file in one transaction. Raises CertificateRefused that names the file at fault."""
    imported = []
    with installation.database.transaction() as session:
        for name, data in contents:
            try:
                imported += store.import_certificates(session, command_line(), data, source=Path(name).name)
            except CertificateRefused as problem:
                raise CertificateRefused(f"{click.format_filename(name)}: {problem} Nothing was imported.") from None
    return imported


def _server(argument: str, security: str | None) -> Server | None:
    """The server that an argument names, None when it names a file."""
    named = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\]:([0-9]{1,5})|([^\s:/\\\[\]]+):([0-9]{1,5})", argument, re.ASCII)
    if named is None or os.path.lexists(argument):
        return None
    port = valid_port(named[2] or named[4])
    usual = Security.SSL if port == DEFAULT_PORTS[Security.SSL] else Security.TLS
    return Server(valid_server_name(named[1] or named[3]), port, Security(security.lower()) if security else usual)


def _import_from(installation: Installation, server: Server, sha256: str | None) -> list[store.Imported]:
    """Trust what a server presents, once its fingerprint was confirmed. Raises CertificateRefused, or Invalid."""
    permitted_port(server.port, installation.database.mail_ports)
    result = outcome_of(Attempt(server, None, sender="", last_stage="tls"), TrustStore(installation.database))
    presented = result.certificate
    if presented is None or not presented.chain:
        why = f" {result.diagnosis.cause} {result.diagnosis.remedy}" if result.diagnosis else ""
        raise CertificateRefused(f"{_place(server)}, presented no certificate.{why}")
    if presented.trusted:
        return [store.Imported(describe(read_one(presented.chain[0])), already_there=True)]
    choice = choose(presented.chain, server.name)
    if sha256 is None:
        _ask(presented.chain, choice, server)
    else:
        _compare(sha256, choice, server)
    with installation.database.transaction() as session:
        return store.import_certificates(
            session,
            command_line(),
            choice.certificate.public_bytes(Encoding.DER),
            source=f"presented by {_place(server)}",
            host=server.name if choice.pinned else None,
            port=server.port if choice.pinned else None,
        )


def _place(server: Server) -> str:
    return f"{server.name}, port {server.port}"


def _ask(chain: Sequence[bytes], choice: Choice, server: Server) -> None:
    """Show everything and have a person compare the fingerprint. Raises CertificateRefused without a yes."""
    for der in chain:
        _show(describe(read_one(der)), f"presented by {_place(server)}")
    click.echo("Compare the SHA-256 with the one that whoever runs the server tells you, by another way than this.")
    chosen = describe(choice.certificate)
    scope = f"for {_place(server)}, alone, whatever its names" if choice.pinned else "wherever its names match"
    if not click.confirm(f"Trust {chosen.label} ({chosen.fingerprint}) {scope}?"):
        raise CertificateRefused("Nothing was imported.")


def _compare(sha256: str, choice: Choice, server: Server) -> None:
    chosen = describe(choice.certificate)
    if sha256.replace(":", "").lower() != chosen.sha256:
        raise CertificateRefused(
            f"{_place(server)}, presented a certificate with the SHA-256 {chosen.fingerprint}, not the one given. "
            "Nothing was imported. Ask whoever runs the server which one is right."
        )


def _read(name: str) -> bytes:
    """Read a regular file of at most 64 KB, through no symbolic link. Raises CertificateRefused."""
    try:
        descriptor = os.open(_found(name), os.O_RDONLY | _flag("O_NOFOLLOW") | _flag("O_NONBLOCK") | _flag("O_CLOEXEC"))
        try:
            return _content(descriptor)
        finally:
            os.close(descriptor)
    except (OSError, ValueError, CertificateRefused) as error:
        reason = str(error) if isinstance(error, CertificateRefused) else _why_unreadable(error)
        raise CertificateRefused(f"{click.format_filename(name)}: {reason} Nothing was imported.") from None


def _content(descriptor: int) -> bytes:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise CertificateRefused("this is not a regular file. Name a certificate file.")
    with open(descriptor, "rb", closefd=False) as file:
        return file.read(MAXIMUM_BYTES + 1)


def _flag(name: str) -> int:
    """A flag of open(2), or nothing where the system has none (Windows)."""
    return int(getattr(os, name, 0))


def _found(name: str) -> str:
    """A bare name that is not in the current folder is looked for in Keypost's bin folder."""
    bare = re.fullmatch(r"[^/\\\0]+", name) is not None
    beside = BESIDE / name if bare else None
    return str(beside) if beside and not os.path.lexists(name) and os.path.lexists(beside) else name


def _why_unreadable(error: OSError | ValueError) -> str:
    if isinstance(error, ValueError):
        return "the name contains a null byte, which no file name can. Correct it."
    if error.errno == errno.ELOOP:
        return "this is a symbolic link, which is not followed. Name the file it points to."
    if error.errno == errno.ENOENT:
        return "there is no such file, here or in Keypost's bin folder. Check the name, or give the whole path."
    if error.errno == errno.EACCES:
        return "this user may not read the file. Change its permissions, or run as its owner."
    return f"the file cannot be opened ({error.strerror}). Name a certificate file."


def _refuse(problem: Problem, as_json: bool) -> NoReturn:
    if as_json:
        click.echo(json.dumps({"outcome": "refused", "reason": str(problem)}))
    else:
        click.echo(str(problem), err=True)
    raise click.exceptions.Exit(1)


def _show(certificate: Description, state: str) -> None:
    days = f"{certificate.not_before:%Y-%m-%d} to {certificate.not_after:%Y-%m-%d}"
    click.echo(f"{certificate.label}: {state}")
    for title, text in (
        ("subject", certificate.subject),
        ("names", ", ".join(certificate.names) or "none"),
        ("issuer", certificate.issuer + (" (self-signed)" if certificate.is_self_signed else "")),
        ("valid", days),
        ("SHA-256", certificate.fingerprint),
    ):
        click.echo(f"  {title:<12} {text}")


def _imported_dict(each: store.Imported) -> dict[str, object]:
    return {**each.description.as_dict(), "already_there": each.already_there}


def _trusted_dict(each: store.Trusted) -> dict[str, object]:
    return {
        **each.description.as_dict(),
        "host": each.host,
        "port": each.port,
        "imported_at": each.imported_at.isoformat(),
        "imported_by": each.imported_by_name,
        "source": each.source,
        "forged": each.forged,
    }
