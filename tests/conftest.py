"""What every test may ask for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, settings
from waitress.server import create_server

from tests.support.people import Person, claim
from webapp import create_app
from webapp.cli.serve import answer
from webapp.config import Config
from webapp.db import Database
from webapp.installation import Installation, open_installation

# How long an example takes says nothing on a machine that does other work too.
settings.register_profile(
    "keypost",
    settings.get_profile(settings.get_current_profile_name()),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("keypost")

pytest_plugins = ["tests.support.chromium", "tests.support.postgres", "tests.support.mail_server"]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    """A fresh installation, once on SQLite and once on PostgreSQL."""
    folder = tmp_path / "instance"
    url = f"sqlite:///{folder / 'keypost.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    opened = open_installation(Config.from_environment({"KEYPOST_INSTANCE": str(folder), "KEYPOST_DATABASE_URL": url}))
    yield opened
    opened.close()


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
    server = create_server(app, host="127.0.0.1", port=0, threads=8)
    ended = threading.Event()
    thread = threading.Thread(target=answer, args=(server, ended), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.effective_port}"
    ended.set()
    server.close()
    thread.join(5)
