"""What Keypost is made of: known vulnerabilities, and licences. Ends with 1 when something has to be done.

Without a network, or where the index knows nothing of vulnerabilities, that is said and is no failure: a change is not
worse for it. A vulnerability fails once a version without it exists, whatever its severity.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
BIN: Final = Path(sys.executable).parent
SECONDS: Final = 120.0
LOCKS: Final = ("run.lock", "test.lock")
LICENCES: Final = (
    "0BSD",
    "Apache",
    "BSD",
    "ISC",
    "LGPL-3.0",  # psycopg: imported as it is, never changed.
    "MIT",
    "MPL",
    "Mozilla Public License 2.0",
    "PSF-2.0",
    "Python Software Foundation License",
    "The Unlicense",
    "Zope Public License",
)
"""Beginnings of the licences that may be installed beside an MIT program, as packages and classifiers write them."""


def main() -> int:
    """Check everything, and say what was found."""
    findings = [*vulnerable(), *under_other_licences()]
    for each in findings:
        print(f"To do: {each}")
    return 1 if findings else 0


def vulnerable() -> Iterator[str]:
    """Packages with a known vulnerability that a newer version does not have."""
    for lock in LOCKS:
        report = _audit(ROOT / "requirements" / lock)
        if report is None:
            continue
        asked = [each for each in report if "skip_reason" not in each]
        unknown = len(report) - len(asked)
        print(f"{lock}: {len(asked)} packages looked up for known vulnerabilities, {unknown} not known to the index.")
        for package in asked:
            yield from _fixable(package)


def under_other_licences() -> Iterator[str]:
    """Packages of this environment whose licence is not on the list."""
    command = [BIN / "pip-licenses", "--format=json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True, cwd=ROOT)
    packages = json.loads(done.stdout)
    for package in packages:
        if not allowed(package["License"]):
            yield f"{package['Name']} is under “{package['License']}”, which .ci/dependencies.py does not list."
    print(f"{len(packages)} packages were looked at for their licences.")


def allowed(licence: str) -> bool:
    """Whether each part of a licence, or one part where one may choose, is on the list."""
    if " OR " in licence:
        return any(allowed(part) for part in licence.split(" OR "))
    parts = licence.replace(" AND ", ";").split(";")
    return all(part.strip(" ()").startswith(LICENCES) for part in parts)


def _audit(lock: Path) -> list[dict[str, Any]] | None:
    """What pip-audit reports of each package; None when it could not look."""
    command = [BIN / "pip-audit", "-r", lock, "--disable-pip", "--require-hashes", "-f", "json"]
    command += ["--progress-spinner", "off"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        report: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        print(f"{lock.name}: no answer about known vulnerabilities within {SECONDS:.0f} seconds. Not checked.")
        return None
    except (ValueError, KeyError):
        last = done.stderr.strip().splitlines()[-1:] or ["no answer"]
        print(f"{lock.name}: known vulnerabilities could not be looked up. Not checked. ({last[0][:200]})")
        return None
    return report


def _fixable(package: dict[str, Any]) -> Iterator[str]:
    for each in package["vulns"]:
        if each["fix_versions"]:
            yield f"{package['name']} {package['version']} has {each['id']}: take {' or '.join(each['fix_versions'])}."
        else:
            print(f"{package['name']} {package['version']} has {each['id']}, and no version without it exists.")


if __name__ == "__main__":
    sys.exit(main())
