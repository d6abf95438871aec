"""`keypost mail find`: the settings that a mail address, a server name or a provider leads to."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import click

from webapp.actor import command_line
from webapp.cli.options import as_json as as_json_option
from webapp.errors import Invalid
from webapp.installation import Installation
from webapp.mail.discovery import Found, prepare_search
from webapp.trust.store import TrustStore

_STATES = {
    "ready": "certificate valid",
    "refused": "certificate refused",
    "plain": "no encryption",
    "unusable": "not usable",
}


@click.command()
@click.argument("looked_for", metavar="ADDRESS_OR_SERVER")
@as_json_option
@click.pass_obj
def find(installation: Installation, looked_for: str, as_json: bool) -> None:
    """Find settings by trying the usual servers, ports and modes. No password is sent, nothing is saved.

    Exit 0 when an encrypted server with a valid certificate answered, 1 when none did.
    """
    database = installation.database
    try:
        search = prepare_search(database, TrustStore(database), command_line(), looked_for)
    except Invalid as error:
        raise click.BadParameter(str(error), param_hint="ADDRESS_OR_SERVER") from None
    *_, found = search.run()
    if as_json:
        click.echo(json.dumps(found.as_dict(), ensure_ascii=False))
    else:
        for line in _lines(found):
            click.echo(line)
    sys.exit(0 if any(each.state == "ready" for each in found.answering) else 1)


def _lines(found: Found) -> Iterator[str]:
    for preset in found.presets:
        server = preset.server
        yield f"{preset.name}: {server.name} port {server.port} {server.security.value}, user name: {preset.username}"
        yield f"  {preset.note} {preset.source}"
    for each in found.answering:
        server = each.server
        yield f"{server.name} port {server.port} {server.security.value}: {_STATES[each.state]} ({each.candidate.why})"
        if each.reason:
            yield f"  {each.reason}"
    yield from found.remarks
    if not found.answering:
        yield "No mail server answered."
