"""Corrective actions: what restore tests and drills found wrong, carried on until a later one shows that it was put
right.

Pure functions of a system's records. Nobody ticks an action off: only a later record closes it, and what was not tested
again stays open.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from lifeboat.recovery.evidence import RECOVERY_POINT, RECOVERY_TIME, Check, Drill, Proof, Record
from lifeboat.recovery.wording import length_of

DUE_AFTER = timedelta(days=30)
"""In which time a finding is put right."""
DUE_AFTER_FAILED_RECOVERY = timedelta(days=7)
"""In which time a source that did not come back is looked after, where ``due_after`` is not shorter."""


class Topic(StrEnum):
    """What a finding is about."""

    RECOVERY = "recovery"
    LACKING = "nothing to bring back"
    UNLOOKED = "nothing was looked at"
    CHECK = "check"
    TIME = "recovery time"
    FALLEN_BACK = "fallen back"
    STEP = "step"
    SYSTEM_TIME = "recovery time of the system"


_NO_FAILURE = frozenset({Topic.TIME, Topic.FALLEN_BACK})
SYSTEM = "the whole system"
"""What stands for the source where a finding is of a drill as a whole."""


Key = tuple[str, Topic, str]
"""What tells findings of one system apart: the source, the topic, and the check's name, empty for other topics."""


@dataclass(frozen=True)
class Finding:
    """One thing of one source that a record shows as wrong.

    Attributes:
        source: which; of a drill, the step, or all of it, where that is no source's.
        topic: what it is about.
        check: the name of the failed check; empty for the other topics.
        happened: what was found, in a sentence.
        next_step: what to do about it.
    """

    source: str
    topic: Topic
    check: str
    happened: str
    next_step: str

    @property
    def key(self) -> Key:
        """By which it is known again in another record."""
        return self.source, self.topic, self.check

    @property
    def what(self) -> str:
        """The check's name, or what it is about."""
        return self.check if self.topic is Topic.CHECK else self.topic.value

    @property
    def fails(self) -> bool:
        """Whether a record with it can't have passed: one that took too long can, and one that fell back."""
        return self.topic not in _NO_FAILURE


@dataclass(frozen=True)
class Action:
    """A finding that has to be put right.

    Attributes:
        system: whose recovery it was found in.
        finding: as the newest record has it that shows it.
        opened, opened_by: when, and the id of the first record that showed it.
        due: until when it has to be put right, reckoned from ``opened``.
        seen: how many records have shown it since.
        last_seen: the end of the newest of them.
        closed, closed_by: when, and the id of the record that showed it put right; none: it is open.
    """

    system: str
    finding: Finding
    opened: datetime
    opened_by: str
    due: datetime
    seen: int
    last_seen: datetime
    closed: datetime | None = None
    closed_by: str = ""

    def overdue(self, now: datetime) -> bool:
        """Whether it is still open, and its time is over."""
        return self.closed is None and now > self.due


@dataclass(frozen=True)
class Actions:
    """A system's corrective actions as of its last record.

    Attributes:
        open: what has to be put right, the one that is due first at the top.
        closed: what the last record showed to be put right.
    """

    open: tuple[Action, ...] = ()
    closed: tuple[Action, ...] = ()

    def overdue(self, now: datetime) -> tuple[Action, ...]:
        """The open ones whose time is over."""
        return tuple(action for action in self.open if action.overdue(now))


def corrective_actions(records: Sequence[Record], *, due_after: timedelta = DUE_AFTER) -> Actions:
    """Open, carry on and close actions, record by record.

    A restore in earnest is no test: it opens nothing and closes nothing. Where one record shows a thing of a source
    both right and wrong, it is wrong.

    Args:
        records: of one system, oldest first.
        due_after: how long there is to put a finding right; a failed recovery has 7 days at most.
    """
    still: dict[Key, Action] = {}
    closed: list[Action] = []
    for record in records:
        closed = []
        if record.kind == "restore":
            continue
        wrong: set[Key] = set()
        for finding in findings(record):
            key = finding.key
            # Twice in one record (two recovery points of one source) is seen once.
            if key not in wrong:
                still[key] = _seen(still.get(key), finding, record, due_after)
            wrong.add(key)
        for key in shown_right(record) - wrong:
            if (action := still.pop(key, None)) is not None:
                closed.append(replace(action, closed=record.ended, closed_by=record.id))
    return Actions(tuple(sorted(still.values(), key=_order)), tuple(sorted(closed, key=_order)))


def _seen(action: Action | None, finding: Finding, record: Record, due_after: timedelta) -> Action:
    if action is not None:
        return replace(action, finding=finding, seen=action.seen + 1, last_seen=record.ended)
    soon = min(due_after, DUE_AFTER_FAILED_RECOVERY)
    return Action(
        system=record.system,
        finding=finding,
        opened=record.ended,
        opened_by=record.id,
        due=record.ended + (soon if finding.topic is Topic.RECOVERY else due_after),
        seen=1,
        last_seen=record.ended,
    )


def _order(action: Action) -> tuple[datetime, str, str, str]:
    return action.due, action.finding.source, action.finding.topic.value, action.finding.check


def shown_right(record: Record) -> set[Key]:
    """What a record shows as it should be, whether or not something was wrong with it before."""
    right: set[Key] = set()
    for proof in record.proofs:
        right.add((proof.source, Topic.LACKING, ""))
        right.update((proof.source, Topic.CHECK, check.name) for check in proof.checks if check.passed)
        if proof.error:
            continue
        if proof.checks:
            right |= {(proof.source, Topic.RECOVERY, ""), (proof.source, Topic.UNLOOKED, "")}
        if proof.in_time:
            right.add((proof.source, Topic.TIME, ""))
        # A restore test takes what it was told to: only a drill can fall back.
        if record.drill is not None and not proof.tried:
            right.add((proof.source, Topic.FALLEN_BACK, ""))
    if record.drill is not None:
        right |= {(step.title, Topic.STEP, "") for step in record.drill.steps if step.passed and step.practised}
        if record.drill.in_time:
            right.add((SYSTEM, Topic.SYSTEM_TIME, ""))
    return right


def findings(record: Record) -> tuple[Finding, ...]:
    """What a record shows as wrong: what did not come back first, then failed checks, then what took too long."""
    found = [finding for proof in record.proofs for finding in _findings_of(proof)]
    found += [_lack(source, why) for source, why in record.lacking.items()]
    if record.drill is not None:
        found += _findings_of_drill(record.drill, {proof.source for proof in record.proofs} | set(record.lacking))
    topics = list(Topic)
    return tuple(sorted(found, key=lambda finding: topics.index(finding.topic)))


def failures(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """Those for which a record has failed."""
    return tuple(finding for finding in found if finding.fails)


def _findings_of(proof: Proof) -> Iterator[Finding]:
    if proof.error:
        yield Finding(
            proof.source, Topic.RECOVERY, "", proof.error,
            proof.remedy or f"Verify the copies of {proof.source}, bring it back from another target, and test again.",
        )  # fmt: skip
    elif not proof.checks:
        yield Finding(
            proof.source, Topic.UNLOOKED, "", "It came back, and nothing was looked at in it.",
            proof.remedy or f"Give {proof.source} checks that show whether what came back can be worked with.",
        )  # fmt: skip
    yield from (_failed(proof, check) for check in proof.checks if not check.passed)
    if not proof.in_time and RECOVERY_TIME not in (check.name for check in proof.checks):
        yield Finding(proof.source, Topic.TIME, "", *_too_long(proof))

    if proof.tried and not proof.error:
        yield Finding(proof.source, Topic.FALLEN_BACK, "", *_fallen_back(proof))


def _findings_of_drill(drill: Drill, told: Collection[str]) -> Iterator[Finding]:
    """What is wrong with a drill and is not told by its proofs."""
    for step in drill.steps:
        if not step.passed and step.source not in told:
            remedy = step.remedy or f"Mend what the step {step.title} needs, and make the drill again."
            yield Finding(step.title, Topic.STEP, "", step.what or "It failed, and did not say why.", remedy)
    if not drill.in_time:
        taken, objective = length_of(drill.recovery_milliseconds), length_of(drill.rto_milliseconds)
        yield Finding(
            SYSTEM, Topic.SYSTEM_TIME, "", f"The recovery of the system took {taken}, and its RTO is {objective}.",
            "Begin with the step that took longest: make it faster, or agree upon an RTO that can be kept.",
        )  # fmt: skip


def _fallen_back(proof: Proof) -> tuple[str, str]:
    """What happened, and what to do next."""
    told = next((check.what for check in proof.checks if check.name == "fallen back"), "")
    first = proof.tried[0]
    named = f"{first.recovery_point} on {first.target}" if first.recovery_point else first.target
    return told or f"{named} did not come back.", f"{first.error} {first.remedy}".strip()


def _failed(proof: Proof, check: Check) -> Finding:
    # A remedy beside an error is that error's.
    remedy = "" if proof.error else proof.remedy
    if check.name == RECOVERY_TIME:
        return Finding(proof.source, Topic.CHECK, check.name, *_too_long(proof))
    if check.name == RECOVERY_POINT:
        remedy = (
            f"Look at the last runs of {proof.source} and at what {proof.target} has of it: run them more often, bring "
            "that target what it lacks, or agree upon an RPO that can be kept."
        )
    return Finding(
        proof.source, Topic.CHECK, check.name, check.what or "It failed, and did not say what it found.",
        remedy or f"Look whether {proof.source} itself shows the same: if so, mend it there and back it up; "
        f"if not, verify {proof.recovery_point} on {proof.target} and bring back another recovery point.",
    )  # fmt: skip


def _too_long(proof: Proof) -> tuple[str, str]:
    """What happened, and what to do next."""
    taken, objective = length_of(proof.recovery_milliseconds), length_of(proof.rto_milliseconds)
    if taken == objective:
        taken = f"{proof.recovery_milliseconds / 1000:,.3f} s"
        objective = f"{proof.rto_milliseconds / 1000:,.3f} s"
    phase, longest = max(proof.milliseconds.items(), key=lambda item: item[1])
    return (
        f"The recovery took {taken}, and the RTO is {objective}.",
        f"Begin with the phase that took longest, {phase} ({length_of(longest)}): make it faster, "
        "or agree upon an RTO that can be kept.",
    )


def _lack(source: str, why: str) -> Finding:
    return Finding(
        source, Topic.LACKING, "", why or "There was no recovery point to bring back.",
        f"Look at the last runs of {source} and at what the targets hold of it, and back it up now.",
    )  # fmt: skip
