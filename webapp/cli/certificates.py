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

from webapp.actor import command_line
from webapp.errors import Problem
from webapp.installation import Installation
from webapp.trust import store
from webapp.trust.certificates import MAXIMUM_BYTES, CertificateRefused, Description

BESIDE = Path(__file__).resolve().parents[2] / "bin"
EXAMPLES = """\b
  bin/importCert company-ca.pem
  bin/importCert mail-server.cer intermediate.p7b
"""

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group()
def group() -> None:
    """The certificates that mail connections trust beside the public authorities."""


@group.command("import", epilog=EXAMPLES)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@as_json
@click.pass_obj
def import_(installation: Installation, files: Sequence[str], as_json: bool) -> None:
    """Trust the certificates in each FILE (PEM, DER or PKCS#7), for mail connections only.

    All of them are imported, or none. It works at once, without a restart. Exit status: 0 imported or already there,
    1 refused, 2 wrong usage.
    """
    try:
        imported = _import_all(installation, [(name, _read(name)) for name in files])
    except Problem as problem:
        _refuse(problem, as_json)
    if as_json:
        click.echo(json.dumps({"outcome": "imported", "certificates": [_imported_dict(each) for each in imported]}))
        return
    for each in imported:
        _show(each.description, "already imported" if each.already_there else "imported")
    if all(each.already_there for each in imported):
        click.echo("Nothing changed: all of it was already imported.")
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
        where = f"pinned to {each.host}, port {each.port}" if each.is_pinned else "wherever its names match"
        _show(each.description, where)
        click.echo(
            f"  imported     {each.imported_at:%Y-%m-%d %H:%M} UTC by {each.imported_by_name} from {each.source}"
        )
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


def _read(name: str) -> bytes:
    """Read a regular file of at most 64 KB, through no symbolic link. Raises CertificateRefused."""
    shown = click.format_filename(name)
    try:
        descriptor = os.open(_found(name), os.O_RDONLY | _flag("O_NOFOLLOW") | _flag("O_NONBLOCK") | _flag("O_CLOEXEC"))
    except (OSError, ValueError) as error:
        raise CertificateRefused(f"{shown}: {_why_unreadable(error)} Nothing was imported.") from None
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise CertificateRefused(f"{shown}: this is not a regular file. Name a certificate file.")
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
    }
