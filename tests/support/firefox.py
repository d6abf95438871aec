"""The Firefox of this machine for tests, as its maker builds it: Playwright speaks WebDriver BiDi to it.

What Playwright cannot ask of it in this way comes about otherwise: it starts as the Firefox of somebody who wants dark
pages without motion, as Chromium is asked in tests of its own, and a header keeps scripts from running.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

import pytest
from playwright.sync_api import Browser, Error, Playwright

from tests.support import firefox_relay

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

ON_THE_PATH: Final = ("firefox", "firefox-esr")
DARK_AND_STILL: Final = {"ui.systemUsesDarkTheme": 1, "ui.prefersReducedMotion": 1}
WITHOUT_SCRIPTS: Final = (
    "sandbox allow-forms allow-same-origin allow-popups allow-popups-to-escape-sandbox allow-top-navigation"
    " allow-downloads"
)
"""All but `allow-scripts`: to HTML (8.1.3.4) such a page is one for which scripting is disabled."""


also_in_firefox = pytest.mark.parametrize(
    ("browser", "installation"),
    [
        ("chromium", "sqlite"),
        pytest.param("chromium", "postgresql", marks=pytest.mark.postgresql),
        ("firefox", "sqlite"),
    ],
    indirect=True,
)
"""A browser test that is run once more in Firefox; to a browser it is all the same what the database is."""


@pytest.fixture(scope="session")
def start_firefox(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Browser]]:
    """Give a running Firefox that asks pages to be dark and to stand still: a new one where the last has crashed."""
    path = next(filter(None, map(shutil.which, ON_THE_PATH)), None)
    if path is None:
        pytest.skip("there is no Firefox on the PATH")
    relay = tmp_path_factory.mktemp("firefox") / "firefox"
    relay.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, firefox_relay.__file__, path])} "$@"\n')
    relay.chmod(0o755)

    def launch() -> Browser:
        return playwright.firefox.launch(
            channel="moz-firefox", executable_path=relay, firefox_user_prefs={**DARK_AND_STILL}
        )

    try:
        running = launch()
    except Error as problem:
        pytest.skip(f"Playwright cannot speak to {path}: {problem.message[:300]}")

    def start() -> Browser:
        nonlocal running
        if not running.is_connected():
            running = launch()
        return running

    yield start
    running.close()


@pytest.fixture
def firefox(start_firefox: Callable[[], Browser]) -> Browser:
    """The running Firefox."""
    return start_firefox()


def without_scripts(app: WSGIApplication) -> WSGIApplication:
    """The application, with pages on which no browser runs a script."""

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        def start_quietly(status: str, headers: list[tuple[str, str]], *failure: Any) -> Callable[[bytes], object]:
            return start(status, [*headers, ("Content-Security-Policy", WITHOUT_SCRIPTS)], *failure)

        return app(environ, start_quietly)

    return answer
