"""The plan for one source as it stands: read, decided, guarded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from lifeboat.repository.retention.decisions import Action, Decision
from lifeboat.repository.retention.guarding import stopped_by_clock, stopped_by_number, stopped_by_silence
from lifeboat.repository.retention.locks import plan_with_locks
from lifeboat.repository.retention.points import Role
from lifeboat.repository.retention.reading import Held, read_source
from lifeboat.repository.retention.rules import rules_of
from lifeboat.repository.system import SystemRepository


@dataclass(frozen=True)
class SourcePlan:
    """What would happen to each copy of one source, and why it may not.

    Attributes:
        source: its name.
        at: the moment that it is made for.
        held: what it was made of.
        decisions: one for each copy.
        stopped: why it is not carried out, in sentences; empty when it may be.
    """

    source: str
    at: datetime
    held: Held
    decisions: tuple[Decision, ...]
    stopped: tuple[str, ...]

    def frozen(self, target: str) -> tuple[str, ...]:
        """Why nothing of a target may go, in a sentence with what to do; empty where it may."""
        return tuple(
            f"Nothing goes from {target}: {state.frozen.rstrip('.')}. Find out why, and mend it; a copy that can't be "
            "believed is set aside by `lifeboat retention quarantine`, and then the others go on."
            for state in self.held.states
            if state.target == target and state.frozen
        )

    def of(self, target: str, *actions: Action) -> list[Decision]:
        """The decisions about one target's copies; with actions, these alone."""
        return [one for one in self.decisions if one.target == target and (not actions or one.action in actions)]


def source_plan(
    repository: SystemRepository,
    source: str,
    roles: Mapping[str, Role],
    now: datetime,
    *,
    supposed: bool = False,
    tick: Callable[[], None] = lambda: None,
) -> SourcePlan:
    """Read what all targets hold of a source, and decide about each copy.

    Args:
        now: the moment to decide for.
        supposed: whether it is another one than the present: that nothing was written until then says nothing.
        tick: called between reads; may raise to stop.
    """
    rules = rules_of(repository.policy, source)
    read = read_source(repository, source, roles, tick=tick)
    held, decisions = plan_with_locks(repository, read, rules, now, tick=tick)
    goes = any(one.action is Action.GOES for one in decisions)
    stopped = (
        stopped_by_clock(held.latest, now),
        stopped_by_silence(held.latest, now) if goes and not supposed else "",
        *stopped_by_number(decisions, rules),
    )
    return SourcePlan(source, now, held, tuple(decisions), tuple(one for one in stopped if one))
