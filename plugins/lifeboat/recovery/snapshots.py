"""The restore test of files, configurations and code: a snapshot comes back into a scratch directory, each byte
compared with its digest on the way, and what came back is counted against what the snapshot says of itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lifeboat.recovery.evidence import Check
from lifeboat.recovery.restored import CameBack, Stopwatch
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.system import SystemRepository

MOST_NAMED = 5
_RESTORE = "restore"


class SnapshotTest:
    """Brings a snapshot back, and looks at it.

    Args:
        place: an empty directory of its own; whoever made it removes it.
        tick: called often; may raise to stop.
    """

    def __init__(self, repository: SystemRepository, place: Path, tick: Callable[[], None]) -> None:
        self._repository = repository
        self._into = place / "restored"
        self._tick = tick
        self._watch = Stopwatch(repository.outside.clock)

    def run(self, kind: str, copy: Copy, came: CameBack) -> Path:
        """Restore it, and write what was seen into ``came``; returns the directory that it is in.

        Args:
            kind: of the source, as in a policy.

        Raises:
            ObjectDamaged, RestoreError, KeyUnavailable, NotEnoughDisk: it does not come back.
        """
        came.moment = came.data_until = copy.manifest.moment
        verbs = {"files": self._files, "configuration": self._configuration, "code": self._code}
        verbs[kind](copy, came)
        came.checks += [Check(name="what the backup itself says", passed=True, what=one) for one in _findings(copy)]
        return self._into

    def _files(self, copy: Copy, came: CameBack) -> None:
        from lifeboat.files.details import snapshot_details
        from lifeboat.files.restoring import restore_files

        with self._watch.phase(_RESTORE, came.phases):
            restored = restore_files(self._repository, copy, self._into, tick=self._tick)
        details = snapshot_details(copy.manifest)
        came.size = restored.size
        lacking = len(restored.missing)
        came.checks.append(_counted("files", restored.files + lacking, details.files, "each compared with its digest"))
        # The set's own directory is one of those that the snapshot counts.
        folders = restored.folders + 1
        came.checks.append(_counted("folders", folders, details.folders, "with their rights and times"))
        if lacking:
            came.checks.append(
                Check(
                    name="what could not be read when the snapshot was taken",
                    passed=False,
                    what=f"{lacking:,} files are not in it: {_named(restored.missing)}",
                )
            )
        came.checks += _not_given_back(restored.remarks)

    def _configuration(self, copy: Copy, came: CameBack) -> None:
        from lifeboat.configuration.details import configuration_details
        from lifeboat.configuration.restoring import restore_items

        with self._watch.phase(_RESTORE, came.phases):
            restored = restore_items(self._repository, copy, self._into, tick=self._tick)
        details = configuration_details(copy.manifest)
        came.size = restored.size
        came.checks.append(_counted("items", restored.items, details.count, "each proven by its fingerprint"))
        came.checks += _not_given_back(restored.remarks)

    def _code(self, copy: Copy, came: CameBack) -> None:
        from lifeboat.code.details import code_details
        from lifeboat.code.restoring import restore_repositories, wanted_repositories

        expected = wanted_repositories(code_details(copy.manifest), ())
        with self._watch.phase(_RESTORE, came.phases):
            restored = restore_repositories(self._repository, copy, self._into, tick=self._tick)
        came.size = sum(path.lstat().st_size for path in self._into.rglob("*") if path.is_file())
        came.checks.append(_counted("repositories", len(restored), len(expected), "each looked through by git fsck"))
        refs = sum(one.refs for one in expected)
        came.checks.append(_counted("refs", sum(one.refs for one in restored), refs, "compared one by one"))
        for one in restored:
            if one.as_of:
                what = f"it could not be read then, and is as {one.as_of} had it"
                came.checks.append(Check(name=f"{one.name} is of that moment", passed=False, what=what))


def _counted(what: str, found: int, expected: int, how: str) -> Check:
    if found == expected:
        return Check(name=what, passed=True, what=f"{found:,}, {how}")
    return Check(name=what, passed=False, what=f"{found:,} came back, and the recovery point says {expected:,}")


def _not_given_back(remarks: dict[str, int]) -> list[Check]:
    """What the scratch directory could not take (an owner, where the worker is no root) is told, and no fault of the
    backup."""
    return [Check(name="not given back here", passed=True, what=f"{count:,} times: {what}") for what, count in
            sorted(remarks.items())]  # fmt: skip


def _findings(copy: Copy) -> list[str]:
    found = list(copy.manifest.findings)
    more = [f"and {len(found) - MOST_NAMED} more findings"] if len(found) > MOST_NAMED else []
    return found[:MOST_NAMED] + more


def _named(paths: list[str]) -> str:
    shown = ", ".join(path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for path in
                      paths[:MOST_NAMED])  # fmt: skip
    return shown + (f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else "")
