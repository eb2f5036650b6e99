"""A system with a database, in memory where there is room."""

from __future__ import annotations

from tests.recovery.conftest import line, make_line, module_path, quick_directory, tmp_path
from tests.repository.conftest import demo_system, make_world, world

__all__ = ["demo_system", "line", "make_line", "make_world", "module_path", "quick_directory", "tmp_path", "world"]
