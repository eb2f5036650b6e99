"""The verbs of a set of files, as every kind of source has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from lifeboat.errors import PolicyError
from lifeboat.files.details import SnapshotDetails, snapshot_details
from lifeboat.files.preflight import preflight_files
from lifeboat.files.snapshot import take_snapshot
from lifeboat.files.verification import verify_snapshot
from lifeboat.policy.files_source import FilesSource
from lifeboat.policy.naming import Tier
from lifeboat.policy.sources import SourcePolicy
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.journal import Journal
from lifeboat.repository.layout import RecoveryPointFolder
from lifeboat.repository.retention.points import Role
from lifeboat.repository.sharing import share_kinds
from lifeboat.repository.snapshots import FULL, INCREMENTAL
from lifeboat.repository.system import PRIMARY, SystemRepository, Work
from lifeboat.repository.verification import Verified
from lifeboat.source import BackedUp, Progress, Stay, Tick
from lifeboat.targets.target import Finding


class FilesKind:
    """Snapshots that read everything, and snapshots that read what looks new; each may be taken in shares."""

    def point_kind(self, tier: Tier, source: SourcePolicy) -> str:
        """``incremental`` for the tier of that name; ``full`` for every other."""
        return INCREMENTAL if tier is Tier.INCREMENTAL else FULL

    def point_kinds(self, tier: Tier, source: SourcePolicy) -> tuple[str, ...]:
        """That kind alone."""
        return (self.point_kind(tier, source),)

    def roles(self) -> Mapping[str, Role]:
        """Each snapshot is whole, with the packs that it refers to."""
        shares = (*share_kinds(FULL), *share_kinds(INCREMENTAL))
        return dict.fromkeys((FULL, INCREMENTAL, *shares), Role.ALONE)

    def preflight(self, repository: SystemRepository, source_name: str, tier: Tier, *, tick: Tick) -> list[Finding]:
        """The place where they are."""
        return preflight_files(source_name, _source(repository, source_name), repository.policy, repository.outside)

    def back_up(
        self,
        repository: SystemRepository,
        source_name: str,
        tier: Tier,
        work: Work,
        journal: Journal,
        *,
        progress: Progress,
        tick: Tick,
        retain_until: datetime | None,
        stay: Stay | None = None,
    ) -> BackedUp:
        """A snapshot."""
        source = _source(repository, source_name)
        if work.only:
            raise PolicyError(
                "A snapshot takes the whole set of files, and a part of it was asked for.",
                "What belongs to the set is said by `include` and `exclude` in its policy.",
            )
        kind = self.point_kind(tier, source)
        copy = take_snapshot(
            repository,
            source_name,
            source,
            kind,
            work,
            journal,
            progress=progress,
            tick=tick,
            retain_until=retain_until,
        )
        details = snapshot_details(copy.manifest)
        new = f"{details.new_files:,} new ({details.new_size / 1e6:,.1f} MB)"
        taken = repository.catalogue(PRIMARY)
        shares = tuple(taken.read(RecoveryPointFolder(repository.system, source_name, one)) for one in work.shares)
        return BackedUp(
            (*shares, copy),
            f"{details.files:,} files, {details.size / 1e6:,.1f} MB; {new}, {copy.manifest.stored_size / 1e6:,.1f} MB "
            "stored",
            _alarm(details),
        )

    def verify_deep(
        self, repository: SystemRepository, target: str, copy: Copy, *, passed: Callable[[int], None], tick: Tick
    ) -> tuple[Verified, dict[str, Any]]:
        """Every file's bytes against its digest in the index."""
        return verify_snapshot(repository, target, copy, passed=passed, tick=tick)


def _alarm(details: SnapshotDetails) -> str:
    said = []
    if details.partial:
        more = " …" if details.unread_count > 3 else ""
        said.append(
            f"{details.unread_count} paths could not be read, and are not in the snapshot: "
            f"{'; '.join(details.unread[:3])}{more}. See that they can be read, or exclude them in the policy."
        )
    if details.shrunk:
        said.append(
            f"The set has {details.files:,} files, and had {details.files_before:,} in {details.compared_with}: is "
            "all of it mounted, and was so much meant to be deleted? The snapshot is kept, and so are those before it."
        )
    return " ".join(said)


def _source(repository: SystemRepository, name: str) -> FilesSource:
    source = repository.policy.sources.get(name)
    if not isinstance(source, FilesSource):
        raise PolicyError(f"{repository.system} has no set of files {name!r}.", "See `lifeboat policy show`.")
    return source
