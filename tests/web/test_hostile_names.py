"""Whatever somebody calls a thing, no page takes it for markup: every page is read that leads on from another."""

from __future__ import annotations

from html.parser import HTMLParser
from io import BytesIO
from urllib.parse import urljoin, urlsplit

import pytest
from flask import Flask

from tests.support.mail_form import typed
from tests.support.people import HTMX, Person, add_person
from webapp.actor import Role
from webapp.db import Database
from webapp.identity.imports import PEOPLE
from webapp.vault.imports import RESOURCES

HARM = "x-harm"
NAME = f"""'"><{HARM} hx-get=/harm onclick=harm() style=x>{{{{ 7 * 7 }}}} %(name)s ${{1}}"""
BEGINNINGS = ("/resources", "/admin", "/profile", "/admin/users", "/admin/outbox", "/admin/audit", "/go?q=harm")

pytestmark = pytest.mark.parametrize("installation", ["sqlite"], indirect=True)


class Elements(HTMLParser):
    """What a browser makes of a page: its elements' names, attributes and links."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.links: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {f"{name}={value}" if name.startswith("hx-get") else name for name, value in attrs}
        self.links |= {value for name, value in attrs if name in ("href", "hx-get") and value}


@pytest.fixture
def named(app: Flask, alice: Person, database: Database) -> Person:
    """Alice, at an installation in which everything has the hostile name."""
    bob = add_person(app, database, email="bob@example.com", name=NAME, role=Role.ADMINISTRATOR)
    for person in (alice, bob):
        person.post("/resources/new", {"name": f"{person.user.id} {NAME}", "kind": "Server", "notes": NAME})
    for person, resource in ((alice, 1), (bob, 2)):
        account = {"username": NAME, "password": "x", "notes": NAME}
        assert person.post(f"/resources/{resource}/accounts/new", account).status_code == 303
    for owner, resource, other in ((alice, 1, bob), (bob, 2, alice)):
        shared = owner.post(f"/resources/{resource}/sharing", {"who": str(other.user.id), "right": "manage"})
        assert shared.status_code == 303, shared.text
    alice.post("/accounts/1/sharing", {"who": str(bob.user.id), "right": "modify"})
    settings = typed(25, sender_name="Keypost <x-harm>", requires_authentication="y", credential_source="account")
    alice.post("/admin/settings/mail", settings | {"account_id": "1"})
    people = f'name,email,role\n"{NAME.replace(chr(34), chr(34) * 2)}",carol@example.com,\n{HARM},<{HARM}>,<{HARM}>\n'
    alice.post("/admin/users/import", {"file": (BytesIO(people.encode()), f"<{HARM}>.csv")})
    alice.post("/admin/users/import/1/start", {"by_mail": "y"})
    vault = f"Title,Username,Password\n<{HARM}>,<{HARM}>,x\n,<{HARM}>,x\n"
    for number in (1, 2):
        alice.post("/resources/import", {"file": (BytesIO(vault.encode()), f"<{HARM}>.csv")})
        if number == 1:
            alice.post("/resources/import/1/start")
    while PEOPLE.work(database) or RESOURCES.work(database):
        pass
    return alice


@pytest.mark.parametrize("language", ["en", "de"])
def test_no_page_takes_a_name_for_markup(named: Person, language: str) -> None:
    waiting, seen, hostile = list(BEGINNINGS), set[str](), 0
    while waiting:
        path = waiting.pop()
        shape = urlsplit(path)
        if path in seen or shape.path.startswith("/static") or shape.netloc or len(seen) > 400:
            continue
        seen.add(path)
        for headers in ({"Accept-Language": language}, {"Accept-Language": language, **HTMX}):
            answer = named.client.get(path, headers=headers)
            if answer.mimetype != "text/html":
                continue
            page = Elements(answer.text)
            assert HARM not in page.names, path
            assert "hx-get=/harm" not in page.attributes, path
            assert not [name for name in page.attributes if name.startswith("on") or name == "style"], path
            assert " 49 " not in answer.text, path
            hostile += HARM in answer.text
            waiting += [urljoin(path, each).partition("#")[0] for each in page.links]
    assert hostile > 20
