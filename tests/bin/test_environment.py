"""The commands in bin/, tried in small copies of Keypost's folder whose packages are made for the test."""

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ECHO = """\
import json, os, sys
import {package}
heaps = os.environ.get("MALLOC_ARENA_MAX")
print(json.dumps({{"arguments": sys.argv[1:], "folder": os.getcwd(), "found": {package}.VERSION, "heaps": heaps}}))
sys.exit(3 if "fail" in sys.argv else 0)
"""
WITHOUT_ROOTS_RIGHT_TO_WRITE = """\
import ctypes, os, sys
for capability in (1, 2):  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
os.execv(sys.argv[1], sys.argv[1:])
"""


class Copy:
    """A folder laid out like Keypost's, whose requirements are one package made here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "bin", folder / "bin", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "requirements").mkdir()
        (folder / "webapp").mkdir()
        (folder / "webapp" / "__init__.py").touch()
        (folder / "webapp" / "cli.py").write_text(ECHO.format(package="sample"))
        self.require("1")

    def require(self, version: str, lock: str = "run", package: str = "sample", digest: str | None = None) -> None:
        """Lock `package`, whose module holds its version; `digest` stands for the true hash."""
        wheel = self.folder / f"{package}-{version}-py3-none-any.whl"
        metadata = f"{package}-{version}.dist-info"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"{package}.py", f"VERSION = {version!r}\n" + self._module(package))
            archive.writestr(f"{metadata}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
            archive.writestr(f"{metadata}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{metadata}/RECORD", "")
        digest = digest or hashlib.sha256(wheel.read_bytes()).hexdigest()
        self.lock(f"{package} @ {wheel.as_uri()} --hash=sha256:{digest}\n", lock)

    @staticmethod
    def _module(package: str) -> str:
        return ECHO.format(package="pytest") if package == "pytest" else ""

    def lock(self, text: str, lock: str = "run") -> None:
        (self.folder / "requirements" / f"{lock}.lock").write_text(text)

    def command(self, name: str, *arguments: str) -> list[str]:
        return [sys.executable, str(self.folder / "bin" / name), *arguments]

    def run(self, name: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return run(self.command(name, *arguments), cwd=cwd or self.folder)

    @property
    def log(self) -> Path:
        return self.folder / ".venv" / "install.log"

    @property
    def stamp(self) -> Path:
        return self.folder / ".venv" / "keypost.json"


def environment() -> dict[str, str]:
    """What a person's shell would hold: no settings of the workplace's own, and no packages to be had elsewhere."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_", "PYTHON", "MALLOC_"))
    }
    nowhere = "http://127.0.0.1:9/simple"
    return kept | {
        "PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": nowhere, "PIP_RETRIES": "1",
        "UV_NO_CONFIG": "1", "UV_DEFAULT_INDEX": nowhere, "UV_HTTP_RETRIES": "0",
    }  # fmt: skip


def run(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """A fresh copy, in which nothing has been started yet."""
    return Copy(tmp_path / "keypost")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """A copy that has been started once; for tests that leave it as it is."""
    copy = Copy(tmp_path_factory.mktemp("bin") / "keypost")
    first = copy.run("keypost", "doctor")
    assert first.returncode == 0, first.stderr
    assert "Installing" in first.stderr
    return copy


def test_the_first_start_installs_and_hands_over(copy: Copy) -> None:
    started = copy.run("serve", "--port", "1")
    assert json.loads(started.stdout)["arguments"] == ["serve", "--port", "1"]


def test_the_second_start_installs_nothing_and_says_nothing(installed: Copy) -> None:
    log = installed.log.read_bytes()
    started = installed.run("keypost", "mail", "show", "--json")
    assert started.stderr == ""
    assert json.loads(started.stdout)["arguments"] == ["mail", "show", "--json"]
    assert installed.log.read_bytes() == log


def test_the_exit_status_is_the_commands_own(installed: Copy) -> None:
    assert installed.run("keypost", "fail").returncode == 3


def test_the_working_directory_is_kept(installed: Copy, tmp_path: Path) -> None:
    assert json.loads(installed.run("keypost", cwd=tmp_path).stdout)["folder"] == str(tmp_path)


def test_all_threads_share_one_heap(installed: Copy) -> None:
    assert json.loads(installed.run("serve").stdout)["heaps"] == "1"


def test_nothing_is_imported_from_the_working_directory(installed: Copy, tmp_path: Path) -> None:
    for name in ("webapp", "sample", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from a foreign folder')")
    assert installed.run("keypost", cwd=tmp_path).returncode == 0


def test_the_folder_is_found_through_symbolic_links(installed: Copy, tmp_path: Path) -> None:
    (tmp_path / "inner").symlink_to(installed.folder / "bin" / "keypost")
    (tmp_path / "outer").symlink_to(tmp_path / "inner")
    started = run([sys.executable, str(tmp_path / "outer"), "here"], cwd=tmp_path)
    assert json.loads(started.stdout)["arguments"] == ["here"]


def test_a_changed_lock_is_installed(copy: Copy) -> None:
    copy.run("keypost")
    copy.require("2.10")
    assert json.loads(copy.run("keypost").stdout)["found"] == "2.10"


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"folder": 1}'])
def test_a_damaged_stamp_is_written_anew(copy: Copy, damage: str) -> None:
    copy.run("keypost")
    whole = copy.stamp.read_text()
    copy.stamp.write_text(damage)
    assert copy.run("keypost").returncode == 0
    assert copy.stamp.read_text() == whole


def test_an_interrupted_installation_begins_again(copy: Copy) -> None:
    copy.run("keypost")
    half = copy.folder / ".venv" / "half-installed"
    half.touch()
    copy.stamp.unlink()
    (copy.folder / ".venv" / "installing").touch()
    assert copy.run("keypost").returncode == 0
    assert not half.exists()


def test_a_copied_folder_gets_an_environment_of_its_own(copy: Copy, tmp_path: Path) -> None:
    copy.run("keypost")
    shutil.copytree(copy.folder, tmp_path / "second", symlinks=True)
    assert "Installing" in run([sys.executable, str(tmp_path / "second/bin/keypost")], cwd=tmp_path).stderr
    assert str(tmp_path / "second") in (tmp_path / "second/.venv/keypost.json").read_text()


def test_two_first_starts_at_once_install_once(copy: Copy) -> None:
    both = [
        subprocess.Popen(
            copy.command("keypost"), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("Installing" in words for words in said) == 1


def test_a_package_with_another_hash_is_refused(copy: Copy) -> None:
    copy.require("1", digest="0" * 64)
    assert "not the one Keypost was tested with" in refusal(copy.run("keypost"))


def test_a_network_that_is_away_is_named(copy: Copy) -> None:
    copy.lock(f"absent-sample==1 --hash=sha256:{'0' * 64}\n")
    assert "could not be reached" in refusal(copy.run("keypost"))


def test_an_installation_that_failed_is_tried_again(copy: Copy) -> None:
    copy.require("1", digest="0" * 64)
    copy.run("keypost")
    copy.require("1")
    assert copy.run("keypost").returncode == 0


def test_a_folder_that_may_not_be_written_is_named(copy: Copy) -> None:
    copy.folder.chmod(0o555)
    command = copy.command("keypost")
    if os.geteuid() == 0:
        command = [sys.executable, "-c", WITHOUT_ROOTS_RIGHT_TO_WRITE, *command]
    try:
        words = refusal(run(command, cwd=copy.folder))
    finally:
        copy.folder.chmod(0o755)
    assert "cannot be written by you" in words


def test_an_older_python_reads_why_it_is_refused() -> None:
    script = "import sys; sys.version_info = (3, 8, 1, 'final', 0); import _environment"
    told = subprocess.run([sys.executable, "-c", script], cwd=ROOT / "bin", capture_output=True, text=True, check=False)
    assert "Keypost needs Python 3.11 or newer, and this is Python 3.8" in refusal(told)


@pytest.mark.parametrize("name", ["_environment.py", "serve", "test", "keypost", "importCert"])
def test_an_older_python_can_parse(name: str) -> None:
    ast.parse((ROOT / "bin" / name).read_text(), feature_version=(3, 6))


def test_bin_test_hands_its_arguments_to_pytest_in_keyposts_folder(copy: Copy, tmp_path: Path) -> None:
    copy.require("9", lock="test", package="pytest")
    told = json.loads(copy.run("test", "tests/mail", "-k", "x", cwd=tmp_path).stdout)
    assert told["arguments"] == ["tests/mail", "-k", "x"]
    assert (told["folder"], told["found"]) == (str(copy.folder), "9")


def test_import_cert_without_arguments_shows_its_usage(copy: Copy) -> None:
    told = copy.run("importCert")
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr.startswith("Usage: bin/importCert FILE...")
    assert not (copy.folder / ".venv").exists()


def test_import_cert_looks_for_a_bare_name_in_bin_too(copy: Copy, tmp_path: Path) -> None:
    beside = copy.folder / "bin" / "company.pem"
    beside.touch()
    (tmp_path / "here.pem").touch()
    told = json.loads(copy.run("importCert", "company.pem", "here.pem", "absent.pem", cwd=tmp_path).stdout)
    assert told["arguments"] == ["certificates", "import", str(beside), "here.pem", "absent.pem"]


def test_what_runs_is_what_was_tested() -> None:
    run_lock, test_lock = locked("run"), locked("test")
    # A package of the tests may need on every system what Keypost needs on one: the marker alone may differ.
    version = re.compile(r" ; [^\\]+")
    assert {name: version.sub(" ", test_lock.get(name, "")) for name in run_lock} == {
        name: version.sub(" ", line) for name, line in run_lock.items()
    }


@pytest.mark.parametrize("name", ["run", "test"])
def test_a_lock_names_no_host_and_no_folder(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.lock").read_text()
    assert not re.search(r"://|--index|--find-links|^\s*#.*\s/", text, re.MULTILINE)


def refusal(told: subprocess.CompletedProcess[str]) -> str:
    """Return the last line that was said, having seen that the command failed in words and not in a traceback."""
    assert told.returncode == 1
    assert told.stdout == ""
    assert "Traceback" not in told.stderr
    return told.stderr.splitlines()[-1]


def locked(name: str) -> dict[str, str]:
    """Return the packages of a lock, each with its version, conditions and hashes."""
    text = (ROOT / "requirements" / f"{name}.lock").read_text()
    entries = re.findall(r"^(\S+?)==(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    return {package: re.sub(r"^\s*#.*\n?", "", rest, flags=re.MULTILINE).strip(" \\\n") for package, rest in entries}
