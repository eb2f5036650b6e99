"""A snapshot or a restore in a process of its own that is killed with -9 in its middle."""

from __future__ import annotations

import os
import signal
from datetime import datetime
from multiprocessing.process import BaseProcess
from pathlib import Path

from lifeboat.files import merging
from lifeboat.files.restoring import restore_files
from lifeboat.policy.naming import Tier
from lifeboat.repository.manifest import Run
from lifeboat.repository.system import Work
from tests.conftest import Clock
from tests.files.conftest import FILES, FileSet
from tests.forks import FORKS
from tests.repository.retention.cleaned_system import Mortal
from tests.repository.world import World


class _Killed(Mortal):
    """A target whose process is killed before its change with a number."""

    def __getattr__(self, name: str) -> object:
        found = getattr(self.inner, name)
        if name not in ("put", "put_new", "delete"):
            return found

        def change(*arguments: object, **named: object) -> object:
            self.changes += 1
            if self.changes == self.dies_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return found(*arguments, **named)

        return change


def snapshot_process(files: FileSet, mark: str, dies_at: int) -> BaseProcess:
    """A full whose id ends in ``mark``, killed before the target's change of that number."""
    return FORKS.Process(target=_snapshot, args=(files.world.policy, files.world.clock(), mark, dies_at))


def restore_process(files: FileSet, recovery_point: str, into: Path, dies_after: int) -> BaseProcess:
    """A restore that is killed when so many bytes are written."""
    return FORKS.Process(
        target=_restore, args=(files.world.policy, files.world.clock(), recovery_point, into, dies_after)
    )


def _snapshot(policy: Path, now: datetime, mark: str, dies_at: int) -> None:
    files = FileSet(World(policy, Clock(now), {}), Path(), Path())
    repository = files.world.repository()
    repository._targets["primary"] = _Killed(repository.target("primary"), dies_at)  # type: ignore[assignment]
    work = Work.new(
        "full", begun=now, tiers=("daily",), run=Run(command="a test"), actor="a test", mark=mark, attempt=dies_at
    )
    files.take(Tier.DAILY, repository, work)


def _restore(policy: Path, now: datetime, recovery_point: str, into: Path, dies_after: int) -> None:
    repository = World(policy, Clock(now), {}).repository()
    copy = repository.catalogue("primary").find(FILES, recovery_point)

    def progress(done: int, _total: int) -> None:
        if done > dies_after:
            os.kill(os.getpid(), signal.SIGKILL)

    restore_files(repository, copy, into, progress=progress)


def merging_process(files: FileSet, recovery_point: str, into: Path, dies_at: int) -> BaseProcess:
    """A restore into a directory in use that is killed before its rename of that number."""
    return FORKS.Process(target=_merge, args=(files.world.policy, files.world.clock(), recovery_point, into, dies_at))


def _merge(policy: Path, now: datetime, recovery_point: str, into: Path, dies_at: int) -> None:
    repository = World(policy, Clock(now), {}).repository()
    copy = repository.catalogue("primary").find(FILES, recovery_point)
    renamed, rename = 0, merging._rename

    def dying(path: Path, place: Path) -> None:
        nonlocal renamed
        renamed += 1
        if renamed == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(path, place)

    merging._rename = dying
    restore_files(repository, copy, into, replace_files=True)
