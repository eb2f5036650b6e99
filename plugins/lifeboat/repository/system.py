"""One system's repository: its policy brought together with the targets, keys and journal that the policy names."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from lifeboat import __version__
from lifeboat.errors import PolicyError, RepositoryError
from lifeboat.outside import Outside
from lifeboat.policy.model import LoadedPolicy
from lifeboat.policy.slots import Slot
from lifeboat.repository.catalogue import Catalogue, Copy
from lifeboat.repository.commit import keep_policy
from lifeboat.repository.journal import Journal
from lifeboat.repository.layout import RecoveryPointFolder, RecoveryPointId, attempt_name, policy_key
from lifeboat.repository.manifest import Run
from lifeboat.repository.sharing import Share
from lifeboat.repository.signing import Signer, TrustedKeys, signer_of
from lifeboat.streams.keys import Keyring, opening_keyring, sealing_keyring
from lifeboat.streams.reading import Origin
from lifeboat.streams.settings import StreamSettings
from lifeboat.streams.writing import Destination
from lifeboat.targets.opening import open_target
from lifeboat.targets.target import Target

PRIMARY = "primary"
CLOCK_TOLERANCE = timedelta(minutes=5)
"""How far a worker's clock may be behind the clock that named the newest recovery point."""


@dataclass(frozen=True)
class Work:
    """What one attempt at one recovery point is called, and who makes it.

    Attributes:
        recovery_point: its id.
        attempt: this attempt's folder.
        tiers: the tiers it is made for.
        run: the DAG run or the command.
        actor: the same in words, for the journal.
        note: what the person who started it wrote.
        only: the parts of the source that were asked for, in the source's own words; empty: all of it.
        due: the day on which a schedule wanted it, on the clock of the policy's zone; ``None`` when a person did.
        share: the part of the source that it takes; ``None``: all of it.
        shares: the recovery points that took all parts of it before, to be brought together.
        past: the place in the past that it is made for, of what was kept; ``None``: the source is read as it is now.
    """

    recovery_point: RecoveryPointId
    attempt: str
    tiers: tuple[str, ...]
    run: Run
    actor: str
    note: str = ""
    only: tuple[str, ...] = ()
    due: date | None = None
    share: Share | None = None
    shares: tuple[str, ...] = ()
    past: Slot | None = None

    @classmethod
    def new(
        cls,
        kind: str,
        *,
        begun: datetime,
        tiers: tuple[str, ...],
        run: Run,
        actor: str,
        mark: str | None = None,
        attempt: int = 1,
        note: str = "",
        only: tuple[str, ...] = (),
        due: date | None = None,
        past: Slot | None = None,
    ) -> Work:
        """Name a new attempt.

        Args:
            begun: the moment that the id carries; that of ``past``, where one is given.
            mark: the four hexadecimal digits at the id's end, where a retry has to find the same id again.
            attempt: the number of the try.
        """
        point = RecoveryPointId(begun if past is None else past.moment, kind, mark or secrets.token_hex(2))
        attempted = attempt_name(attempt, secrets.token_hex(4))
        return cls(point, attempted, tiers, run, actor, note, only, due, past=past)

    def after(self, newest: str | None) -> Work:
        """The same work under an id that sorts behind the newest recovery point of its kind.

        Two runs within one second get ids a second apart, and a clock that is a little behind does no harm.

        Raises:
            RepositoryError: the clock is so far behind the newest recovery point that one of both must be wrong.
        """
        if newest is None or (before := RecoveryPointId.parse(newest).begun) < self.recovery_point.begun.replace(
            microsecond=0
        ):
            return self
        if before > self.recovery_point.begun + CLOCK_TOLERANCE:
            raise RepositoryError(
                f"The newest recovery point, {newest}, is of a later time than this worker's clock says it is.",
                "Set the clock right (is NTP running?). If it is right, the recovery point was made with a wrong one: "
                "wait until that time has passed, or set that recovery point aside.",
            )
        return replace(self, recovery_point=replace(self.recovery_point, begun=before + timedelta(seconds=1)))


class SystemRepository:
    """Everything that a policy names, opened when it is first needed.

    Args:
        loaded: the policy.
        outside: connections, clients and the clock.
        break_glass: files with RSA private keys, for reading only.
        removing: open targets by the connections that may delete, where the policy names such.
    """

    def __init__(
        self, loaded: LoadedPolicy, outside: Outside, *, break_glass: Sequence[Path] = (), removing: bool = False
    ) -> None:
        self.loaded = loaded
        self.policy = loaded.policy
        self.outside = outside
        self._break_glass = break_glass
        self._removing = removing
        self._targets: dict[str, Target] = {}

    @property
    def system(self) -> str:
        """The system's name."""
        return self.policy.system

    def target(self, name: str) -> Target:
        """A target by its name in the policy.

        Raises:
            PolicyError: the policy has none of that name.
        """
        if name not in self.policy.targets:
            raise PolicyError(
                f"The policy of {self.system} has no target {name!r}.",
                f"It has: {', '.join(self.policy.targets)}.",
            )
        if name not in self._targets:
            policy = self.policy.targets[name]
            if self._removing and policy.retention_connection is not None:
                policy = policy.model_copy(update={"connection": policy.retention_connection})
            self._targets[name] = open_target(name, policy, self.outside)
        return self._targets[name]

    def catalogue(self, target: str) -> Catalogue:
        """What a target holds of this system."""
        return Catalogue(self.target(target), self.system, self.trusted)

    @cached_property
    def trusted(self) -> TrustedKeys:
        """The public keys whose signatures count."""
        return TrustedKeys(self.policy.signing.trusted)

    @cached_property
    def signer(self) -> Signer:
        """Signs manifests and events; raises ``KeyUnavailable``."""
        return signer_of(self.policy.signing, self.outside)

    @cached_property
    def sealing(self) -> Keyring:
        """Seals objects with every key of the policy; raises ``KeyUnavailable``."""
        return sealing_keyring(self.policy.encryption, self.outside)

    @cached_property
    def opening(self) -> Keyring:
        """Opens objects with any key at hand; raises ``KeyUnavailable``."""
        return opening_keyring(self.policy.encryption, self.outside, self._break_glass)

    @property
    def streams(self) -> StreamSettings:
        """The pipeline's figures."""
        streams = self.policy.streams
        return StreamSettings(streams.compression_level, streams.compression_threads, streams.volume_size)

    @property
    def wal_streams(self) -> StreamSettings:
        """The pipeline's figures for WAL."""
        return replace(self.streams, level=self.policy.streams.wal_compression_level)

    def journal(self, *targets: str, run: str, actor: str) -> Journal:
        """A journal for one run, on these targets; the first must take every event."""
        return Journal(
            [self.target(name) for name in targets],
            self.system,
            signer=self.signer,
            run=f"{run}-{secrets.token_hex(4)}",
            actor=actor,
            clock=self.outside.clock,
        )

    def destination(
        self,
        target: Target,
        source: str,
        work: Work,
        *,
        timeline: int | None = None,
        retain_until: datetime | None = None,
    ) -> Destination:
        """Where the streams of an attempt go."""
        point = str(work.recovery_point)
        folder = RecoveryPointFolder(self.system, source, point, timeline)
        return Destination(target, folder.attempt(work.attempt), self.system, source, point, self.sealing, retain_until)

    def origin(self, copy: Copy) -> Origin:
        """Where a copy's streams are read from."""
        manifest = copy.manifest
        folder = manifest.folder.attempt(manifest.attempt)
        target = self.target(copy.target)
        return Origin(target, folder, manifest.system, manifest.source, manifest.recovery_point, self.opening)

    def keep_policy(self, target: Target) -> None:
        """Keep the policy's text on a target, beside what was made by it."""
        keep_policy(target, policy_key(self.system, self.loaded.digest), self.loaded.text.encode())


def tool_versions() -> dict[str, str]:
    """The versions of everything of ours that has a hand in the bytes."""
    ours = {"lifeboat": __version__}
    return ours | {name: version(name) for name in ("aws-encryption-sdk", "psycopg", "zstandard", "cryptography")}
