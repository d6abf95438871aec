"""What Keypost is made of: the checks of .ci/dependencies.py, and the vendored htmx."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
HTMX = ROOT / "webapp" / "static" / "vendor" / "htmx"


@pytest.fixture(scope="module")
def checks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dependencies", ROOT / ".ci" / "dependencies.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("file", "sha256"),
    [
        ("htmx.min.js", "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130"),
        ("hx-csp.min.js", "a7e1e6711ae6c3e50ad300fba7936cbe8d07599cdae313414a179ddd6b26e143"),
        ("hx-sse.min.js", "18ef2761356ec1fe0bb6d92612315b37517a7c1e9856b661c5ae81fef239d103"),
    ],
)
def test_htmx_is_what_was_taken_from_its_package(file: str, sha256: str) -> None:
    assert hashlib.sha256((HTMX / file).read_bytes()).hexdigest() == sha256


def test_axe_is_what_was_taken_from_its_package() -> None:
    axe = (ROOT / "tests" / "vendor" / "axe" / "axe.min.js").read_bytes()
    assert hashlib.sha256(axe).hexdigest() == "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"


def test_no_other_script_is_vendored() -> None:
    assert {path.name for path in HTMX.parent.rglob("*.js")} == {"htmx.min.js", "hx-csp.min.js", "hx-sse.min.js"}


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("MIT AND PSF-2.0", True),
        ("Apache Software License; MIT License", True),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only", False),
        ("MIT AND GPL-3.0-only", False),
        ("UNKNOWN", False),
    ],
)
def test_a_licence_is_allowed_when_each_of_its_parts_is(checks: ModuleType, licence: str, allowed: bool) -> None:
    assert checks.allowed(licence) is allowed


def test_a_vulnerability_fails_once_there_is_a_version_without_it(
    checks: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    fixable = {"id": "PYSEC-1", "fix_versions": ["2.0"]}
    open_ = {"id": "PYSEC-2", "fix_versions": []}
    found = list(checks._fixable({"name": "mail", "version": "1.0", "vulns": [fixable, open_]}))
    assert found == ["mail 1.0 has PYSEC-1: take 2.0."]
    assert "PYSEC-2, and no version without it exists" in capsys.readouterr().out


def test_without_an_answer_it_is_said_that_nothing_was_checked(
    checks: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert checks._audit(tmp_path / "there-is-none.lock") is None
    assert "Not checked" in capsys.readouterr().out
