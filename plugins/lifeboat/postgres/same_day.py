"""Long tiers that are due on one day: whoever runs first makes the backup for all of them, and the others find it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, datetime

from lifeboat.policy.naming import Tier
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.policy.together import LONG_TIERS
from lifeboat.postgres.advisory_lock import wait_for_lock
from lifeboat.postgres.connecting import connect_sql, failing_clearly, no_tick
from lifeboat.postgres.details import FULL, full_details
from lifeboat.postgres.full import Progress, back_up_full, source_parameters
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.journal import Journal
from lifeboat.repository.manifest import Manifest
from lifeboat.repository.system import PRIMARY, SystemRepository, Work


def already_made(earlier: Iterable[Copy], work: Work, due: Callable[[Manifest], date | None]) -> Copy | None:
    """The recovery point that was made for the same day and carries this run's tier already; ``None`` when there is
    none.

    Args:
        earlier: recovery points of the same kind, oldest first.
        due: reads the day that one was made for.
    """
    if work.due is None:
        return None
    for copy in reversed(list(earlier)):
        carries = copy.manifest.state == "good" and set(work.tiers[:1]) <= set(copy.manifest.tiers)
        if carries and due(copy.manifest) == work.due:
            return copy
    return None


def note_found(journal: Journal, source: str, work: Work, found: Copy) -> None:
    """Write down that nothing was made, and why."""
    journal.write(
        "backup_skipped",
        source=source,
        recovery_point=found.manifest.recovery_point,
        target=PRIMARY,
        tiers=list(work.tiers[:1]),
        what="one that was made for the same day carries this tier",
    )


def back_up_long_full(
    repository: SystemRepository,
    source_name: str,
    source: PostgresSource,
    work: Work,
    journal: Journal,
    *,
    progress: Progress,
    tick: Callable[[], None] = no_tick,
    retain_until: datetime | None = None,
) -> tuple[Copy, bool]:
    """Make and commit a full for long tiers on the primary target, or find the one that carries this tier already.

    Args:
        work: its ``tiers`` are those that the full carries, its first the one that this run is for.

    Returns:
        The recovery point, and whether this run made it.

    Raises:
        LifeboatError: nothing was committed.
    """
    words = f"long full {repository.system} {source_name}"
    parameters = source_parameters(repository, source, what=words)
    with failing_clearly(), connect_sql(parameters, tick=tick) as session:
        # The second one waits for the first, and finds its work done.
        wait_for_lock(session, f"lifeboat {words}", tick=tick)
        earlier = repository.catalogue(PRIMARY).recovery_points(source_name, deleted=True).of_kind(FULL)
        found = already_made(earlier, work, lambda manifest: full_details(manifest).due)
        if found is not None:
            note_found(journal, source_name, work, found)
            return found, False
        made = back_up_full(
            repository, source_name, source, work, journal, progress=progress, tick=tick, retain_until=retain_until
        )
        return made, True


def is_for_long_tiers(tiers: Iterable[str]) -> bool:
    """Whether a backup is for tiers that one recovery point may carry together."""
    return bool(set(tiers) & {tier.value for tier in LONG_TIERS})


def found_in_words(copy: Copy, tier: Tier) -> str:
    """What a person should read of a run that made nothing."""
    manifest = copy.manifest
    who = manifest.run.dag_id or manifest.run.command or "another run"
    return (
        f"{manifest.recovery_point}, made by {who} for {', '.join(manifest.tiers)}, carries the tier {tier} of this "
        "day, too."
    )
