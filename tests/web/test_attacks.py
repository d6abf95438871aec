"""What an attacker sends, over HTTP and over the mail connection, and what must not come of it."""

from __future__ import annotations

import io
import re

import pytest
from flask.testing import FlaskClient

from tests.mail.test_codes import AUTHORITY, expect, presenting
from tests.support.mail_certificates import Trusting, server_context
from tests.support.mail_form import PAGE, TEST, typed
from tests.support.people import Person, csrf_token
from tests.trust.authorities import issue
from webapp.mail.diagnosis import _is_near
from webapp.mail.dial import is_forbidden
from webapp.trust.choice import choose

TRUST, REDRAW = f"{PAGE}/trust", f"{PAGE}/form"


@pytest.mark.parametrize("field", ["email", "password", "next"])
def test_a_file_in_the_place_of_a_text_is_refused_to_a_stranger(client: FlaskClient, field: str) -> None:
    fields = {"csrf_token": csrf_token(client), "email": "a@example.com", "password": "x" * 15}
    answer = client.post("/sign-in", data={**fields, field: (io.BytesIO(b"junk"), "a.txt")})
    assert answer.status_code == 400


@pytest.mark.parametrize("path", [PAGE, TEST, TRUST, REDRAW, "/resources/new", "/admin/users/new", "/profile"])
def test_a_file_in_the_place_of_a_text_is_refused_to_an_administrator(alice: Person, path: str) -> None:
    for field in ("name", "server_name", "password"):
        assert alice.post(path, typed(1) | {field: (io.BytesIO(b"junk"), "a.txt")}).status_code == 400


@pytest.mark.parametrize("path", [PAGE, TEST, TRUST, REDRAW])
def test_a_mode_that_does_not_exist_is_an_error_in_words(alice: Person, path: str) -> None:
    assert alice.post(path, typed(1, "bogus", sha256="00")).status_code in (200, 422)


def test_consent_to_an_unencrypted_login_is_not_carried_to_another_server_by_a_button(alice: Person) -> None:
    given = typed(25, "never", server_name="relay.example.test", unencrypted_login_allowed="y")
    page = alice.post(REDRAW, given | {"fill": "server_name=elsewhere.example.test&security=never&port=25"}).text
    tick = re.search(r'<input[^>]*name="unencrypted_login_allowed"[^>]*>', page)
    assert tick
    assert "checked" not in tick[0]
    tested = alice.post(TEST, given | {"fill": "server_name=elsewhere.example.test&security=never&port=25"})
    assert tested.status_code == 422
    assert "elsewhere.example.test can read the password" in tested.text


def test_one_click_never_signs_in_at_a_name_outside_the_domain_that_was_asked_for() -> None:
    other = AUTHORITY.issue_cert("mail.attacker.test", "mail.notlocal.localhost.attacker.test")
    result = expect(presenting(server_context(other), Trusting(AUTHORITY)), "certificate-name-mismatch", "tls")
    assert result.diagnosis is not None
    assert result.diagnosis.correction is None


def test_a_name_in_the_domain_that_was_asked_for_is_one_click_away() -> None:
    assert _is_near("smtp.example.test", "mail.example.test")
    assert not _is_near("smtp.example.test.attacker.test", "mail.example.test")
    assert not _is_near("*.example.test", "mail.example.test")


def test_a_server_that_signed_its_own_certificate_as_an_authority_vouches_for_itself_alone() -> None:
    own = issue("mail", "mail.test", authority=True)
    choice = choose([own.der], "mail.test")
    assert (choice.certificate, choice.pinned) == (own.certificate, True)


@pytest.mark.parametrize(
    "ip",
    ["64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "::ffff:169.254.169.254", "100.100.100.200", "fd20:ce::254"],
)
def test_metadata_services_are_out_of_reach_by_their_other_addresses_too(ip: str) -> None:
    assert is_forbidden(ip)


def test_private_addresses_stay_in_reach() -> None:
    assert not any(map(is_forbidden, ["10.0.0.1", "64:ff9b::a00:1", "fd00::1", "127.0.0.1", "::1"]))
