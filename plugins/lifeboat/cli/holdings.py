"""What the targets hold, all of them looked at side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from lifeboat.cli.cancellation import STOP
from lifeboat.errors import Cancelled, KeyUnavailable, LifeboatError, TargetUnavailable

if TYPE_CHECKING:
    from lifeboat.postgres.reach import Reach
    from lifeboat.repository.catalogue import Copy, Listing
    from lifeboat.repository.system import SystemRepository

LOOK_SECONDS = 0.2
_T = TypeVar("_T")


@dataclass(frozen=True)
class Holding:
    """What one target holds of one source.

    Attributes:
        points: all recovery points but WAL.
        wal: the WAL runs.
        reaches: what can be reached from each good full or chain; empty for sources that are no PostgreSQL server.
        broken: incrementals whose chain is not whole there, in sentences.
        faults: what is stored and contradicts itself, in sentences.
        trouble: why less can be said here than there is, in sentences.
        removed: recovery points that retention removed there, with their numbers; not read where no number is missing.
    """

    target: str
    source: str
    points: Listing
    wal: Listing
    reaches: tuple[Reach, ...]
    broken: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    trouble: tuple[str, ...] = ()
    removed: Mapping[str, int] = field(default_factory=dict)

    @property
    def copies(self) -> list[Copy]:
        """Everything that is committed and can be believed."""
        return [*self.points.copies, *self.wal.copies]


@dataclass(frozen=True)
class Away:
    """A target that did not answer."""

    target: str
    error: LifeboatError


def for_each(names: Sequence[str], work: Callable[[str], _T]) -> dict[str, _T | LifeboatError]:
    """Do something for several targets side by side; what went wrong with one is its result.

    Raises:
        Cancelled: we were told to stop; nobody waits for what is still under way.
    """
    pool = ThreadPoolExecutor(max(1, len(names)), thread_name_prefix="look")
    try:
        jobs: dict[str, Future[_T]] = {name: pool.submit(work, name) for name in names}
        while wait(jobs.values(), LOOK_SECONDS).not_done:
            STOP.check()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    results: dict[str, _T | LifeboatError] = {}
    for name, job in jobs.items():
        try:
            results[name] = job.result()
        except Cancelled:
            raise
        except LifeboatError as error:
            results[name] = error
    return results


def holdings(
    repository: SystemRepository, targets: Sequence[str], sources: Sequence[str] | None
) -> tuple[list[Holding], list[Away]]:
    """What the targets hold of sources; without a list of these, of all that the policy or a target knows.

    Raises:
        TargetUnavailable: not one target could be read.
    """
    away: list[Away] = []
    usable = []
    for name in targets:
        try:
            repository.target(name)
        except LifeboatError as error:
            away.append(Away(name, error))
        else:
            usable.append(name)

    def look(target: str) -> list[Holding]:
        names = sources
        if names is None:
            names = sorted({*repository.policy.sources, *repository.catalogue(target).sources()})
        return [_holding(repository, target, source) for source in names]

    found: list[Holding] = []
    for name, result in for_each(usable, look).items():
        if isinstance(result, LifeboatError):
            away.append(Away(name, result))
        else:
            found += result
    if away and len(away) == len(targets):
        if len(away) == 1:
            raise away[0].error
        listed = "\n".join(f"  - {one.target}: {one.error}" for one in away)
        raise TargetUnavailable(f"Not one target of {repository.system} can be read:\n{listed}")
    return found, away


def _holding(repository: SystemRepository, target: str, source: str) -> Holding:
    from lifeboat.postgres.restore_sources import offer_from
    from lifeboat.repository.marking import read_removed

    STOP.check()
    catalogue = repository.catalogue(target)
    points, wal = catalogue.recovery_points(source), catalogue.wal(source)
    reaches: tuple[Reach, ...] = ()
    broken: tuple[str, ...] = ()
    faults, trouble = [], []
    policy = repository.policy.sources.get(source)
    try:
        if policy is None or policy.kind == "postgres":
            offer = offer_from(repository, target, points, wal)
            reaches, broken = tuple(offer.reaches()), tuple(map(str, offer.broken))
    except (Cancelled, TargetUnavailable):
        raise
    except KeyUnavailable as error:
        trouble.append(f"What can be reached is not known without a key: {error}")
    except LifeboatError as error:
        faults.append(f"What can be reached is not known: {error}")
    removed = {}
    if _lacks_numbers(points):
        removed = read_removed(catalogue.target, repository.system, source, repository.trusted)
    return Holding(target, source, points, wal, reaches, broken, tuple(faults), tuple(trouble), removed)


def _lacks_numbers(points: Listing) -> bool:
    rows: dict[str, set[int]] = {}
    for copy in (*points.copies, *points.deleted):
        rows.setdefault(copy.manifest.kind, set()).add(copy.manifest.sequence)
    return any(max(row) - min(row) + 1 != len(row) for row in rows.values())
