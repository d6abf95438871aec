"""The units for systemd: they are whole, name what is there, and leave the service little that it does not need."""

from __future__ import annotations

import shutil
import subprocess
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
