"""Resources in the browser."""

from __future__ import annotations

import re

import pytest
from flask import Flask

from tests.support.people import Person, add_person
from webapp.actor import Role
from webapp.db import Database

XSS = '"><script>alert(1)</script>'


def add_resource(person: Person, name: str = "Mail host", **fields: str) -> str:
    """Add a resource; gives its path."""
    response = person.post("/resources/new", {"name": name, "kind": "Server", **fields})
    assert response.status_code == 303, response.text
    return str(response.headers["Location"])


def test_it_is_added_shown_and_listed(alice: Person) -> None:
    path = add_resource(alice, address="mail.example.com", kind="Mail service", notes="In the cellar")
    shown = alice.get(path).text
    for text in ("Mail host", "mail.example.com", "Mail service", "In the cellar"):
        assert text in shown
    assert f'href="{path}"' in alice.get("/resources").text


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "a" * 201}, "name"),
        ({"name": "a\u202eb"}, "name"),
        ({"kind": "Toaster"}, "kind"),
        ({"address": "a" * 301}, "address"),
        ({"notes": "a" * 4001}, "notes"),
    ],
    ids=ascii,
)
def test_a_mistake_is_shown_at_its_field(alice: Person, fields: dict[str, str], field: str) -> None:
    response = alice.post("/resources/new", {"name": "Kept", "kind": "Server", **fields})
    assert response.status_code == 422
    assert f'id="{field}-error"' in response.text
    assert "aria-invalid" in response.text


def test_a_name_is_taken_in_any_case(alice: Person) -> None:
    add_resource(alice, "Mail host")
    response = alice.post("/resources/new", {"name": "MAIL HOST", "kind": "Server"})
    assert response.status_code == 422
    assert 'id="name-error"' in response.text


def test_searching_and_paging_find_each(alice: Person) -> None:
    for number in range(27):
        add_resource(alice, f"Host {number:02}")
    first, second = alice.get("/resources").text, alice.get("/resources?page=2").text
    assert "Host 24" in first
    assert "Host 25" not in first
    assert "Host 25" in second
    found = alice.get("/resources?q=host+07").text
    assert "Host 07" in found
    assert "Host 08" not in found


@pytest.mark.parametrize(
    "query", ["page=0", "page=-1", "page=x", "page=" + "9" * 30, "page=" + "9" * 5000, "page=-" + "9" * 30]
)
def test_any_page_number_is_answered(alice: Person, query: str) -> None:
    add_resource(alice)
    response = alice.get(f"/resources?{query}")
    assert response.status_code == 200
    assert "Mail host" in response.text


@pytest.mark.parametrize(
    "q", ["%", "_", "\\", "'", '"', "a" * 60_000, "%" * 200, "\\" * 199, "é" * 200, XSS], ids=lambda q: ascii(q[:9])
)
def test_any_search_is_answered(alice: Person, q: str) -> None:
    add_resource(alice)
    response = alice.client.get("/resources", query_string={"q": q})
    assert response.status_code == 200
    assert "<script>alert" not in response.text
    assert ">Mail host<" not in response.text


def test_a_change_that_overtook_mine_is_not_overwritten(alice: Person) -> None:
    path = add_resource(alice)
    version = re.search(r'name="version"[^>]*value="(\d+)"', alice.get(f"{path}/edit").text)
    assert version
    mine = {"name": "Mine", "kind": "Server", "version": version[1]}
    assert alice.post(f"{path}/edit", {**mine, "name": "Theirs"}).status_code == 303
    response = alice.post(f"{path}/edit", mine)
    assert response.status_code == 409
    assert 'value="Mine"' in response.text
    assert "Theirs" in alice.get(path).text


def test_it_is_deleted_for_good(alice: Person) -> None:
    path = add_resource(alice)
    assert alice.post(f"{path}/delete").status_code == 303
    assert alice.get(path).status_code == 404


def test_names_are_text_and_never_markup(alice: Person) -> None:
    path = add_resource(alice, XSS, address=XSS, notes=XSS)
    for page in (path, f"{path}/edit", f"{path}/accounts/new", "/resources", "/admin/audit", f"/resources?q={XSS}"):
        text = alice.get(page).text
        assert "<script>alert" not in text, page
        assert "&lt;script&gt;alert" in text, page


def test_the_form_does_not_choose_the_owner(app: Flask, database: Database, alice: Person) -> None:
    bob = add_person(app, database, email="bob@example.com", name="Bob", role=Role.PASSWORD_ADMINISTRATOR)
    path = add_resource(bob, "Bob's", owner_id=str(alice.user.id), id="77", version="9")
    assert bob.get(path).status_code == 200
    assert alice.get(path).status_code == 404


@pytest.mark.parametrize(("kind", "shown"), [("Mail+service", "Mail service"), ("Toaster", None), ("", None)])
def test_the_address_can_name_the_type_of_a_new_resource(alice: Person, kind: str, shown: str | None) -> None:
    page = alice.get(f"/resources/new?kind={kind}").text
    assert re.findall(r'<option selected value="([^"]+)"', page) == ([shown] if shown else [])
