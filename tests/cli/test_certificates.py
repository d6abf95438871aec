"""The manners of `keypost certificates`, and so of bin/importCert."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from tests.trust.authorities import issue
from tests.trust.tls_server import Serve
from webapp.cli import certificates
from webapp.installation import Installation
from webapp.trust import store

ROOT = issue("Company Root", authority=True)


def run(installation: Installation, *arguments: str) -> Result:
    return CliRunner().invoke(certificates.group, arguments, obj=installation)


def stored(installation: Installation) -> list[str]:
    with installation.database.reading() as session:
        return [each.sha256 for each in store.trusted(session)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a certificate in it."""
    (tmp_path / "root.pem").write_bytes(ROOT.pem)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_shows_what_a_person_compares(installation: Installation, folder: Path) -> None:
    leaf = issue("mail", "mail.test", "127.0.0.1", by=ROOT)
    (folder / "mail.cer").write_bytes(leaf.der)
    result = run(installation, "import", "root.pem", "mail.cer")
    assert result.exit_code == 0
    for shown in ("Company Root: imported", "CN=mail", "mail.test, 127.0.0.1", "CN=Company Root", "valid"):
        assert shown in result.output
    assert leaf.sha256 in result.output.replace(":", "").lower()
    assert "bin/keypost mail test" in result.output


def test_the_second_run_says_it_is_already_there(installation: Installation, folder: Path) -> None:
    run(installation, "import", "root.pem")
    result = run(installation, "import", "root.pem")
    assert result.exit_code == 0
    assert "Company Root: already imported" in result.output
    assert "Nothing changed" in result.output


def test_what_was_written_past_keypost_is_not_listed_as_trusted(installation: Installation, folder: Path) -> None:
    run(installation, "import", "root.pem")
    with installation.database.transaction() as session:
        session.execute(sa.update(store.TrustedCertificate).values(mark="0" * 64))
    assert "Company Root: trusted nowhere" in run(installation, "list").output
    assert json.loads(run(installation, "list", "--json").output)["certificates"][0]["forged"] is True


def test_it_prints_json(installation: Installation, folder: Path) -> None:
    printed = json.loads(run(installation, "import", "--json", "root.pem").output)
    [certificate] = printed["certificates"]
    assert (printed["outcome"], certificate["sha256"], certificate["already_there"]) == ("imported", ROOT.sha256, False)


def test_one_bad_file_stops_all_of_them(installation: Installation, folder: Path) -> None:
    (folder / "bad.pem").write_bytes(b"hello")
    result = run(installation, "import", "root.pem", "bad.pem")
    assert result.exit_code == 1
    assert "bad.pem: The file is not a certificate" in result.output
    assert stored(installation) == []


def test_a_refusal_is_json_when_asked_for(installation: Installation, folder: Path) -> None:
    (folder / "bad.pem").write_bytes(ROOT.key_pem)
    result = run(installation, "import", "--json", "bad.pem")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["outcome"] == "refused"
    assert "contains a private key" in json.loads(result.stdout)["reason"]


def test_an_expired_certificate_is_refused(installation: Installation, folder: Path) -> None:
    (folder / "old.pem").write_bytes(issue("old", authority=True, days=(-9, -1)).pem)
    result = run(installation, "import", "old.pem")
    assert (result.exit_code, stored(installation)) == (1, [])
    assert "expired on" in result.output


def test_without_a_file_it_is_wrong_usage(installation: Installation) -> None:
    assert run(installation, "import").exit_code == 2


def make_link(path: Path) -> None:
    path.symlink_to(path.with_name("root.pem"))


def make_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def make_huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (make_link, "symbolic link"),
        (make_dangling_link, "symbolic link"),
        (os.mkfifo, "not a regular file"),
        (Path.mkdir, "not a regular file"),
        (make_huge, "larger than 64 KB"),
        (Path.touch, "empty"),
        (Path.exists, "no such file"),
    ],
)
def test_it_refuses_what_is_no_certificate_file(
    installation: Installation, folder: Path, make: object, reason: str
) -> None:
    make(folder / "given")  # type: ignore[operator]
    result = run(installation, "import", "given")
    assert (result.exit_code, stored(installation)) == (1, [])
    assert reason in result.output


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null", "/proc/self/mem", "a\0b", "../root.pem", "root.pem/x"])
def test_it_refuses_names_that_lead_elsewhere(installation: Installation, folder: Path, name: str) -> None:
    result = run(installation, "import", name)
    assert (result.exit_code, stored(installation)) == (1, [])
    assert isinstance(result.exception, SystemExit)
    assert "Nothing was imported." in result.output


def test_a_bare_name_is_also_looked_up_in_bin(
    installation: Installation, folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = tmp_path_factory.mktemp("bin")
    (beside / "beside.pem").write_bytes(ROOT.pem)
    monkeypatch.setattr(certificates, "BESIDE", beside)
    assert run(installation, "import", "beside.pem").exit_code == 0
    assert stored(installation) == [ROOT.sha256]


def test_a_name_with_a_folder_is_not_looked_up_in_bin(installation: Installation, folder: Path) -> None:
    assert run(installation, "import", "./serve").exit_code == 1


def test_the_list_shows_where_each_is_trusted(installation: Installation, folder: Path) -> None:
    assert "No certificate is imported" in run(installation, "list").output
    run(installation, "import", "root.pem")
    result = run(installation, "list")
    assert "Company Root: wherever its names match" in result.output
    assert "from root.pem" in result.output
    assert json.loads(run(installation, "list", "--json").output)["certificates"][0]["sha256"] == ROOT.sha256


def test_it_removes(installation: Installation, folder: Path) -> None:
    run(installation, "import", "root.pem")
    assert run(installation, "remove", ROOT.sha256).exit_code == 0
    assert stored(installation) == []
    again = run(installation, "remove", "--json", ROOT.sha256)
    assert (again.exit_code, json.loads(again.stdout)["outcome"]) == (1, "refused")


def fetch(installation: Installation, address: tuple[str, int], *options: str, answer: str = "") -> Result:
    arguments = ["import", f"{address[0]}:{address[1]}", *options]
    return CliRunner().invoke(certificates.group, arguments, obj=installation, input=answer)


def test_it_fetches_shows_and_asks(installation: Installation, serve: Serve) -> None:
    leaf = issue("mail", "127.0.0.1")
    address = serve(leaf)
    result = fetch(installation, address, "--security", "ssl", answer="y\n")
    assert "mail: presented by 127.0.0.1" in result.output
    assert leaf.sha256 in result.output.replace(":", "").lower()
    assert (result.exit_code, stored(installation)) == (0, [leaf.sha256])
    assert "already trust" in fetch(installation, address, "--security", "ssl").output


def test_without_a_yes_nothing_is_imported(installation: Installation, serve: Serve) -> None:
    result = fetch(installation, serve(issue("mail", "127.0.0.1")), "--security", "ssl", answer="\n")
    assert (result.exit_code, stored(installation)) == (1, [])


def test_it_imports_the_root_when_the_server_presents_it(installation: Installation, serve: Serve) -> None:
    address = serve(issue("mail", "127.0.0.1", by=ROOT), with_root=True)
    fetch(installation, address, "--security", "ssl", answer="y\n")
    assert stored(installation) == [ROOT.sha256]


def test_it_pins_what_is_for_another_name(installation: Installation, serve: Serve) -> None:
    leaf = issue("appliance")
    address = serve(leaf)
    result = fetch(installation, address, "--security", "ssl", "--json", "--sha256", leaf.sha256)
    assert result.exit_code == 0
    with installation.database.reading() as session:
        [pinned] = store.trusted(session)
    assert (pinned.sha256, pinned.host, pinned.port) == (leaf.sha256, *address)


def test_another_fingerprint_than_the_one_given_is_refused(installation: Installation, serve: Serve) -> None:
    address = serve(issue("mail", "127.0.0.1"))
    result = fetch(installation, address, "--security", "ssl", "--sha256", ROOT.sha256)
    assert (result.exit_code, stored(installation)) == (1, [])
    assert "not the one given" in result.output


def test_a_server_that_is_not_there_gets_cause_and_remedy(installation: Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = taken.getsockname()
    result = fetch(installation, address)
    assert result.exit_code == 1
    assert "presented no certificate" in result.output


@pytest.mark.parametrize(
    "arguments", [["mail.test:465", "root.pem"], ["--json", "mail.test:465"], ["--sha256", "00", "root.pem"]]
)
def test_a_server_is_no_file(installation: Installation, folder: Path, arguments: list[str]) -> None:
    assert run(installation, "import", *arguments).exit_code == 2
