"""Whether a recovery point of a past moment is to be made of what was kept, and if not, why. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime

from lifeboat.policy.naming import Tier
from lifeboat.policy.slots import Slot
from lifeboat.postgres.reach import Reach
from lifeboat.postgres.restore_planning import merged_ranges, ranges_in_words
from lifeboat.repository.manifest import Manifest


def out_of_time(moment: datetime, tier: Tier, *, now: datetime, ends: datetime) -> str:
    """Why nothing may stand for a moment, in a sentence; empty where something may.

    Args:
        ends: until when the tier keeps what stands for it.
    """
    if moment > now:
        return f"{_words(moment)} has not come yet."
    if ends <= now:
        return f"The tier {tier} keeps what stands for {_words(moment)} until {_words(ends)}, which has passed."
    return ""


def standing_in(
    slot: Slot, tier: Tier, points: Iterable[Manifest], due: Callable[[Manifest], date | None]
) -> Manifest | None:
    """The recovery point that stands in a slot already; ``None`` without one.

    Args:
        points: the source's of the tier's kind.
        due: reads the day on whose schedule one was made: where several tiers were due on it, it may have been made
            before this one's own time.
    """
    for manifest in points:
        counts = manifest.state == "good" and tier.value in manifest.tiers
        if counts and (slot.holds(manifest.moment) or due(manifest) == slot.day):
            return manifest
    return None


def there_in_words(moment: datetime, tier: Tier, there: Manifest) -> str:
    """That nothing has to be made."""
    return (
        f"There is a recovery point of the tier {tier} for {_words(moment)}: {there.recovery_point}, which stands for "
        f"{_words(there.moment)}."
    )


def unreachable(moment: datetime, reaches: Sequence[Reach]) -> tuple[str, str]:
    """That a moment can't be brought back: what is so, and what can be reached instead, its nearest moment first."""
    near = nearest(moment, merged_ranges(reaches))
    what = f"{_words(moment)} can't be brought back from what was kept."
    closest = f"The nearest moment that can be is {_words(near)}. " if near is not None else ""
    return what, closest + ranges_in_words(reaches)


def nearest(moment: datetime, ranges: Iterable[tuple[datetime, datetime]]) -> datetime | None:
    """The moment inside any of the ranges that is nearest to another one; ``None`` without ranges."""
    candidates = [min(max(moment, first), last) for first, last in ranges]
    return min(candidates, key=lambda candidate: abs(candidate - moment), default=None)


def _words(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f UTC").replace(".000000", "")
