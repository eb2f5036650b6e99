"""What a recovery must achieve: how soon (RTO), and how little may be lost (RPO)."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from lifeboat.policy.duration import ExactSpan
from lifeboat.policy.naming import SourceName
from lifeboat.policy.part import Part


class SourceObjectives(Part):
    """The objectives of one source, where they are not the system's."""

    rto: ExactSpan | None = None
    """The recovery time objective: within what time it is back."""

    rpo: ExactSpan | None = None
    """The recovery point objective: how much of the newest work may be lost."""


class Objectives(Part):
    """The objectives of a system."""

    rto: ExactSpan
    """The recovery time objective: within what time the system is back."""

    rpo: ExactSpan
    """The recovery point objective of every source that has none of its own."""

    sources: dict[SourceName, SourceObjectives] = Field(default_factory=dict)
    """Objectives of single sources."""

    def rpo_of(self, source: str) -> timedelta:
        """The recovery point objective of a source."""
        own = self.sources.get(source)
        return (own.rpo if own and own.rpo else self.rpo).fixed

    def rto_of(self, source: str) -> timedelta:
        """The recovery time objective of a source."""
        own = self.sources.get(source)
        return (own.rto if own and own.rto else self.rto).fixed
