"""Style sheet and scripts travel compressed; pages, which hold tokens, do not."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.support.people import Person
from webapp import static_files

GZIP = {"Accept-Encoding": "gzip, deflate, br"}
FILES = ("app.css", "app.js", "icon.svg", "vendor/htmx/htmx.min.js")


@pytest.mark.parametrize("name", FILES)
def test_a_file_travels_compressed_and_arrives_as_it_is(app: Flask, client: FlaskClient, name: str) -> None:
    answer = client.get(f"/static/{name}", headers=GZIP)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(answer.data) == Path(app.static_folder or "", name).read_bytes()
    assert int(answer.headers["Content-Length"]) == len(answer.data)


def test_who_cannot_unpack_gets_the_file_as_it_is(app: Flask, client: FlaskClient) -> None:
    with client.get("/static/app.css", headers={"Accept-Encoding": "identity"}) as answer:
        assert "Content-Encoding" not in answer.headers
        assert answer.data == Path(app.static_folder or "", "app.css").read_bytes()
        assert "Accept-Encoding" in answer.headers["Vary"]


def test_the_two_forms_are_told_apart_by_caches(client: FlaskClient) -> None:
    packed = client.get("/static/app.css", headers=GZIP).headers["ETag"]
    with client.get("/static/app.css", headers={"Accept-Encoding": "identity"}) as plain:
        assert plain.headers["ETag"] != packed


@pytest.mark.parametrize("accepted", ["gzip", "identity"])
def test_who_has_the_file_already_is_not_sent_it_again(client: FlaskClient, accepted: str) -> None:
    with client.get("/static/app.css", headers={"Accept-Encoding": accepted}) as first:
        etag = first.headers["ETag"]
    with client.get("/static/app.css", headers={"Accept-Encoding": accepted, "If-None-Match": etag}) as again:
        assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", etag)


@pytest.mark.parametrize("path", ["vendor/../app.css", "vendor/../vendor/../app.css", "nope/../app.css"])
def test_a_file_asked_for_the_long_way_round_is_compressed_once(client: FlaskClient, path: str) -> None:
    client.get("/static/app.css", headers=GZIP)
    kept = static_files._packed.cache_info().currsize
    assert client.get(f"/static/{path}", headers=GZIP).status_code == 200
    assert static_files._packed.cache_info().currsize == kept


def test_pages_are_never_compressed(alice: Person) -> None:
    for path in ("/sign-in", "/resources?q=guess", "/admin/settings/mail"):
        assert "Content-Encoding" not in alice.client.get(path, headers=GZIP, follow_redirects=True).headers
