"""Mail settings for tests: drafts that fit a real server, people, and an account that can sign in there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from tests.support.mail_server import MailServer
from webapp.actor import Actor, Role, command_line
from webapp.db import Database
from webapp.identity.users import add_user
from webapp.keyring import Secret
from webapp.mail.settings import Draft
from webapp.mail.transport import Security
from webapp.trust.store import import_certificates
from webapp.vault.accounts import Account, add_account, set_password
from webapp.vault.resources import ResourceDetails, add_resource

USERNAME, PASSWORD = "user@example.test", "correct-horse"
SECURITY = {"never": Security.NEVER, "starttls": Security.TLS, "ssl": Security.SSL}


def draft(**changes: Any) -> Draft:
    """Settings for a server that does not exist, with a typed password."""
    return Draft(
        **{
            "server_name": "mail.example.test",
            "port": 587,
            "security": Security.TLS,
            "sender_address": "keypost@example.test",
            "access_url": "https://keypost.example.test",
            "requires_authentication": True,
            "username": USERNAME,
            "password": Secret(PASSWORD),
            **changes,
        }
    )


def bound(account: Account, **changes: Any) -> Draft:
    """Settings that sign in with an account of the vault."""
    given = {
        "credential_source": "account",
        "account_id": account.id,
        "username": "",
        "password": Secret(""),
        **changes,
    }
    return draft(**given)


def place_of(server: MailServer) -> dict[str, Any]:
    """The fields of a draft that lead to this server."""
    return {"server_name": server.name, "port": server.port, "security": SECURITY[server.security]}


def join(database: Database, name: str, role: Role = Role.ADMINISTRATOR) -> Actor:
    with database.transaction() as session:
        return add_user(session, command_line(), email=f"{name.lower()}@example.com", name=name, role=role).actor(
            "test"
        )


def add_mailbox(database: Database, owner: Actor, password: str = PASSWORD, name: str = "Mail host") -> Account:
    """An account of the vault that only its owner sees."""
    with database.transaction() as session:
        resource = add_resource(session, owner, ResourceDetails(name))
        return add_account(session, owner, resource.id, USERNAME, Secret(password))


def rotate(database: Database, owner: Actor, account: Account, password: str) -> None:
    with database.transaction() as session:
        set_password(session, owner, account.id, Secret(password))


def trust_server(database: Database, server: MailServer) -> None:
    with database.transaction() as session:
        import_certificates(session, command_line(), server.authority_pem(), source="test")


def eventually(holds: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until something that another thread does has been done."""
    until, pause = time.monotonic() + seconds, threading.Event()
    while not holds():
        assert time.monotonic() < until, f"it did not happen within {seconds} s"
        pause.wait(0.02)
