"""Repositories come back: bare, beside each other in a directory, with every ref that they had."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from lifeboat.code.details import CodeDetails, RepositoryDetails, code_details
from lifeboat.code.earlier import refs_of
from lifeboat.code.git_program import git_in
from lifeboat.code.scratch import scratch_directory
from lifeboat.code.unpacking import bundle_home, unpack
from lifeboat.errors import RestoreError
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.empty_place import placed
from lifeboat.repository.system import SystemRepository

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class RestoredRepository:
    """One that came back.

    Attributes:
        path: where it is.
        refs: how many it has.
        head: what HEAD names.
        flaws: what ``git fsck`` holds against objects that are as they were at the origin.
        as_of: the recovery point that read it last, where the one that was restored could not; empty elsewhere.
    """

    name: str
    path: Path
    refs: int
    head: str
    flaws: tuple[str, ...]
    as_of: str = ""


def wanted_repositories(details: CodeDetails, only: Sequence[str]) -> list[RepositoryDetails]:
    """The repositories that were asked for.

    Args:
        only: names, ``*`` and ``?`` for anything; empty: all that the recovery point has.

    Raises:
        RestoreError: a name fits none.
    """
    there = [one for one in details.repositories if one.bundle or not one.unread]  # an empty one has no bundle
    for pattern in only:
        if not any(fnmatchcase(one.name, pattern) for one in there):
            raise RestoreError(
                f"There is no repository {pattern} in it.", f"It has: {', '.join(one.name for one in there) or 'none'}."
            )
    return [one for one in there if not only or any(fnmatchcase(one.name, pattern) for pattern in only)]


def restore_repositories(
    repository: SystemRepository,
    copy: Copy,
    into: Path,
    *,
    only: Sequence[str] = (),
    progress: Progress = lambda _done, _total: None,
    tick: Callable[[], None] = lambda: None,
) -> list[RestoredRepository]:
    """Bring repositories back into a directory that is empty or not there, each as ``<name>.git``.

    Args:
        copy: the recovery point on the target that is read; what it refers to is read there, too.
        only: as :func:`wanted_repositories` has it.
        progress: told the stored bytes that have arrived, and those to come.
        tick: called often; may raise to cancel.

    Raises:
        DestinationInUse: something is there; nothing was touched.
        ObjectDamaged: bytes are not what was backed up; the destination is as it was.
        NotEnoughDisk: there is no room.
    """
    chosen = wanted_repositories(code_details(copy.manifest), only)
    with placed(into, "repositories") as building:
        return _restore(repository, copy, chosen, building, into, progress, tick)


def _restore(
    repository: SystemRepository,
    copy: Copy,
    chosen: Sequence[RepositoryDetails],
    building: Path,
    into: Path,
    progress: Progress,
    tick: Callable[[], None],
) -> list[RestoredRepository]:
    indexed = refs_of(repository, copy)
    known: dict[str, Copy] = {}
    homes = {one.name: bundle_home(repository, copy, one.recovery_point, known) for one in chosen if one.bundle}
    total = sum(homes[one.name].manifest.stream(one.bundle).stored_size for one in chosen if one.bundle)
    done = 0

    def passed(size: int) -> None:
        nonlocal done
        done += size
        progress(done, total)

    restored = []
    with scratch_directory(building) as scratch:
        git = git_in(scratch)
        for one in chosen:
            refs = indexed[one.name]
            place = building / f"{one.name}.git"
            home = homes.get(one.name, copy)
            flaws = unpack(repository, git, home, one.bundle, refs, place, passed=passed, tick=tick)
            as_of = one.recovery_point if one.unread else ""
            head = refs.head or refs.head_id
            path = into / place.name
            restored.append(RestoredRepository(one.name, path, len(refs.refs), head, tuple(flaws), as_of))
    return restored
