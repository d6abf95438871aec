"""What ends the sessions that are open: each event, and what a session that was open meets at its next request."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask

from tests.support.people import PASSWORD, Person, add_person, csrf_token, sign_in
from tests.web.test_second_factor import set_up_app
from webapp.actor import Role, command_line
from webapp.cli import main
from webapp.db import Database
from webapp.identity.links import make_link
from webapp.installation import Installation

NEW = "violet turbine kettle"


class Scene:
    """Alice, an administrator, and Bob, who is signed in twice."""

    def __init__(self, app: Flask, installation: Installation, alice: Person) -> None:
        self.app, self.installation, self.alice = app, installation, alice
        self.database: Database = installation.database
        self.bob = add_person(app, self.database, email="bob@example.com", name="Bob", role=Role.PASSWORD_ADMINISTRATOR)

    def edit(self, **fields: str) -> None:
        typed = {"name": "Bob", "role": "password-administrator", "active": "y", **fields}
        assert self.alice.post(f"/admin/users/{self.bob.user.id}", typed).status_code == 303


def disabled(scene: Scene) -> None:
    scene.edit(active="")


def disabled_and_enabled_again(scene: Scene) -> None:
    scene.edit(active="")
    scene.edit()


def has_less_of_a_role(scene: Scene) -> None:
    scene.edit(role="password-user")


def has_more_of_a_role(scene: Scene) -> None:
    scene.edit(role="administrator")


def changes_the_password_elsewhere(scene: Scene) -> None:
    other = sign_in(scene.app, scene.bob.user)
    assert other.post("/profile", {"current": PASSWORD, "password": NEW}).status_code == 303


def sets_a_password_by_a_link(scene: Scene) -> None:
    with scene.database.transaction() as session:
        token = make_link(session, command_line(), scene.bob.user).reveal()
    client = scene.app.test_client()
    fields = {"csrf_token": csrf_token(client), "token": token, "password": NEW}
    assert client.post("/welcome", data=fields).status_code == 303


def sets_up_a_second_factor_elsewhere(scene: Scene) -> None:
    set_up_app(sign_in(scene.app, scene.bob.user), scene.database)


def loses_the_second_factor_to_an_administrator(scene: Scene) -> None:
    set_up_app(scene.bob, scene.database)
    assert scene.alice.post(f"/admin/users/{scene.bob.user.id}/second-factor/remove").status_code == 303


def loses_the_second_factor_at_the_command_line(scene: Scene) -> None:
    set_up_app(scene.bob, scene.database)
    main(["users", "reset-second-factor", "bob@example.com"], obj=scene.installation, standalone_mode=False)


EVENTS = (
    disabled,
    disabled_and_enabled_again,
    has_less_of_a_role,
    has_more_of_a_role,
    changes_the_password_elsewhere,
    sets_a_password_by_a_link,
    sets_up_a_second_factor_elsewhere,
    loses_the_second_factor_to_an_administrator,
    loses_the_second_factor_at_the_command_line,
)


@pytest.fixture
def scene(app: Flask, installation: Installation, alice: Person) -> Scene:
    return Scene(app, installation, alice)


@pytest.mark.parametrize("event", EVENTS)
def test_a_session_that_was_open_is_over_at_its_next_request(scene: Scene, event: Callable[[Scene], None]) -> None:
    event(scene)
    page = scene.bob.get("/profile")
    assert (page.status_code, page.headers["Location"].split("?")[0]) == (302, "/sign-in")
    part = scene.bob.get("/profile", htmx=True)
    assert (part.status_code, part.text) == (401, "")


def test_another_name_ends_no_session(scene: Scene) -> None:
    scene.edit(name="Robert")
    assert scene.bob.get("/profile").status_code == 200


def test_what_ends_bobs_sessions_ends_nobody_elses(scene: Scene) -> None:
    for event in (disabled, has_less_of_a_role):
        event(scene)
    assert scene.alice.get("/admin").status_code == 200


def test_who_changes_the_password_stays_with_a_new_token(scene: Scene) -> None:
    before = scene.bob.client.get_cookie("keypost")
    assert before is not None
    scene.bob.post("/profile", {"current": PASSWORD, "password": NEW})
    assert scene.bob.get("/profile").status_code == 200
    thief = scene.app.test_client()
    thief.set_cookie("keypost", before.value)
    assert thief.get("/profile").status_code == 302


def test_resetting_a_second_factor_that_is_not_there_says_so(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["users", "reset-second-factor", "bob@example.com"], obj=scene.installation)
    assert ended.value.code == 1
    assert "Bob has no second factor." in capsys.readouterr().err
