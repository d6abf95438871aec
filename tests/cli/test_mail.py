"""`keypost mail …`: the saved settings and the probe, by standard input and exit status."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.support.mail_server import MailServer
from tests.support.mail_settings import PASSWORD, USERNAME, add_mailbox, join, rotate, trust_server
from tests.support.scripted_smtp import ScriptedServer, replying
from webapp.cli import main
from webapp.installation import Installation

STAGES = ["resolve", "connect", "greeting", "hello", "tls", "authentication", "sender", "recipient", "message"]


def run(installation: Installation, *arguments: Any, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, ["mail", *(str(each) for each in arguments)], input=stdin, obj=installation)


def place(server: MailServer) -> Sequence[str]:
    return ("--port", str(server.port), "--security", "tls" if server.security == "starttls" else server.security)


def set_up(installation: Installation, server: MailServer, *more: Any, stdin: str | None = PASSWORD) -> Result:
    trust_server(installation.database, server)
    credentials = more or ("--username", USERNAME, "--password-stdin")
    given = ("--server-name", "localhost", *place(server), "--sender", "keypost@example.test")
    done = run(installation, "set", *given, *credentials, stdin=stdin)
    assert done.exit_code == 0, done.output
    return done


def shown(installation: Installation) -> Any:
    return json.loads(run(installation, "show", "--json").stdout)


def test_nothing_is_saved_at_first(installation: Installation) -> None:
    assert "not set up yet" in run(installation, "show").output
    assert shown(installation) is None


def test_it_shows_what_it_set_and_no_secret(installation: Installation, mail_server_starttls: MailServer) -> None:
    done = set_up(installation, mail_server_starttls)
    seen = shown(installation)
    assert (seen["server_name"], seen["port"], seen["security"]) == ("localhost", mail_server_starttls.port, "tls")
    assert (seen["username"], seen["password_stored"], seen["account_id"]) == (USERNAME, True, None)
    assert not seen["verification"]["verified"]
    assert PASSWORD not in done.output + run(installation, "show").output + json.dumps(seen)


def test_what_is_not_named_stays(installation: Installation, mail_server_starttls: MailServer) -> None:
    set_up(installation, mail_server_starttls)
    before = shown(installation)
    assert run(installation, "set", "--access-url", "https://keypost.example.test/").exit_code == 0
    after = shown(installation)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"access_url", "version", "updated_at"}
    assert after["access_url"] == "https://keypost.example.test"


def test_a_stored_password_is_not_sent_to_another_server(
    installation: Installation, mail_server_starttls: MailServer
) -> None:
    set_up(installation, mail_server_starttls)
    done = run(installation, "set", "--server-name", "evil.example.test")
    assert done.exit_code == 1
    assert "--password-stdin: Type the password again: the server name was localhost" in done.output
    assert shown(installation)["server_name"] == "localhost"


@pytest.mark.parametrize("field", ["--server-name", "--port", "--security", "--username"])
def test_no_option_leads_a_stored_password_elsewhere(installation: Installation, field: str) -> None:
    security = "tls" if field == "--security" else "never"
    with ScriptedServer(replying()) as saved_at, ScriptedServer(replying()) as thief:
        place = ("--server-name", "localhost", "--port", saved_at.port, "--security", security)
        login = ("--sender", "keypost@example.test", "--username", USERNAME, "--password-stdin")
        assert run(installation, "set", *place, *login, stdin=PASSWORD).exit_code == 0
        value = {"--server-name": "127.0.0.1", "--port": thief.port, "--security": "never", "--username": "other"}
        done = run(installation, "set", field, value[field])
        assert done.exit_code == 1
        assert "Type the password again" in done.output
        assert thief.connections + saved_at.connections == 0
        assert PASSWORD not in done.output


def test_an_account_of_the_vault_sends_mail_and_goes_on_after_its_rotation(
    installation: Installation, mail_server_ssl: MailServer
) -> None:
    ann = join(installation.database, "Ann")
    account = add_mailbox(installation.database, ann)
    set_up(installation, mail_server_ssl, "--account", account.id, stdin=None)
    assert shown(installation)["account"] == f"Mail host — {USERNAME}"
    assert run(installation, "test", "--to", "ann@example.com").exit_code == 0
    mail_server_ssl.users[USERNAME] = "rotated"
    rotate(installation.database, ann, account, "rotated")
    assert run(installation, "test", "--to", "ann@example.com").exit_code == 0
    assert mail_server_ssl.passwords == [PASSWORD, "rotated"]
    assert shown(installation)["verification"]["verified"]


def test_authentication_can_be_switched_off(installation: Installation, mail_server_starttls: MailServer) -> None:
    set_up(installation, mail_server_starttls)
    assert run(installation, "set", "--no-authentication").exit_code == 0
    seen = shown(installation)
    assert (seen["requires_authentication"], seen["password_stored"]) == (False, False)


def test_a_test_prints_one_object(installation: Installation, mail_server_starttls: MailServer) -> None:
    set_up(installation, mail_server_starttls)
    done = run(installation, "test", "--to", "ann@example.com", "--json")
    said = json.loads(done.stdout)
    assert (done.exit_code, said["outcome"], said["diagnosis"]) == (0, "accepted", None)
    assert [stage["name"] for stage in said["stages"]] == STAGES
    assert mail_server_starttls.wait_for_message().recipients == ("ann@example.com",)


def test_a_failed_test_ends_with_one_and_its_remedy(
    installation: Installation, mail_server_starttls: MailServer
) -> None:
    set_up(installation, mail_server_starttls, "--username", USERNAME, "--password-stdin", stdin="wrong\n")
    done = run(installation, "test", "--to", "ann@example.com")
    assert done.exit_code == 1
    assert "failed: credentials-refused" in done.output
    assert "cause: " in done.output
    assert "remedy: " in done.output


def test_a_test_of_nothing_says_what_to_do(installation: Installation) -> None:
    done = run(installation, "test", "--to", "ann@example.com")
    assert done.exit_code == 1
    assert "Mail is not set up yet" in done.output


@pytest.mark.parametrize("security", ["never", "starttls", "ssl"])
def test_a_probe_speaks_each_mode(installation: Installation, security: str) -> None:
    with MailServer(security, {} if security == "never" else {USERNAME: PASSWORD}) as server:
        login: Sequence[str] = ()
        if security != "never":
            trust_server(installation.database, server)
            login = ("--username", USERNAME, "--password-stdin")
        done = run(
            installation, "probe", "--server", "localhost", *place(server), "--sender", "keypost@example.test",
            "--to", "ann@example.com", "--json", *login, stdin=PASSWORD if login else None,
        )  # fmt: skip
        said = json.loads(done.stdout)
        assert (done.exit_code, said["outcome"]) == (0, "accepted")
        assert {stage["name"] for stage in said["stages"]} == set(STAGES)
        assert set(said) >= {"outcome", "stages", "diagnosis", "certificate", "transcript"}
        assert PASSWORD not in done.output
        assert server.wait_for_message().encrypted == (security != "never")
    assert shown(installation) is None


def test_a_probe_explains_an_unknown_authority(installation: Installation, mail_server_starttls: MailServer) -> None:
    done = run(
        installation, "probe", "--server", "localhost", *place(mail_server_starttls), "--sender", "a@example.test",
        "--username", USERNAME, "--password-stdin", "--json", stdin=PASSWORD,
    )  # fmt: skip
    said = json.loads(done.stdout)
    assert (done.exit_code, said["diagnosis"]["code"]) == (1, "certificate-untrusted")
    assert said["certificate"]["sha256"]
    assert (mail_server_starttls.logins, mail_server_starttls.failed_logins) == ([], [])


def test_a_probe_explains_a_closed_port(installation: Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    done = run(
        installation, "probe", "--server", "127.0.0.1", "--port", port, "--security", "never", "--sender", "a@b.test"
    )
    assert done.exit_code == 1
    assert "failed: connection-refused" in done.output


def test_a_probe_says_each_stage_with_its_time(installation: Installation) -> None:
    with MailServer("never") as server:
        done = run(installation, "probe", "--server", "127.0.0.1", *place(server), "--sender", "a@example.test")
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.output.splitlines()[: len(STAGES)]] == STAGES
    assert all(" ms " in line for line in done.output.splitlines()[: len(STAGES)])


@pytest.mark.parametrize(
    ("server", "port", "code"), [("smtp..example", 25, "name-invalid"), ("localhost", 70000, "port-invalid")]
)
def test_a_probe_explains_what_cannot_be_reached_at_all(
    installation: Installation, server: str, port: int, code: str
) -> None:
    done = run(
        installation, "probe", "--server", server, "--port", port, "--security", "tls", "--sender", "a@b.test", "--json"
    )
    assert (done.exit_code, json.loads(done.stdout)["diagnosis"]["code"]) == (1, code)


PLACE = ("--server", "x.test", "--port", "25", "--security", "tls")


@pytest.mark.parametrize(
    "arguments",
    [
        ("probe", "--server", "x.test", "--port", "25", "--security", "sometimes", "--sender", "a@b.test"),
        ("probe", *PLACE, "--sender", "nobody"),
        ("probe", *PLACE, "--sender", "a@b.test", "--username", "u"),
        ("probe", "--server", "x.test"),
        ("set", "--port", "25"),
        ("set", "--username", "u", "--account", "1"),
        ("set", "--password-stdin", "--no-authentication"),
        ("test",),
        ("test", "--to", "nobody"),
        (
            "probe",
            "--server",
            "x.test",
            "--port",
            "25",
            "--security",
            "tls",
            "--sender",
            "a@b.test",
            "--hello-name",
            "not a name",
        ),
    ],
)
def test_wrong_usage_ends_with_two(installation: Installation, arguments: Sequence[str]) -> None:
    assert run(installation, *arguments, stdin="secret").exit_code == 2


def test_consent_to_no_encryption_is_asked_for_and_ends_with_the_host(installation: Installation) -> None:
    given = (
        "set", "--server-name", "relay.example.test", "--security", "never", "--sender", "a@example.test",
        "--username", "u", "--password-stdin",
    )  # fmt: skip
    done = run(installation, *given, stdin=PASSWORD)
    assert done.exit_code == 1
    assert "--allow-unencrypted-login: Without encryption" in done.output
    assert run(installation, *given, "--allow-unencrypted-login", stdin=PASSWORD).exit_code == 0
    assert shown(installation)["unencrypted_host"] == "relay.example.test"
    moved = run(
        installation, "set", "--server-name", "other.example.test", "--username", "u", "--password-stdin", stdin="x"
    )
    assert "--allow-unencrypted-login" in moved.output
