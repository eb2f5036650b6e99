"""The restore test of an export: every row of every file is read back, and compared with what was counted and hashed
when the export was made."""

from __future__ import annotations

from collections.abc import Callable

from lifeboat.postgres.exports.verification import verify_export
from lifeboat.recovery.evidence import Check
from lifeboat.recovery.restored import CameBack, Stopwatch
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.system import SystemRepository

_RESTORE = "restore"


class ExportTest:
    """Reads an export back; nothing of it is left anywhere.

    Args:
        tick: called often; may raise to stop.
    """

    def __init__(self, repository: SystemRepository, tick: Callable[[], None]) -> None:
        self._repository = repository
        self._tick = tick
        self._watch = Stopwatch(repository.outside.clock)

    def run(self, copy: Copy, target: str, came: CameBack, *, alone: bool) -> None:
        """Read it, and write what was seen into ``came``.

        Args:
            alone: whether its source has nothing else: what is lost with everything is what came after it, then.

        Raises:
            VerificationFailed, ObjectDamaged, KeyUnavailable: it does not come back.
        """
        came.moment = copy.manifest.moment
        came.data_until = copy.manifest.moment if alone else None
        with self._watch.phase(_RESTORE, came.phases):
            found = verify_export(self._repository, target, copy, passed=lambda _: self._tick(), tick=self._tick)
        came.size = copy.manifest.plain_size
        what = (
            f"{found.rows:,} rows in {found.files:,} files of {found.tables:,} tables, counted and fingerprinted as "
            "when the export was made"
        )
        came.checks.append(Check(name="every exported row", passed=True, what=what))
