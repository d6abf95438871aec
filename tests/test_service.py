"""The units for systemd: they are whole, name what is there, and leave the service little that it does not need."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_architecture import ROOT

UNITS = sorted((ROOT / "docs" / "systemd").glob("*.service"))
MOST_EXPOSED = 20
"""Of systemd's hundred, as `systemd-analyze security` counts; a unit without limits has 96."""


@pytest.fixture(params=UNITS, ids=lambda unit: unit.name)
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unit with the programs where they are here, run by somebody who is here."""
    there = request.param.read_text().replace("/opt/keypost", str(ROOT)).replace("User=keypost", "User=root")
    file: Path = tmp_path / request.param.name
    file.write_text(there)
    return file


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("there is no systemd-analyze here")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_systemd_takes_the_unit_without_a_word(unit: Path) -> None:
    result = analyze("verify", "--man=no", unit)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_unit_exposes_little(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("User=root", "User=keypost"))
    result = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", unit)
    assert result.returncode == 0, result.stdout


def test_both_units_have_the_same_limits() -> None:
    own = ("#", "Description=", "ExecStart=")
    one, other = ([line for line in unit.read_text().splitlines() if not line.startswith(own)] for unit in UNITS)
    assert one == other
    assert "User=keypost" in one


REFUSE_WRITABLE_AND_EXECUTABLE = """
import ctypes, os, sys
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
if sys.platform != "linux" or ctypes.CDLL(None).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
    sys.exit(77)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.parametrize(
    "command", [["-m", "webapp.cli", "users", "list"], ["-c", "import psycopg, webapp.mail.worker"]]
)
def test_no_memory_has_to_be_writable_and_executable(tmp_path: Path, command: list[str]) -> None:
    surroundings = {**os.environ, "KEYPOST_INSTANCE": str(tmp_path / "instance")}
    limited = [sys.executable, "-c", REFUSE_WRITABLE_AND_EXECUTABLE, *command]
    result = subprocess.run(
        limited, env=surroundings, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    if result.returncode == 77:
        pytest.skip("this kernel (before 6.3) cannot refuse it")
    assert result.returncode == 0, result.stderr
