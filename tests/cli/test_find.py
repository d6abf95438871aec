"""`keypost mail find`, against real servers."""

from __future__ import annotations

import json

from tests.cli.test_mail import run
from tests.support.mail_server import MailServer
from tests.support.mail_settings import trust_server
from webapp.installation import Installation


def test_it_finds_a_trusted_server(installation: Installation) -> None:
    with MailServer("starttls") as server:
        trust_server(installation.database, server)
        done = run(installation, "find", f"localhost:{server.port}", "--json")
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)["found"]
    assert (found["server"], found["port"], found["security"]) == ("localhost", server.port, "tls")
    assert found["state"] == "ready"


def test_it_says_why_a_certificate_is_refused(installation: Installation) -> None:
    with MailServer("starttls") as server:
        done = run(installation, "find", f"localhost:{server.port}")
    assert done.exit_code == 1
    assert "certificate refused" in done.output


def test_a_misspelt_address_is_a_mistake_in_usage(installation: Installation) -> None:
    assert run(installation, "find", "bob@").exit_code == 2
