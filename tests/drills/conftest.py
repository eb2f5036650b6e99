"""A system with a database in two chains, and a set of files, on two targets."""

from __future__ import annotations

from tests.drills.story import story
from tests.recovery.conftest import line, make_line, module_path, quick_directory, tmp_path
from tests.repository.conftest import demo_system, make_world, moto, own_rclone, rclone, world

__all__ = [
    "demo_system", "line", "make_line", "make_world", "module_path", "moto", "own_rclone", "quick_directory", "rclone",
    "story", "tmp_path", "world",
]  # fmt: skip
