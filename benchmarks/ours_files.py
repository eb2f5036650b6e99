"""Our side of the files' measurement, a process of its own: one verb, its job on standard input, its figures on output.

python -m benchmarks.ours_files full|incremental|restore < job.json
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from lifeboat.backup.steps import Point, verify
from lifeboat.connections import outside_from
from lifeboat.files.restoring import restore_files
from lifeboat.files.snapshot import take_snapshot
from lifeboat.outside import utc_now
from lifeboat.policy.files_source import FilesSource
from lifeboat.policy.loading import load_policy
from lifeboat.repository.manifest import Run
from lifeboat.repository.snapshots import snapshots_of
from lifeboat.repository.system import SystemRepository, Work

SOURCE, TARGET = "files", "primary"


def main() -> None:
    """Do one job, and print its seconds without the start of Python and its imports."""
    job = json.load(sys.stdin)
    # Imported late by Lifeboat, when bytes are about to move; here they count as imports.
    import aws_cryptographic_material_providers.mpl  # noqa: F401
    import aws_encryption_sdk  # noqa: F401

    repository = SystemRepository(load_policy(Path(job["policy"])), outside_from({}))
    journal = repository.journal(TARGET, run="bench", actor="bench")
    verb = sys.argv[1]
    begun = time.monotonic()
    if verb == "restore":
        newest = snapshots_of(repository.catalogue(TARGET), SOURCE)[-1]
        restored = restore_files(repository, newest, Path(job["into"]))
        figures = {"files": restored.files, "stored": 0}
    else:
        source = repository.policy.sources[SOURCE]
        assert isinstance(source, FilesSource)
        work = Work.new(verb, begun=utc_now(), tiers=("daily",), run=Run(command="make bench"), actor="bench")
        manifest = take_snapshot(repository, SOURCE, source, verb, work, journal).manifest
        figures = {"files": manifest.details["files"], "stored": manifest.stored_size}
    seconds = time.monotonic() - begun
    if verb != "restore":
        # What the next snapshot builds upon has to be verified; it is no part of this one.
        point = [Point(manifest.recovery_point)]
        verify(repository, SOURCE, TARGET, point, journal, deep=False, passed=lambda _: None, tick=lambda: None)
    print(json.dumps(figures | {"seconds": seconds}))


if __name__ == "__main__":
    main()
