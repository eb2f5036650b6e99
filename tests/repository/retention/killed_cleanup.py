"""A cleanup in a process of its own that is killed with -9 at one of its changes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event as Gate
from pathlib import Path
from typing import Any

from lifeboat.repository import remains
from lifeboat.repository.retention.cleaning import Cleanup
from tests.conftest import Clock
from tests.forks import FORKS
from tests.repository.retention.cleaned_system import ROLES, Mortal
from tests.repository.world import SOURCE, World

_STEPS = {"os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate"}


class _Executioner:
    """Kills this process before the change with a number."""

    def __init__(self, at: int) -> None:
        self._left = at

    def change(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def at_file_system(self, root: str) -> None:
        """Count what changes something below a directory: Python names each such call before it makes it."""

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            written = event == "open" and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            # `os` is given a name and the descriptor of its directory, or a path: outside of the root nothing changes.
            if (written or event in _STEPS) and not str(arguments[0]).startswith(("/dev/", "/proc/")):
                self.change()

        if root:
            sys.addaudithook(hook)


class _Watched(Mortal):
    """A target whose changes are counted."""

    def __init__(self, inner: Any, executioner: _Executioner) -> None:
        super().__init__(inner, 0)
        self._executioner = executioner

    def __getattr__(self, name: str) -> Any:
        if name in ("put", "put_new", "delete", "dispose", "extend_lock"):
            self._executioner.change()
        return getattr(self.inner, name)


def cleanup_process(world: World, *, dies_at: int = 0, gate: Gate | None = None) -> BaseProcess:
    """A cleanup of the primary target; not yet started.

    Args:
        dies_at: the change before which it is killed: of the file system, where the target is a directory, else of the
            target. 0: it ends.
        gate: what it waits for before it begins.
    """
    root = world.roots.get("primary")
    arguments = (world.policy, dict(world.environment), world.clock(), str(root or ""), dies_at, gate)
    return FORKS.Process(target=_clean, args=arguments)


def new_gate() -> Gate:
    """What several processes can wait for."""
    return FORKS.Event()


def _clean(
    policy: Path, environment: Mapping[str, str], now: datetime, root: str, dies_at: int, gate: Gate | None
) -> None:
    world = World(policy, Clock(now), {"primary": Path(root)} if root else {}, environment)
    repository = world.repository()
    # The clock is weeks ahead of the times that the disk gives to files: what another process uploads at this moment
    # must not look two days old.
    remains.SAFELY_OLD = timedelta(days=366)
    executioner = _Executioner(dies_at)
    if root:
        repository.target("primary")
        executioner.at_file_system(root)
    else:
        repository._targets["primary"] = _Watched(repository.target("primary"), executioner)
    if gate is not None:
        gate.wait()
    Cleanup(repository, SOURCE, ROLES, "primary", f"process-{os.getpid()}", "a test").all()
