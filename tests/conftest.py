"""What every test may ask for."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, settings

from tests.support.people import Person, claim
from webapp import create_app
from webapp.cli.serve import answer
from webapp.config import Config
from webapp.db import Database
from webapp.installation import Installation, open_installation
from webapp.server import make_server

# How long an example takes says nothing on a machine that does other work too.
settings.register_profile(
    "keypost",
    settings.get_profile(settings.get_current_profile_name()),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("keypost")

pytest_plugins = [
    "tests.support.firefox",  # before Chromium's, which asks it for something
    "tests.support.chromium",
    "tests.support.figures",
    "tests.support.mail_server",
    "tests.support.postgres",
]


@pytest.fixture(scope="session")
def pristine_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an installation on SQLite that nobody has used."""
    folder = tmp_path_factory.mktemp("pristine") / "instance"
    open_in(folder, sqlite_in(folder)).close()
    return folder


@pytest.fixture(scope="session")
def pristine_postgresql(tmp_path_factory: pytest.TempPathFactory, postgres_template: sa.URL) -> Path:
    """The same on PostgreSQL, in the database to be copied."""
    folder = tmp_path_factory.mktemp("pristine") / "instance"
    open_in(folder, in_full(postgres_template)).close()
    return folder


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    """A fresh installation, once on SQLite and once on PostgreSQL: a copy, since making one takes far longer."""
    folder = tmp_path / "instance"
    shutil.copytree(request.getfixturevalue(f"pristine_{request.param}"), folder)
    url = sqlite_in(folder) if request.param == "sqlite" else in_full(request.getfixturevalue("postgres_copy"))
    opened = open_in(folder, url)
    yield opened
    opened.close()


def sqlite_in(folder: Path) -> str:
    return f"sqlite:///{folder / 'keypost.db'}"


def in_full(url: sa.URL) -> str:
    return url.render_as_string(hide_password=False)


def open_in(folder: Path, url: str) -> Installation:
    return open_installation(Config.from_environment({"KEYPOST_INSTANCE": str(folder), "KEYPOST_DATABASE_URL": url}))


@pytest.fixture
def database(installation: Installation) -> Database:
    return installation.database


@pytest.fixture
def app(installation: Installation) -> Flask:
    return create_app(installation)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """Somebody who is not signed in."""
    return app.test_client()


@pytest.fixture
def alice(app: Flask, database: Database) -> Person:
    """The first administrator, signed in."""
    return claim(app, database)


@pytest.fixture
def live_server(app: Flask) -> Iterator[str]:
    """The application on a real port; gives its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = make_server(app, listener)
    ended = threading.Event()
    thread = threading.Thread(target=answer, args=(server, ended), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.effective_port}"
    ended.set()
    server.task_dispatcher.shutdown()
    server.close()
    # A browser keeps its connections open, and the loop ends with the last of them.
    for channel in list(server.active_channels.values()):
        with contextlib.suppress(OSError, AttributeError):  # The loop may have closed it in this moment.
            channel.socket.shutdown(socket.SHUT_RDWR)
    thread.join(5)
