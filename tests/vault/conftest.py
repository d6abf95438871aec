"""People and things of the vault, without the web."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from webapp.actor import Actor, Role, command_line
from webapp.db import Database
from webapp.identity.users import add_user
from webapp.keyring import Secret
from webapp.vault.accounts import Account, add_account
from webapp.vault.resources import Resource, ResourceDetails, add_resource

PASSWORD = Secret("Tr0ub4dor&3")


@pytest.fixture
def join(database: Database) -> Callable[..., Actor]:
    """Add a user; gives them as an actor."""

    def add(name: str, role: Role = Role.PASSWORD_ADMINISTRATOR) -> Actor:
        with database.transaction() as session:
            email = f"{name.lower()}@example.com"
            return add_user(session, command_line(), email=email, name=name, role=role).actor("127.0.0.1")

    return add


@pytest.fixture
def ada(join: Callable[..., Actor]) -> Actor:
    return join("Ada")


@pytest.fixture
def bob(join: Callable[..., Actor]) -> Actor:
    """An administrator, who sees no more of what others own than anybody."""
    return join("Bob", Role.ADMINISTRATOR)


@pytest.fixture
def mail_host(database: Database, ada: Actor) -> Resource:
    """Ada's resource."""
    with database.transaction() as session:
        return add_resource(session, ada, ResourceDetails("Mail host", address="mail.example.com", kind="Mail service"))


@pytest.fixture
def postmaster(database: Database, ada: Actor, mail_host: Resource) -> Account:
    """Ada's account on it."""
    with database.transaction() as session:
        return add_account(session, ada, mail_host.id, "postmaster", PASSWORD)
