"""What the form of the mail server settings sends, and how to read what comes back."""

from __future__ import annotations

import re
from typing import Any

from tests.support.mail_server import MailServer
from webapp.vault.accounts import Account

PAGE, TEST = "/admin/settings/mail", "/admin/settings/mail/test"
USER, SECRET = "user@example.test", "correct-horse"
STAGES = ("resolve", "connect", "greeting", "hello", "tls", "authentication", "sender", "recipient", "message")
MODES = {"never": "never", "starttls": "tls", "ssl": "ssl"}


def typed(port: int, security: str = "never", /, **changes: Any) -> dict[str, Any]:
    """What the form sends when user name and password were typed; a field that is None is left out."""
    given = {
        "server_name": "localhost",
        "port": str(port),
        "security": security,
        "sender_address": "keypost@example.test",
        "sender_name": "",
        "access_url": "https://keypost.example.test",
        "requires_authentication": "y",
        "credential_source": "manual",
        "username": USER,
        "password": SECRET,
        "test_recipient": "ann@example.test",
        "version": "0",
        **changes,
    }
    return {name: value for name, value in given.items() if value is not None}


def chosen(account: Account, port: int, security: str = "never", /, **changes: Any) -> dict[str, Any]:
    """What the form sends when an account of the vault was chosen."""
    picked = {"credential_source": "account", "account_id": str(account.id), "username": None, "password": None}
    return typed(port, security, **{**picked, **changes})


def at(server: MailServer, **changes: Any) -> dict[str, Any]:
    return typed(server.port, MODES[server.security], **changes)


def outcome(text: str) -> tuple[str, str]:
    """The outcome and the diagnosis that a page or fragment carries."""
    found = re.search(r'id="_test_result" data-outcome="([^"]*)" data-diagnosis="([^"]*)"', text)
    assert found, text
    return found[1], found[2]


def stages(text: str) -> dict[str, str]:
    return dict(re.findall(r'data-stage="([^"]*)" data-outcome="([^"]*)"', text))
