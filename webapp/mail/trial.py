"""A test of settings that may not be saved yet: prepared, run stage by stage, and remembered however it ends."""

from __future__ import annotations

