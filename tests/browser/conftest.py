"""What several browser tests ask for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.support.mail_server import NEVER, MailServer


@pytest.fixture
def relay() -> Iterator[MailServer]:
    """A mail server that wants neither encryption nor a login."""
    with MailServer(NEVER) as server:
        yield server


@pytest.fixture(params=["with-scripts", "without-scripts"])
def any_page(request: pytest.FixtureRequest, browser: Browser) -> Page:
    """A page with scripts, and one without."""
    fixture = "page" if request.param == "with-scripts" else "page_without_javascript"
    page: Page = request.getfixturevalue(fixture)
    return page
