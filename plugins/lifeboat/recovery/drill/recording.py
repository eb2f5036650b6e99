"""A drill's steps in the journal: each a signed event, from which the record is made at the end. What tasks hand to
each other in any other way could be edited by whoever may edit that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from lifeboat.errors import Cancelled, LifeboatError, ManifestInvalid, RestoreError
from lifeboat.policy.drills import Scenario
from lifeboat.recovery.drill.approving import DrillApproval
from lifeboat.recovery.drill.scenarios import Moments
from lifeboat.recovery.evidence import Proof, Step
from lifeboat.repository.event_reading import EventObjects
from lifeboat.repository.journal import STAMP, Event, read_event
from lifeboat.repository.layout import journal_folder
from lifeboat.repository.system import SystemRepository
from lifeboat.targets.target import ObjectInfo

LONGEST = timedelta(days=3)
"""How long a drill may last, by its events."""


@dataclass(frozen=True)
class Begun:
    """A drill that was begun.

    Attributes:
        drill: by which its events are known.
        scenario, moments, reason: as its first event has them.
        targets: those that the scenario leaves, in the order of preference.
        begun: when.
        approval: where somebody had to agree to it before: how that went.
    """

    drill: str
    scenario: Scenario
    moments: Moments
    targets: tuple[str, ...]
    begun: datetime
    reason: str = ""
    approval: DrillApproval | None = None

    @property
    def since(self) -> datetime:
        """From when its recovery time is measured: when it was asked for, or else when it began."""
        return self.begun if self.approval is None else self.approval.asked

    def details(self) -> dict[str, Any]:
        """Of the event ``drill_begun``."""
        back_to = self.moments.back_to
        return {
            "drill": self.drill,
            "scenario": self.scenario,
            "incident": self.moments.incident.isoformat(),
            "known_until": self.moments.known_until.isoformat(),
            "back_to": back_to.isoformat() if back_to is not None else None,
            "targets": list(self.targets),
            "begun": self.begun.isoformat(),
            "reason": self.reason,
            "approval": self.approval.details() if self.approval is not None else None,
        }

    @classmethod
    def of(cls, event: Event) -> Begun:
        """Read the event back."""
        told = event.details
        moments = Moments(
            datetime.fromisoformat(told["incident"]),
            datetime.fromisoformat(told["known_until"]),
            datetime.fromisoformat(told["back_to"]) if told["back_to"] is not None else None,
        )
        begun = datetime.fromisoformat(told["begun"])
        approval = DrillApproval.of(told["approval"]) if told.get("approval") else None
        return cls(told["drill"], told["scenario"], moments, tuple(told["targets"]), begun, told["reason"], approval)


@dataclass
class Results:
    """What the steps of a drill have left, by their ids.

    Attributes:
        steps: how each ended.
        proofs: of those that brought something back.
        lacking: sources of which there was nothing.
    """

    steps: dict[str, Step] = field(default_factory=dict)
    proofs: dict[str, Proof] = field(default_factory=dict)
    lacking: dict[str, str] = field(default_factory=dict)


def step_details(drill: str, step_id: str, step: Step, proof: Proof | None) -> dict[str, Any]:
    """Of the event ``drill_step``."""
    return {
        "drill": drill,
        "step": step_id,
        "result": step.model_dump(mode="json"),
        "proof": proof.model_dump(mode="json") if proof is not None else None,
        "passed": step.passed,
    }


def approval_of(repository: SystemRepository, targets: Sequence[str], drill: str) -> DrillApproval | None:
    """How somebody agreed to a drill; ``None`` where nobody has."""
    found = [event for event in _events(repository, targets, drill) if event.kind == "drill_approved"]
    return DrillApproval.of(max(found, key=lambda event: event.time).details) if found else None


def begun_drill(repository: SystemRepository, targets: Sequence[str], drill: str) -> Begun:
    """The drill of that name; of several (a run that was cleared and made again), the newest.

    Args:
        targets: whose journals are read: one that was away for a while misses events.

    Raises:
        RestoreError: none was begun.
    """
    found = [event for event in _events(repository, targets, drill) if event.kind == "drill_begun"]
    if not found:
        raise RestoreError(
            f"No drill {drill} of {repository.system} was begun.",
            "Its first step failed or was killed: its log says why. Make the drill again.",
        )
    return Begun.of(max(found, key=lambda event: event.time))


def results_of(repository: SystemRepository, targets: Sequence[str], begun: Begun) -> Results:
    """What its steps have left so far; of a step that was tried twice, the last."""
    found = [event for event in _events(repository, targets, begun.drill) if event.kind == "drill_step"]
    results = Results()
    for event in sorted(found, key=lambda event: event.time):
        if event.time < begun.begun:
            continue
        name, told = event.details["step"], event.details
        step = Step.model_validate(told["result"])
        results.steps[name] = step
        results.proofs.pop(name, None)
        results.lacking.pop(step.source, None)
        if told["proof"] is not None:
            results.proofs[name] = Proof.model_validate(told["proof"])
        elif step.source:
            results.lacking[step.source] = step.what
    return results


def copied_later(repository: SystemRepository, targets: Sequence[str], moments: Moments) -> frozenset[tuple[str, str]]:
    """The copies, by target and recovery point, that came to their target after all that is taken for known."""
    since = moments.known_until.astimezone(UTC)

    def is_later(file: str) -> bool:
        return file > since.strftime(STAMP)

    return frozenset(
        (str(event.target), str(event.recovery_point))
        for event in _read(repository, targets, since, is_later)
        if event.kind == "copy_committed"
    )


def journal_run(drill: str, part: str) -> str:
    """The name of a run of events of a drill: found again in a listing, without reading what else there is.

    Args:
        part: what of the drill it is, in lower-case letters, digits and hyphens.
    """
    return f"drill-{drill}-{part}"


def _events(repository: SystemRepository, targets: Sequence[str], drill: str) -> Iterator[Event]:
    mark = f"-{journal_run(drill, '')}"
    since = repository.outside.clock() - LONGEST
    for event in _read(repository, targets, since, lambda file: mark in file):
        if event.details.get("drill") == drill:
            yield event


def _read(
    repository: SystemRepository, targets: Sequence[str], since: datetime, wanted: Callable[[str], bool]
) -> Iterator[Event]:
    """Some events, of all targets together, each once; what can't be believed is left out.

    Args:
        wanted: whether an event is, by the name of its file.
    """
    seen: set[str] = set()
    days = (repository.outside.clock().astimezone(UTC).date() - since.astimezone(UTC).date()).days
    for target in map(repository.target, targets):
        objects = EventObjects(target, repository.system, bundled=False)
        try:
            for day in range(days + 1):
                folder = journal_folder(repository.system, since.astimezone(UTC) + timedelta(days=day))
                for info in target.list(folder):
                    file = info.key.rpartition("/")[2]
                    if file not in seen and wanted(file) and (event := _believed(objects, info, repository)):
                        seen.add(file)
                        yield event
        except Cancelled:
            raise
        except LifeboatError:
            continue  # The others have it, or it is said that nothing was begun.


def _believed(objects: EventObjects, info: ObjectInfo, repository: SystemRepository) -> Event | None:
    try:
        return read_event(objects, info, repository.trusted)[0]
    except ManifestInvalid:
        return None
