"""Being somebody else on this machine for a moment."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def shut_out_of(folder: Path) -> Iterator[None]:
    """Nobody who runs this block may enter the folder; root, whom no mode keeps out, is another user meanwhile.

    Whatever the block needs has to be imported before: another user may not read where it lies.
    """
    mode = folder.stat().st_mode
    folder.chmod(0)
    is_root = os.geteuid() == 0
    if is_root:
        os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        if is_root:
            os.setresuid(0, 0, 0)
        folder.chmod(mode)


@contextmanager
def folder_for_all() -> Iterator[Path]:
    """A folder whose name everybody on this machine can reach, unlike those that pytest makes."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
