"""The tiers of a source: when it is backed up, how, and for how long that is kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from lifeboat.policy.cron import Cron
from lifeboat.policy.duration import Duration, ExactDuration, ExactSpan, Span
from lifeboat.policy.naming import Tier
from lifeboat.policy.part import Part, Queue
from lifeboat.policy.problems import Refused

LEAST_FLUSH = timedelta(seconds=10)


def _checked_flush(flush: Duration) -> Duration:
    if flush.fixed < LEAST_FLUSH:
        raise Refused(
            f"A flush every {flush} would make a recovery point each time, thousands a day.",
            f"Write {Duration.of(LEAST_FLUSH)} or more.",
        )
    return flush


FULL_TIERS = (Tier.DAILY, Tier.WEEKLY, Tier.MONTHLY, Tier.YEARLY)
"""The tiers whose recovery points stand alone."""
LONGEST_CHAIN = 28
"""How many incrementals stand on one full at most, unless the policy says otherwise: a week of one every six hours. A
restore fetches them all."""


class TierPolicy(Part):
    """A schedule and a retention."""

    schedule: Cron | None = None
    """When it runs: a cron line of five fields on the clock of the policy's zone. Without one, only by hand."""

    retention: Span
    """How long its recovery points are kept: `30d`, `12 months`, `7 years`."""

    method: Literal["physical", "logical"] | None = None
    """How a database is read; by default logical for what is kept long (`weekly`, `monthly`, `yearly`) and for
    `export`, physical for the others."""

    mode: Literal["batch", "follow"] = "batch"
    """How the tier `wal` is collected: in one go at each run, or by runs that stay with the server until the next is
    due and store what was written again and again."""

    flush_every: Annotated[ExactSpan, AfterValidator(_checked_flush)] = Duration(seconds=60)
    """With `mode: follow`: how often what was written since is stored, where anything was."""

    queue: Queue | None = None
    """The workers that run it. WAL has a queue of its own, so that it waits behind nothing."""

    pool: Annotated[str, Field(min_length=1, max_length=250)] | None = None
    """The Airflow pool that its tasks share. It must exist: tasks of a missing pool wait for ever."""

    timeout: ExactSpan | None = None
    """When a run is ended as failed."""

    expected_queue: ExactDuration = Duration(seconds=60)
    """How long a run may wait for a worker: what `policy check` reckons with."""

    expected_run: ExactSpan = Duration(seconds=3600)
    """How long a run may take until its copy on the primary target is committed: what `policy check` reckons with.
    With `mode: follow`: how long each flush may take until it is committed."""

    retries: Annotated[int, Field(ge=0, le=10)] = 2
    """How often a failed task is tried again."""

    longest_chain: Annotated[int, Field(ge=1, le=500)] | None = None
    """Only of the tier `incremental`: how many incrementals may stand on one full before a new full is taken; 28 by
    default: a week of one every six hours."""

    instead: Literal["full"] | None = None
    """Only of the tier `incremental`: `full` takes a full where the server can't make incrementals (before
    PostgreSQL 17), instead of refusing."""

    @property
    def follows(self) -> bool:
        """Whether its runs stay with the source until the next one is due."""
        return self.mode == "follow"

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.follows and self.schedule is None:
            raise Refused(
                "A run that follows ends when the next is due, and without a `schedule` none ever is.",
                'Give it one, such as "*/15 * * * *", or remove `mode`.',
                key=("mode",),
            )
        return self


Tiers = Annotated[dict[Tier, TierPolicy], Field(min_length=1)]


def check_tiers(tiers: Mapping[Tier, TierPolicy], kind: str, allowed: Iterable[Tier]) -> None:
    """Refuse tiers that a kind of source can't have."""
    known = tuple(allowed)
    for tier, tier_policy in tiers.items():
        if tier not in known:
            raise Refused(
                f"A source of kind `{kind}` has no tier `{tier}`.",
                f"It can have {', '.join(f'`{name}`' for name in known)}.",
                key=("tiers", tier.value),
            )
        if tier_policy.follows and tier is not Tier.WAL:
            raise Refused("Only the tier `wal` can follow.", "Remove `mode`.", key=("tiers", tier.value, "mode"))
        if kind != "postgres" and tier_policy.method is not None:
            raise Refused("Only a PostgreSQL source has a `method`.", "Remove it.", key=("tiers", tier.value, "method"))
        for only in ("longest_chain", "instead"):
            if tier is not Tier.INCREMENTAL and getattr(tier_policy, only) is not None:
                raise Refused(
                    f"Only the tier `incremental` has `{only}`.", "Remove it.", key=("tiers", tier.value, only)
                )
