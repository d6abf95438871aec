"""What benchmarks measured, as one table at the end of the run and as a JSON file outside the repository.

A benchmark asks for ``figures`` and adds lines to it. What it promises it says itself, by an assertion with a generous
floor: a machine that does other work too must not turn a sound change red. $KEYPOST_BENCHMARKS names the JSON file.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

_KEY: Final = "benchmark figure"
Figures = Callable[[str, str, float, str], None]


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Figures:
    """Notes one figure: what was done, by whom or how, how much, and its unit (with the aim, where there is one)."""

    def note(subject: str, who: str, amount: float, unit: str) -> None:
        record_property(_KEY, (subject, who, amount, unit))

    return note


def pytest_terminal_summary(terminalreporter: Any) -> None:
    lines = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, value in report.user_properties
        if name == _KEY
    ]
    if not lines:
        return
    path = Path(os.environ.get("KEYPOST_BENCHMARKS") or Path(tempfile.gettempdir(), "keypost-benchmarks.json"))
    machine = {"python": platform.python_version(), "system": platform.platform(), "processors": os.cpu_count()}
    path.write_text(json.dumps({"machine": machine, "figures": lines}, indent=1) + "\n", encoding="utf-8")
    terminalreporter.section(f"benchmarks ({path})")
    shown = ""
    for subject, who, amount, unit in lines:
        if subject != shown:
            terminalreporter.write_line(f"{subject}:")
            shown = subject
        terminalreporter.write_line(f"  {who:<58} {_written(amount):>10} {unit}")


def _written(amount: float) -> str:
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.1f}" if amount >= 10 else f"{amount:.3f}"
