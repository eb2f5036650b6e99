"""One recovery point comes back into a scratch place, is looked at, and goes again, whatever kind of source it is of:
what restore tests and drills do alike."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from lifeboat.errors import RestoreError
from lifeboat.outside import Outside
from lifeboat.policy.drill_steps import VERIFY
from lifeboat.policy.drills import HeartbeatPolicy
from lifeboat.policy.hooks import HookPolicy
from lifeboat.policy.naming import Tier
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.postgres.exports.records import EXPORT
from lifeboat.postgres.restore_planning import RestorePlan
from lifeboat.postgres.server_programs import run_as
from lifeboat.postgres.unpacking import Owner
from lifeboat.recovery.database_checks import AskHook, DatabaseChecks
from lifeboat.recovery.exports import ExportTest
from lifeboat.recovery.hooks import call_hook
from lifeboat.recovery.logical import LogicalTest
from lifeboat.recovery.offers import Chosen
from lifeboat.recovery.physical import PhysicalTest
from lifeboat.recovery.restored import CameBack, Stopwatch
from lifeboat.recovery.snapshots import SnapshotTest
from lifeboat.recovery.sql_checks import SqlCheck
from lifeboat.recovery.staging_server import Staging, StagingTest
from lifeboat.repository.building import building_place
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.system import SystemRepository

APPLICATION = "application"


@dataclass(frozen=True)
class Means:
    """What a recovery is done with, and what is asked of what came back.

    Attributes:
        scratch: a directory with room; ``None``: the machine's for temporary files.
        binaries: the directory with PostgreSQL's programs; ``None``: the policy's, else where they usually are.
        user: to run servers as, where we are root.
        checks: the system's own questions to its databases.
        application: by source, the policy's hook that is called while the restored copy is there.
        verify: the hook of a drill's step `verify`, called in the same way for each source.
        variables: what such commands are told besides where the copy is.
        heartbeat: where the newest row of a database tells what was lost.
        staging: the connection to the server that logical archives come back to; ``None``: a scratch server.
        run: who does it, in words: in what is made on that server.
        outside: where hooks get their connections; ``None``: where the repository gets its own.
    """

    scratch: Path | None = None
    binaries: Path | None = None
    user: str | None = None
    checks: tuple[SqlCheck, ...] = ()
    application: Mapping[str, HookPolicy] = field(default_factory=dict)
    verify: HookPolicy | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    heartbeat: HeartbeatPolicy | None = None
    staging: str | None = None
    run: str = ""
    outside: Outside | None = None

    def hooks(self, source: str) -> dict[str, HookPolicy]:
        """What is called while the restored copy of a source is there, by the names of its checks."""
        found = {APPLICATION: self.application[source]} if source in self.application else {}
        return found | ({VERIFY: self.verify} if self.verify is not None else {})


def scratch_directory(means: Means) -> Path:
    """Where it is restored to.

    Raises:
        RestoreError: it is not there.
    """
    scratch = means.scratch or Path(tempfile.gettempdir())
    if not scratch.is_dir():
        raise RestoreError(
            f"The scratch directory {scratch} is not there.",
            "Make it, or mount it; `scratch` under `tests` or `drills` in the policy, or --scratch, names another one.",
        )
    return scratch


class BringingBack:
    """Brings recovery points back, one after the other.

    Args:
        repository: where they are read.
        name: what the scratch places are called by; what was left under this name by one that was killed is removed.
        tick: called often; may raise to stop.
    """

    def __init__(self, repository: SystemRepository, means: Means, name: str, tick: Callable[[], None]) -> None:
        self._repository = repository
        self._means = means
        self._name = name
        self._tick = tick

    def bring_back(self, source: str, chosen: Chosen, came: CameBack) -> None:
        """Bring one back, and write what was seen into ``came``; nothing of it stays.

        Raises:
            RestoreError, ObjectDamaged, VerificationFailed, KeyUnavailable, PostgresError, TargetError: it does not
                come back.
        """
        with building_place(scratch_directory(self._means), self._name) as place:
            self._into(place, source, chosen, came)

    def _into(self, place: Path, source: str, chosen: Chosen, came: CameBack) -> None:
        policy = self._repository.policy.sources[source]
        watch = Stopwatch(self._repository.outside.clock)
        if not isinstance(policy, PostgresSource):
            assert isinstance(chosen.what, Copy)
            into = SnapshotTest(self._repository, place, self._tick).run(policy.kind, chosen.what, came)
            where = {"LIFEBOAT_DIRECTORY": str(into)}
            looking: dict[str, float] = {}
            with watch.phase("looking", looking):
                for name, ask in self._hooks(place, source).items():
                    came.checks.append(watch.check(name, partial(ask, where, None)))
            came.looking += looking["looking"]
            return
        if chosen.kind == EXPORT:
            assert isinstance(chosen.what, Copy)
            alone = set(policy.tiers) == {Tier.EXPORT}
            ExportTest(self._repository, self._tick).run(chosen.what, chosen.target, came, alone=alone)
            return
        if (owner := run_as(self._means.user, place.parent)) is not None:
            # The server's user must be able to enter; nobody else is.
            os.chown(place, owner.uid, owner.gid)
        checks = self._checks(place, source, watch)
        binaries, user = self._means.binaries or policy.binaries, self._means.user
        if isinstance(chosen.what, RestorePlan):
            test = PhysicalTest(self._repository, place, binaries, user, checks, watch, self._tick)
            test.run(chosen.what, chosen.target, came)
        elif self._means.staging is not None:
            staging = Staging(self._repository, source, policy, self._means.staging, self._means.run)
            StagingTest(staging, place, binaries, owner, checks, self._tick).run(chosen.what, came)
        else:
            LogicalTest(self._repository, place, binaries, user, checks, self._tick).run(chosen.what, came)

    def _checks(self, place: Path, source: str, watch: Stopwatch) -> DatabaseChecks:
        means = self._means
        own = [check for check in means.checks if check.source == source]

        heartbeat = means.heartbeat if means.heartbeat is not None and means.heartbeat.source == source else None
        return DatabaseChecks(place, own, watch, self._tick, hooks=self._hooks(place, source), heartbeat=heartbeat)

    def _hooks(self, place: Path, source: str) -> dict[str, AskHook]:
        return {name: partial(self._ask, place, source, name, hook) for name, hook in self._means.hooks(source).items()}

    def _ask(
        self, place: Path, source: str, name: str, hook: HookPolicy, where: Mapping[str, str], owner: Owner | None
    ) -> tuple[bool, str]:
        """Ask one of the policy's hooks about what is where ``where`` says."""
        variables = {
            **self._means.variables,
            "LIFEBOAT_SYSTEM": self._repository.system,
            "LIFEBOAT_SOURCE": source,
            "LIFEBOAT_SCRATCH": str(place),
            **({"LIFEBOAT_STEP": VERIFY} if name == VERIFY else {}),
            **where,
        }
        outside = self._means.outside or self._repository.outside
        return call_hook(hook, variables, outside, self._tick, place=place, owner=owner)
