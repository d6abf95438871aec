"""`keypost worker`: delivery alone, without the pages."""

from __future__ import annotations

import click

from webapp import logs
from webapp.cli.ending import Ending
from webapp.installation import Installation
from webapp.mail.worker import Worker
from webapp.trust.store import TrustStore


@click.command()
@click.pass_obj
def worker(installation: Installation) -> None:
    """Deliver queued mail until Ctrl-C or SIGTERM; on PostgreSQL as many of these as wanted may run."""
    logs.begin()
    work = Worker(installation.database, TrustStore(installation.database))
    ending = Ending()
    work.start()
    click.echo("Keypost delivers mail.")
    ending.wait()
    if not work.stop():
        raise click.exceptions.Exit(1)
