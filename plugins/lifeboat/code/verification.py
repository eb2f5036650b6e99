"""Opening a recovery point of repositories: each bundle becomes a repository once, and is compared with the index."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

from lifeboat.code.details import code_details
from lifeboat.code.earlier import refs_of
from lifeboat.code.git_program import git_in
from lifeboat.code.scratch import scratch_directory
from lifeboat.code.unpacking import bundle_home, unpack
from lifeboat.errors import VerificationFailed
from lifeboat.policy.code_source import CodeSource
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.system import SystemRepository
from lifeboat.repository.verification import Verified


def verify_repositories(
    repository: SystemRepository,
    source: CodeSource,
    target: str,
    copy: Copy,
    *,
    passed: Callable[[int], None],
    tick: Callable[[], None],
) -> tuple[Verified, dict[str, Any]]:
    """Read the index and every bundle that it refers to, the recovery point's own and those of earlier ones; make each
    a repository, check every object, and compare every ref.

    Raises:
        VerificationFailed: the index and the manifest do not fit each other.
        ObjectDamaged: an object is not what was written.
    """
    manifest, details = copy.manifest, code_details(copy.manifest)
    indexed = refs_of(repository, copy, passed)
    counted = {name: len(refs.refs) for name, refs in indexed.items()}
    # What could never be read is named in the manifest, and is not in the index.
    wanted = {one.name: one.refs for one in details.repositories if one.bundle or not one.unread or one.name in counted}
    if wanted != counted:
        raise VerificationFailed(
            f"The index of {manifest.recovery_point} on {target} has other repositories or refs than its manifest.",
            "Do not restore from it; use another recovery point.",
        )
    known: dict[str, Copy] = {}
    flaws = refs = size = 0
    with scratch_directory(source.scratch) as scratch:
        git = git_in(scratch)
        for one in details.repositories:
            if one.name not in indexed:
                continue
            home = bundle_home(repository, copy, one.recovery_point, known) if one.bundle else copy
            place = scratch.path / f"{one.name}.git"
            flaws += len(unpack(repository, git, home, one.bundle, indexed[one.name], place, passed=passed, tick=tick))
            shutil.rmtree(place, ignore_errors=True)
            refs += one.refs
            size += one.size
    objects = sum(len(stream.volumes) for stream in manifest.streams)
    figures = {"repositories": len(indexed), "refs": refs, "flaws": flaws}
    return Verified("deep", objects, manifest.stored_size, size), figures
