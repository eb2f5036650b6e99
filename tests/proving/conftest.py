"""A system with its keys, and directories for targets."""

from __future__ import annotations

from tests.repository.conftest import demo_system, make_world, world

__all__ = ["demo_system", "make_world", "world"]
