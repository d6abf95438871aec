"""Passwords from another program, and out again, in a real browser: with scripts and without."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.support.browsing import claim
from tests.support.people import PASSWORD
from tests.web.test_resource_import import held
from webapp.db import Database
from webapp.vault.imports import RESOURCES

pytestmark = pytest.mark.browser
CANARY = "c4n4ry-sings-under-ground"
LINES = 30


def test_a_table_is_looked_at_imported_killed_resumed_and_taken_out_again(
    any_page: Page, live_server: str, database: Database, tmp_path: Path
) -> None:
    page, table = any_page, tmp_path / "keepassxc.csv"
    table.write_text(
        '"Group","Title","Username","Password","URL","Notes","TOTP","Icon","Last Modified","Created"\n'
        + "".join(f'"Root","Host {n}","root","{CANARY}{n}","","","","0","",""\n' for n in range(LINES))
        + f'"Root","Nameless","","{CANARY}","","","","0","",""\n'
    )
    claim(page, live_server, database)
    page.get_by_role("link", name="Resources", exact=True).click()
    page.get_by_role("link", name="Import", exact=True).click()
    page.get_by_label("Table").set_input_files(table)
    page.get_by_role("button", name="Look at it").click()
    expect(page.get_by_text("Nothing has been added yet")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="Nameless")).to_contain_text("no user name")
    expect(page.get_by_text("Not taken: Group, TOTP, Icon, Last Modified, Created.")).to_be_visible()
    assert CANARY not in page.content()

    page.get_by_role("button", name=f"Import {LINES} lines").click()
    expect(page.get_by_role("progressbar")).to_be_visible()
    number = int(page.url.rpartition("/")[2])
    for _ in range(7):  # Then the worker is killed, and another takes its place.
        RESOURCES.go_on(database, number)
    expect(page.get_by_text(f"8 of {LINES + 1} lines …")).to_be_visible()
    while RESOURCES.work(database):
        pass
    expect(page.get_by_text("Done.")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="Host 29")).to_contain_text("added")
    assert CANARY not in page.content()
    assert len(held(database)) == LINES

    page.get_by_role("link", name="Resources", exact=True).first.click()
    page.get_by_role("link", name="Export").click()
    expect(page.get_by_text(f"the passwords of {LINES} accounts, in clear")).to_be_visible()
    page.get_by_label("Your password").fill(PASSWORD)
    with page.expect_download() as downloaded:
        page.get_by_role("button", name=f"Export {LINES} passwords in clear").click()
    assert downloaded.value.path().read_text().count(CANARY) == LINES


def test_the_page_that_stays_after_an_export_keeps_no_password(
    page: Page, live_server: str, database: Database
) -> None:
    claim(page, live_server, database)
    page.goto(f"{live_server}/resources/export")
    page.get_by_label("Your password").fill(PASSWORD)
    with page.expect_download():
        page.get_by_role("button", name="Export 0 passwords in clear").click()
    expect(page.get_by_label("Your password")).to_have_value("")
