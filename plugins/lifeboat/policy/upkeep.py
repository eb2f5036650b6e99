"""What keeps backups worth having: retention, reviews, the budget."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Self

from pydantic import Field, model_validator

from lifeboat.policy.cron import Cron
from lifeboat.policy.duration import Duration, ExactDuration, Span
from lifeboat.policy.naming import Name
from lifeboat.policy.part import Part
from lifeboat.policy.people import Percent, Text
from lifeboat.policy.problems import Refused
from lifeboat.policy.size import ByteSize


class RetentionPolicy(Part):
    """The guards around deleting what is past its retention."""

    schedule: Cron = "0 5 * * *"
    """When recovery points past their retention are removed."""

    keep_at_least: Annotated[int, Field(ge=1)] = 1
    """How many verified recovery points of each source stay, whatever their age."""

    most_deleted: Percent = 20
    """The largest share of a tier's recovery points on one target that one run may remove; a plan above it is
    refused."""

    few_deleted: Annotated[int, Field(ge=0)] = 3
    """So many of a tier may go at once whatever share of it they are."""

    minimum_copies: Annotated[int, Field(ge=1)] = 1
    """A copy that leaves its target before its tier's retention ends goes only while so many verified ones stay
    elsewhere."""

    undelete: ExactDuration = Duration(seconds=7 * 86400)
    """How long a deletion can be taken back before the bytes go; on a `file://` target, whose room is needed, only
    where the target's own `undelete` says so."""


class ReviewPolicy(Part):
    """When this policy is looked at again."""

    version: Text
    """The policy's version, for people. In quotes."""

    last: date
    """When it was last reviewed."""

    next: date
    """When it is due."""

    every: Span
    """How often."""

    also: tuple[Text, ...] = ()
    """What else calls for a review."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.next <= self.last:
            raise Refused("The next review is not after the last.", "Set its date.", key=("next",))
        return self


class CostLine(Part):
    """One line of the budget."""

    storage: ByteSize
    """How much is stored."""

    cost: Annotated[Decimal, Field(ge=0)]
    """What that costs in a month."""


class BudgetPolicy(Part):
    """What the backups may cost in a month."""

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    """The currency's code in ISO 4217, such as `USD`."""

    limit: Annotated[Decimal, Field(gt=0)]
    """The most that a month may cost."""

    lines: dict[Name, CostLine] = Field(default_factory=dict)
    """What it is made of."""

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        total = sum((line.cost for line in self.lines.values()), Decimal())
        if total > self.limit:
            raise Refused(
                f"The lines add up to {total} {self.currency}, above the limit of {self.limit}.",
                "Raise the limit or mend the lines.",
                key=("limit",),
            )
        return self
