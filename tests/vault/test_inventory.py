"""A table of accounts is understood as its program meant it, and nothing of it is lost or taken for something else."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from webapp import spreadsheet
from webapp.errors import Invalid
from webapp.i18n import Reader, reading_as
from webapp.keyring import Secret
from webapp.vault import inventory
from webapp.vault.inventory import COLUMNS, Columns, Entry
from webapp.vault.resources import KINDS, ResourceDetails

KEEPASS_1 = (
    '"Account","Login Name","Password","Web Site","Comments"\r\n'
    '"Mail \\"main\\"","postmaster","s\\\\e\\"cret","mail.example.test","two\r\nlines"\r\n'
)
KEEPASSXC = (
    '"Group","Title","Username","Password","URL","Notes","TOTP","Icon","Last Modified","Created"\n'
    '"Root","Mail ""main""","postmaster","s\\e""cret","mail.example.test","two\nlines","otpauth://x","0","",""\n'
)
BITWARDEN = (
    "folder,favorite,type,name,notes,fields,reprompt,login_uri,login_username,login_password,login_totp\n"
    ',,login,"Mail ""main""","two\nlines",,0,mail.example.test,postmaster,"s\\e""cret",\n'
)
ONE_PASSWORD = (
    "Title,Url,Username,Password,OTPAuth,Favorite,Archived,Tags,Notes\n"
    '"Mail ""main""",mail.example.test,postmaster,"s\\e""cret",,false,false,,"two\nlines"\n'
)
PASSWORD_MANAGER_PRO = (
    "Resource Name,User Account,Password,DNS Name,Resource Type,Notes\n"
    '"Mail ""main""",postmaster,"s\\e""cret",mail.example.test,Linux,"two\nlines"\n'
)
FIREFOX = 'url,username,password\nmail.example.test,postmaster,"s\\e""cret"\n'


def entries(text: str) -> list[Entry]:
    sheet = inventory.understand(text)
    return list(inventory.entries(sheet, inventory.guess(sheet)))


@pytest.mark.parametrize(
    "text", [KEEPASS_1, KEEPASSXC, BITWARDEN, ONE_PASSWORD, PASSWORD_MANAGER_PRO],
    ids=["KeePass 1", "KeePassXC", "Bitwarden", "1Password", "Password Manager Pro"],
)  # fmt: skip
def test_the_exports_of_others_are_understood_as_they_are(text: str) -> None:
    [entry] = entries(text)
    assert entry.problem == ""
    assert (entry.details.name, entry.details.address) == ('Mail "main"', "mail.example.test")
    assert (entry.username, entry.password, entry.notes) == ("postmaster", Secret('s\\e"cret'), "two\nlines")


def test_where_no_column_names_the_resource_none_is_guessed() -> None:
    assert inventory.guess(inventory.understand(FIREFOX)).resource is None


def test_account_is_a_user_name_beside_a_resource() -> None:
    sheet = inventory.understand("Resource,Account,Password\na,b,c\n")
    assert inventory.guess(sheet) == Columns(0, None, None, None, 1, 2, None)


@given(st.permutations(list(COLUMNS)))
def test_our_own_columns_are_found_in_whatever_order(order: list[str]) -> None:
    sheet = inventory.understand(",".join(order) + "\nx,x,x,x,x,x,x\n")
    assert inventory.guess(sheet) == Columns(*(order.index(each) for each in COLUMNS))


@given(st.lists(st.sampled_from(["Title", "Name", "Password", "Notes", "Login", "URL", "x", ""]), min_size=2))
def test_no_column_is_guessed_for_two_things(headings: list[str]) -> None:
    sheet = inventory.understand(",".join(headings[:40]) + "\n" + "x," * 39 + "x\n")
    taken = [column for column in inventory.guess(sheet) if column is not None]
    assert len(taken) == len(set(taken))


def test_a_line_of_data_with_one_word_of_a_heading_is_no_heading() -> None:
    sheet = inventory.understand("Mail,postmaster,password\nRouter,admin,x\n")
    assert not sheet.has_heading
    assert inventory.guess(sheet) == Columns(*(None,) * 7)


@pytest.mark.parametrize("kind", [*KINDS, *map(str.upper, KINDS)])
def test_a_type_of_ours_stays(kind: str) -> None:
    [entry] = entries(f"Title,Password,Username,Type\na,b,c,{kind}\n")
    assert entry.details.kind.upper() == kind.upper()


def test_a_type_may_be_named_in_the_readers_language() -> None:
    with reading_as(Reader("de")):
        [entry] = entries("Titel,Passwort,Benutzer,Typ\na,b,c,Netzwerkgerät\n")
    assert entry.details.kind == "Network device"


def test_a_type_that_is_none_of_ours_is_another() -> None:
    assert [each.details.kind for each in entries("Title,Password,Username,Type\na,b,c,Toaster\nb,b,c,\n")] == [
        "Other",
        "Server",
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (",root,x", "no name of a resource"),
        ("a,,x", "a password and no user name"),
        ("a,root,", "a user name and no password"),
        (f"{'a' * 201},root,x", "at most 200 characters"),
        (f"a,root,{'x' * 1025}", "at most 1024 characters"),
        ("a,root,••••", "row of dots"),
        ("a,ro\x07ot,x", "cannot be seen"),
    ],
)
def test_a_line_that_cannot_be_kept_says_why_and_holds_no_password(line: str, problem: str) -> None:
    [entry] = entries(f"Title,Username,Password\n{line}\n")
    assert problem in entry.problem
    assert not entry.password


def test_one_account_named_twice_is_taken_once_in_whatever_case_its_resource_is_written() -> None:
    found = entries("Title,Username,Password\nMail,root,a\nMAIL,root,b\nMail,Root,c\n")
    assert [bool(each.problem) for each in found] == [False, True, False]


@pytest.mark.parametrize("columns", [{"resource": 0, "password": 0}, {"resource": 9}, {"resource": None}])
def test_columns_that_cannot_be_meant_are_refused(columns: dict[str, int | None]) -> None:
    sheet = inventory.understand("Title,Username,Password\na,b,c\n")
    with pytest.raises(Invalid):
        inventory.check(sheet, Columns(*(None,) * 7)._replace(**columns))


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=30)
LINE = TEXT.map(lambda text: " ".join("".join(sign if sign.isprintable() else " " for sign in text).split()))


@given(st.lists(st.tuples(LINE.filter(bool), LINE, LINE, LINE.filter(bool), LINE, st.sampled_from(KINDS), TEXT)))
def test_what_is_written_is_read_the_same(kept: list[tuple[str, str, str, str, str, str, str]]) -> None:
    seen, held = set(), []
    for *texts, kind, password in kept:
        name, address, resource_notes, username, notes = (unicodedata.normalize("NFC", each) for each in texts)
        entry = Entry(0, ResourceDetails(name, address, kind, resource_notes), username, Secret(f"x{password}"), notes)
        if (entry.resource_key, username) not in seen:
            seen.add((entry.resource_key, username))
            held.append(entry)
    if not held:
        return
    text, _encoding = spreadsheet.decode(("\ufeff" + "".join(spreadsheet.lines(inventory.rows(held)))).encode())
    again = entries(text)
    assert [each.problem for each in again] == [""] * len(held)
    assert [(each.details, each.username, each.password, each.notes) for each in again] == [
        (each.details, each.username, each.password, each.notes) for each in held
    ]


@given(TEXT)
@example("\ta")
@example("\n'")
def test_a_cell_that_was_shielded_is_given_back(text: str) -> None:
    written = spreadsheet.cell(text)
    assert spreadsheet.plain(written) == text
    assert not written.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


@given(st.text(st.characters(exclude_characters="\0"), max_size=200))
def test_whatever_is_handed_over_is_understood_or_refused_in_words(text: str) -> None:
    try:
        sheet = inventory.understand(text)
    except Invalid:
        return
    for entry in inventory.entries(sheet, Columns(0, None, None, None, 1, 2, None)):
        assert entry.problem or entry.details.name


@pytest.mark.parametrize("text", ["'x", "''", "'=1"])
def test_an_apostrophe_of_another_programs_table_stays(text: str) -> None:
    [entry] = entries(f"Title,Username,Password\na,b,{text}\n")
    assert entry.password == Secret(text)


@pytest.mark.parametrize(
    ("lacks", "problem"), [("username", "No column of user names"), ("password", "No column of passwords")]
)
def test_where_no_column_is_chosen_it_is_the_choice_that_lacks_and_not_the_line(lacks: str, problem: str) -> None:
    sheet = inventory.understand("Title,Username,Password\na,root,x\n")
    [entry] = inventory.entries(sheet, inventory.guess(sheet)._replace(**{lacks: None}))
    assert problem in entry.problem
