"""Host names that look like others, and those that only are of another language."""

from __future__ import annotations

import pytest

from tests.cli.test_vault_commands import run
from tests.support.mail_form import PAGE, typed
from tests.support.people import Person
from webapp.installation import Installation
from webapp.mail import likeness


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("pаypal.com", "mixes letters of Cyrillic and Latin"),  # the first a
        ("gооgle.com", "mixes letters of Cyrillic and Latin"),
        ("mail.exаmple.com", "mixes letters of Cyrillic and Latin"),
        ("smtp.αpple.com", "mixes letters of Greek and Latin"),
        ("bücherъ.de", "mixes letters of Cyrillic and Latin"),
        ("xn--pypal-4ve.com", "mixes letters of Cyrillic and Latin"),
        ("աpple.com", "mixes letters of Armenian and Latin"),
        ("νоda.example", "mixes letters of Cyrillic and Greek and Latin"),
        ("соре.com", "written in Cyrillic letters that look like Latin ones"),
        ("арех.example", "written in Cyrillic letters that look like Latin ones"),
        ("νονο.example", "written in Greek letters that look like Latin ones"),
    ],
)
def test_a_name_that_looks_like_another_is_warned_of(host: str, reason: str) -> None:
    found = likeness.of_host(host)
    assert found is not None
    assert reason in found.warning
    assert found.a_label in found.sentence
    assert found.a_label.isascii()
    assert found.readable in found.sentence


@pytest.mark.parametrize("host", ["bücher.example", "почта.рф", "食狮.公司.cn", "メールサーバー.jp", "ταχυδρομείο.gr"])
def test_a_name_of_another_language_is_shown_both_ways_without_a_warning(host: str) -> None:
    found = likeness.of_host(host)
    assert found is not None
    assert (found.readable, found.warning) == (host, "")
    assert found.sentence.startswith(f"“{host}” is xn--")


@pytest.mark.parametrize("host", ["mail.example.com", "192.0.2.1", "xn--", "two names", "", "a" * 300])
def test_nothing_is_said_of_any_other(host: str) -> None:
    assert likeness.of_host(host) is None


def test_the_page_says_so_before_and_after_it_is_saved(alice: Person) -> None:
    redrawn = alice.post(f"{PAGE}/form", typed(2525, server_name="pаypal.com"))
    assert "mixes letters of Cyrillic and Latin" in redrawn.text
    assert "xn--pypal-4ve.com" in redrawn.text
    assert "mixes letters" not in alice.post(f"{PAGE}/form", typed(2525, server_name="paypal.com")).text


def test_the_command_line_says_so_too(installation: Installation) -> None:
    run(installation, "mail", "set", "--server-name", "pаypal.com", "--port", "587", "--security", "tls",
        "--sender", "a@example.com", "--access-url", "https://vault.example.com", "--no-authentication")  # fmt: skip
    assert "xn--pypal-4ve.com on the internet" in run(installation, "mail", "show").stdout
