"""Back up, verify, copy, publish: one function for each task of a backup DAG."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from lifeboat.backup.kinds import kind_of
from lifeboat.errors import (
    Cancelled,
    LifeboatError,
    RebuildSkipped,
    RecoveryPointMissing,
    TargetUnavailable,
    VerificationFailed,
)
from lifeboat.policy.built import built_targets
from lifeboat.policy.naming import Tier
from lifeboat.policy.sources import SourcePolicy
from lifeboat.policy.together import carried, longest_kept
from lifeboat.repository.bundling import bundle_by_the_way
from lifeboat.repository.catalogue import Catalogue, Copy
from lifeboat.repository.copying import copy as copy_point
from lifeboat.repository.journal import EventKind, Journal
from lifeboat.repository.journal_carrying import carry_events
from lifeboat.repository.layout import RecoveryPointFolder, RecoveryPointId
from lifeboat.repository.manifest import Manifest
from lifeboat.repository.system import PRIMARY, SystemRepository, Work
from lifeboat.repository.verification import Verified, verify_stored
from lifeboat.source import BackedUp, Progress, Stay, Tick

_log = logging.getLogger(__name__)
Passed = Callable[[int], None]


@dataclass(frozen=True)
class Point:
    """A recovery point by its name, as one task tells the next."""

    id: str
    timeline: int | None = None

    @classmethod
    def of(cls, copy: Copy) -> Point:
        """The name of a copy's recovery point."""
        return cls(copy.manifest.recovery_point, copy.manifest.timeline)

    def folder(self, system: str, source: str) -> RecoveryPointFolder:
        """Its place."""
        return RecoveryPointFolder(system, source, self.id, self.timeline)


def back_up(
    repository: SystemRepository,
    source_name: str,
    tier: Tier,
    work: Work,
    journal: Journal,
    *,
    progress: Progress,
    tick: Tick,
    stay: Stay | None = None,
) -> BackedUp:
    """Make and commit recovery points on the primary target; a failure is journaled and raised.

    Args:
        stay: follow the source for so long, committing again and again; what is committed stays, however it ends.

    Raises:
        RebuildSkipped: nothing is to be made for the past moment that was asked for.
        LifeboatError: nothing was committed.
    """
    source = repository.policy.sources[source_name]
    kind = kind_of(source.kind)
    tiers = tiers_of(source, tier, work)
    since = repository.outside.clock() if work.past is None else work.past.moment
    longest = longest_kept(source.tiers, tiers, since, repository.policy.zone)
    try:
        done = kind.back_up(
            repository,
            source_name,
            tier,
            replace(work, tiers=tuple(map(str, tiers))),
            journal,
            progress=progress,
            tick=tick,
            retain_until=lock_until(repository, source_name, longest, PRIMARY, since),
            stay=stay,
        )
    except RebuildSkipped as skipped:
        journal_skipped(journal, source_name, tier, skipped)
        raise
    except BaseException as failure:
        _journal_failure(journal, source_name, work, failure)
        raise
    return _tell_of_degraded(done, source_name, journal)


def journal_skipped(journal: Journal, source_name: str, tier: Tier, skipped: RebuildSkipped) -> None:
    """Write down that nothing was made for a past moment, and why."""
    journal.write("backup_skipped", source=source_name, target=PRIMARY, tiers=[tier.value], what=str(skipped)[:2000])


def _tell_of_degraded(done: BackedUp, source_name: str, journal: Journal) -> BackedUp:
    """What was wrapped by fewer keys than the policy names is as good as any other, until the others are lost: it is
    journaled, and somebody is told."""
    reasons: dict[str, None] = {}
    for copy in done.copies:
        manifest = copy.manifest
        if manifest.degraded:
            left_out = list(manifest.degraded)
            point = manifest.recovery_point
            journal.write(
                "backup_degraded", source=source_name, recovery_point=point, target=PRIMARY, left_out=left_out
            )
            reasons |= dict.fromkeys(left_out)
    if not reasons:
        return done
    degraded = f"Keys of the policy were out of reach, and can't open what was made: {'; '.join(reasons)}"
    return replace(done, alarm=" ".join(filter(None, [done.alarm, degraded])))


def tiers_of(source: SourcePolicy, tier: Tier, work: Work) -> tuple[Tier, ...]:
    """The tiers that a recovery point carries, the one that it is made for first."""
    together = carried(source, tier, work.due)
    return (tier, *(other for other in together if other is not tier))


def _journal_failure(journal: Journal, source_name: str, work: Work, failure: BaseException) -> None:
    if isinstance(failure, Cancelled | KeyboardInterrupt | SystemExit):
        # Seconds remain: they go to the uploads that have to be aborted.
        return
    _record(
        journal,
        "backup_failed",
        failure,
        source=source_name,
        recovery_point=str(work.recovery_point),
        target=PRIMARY,
        attempt=work.attempt,
    )


def _record(journal: Journal, kind: EventKind, failure: BaseException, **what: Any) -> None:
    try:
        journal.write(kind, error=type(failure).__name__, what=str(failure)[:2000], **what)
    except Cancelled:
        raise
    except LifeboatError:
        # The failure itself is what the caller must hear of; a primary target that is away takes no events either.
        _log.exception("The failure could not be journaled")


def lock_until(
    repository: SystemRepository, source_name: str, tier: Tier, target: str, since: datetime
) -> datetime | None:
    """Until when the objects of a tier are locked on a target; ``None`` where the policy asks for no lock.

    Args:
        since: from when on they are kept.
    """
    if repository.policy.targets[target].object_lock is None:
        return None
    retention = repository.policy.sources[source_name].tiers[tier].retention
    return retention.after(since, repository.policy.zone)


def kept_since(repository: SystemRepository, manifest: Manifest) -> datetime:
    """From when on a new copy is locked: from now on; one that was rebuilt by its moment, as retention keeps it."""
    return repository.outside.clock() if manifest.rebuilt is None else manifest.moment


def _lock_of(repository: SystemRepository, source_name: str, tier: Tier, target: str, copy: Copy) -> datetime | None:
    """The lock of a copy: for as long as the longest of the tiers that it carries."""
    tiers = repository.policy.sources[source_name].tiers
    carries = tuple(one for one in tiers if one.value in copy.manifest.tiers) or (tier,)
    since = kept_since(repository, copy.manifest)
    longest = longest_kept(tiers, carries, since, repository.policy.zone)
    return lock_until(repository, source_name, longest, target, since)


def verify(
    repository: SystemRepository,
    source_name: str,
    target: str,
    points: Sequence[Point],
    journal: Journal,
    *,
    deep: bool,
    passed: Passed,
    tick: Tick,
) -> list[Verified]:
    """Verify copies on one target, each of them journaled.

    Raises:
        VerificationFailed: at least one is not good; the others were looked at nevertheless.
    """
    catalogue = repository.catalogue(target)
    kind = kind_of(repository.policy.sources[source_name].kind)
    good: list[Verified] = []
    bad: list[LifeboatError] = []
    for point in points:
        try:
            copy = catalogue.read(point.folder(repository.system, source_name))
            figures: dict[str, object] = {}
            if deep:
                verified, figures = kind.verify_deep(repository, target, copy, passed=passed, tick=tick)
            else:
                method = repository.policy.targets[target].verify
                verified = verify_stored(catalogue.target, copy, method=method, passed=passed)
        except Cancelled:
            raise
        except LifeboatError as error:
            bad.append(error)
            _record(journal, "verification_failed", error, source=source_name, recovery_point=point.id, target=target)
            continue
        good.append(verified)
        journal.write(
            "verified",
            source=source_name,
            recovery_point=point.id,
            target=target,
            manifest=copy.sha256,
            method=verified.method,
            objects=verified.objects,
            read_back=verified.read_back,
            **figures,
        )
    if len(bad) == 1:
        raise bad[0]
    if bad:
        raise VerificationFailed(
            f"{len(bad)} of {len(points)} recovery points on {target} are not good: " + " ".join(map(str, bad)),
            "Use the other targets' copies, and find out what changed these.",
        )
    return good


def copy_to(
    repository: SystemRepository,
    source_name: str,
    tier: Tier,
    target: str,
    points: Sequence[Point],
    journal: Journal,
    *,
    passed: Passed,
    tick: Tick,
) -> list[Copy]:
    """Carry recovery points to another target; first those of this run, then what that target missed before: recovery
    points and events.

    Returns:
        The copies that were made or were there already.

    Raises:
        LifeboatError: this run's recovery points could not all be carried. Of older ones a failure is only logged.
    """
    primary = repository.catalogue(PRIMARY)
    catalogue = repository.catalogue(target)
    lock = partial(_lock_of, repository, source_name, tier, target)
    copies: list[Copy] = []
    failures: list[LifeboatError] = []
    for point in points:
        try:
            original = primary.read(point.folder(repository.system, source_name))
            copies += _copy_chain(primary, catalogue, original, journal, lock, passed)
        except Cancelled:
            raise
        except LifeboatError as failure:
            failures.append(failure)
            _record(journal, "copy_failed", failure, source=source_name, recovery_point=point.id, target=target)
        tick()
    if not isinstance(failures[-1] if failures else None, TargetUnavailable):
        copies += _catch_up(repository, source_name, tier, primary, catalogue, journal, lock, passed, tick)
    if failures:
        raise failures[0]
    return copies


def _catch_up(
    repository: SystemRepository,
    source_name: str,
    tier: Tier,
    primary: Catalogue,
    catalogue: Catalogue,
    journal: Journal,
    lock: Callable[[Copy], datetime | None],
    passed: Passed,
    tick: Tick,
) -> list[Copy]:
    copies: list[Copy] = []
    try:
        for folder in missed(repository, source_name, tier, primary, catalogue):
            tick()
            try:
                copies += _copy_chain(primary, catalogue, primary.read(folder), journal, lock, passed)
            except RecoveryPointMissing:
                continue
            except (Cancelled, TargetUnavailable):
                raise
            except LifeboatError:
                _log.exception("%s was missed before, and can't be carried now either", folder.path)
        carry_events(
            primary.target,
            catalogue.target,
            repository.system,
            repository.trusted,
            now=repository.outside.clock(),
            back=CATCH_UP,
        )
    except Cancelled:
        raise
    except LifeboatError:
        _log.exception("What target %s missed before can't be carried now", catalogue.target.name)
    return copies


def _copy_chain(
    primary: Catalogue,
    catalogue: Catalogue,
    original: Copy,
    journal: Journal,
    lock: Callable[[Copy], datetime | None],
    passed: Passed,
) -> list[Copy]:
    """Carry a recovery point, and before it whatever of the chain below it the target lacks: without that it would be
    good for nothing there.

    Raises:
        RecoveryPointMissing: a link is not there on the primary target either.
    """
    return [
        _copy_one(primary, catalogue, link, journal, lock, passed)
        for link in [*links_lacking(primary, catalogue, original), original]
    ]


def links_lacking(origin: Catalogue, goal: Catalogue, original: Copy) -> list[Copy]:
    """The links below a recovery point that another target lacks, the lowest first.

    Raises:
        RecoveryPointMissing: one of them is not at the origin either: the chain can't be made whole.
    """
    lacking: list[Copy] = []
    asked, seen = [original.manifest], {original.manifest.recovery_point}
    while asked:
        manifest = asked.pop()
        for name in manifest.stands_on:
            if name in seen:
                continue
            seen.add(name)
            folder = RecoveryPointFolder(manifest.system, manifest.source, name)
            try:
                # Read, not only looked for: what can't be believed there is no link.
                asked.append(goal.read(folder).manifest)
            except RecoveryPointMissing:
                lacking.append(origin.read(folder))
                asked.append(lacking[-1].manifest)
    # What something stands on is older than it.
    return sorted(lacking, key=lambda copy: copy.manifest.recovery_point)


def _copy_one(
    primary: Catalogue,
    catalogue: Catalogue,
    original: Copy,
    journal: Journal,
    lock: Callable[[Copy], datetime | None],
    passed: Passed,
) -> Copy:
    manifest = original.manifest
    copied = copy_point(primary.target, catalogue, original, retain_until=lock(original), passed=passed)
    journal.write(
        "copy_committed",
        source=manifest.source,
        recovery_point=manifest.recovery_point,
        target=catalogue.target.name,
        manifest=copied.sha256,
        stored_size=manifest.stored_size,
    )
    return copied


CATCH_UP = timedelta(days=7)
"""How far back a target is brought what it missed; older holes are for a person to fill with `lifeboat copy`."""


def missed(
    repository: SystemRepository, source_name: str, tier: Tier, primary: Catalogue, catalogue: Catalogue
) -> list[RecoveryPointFolder]:
    """The recovery points of the tier's kinds that are on the primary target and not on another one, newest first."""
    policy = repository.policy.sources[source_name]
    kinds = kind_of(policy.kind).point_kinds(tier, policy)
    since = repository.outside.clock() - CATCH_UP
    retention = repository.policy.targets[catalogue.target.name].retention
    if retention is not None:
        since = max(since, retention.before(repository.outside.clock(), repository.policy.zone))
    theirs = {folder.path for kind in kinds for folder in catalogue.committed(source_name, kind)}
    ours = sorted(
        (folder for kind in kinds for folder in primary.committed(source_name, kind)),
        key=lambda folder: folder.recovery_point,
    )
    return [
        folder
        for folder in reversed(ours)
        if folder.path not in theirs and RecoveryPointId.parse(folder.recovery_point).begun >= since
    ]


@dataclass(frozen=True)
class Published:
    """What exists at the end of a run.

    Attributes:
        copies: the targets that have each of the run's recovery points, by its id.
        missing: required targets that lack one.
    """

    copies: dict[str, list[str]]
    missing: list[str]


def publish(
    repository: SystemRepository,
    source_name: str,
    points: Sequence[Point],
    journal: Journal,
    *,
    left_out: Iterable[str] = (),
) -> Published:
    """Record which copies exist, and which the policy requires and are not there.

    Args:
        left_out: targets that the person who started the run left out.
    """
    copies: dict[str, list[str]] = {point.id: [] for point in points}
    missing: list[str] = []
    for name in built_targets(repository.policy):
        for point in points:
            reason = _lacks(repository, source_name, point, name)
            if not reason:
                copies[point.id].append(name)
                continue
            asked = name not in left_out
            journal.write(
                "copy_missing",
                source=source_name,
                recovery_point=point.id,
                target=name,
                what=reason if asked else "left out by the person who started the run",
            )
            if asked and repository.policy.targets[name].required:
                missing.append(f"{point.id} on {name}: {reason}")
    journal.write("published", source=source_name, copies={point: ", ".join(names) for point, names in copies.items()})
    journal.deliver()
    for name in built_targets(repository.policy):
        if any(name in names for names in copies.values()):
            bundle_by_the_way(repository, source_name, name)
    return Published(copies, missing)


def _lacks(repository: SystemRepository, source_name: str, point: Point, target: str) -> str:
    """Why a target can't serve a recovery point: it, or a link of the chain below it, is not there or not believed."""
    catalogue = repository.catalogue(target)
    folder = point.folder(repository.system, source_name)
    asked, seen = [folder], {folder.recovery_point}
    while asked:
        folder = asked.pop()
        try:
            below = catalogue.read(folder).manifest.stands_on
        except Cancelled:
            raise
        except LifeboatError as error:
            return error.what if folder.recovery_point == point.id else f"of what it stands on, {error.what}"
        asked += [RecoveryPointFolder(repository.system, source_name, name) for name in below if name not in seen]
        seen.update(below)
    return ""
