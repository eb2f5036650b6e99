"""Lifeboat's command line on a database's own host, where a physical restore must end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lifeboat.errors import PolicyError

if TYPE_CHECKING:
    from lifeboat.repository.system import SystemRepository


def on_host(
    repository: SystemRepository,
    host: str,
    words: Sequence[str],
    *,
    tell: Callable[[str], None],
    tick: Callable[[], None],
) -> tuple[int, str]:
    """Run it there; returns its exit code and what it printed."""
    raise PolicyError(f"{host} {words} {tell} {tick} {repository.system}")
