"""A process fails exactly where FAULT says, and nowhere without it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from webapp import faults

# The module by itself: the package around it would take a second to import.
PASSES_BY = f"""
import runpy
reach = runpy.run_path({faults.__file__!r})["reach"]
for step in ("claim", "mail", "mail", "record"):
    reach(step)
print("end")
"""


def run(fault: str | None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "FAULT"}
    if fault is not None:
        environment["FAULT"] = fault
    return subprocess.run(
        [sys.executable, "-c", PASSES_BY], env=environment, capture_output=True, text=True, check=False, timeout=30
    )


@pytest.mark.parametrize("fault", [None, "", "mail:3", "any:5"])
def test_a_process_that_reaches_no_fault_ends_untouched(fault: str | None) -> None:
    ended = run(fault)
    assert (ended.returncode, ended.stdout) == (0, "end\n")


@pytest.mark.parametrize(
    ("fault", "step"), [("claim:1", "claim"), ("mail:2", "mail"), ("any:1", "claim"), ("any:4", "record")]
)
def test_a_process_is_killed_at_its_step(fault: str, step: str) -> None:
    ended = run(fault)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGKILL, "", f"FAULT at {step}\n")


def test_a_fault_may_be_another_signal() -> None:
    assert run("mail:1:SIGTERM").returncode == -signal.SIGTERM


@pytest.mark.parametrize("fault", ["mail", "mail:", "mail:first", "sleep:1", ":1", "1"])
def test_a_fault_that_names_no_step_and_number_starts_nothing(fault: str) -> None:
    ended = run(fault)
    assert ended.returncode == 1
    assert "FAULT is a step and a number" in ended.stderr


def test_a_step_that_is_not_in_the_table_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no such step"):
        faults.arm("claim:1")("climb")
