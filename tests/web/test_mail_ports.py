"""KEYPOST_MAIL_PORTS: where mail may go at all, in the form, the search, the commands and at each connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from click.testing import CliRunner

from tests.support.mail_form import PAGE, TEST, typed
from tests.support.people import Person, sign_in
from tests.support.scripted_smtp import ScriptedServer, replying
from webapp import create_app
from webapp.cli import main
from webapp.db import Database
from webapp.errors import Conflict
from webapp.installation import Installation
from webapp.mail.route import NoWay, read_route
from webapp.mail.settings import saved_target


@contextmanager
def limited(installation: Installation, *ports: int) -> Iterator[Installation]:
    """The same installation, started with KEYPOST_MAIL_PORTS."""
    url = installation.database.url.render_as_string(hide_password=False)
    database = Database(url, installation.keyring, mail_ports=frozenset(ports))
    yield replace(installation, database=database)
    database.dispose()


def test_another_port_is_refused_at_its_field_and_nobody_is_connected_to(
    installation: Installation, alice: Person
) -> None:
    with limited(installation, 25, 465) as here, ScriptedServer(replying()) as server:
        person = sign_in(create_app(here), alice.user)
        for path in (PAGE, TEST):
            answer = person.post(path, typed(server.port))
            assert answer.status_code == 422
            assert "only 25, 465" in answer.text.split('id="port-error"')[1][:200]
        found = person.post(f"{PAGE}/find", {"find_from": f"localhost:{server.port}"}, htmx=True)
        assert (found.status_code, server.connections) == (422, 0)


def test_an_open_port_works_as_ever(installation: Installation, alice: Person) -> None:
    with ScriptedServer(replying()) as server, limited(installation, server.port) as here:
        assert sign_in(create_app(here), alice.user).post(PAGE, typed(server.port)).status_code == 303


def test_what_was_saved_before_the_limit_is_connected_to_no_more(installation: Installation, alice: Person) -> None:
    assert alice.post(PAGE, typed(2525)).status_code == 303
    with (
        limited(installation, 587) as here,
        here.database.reading() as session,
        pytest.raises(Conflict, match="KEYPOST_MAIL_PORTS"),
    ):
        saved_target(session)


def test_a_worker_names_the_limit_and_goes_on_without_it(installation: Installation, alice: Person) -> None:
    assert alice.post(PAGE, typed(2525)).status_code == 303
    with limited(installation, 587) as here, here.database.reading() as session, pytest.raises(NoWay) as caught:
        read_route(session)
    reason = caught.value.reason
    assert (reason.code, reason.server, reason.login) == ("port-closed", "localhost:2525", False)
    assert "KEYPOST_MAIL_PORTS" in reason.cause + reason.remedy
    with installation.database.reading() as session:
        assert read_route(session) is not None


def test_the_commands_are_limited_too(installation: Installation) -> None:
    with limited(installation, 587) as here, ScriptedServer(replying()) as server:
        probe = ["mail", "probe", "--server", "localhost", "--port", str(server.port), "--security", "never"]
        for command in ([*probe, "--sender", "a@b.test"], ["certificates", "import", f"localhost:{server.port}"]):
            done = CliRunner().invoke(main, command, obj=here)
            assert done.exit_code == 1
            assert "KEYPOST_MAIL_PORTS" in done.output
        assert server.connections == 0
