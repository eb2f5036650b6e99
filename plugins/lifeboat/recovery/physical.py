"""The restore test of a database: recovered in a scratch server, looked at while it is open, and once it is stopped.

The server reads nothing but what was restored, listens on a socket of its own, archives nothing, subscribes to nothing
and follows nobody: see :mod:`lifeboat.postgres.recovery_server`.

Sources: https://www.postgresql.org/docs/current/app-pgverifybackup.html,
https://www.postgresql.org/docs/current/app-pgchecksums.html
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from lifeboat.postgres.destination import Request
from lifeboat.postgres.finding_programs import server_programs
from lifeboat.postgres.moments import AtTime, Latest
from lifeboat.postgres.open_server import OpenServer
from lifeboat.postgres.restore import restore
from lifeboat.postgres.restore_planning import RestorePlan
from lifeboat.postgres.server_programs import run_as, run_program
from lifeboat.postgres.unpacking import Owner
from lifeboat.recovery.database_checks import DatabaseChecks, last_words
from lifeboat.recovery.evidence import Check
from lifeboat.recovery.restored import CameBack, Stopwatch
from lifeboat.repository.system import SystemRepository

_EXAMINE = "examine"
_VERIFIER = "pg_verifybackup"


def proven_until(plan: RestorePlan) -> datetime | None:
    """The moment up to which a plan brings back whatever was committed; ``None`` where only its commits can tell."""
    if isinstance(plan.moment, Latest):
        return plan.reach.latest
    return plan.moment.time if isinstance(plan.moment, AtTime) else None


class PhysicalTest:
    """Brings a database back, and looks at it.

    Args:
        place: an empty directory of its own; whoever made it removes it.
        binaries: the directory with PostgreSQL's programs, where the policy's is not meant.
        checks: what is looked at while the recovered server is open.
        tick: called often; may raise to stop.
    """

    def __init__(
        self,
        repository: SystemRepository,
        place: Path,
        binaries: Path | None,
        user: str | None,
        checks: DatabaseChecks,
        watch: Stopwatch,
        tick: Callable[[], None],
    ) -> None:
        self._repository = repository
        self._place = place
        self._binaries = binaries
        self._user = user
        self._checks = checks
        self._tick = tick
        self._watch = watch

    def run(self, plan: RestorePlan, target: str, came: CameBack) -> None:
        """Carry out a plan, and write what was seen into ``came``.

        Raises:
            RestoreError, ObjectDamaged, VerificationFailed, KeyUnavailable: it does not come back.
        """
        server = plan.base.details.server
        programs = server_programs(self._binaries, None, server.major)
        request = Request(target, self._place / "data", programs, user=self._user)

        def look(opened: OpenServer) -> None:
            came.checks += self._checks.look(opened)

        def compare(data: Path) -> None:
            if (programs / _VERIFIER).is_file():
                owner = run_as(self._user, request.into.parent)
                came.checks.append(self._watch.check(_VERIFIER, lambda: self._verified(programs, data, owner)))

        restored = restore(self._repository, plan, request, tick=self._tick, compare=compare, examine=look)
        came.phases = {phase: seconds for phase, seconds in restored.phases.items() if phase != _EXAMINE}
        came.looking = restored.phases.get(_EXAMINE, 0.0)
        came.size = plan.plain_bytes
        came.last_commit, came.beat = restored.recovered.last_commit, self._checks.beat
        if (proven := proven_until(plan)) is not None:
            # That is more than the last commit: an idle database loses nothing.
            came.moment = came.data_until = proven
        else:
            came.moment = plan.base.details.stopped
            came.data_until = came.last_commit or came.moment
        came.checks.insert(
            0,
            Check(
                name="every file and WAL record",
                passed=True,
                what=f"compared with the server's own manifest; on timeline {restored.recovered.timeline} now, "
                f"{len(restored.databases)} databases answered",
            ),
        )
        if server.data_checksums:
            owner = run_as(self._user, request.into.parent)
            came.checks.append(
                self._watch.check("data checksums", lambda: self._checksums(programs, request.into, owner))
            )

    def _verified(self, programs: Path, data: Path, owner: Owner | None) -> tuple[bool, str]:
        """PostgreSQL's own comparison with its manifest, by another program's eyes than ours. WAL is left out: a
        standby's last segment goes on behind the backup, and recovery reads every record."""
        log = self._place / f"{_VERIFIER}.log"
        arguments = [str(programs / _VERIFIER), "--quiet", "--no-parse-wal", str(data)]
        code = run_program(arguments, log, owner, self._tick)
        return code == 0, "PostgreSQL finds every file as its manifest has it" if code == 0 else last_words(log, code)

    def _checksums(self, programs: Path, data: Path, owner: Owner | None) -> tuple[bool, str]:
        log = self._place / "pg_checksums.log"
        code = run_program([str(programs / "pg_checksums"), "--check", "-D", str(data)], log, owner, self._tick)
        return code == 0, "every page has the right one" if code == 0 else last_words(log, code)
