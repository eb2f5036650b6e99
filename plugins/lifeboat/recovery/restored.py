"""What came back in a restore test, whatever kind of source it is, and the checks that every kind has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lifeboat.recovery.evidence import RECOVERY_POINT, RECOVERY_TIME, Check
from lifeboat.recovery.wording import length_of


@dataclass
class CameBack:
    """What the recovery of one source showed.

    Attributes:
        moment: what the recovered data stands for; ``None`` where that is not known.
        data_until: the newest change that is in it, or up to when it is proven that there was none.
        last_commit: of a database, the last commit that recovery has replayed.
        beat: the moment of the newest row that tells what was lost, where there is one.
        phases: seconds by phase of the recovery itself.
        looking: seconds that were spent looking at what came back.
        size: bytes that came back.
        checks: what was looked at.
        place: the staging server, where it came back to one.
    """

    moment: datetime | None = None
    data_until: datetime | None = None
    last_commit: datetime | None = None
    beat: datetime | None = None
    phases: dict[str, float] = field(default_factory=dict)
    looking: float = 0.0
    size: int = 0
    checks: list[Check] = field(default_factory=list)
    place: str = ""

    @property
    def milliseconds(self) -> dict[str, int]:
        """The phases, in whole milliseconds."""
        return {phase: round(seconds * 1000) for phase, seconds in self.phases.items()}


class Stopwatch:
    """How long parts of the work took, by an injected clock."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock

    @contextmanager
    def phase(self, name: str, phases: dict[str, float]) -> Iterator[None]:
        """Add what the block takes to a phase, also where it fails."""
        begun = self._clock()
        try:
            yield
        finally:
            phases[name] = phases.get(name, 0.0) + (self._clock() - begun).total_seconds()

    def check(self, name: str, look: Callable[[], tuple[bool, str]]) -> Check:
        """What one look found: whether it was as it should be, and what was seen."""
        begun = self._clock()
        passed, what = look()
        took = (self._clock() - begun) / timedelta(milliseconds=1)
        return Check(name=name, passed=passed, what=what, milliseconds=max(0, round(took)))


def within_rto(milliseconds: int, objective: timedelta) -> Check:
    """Whether it was back in time."""
    allowed = objective // timedelta(milliseconds=1)
    return Check(
        name=RECOVERY_TIME,
        passed=milliseconds <= allowed,
        what=f"{length_of(milliseconds)}, where {length_of(allowed)} are allowed",
    )


def within_rpo(begun: datetime, data_until: datetime, objective: timedelta) -> Check:
    """Whether the newest that can be brought back is new enough, had everything been lost when the test began."""
    lost = max(timedelta(), begun - data_until)
    millisecond = timedelta(milliseconds=1)
    return Check(
        name=RECOVERY_POINT,
        passed=lost <= objective,
        what=f"the last {length_of(lost // millisecond)} would be lost, where {length_of(objective // millisecond)} "
        "may be",
    )
