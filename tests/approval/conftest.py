"""A system with its keys, and directories for targets."""

from __future__ import annotations

from tests.recovery.conftest import quick_directory, tmp_path
from tests.repository.conftest import demo_system, make_world, world

__all__ = ["demo_system", "make_world", "quick_directory", "tmp_path", "world"]
