"""``lifeboat restore`` in a process of its own that is killed with -9 in one of its phases.

Usage: ``python killed_restore.py PHASE WORD…``, with the words of the command line.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lifeboat.cli import progress, restore_logical, restore_physical
from lifeboat.cli.cancellation import Cancellation
from lifeboat.cli.program import run
from lifeboat.postgres import destination, directory_swap, logical_restore

_AT_ITS_BEGINNING = ("stage", "check", "swap")
_AT_ITS_FIRST_TICK = ("combine", "replay")
_BEHIND: dict[str, tuple[Any, str]] = {
    "tablespace placed": (destination.Place, "_link"),
    "exchanged": (directory_swap, "exchange"),
    "in place": (directory_swap, "_give_way"),
    "named": (logical_restore, "give_names"),
}
"""Steps within a phase, by what does them."""


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Run the command until the phase has come."""
    phase, *words = sys.argv[1:]
    present = ""
    phases, check = progress.phases, Cancellation.check

    @contextmanager
    def watched(*arguments: Any) -> Iterator[Callable[[str, int, int], None]]:
        with phases(*arguments) as show:

            def told(now: str, done: int, total: int) -> None:
                nonlocal present
                show(now, done, total)
                present = now
                if now == phase and (now in _AT_ITS_BEGINNING or (done and now not in _AT_ITS_FIRST_TICK)):
                    _die()

            yield told

    def ticked(self: Cancellation) -> None:
        check(self)
        if present == phase and phase in _AT_ITS_FIRST_TICK:
            _die()

    restore_physical.phases = restore_logical.phases = watched  # type: ignore[attr-defined]
    Cancellation.check = ticked  # type: ignore[method-assign]
    if phase in _BEHIND:
        owner, name = _BEHIND[phase]
        does = getattr(owner, name)

        def and_die(*arguments: Any) -> None:
            does(*arguments)
            _die()

        setattr(owner, name, and_die)
    sys.exit(run(words))


if __name__ == "__main__":
    main()
