"""A restore on record: its beginning and its end in the journal, and what it proved among the evidence."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from lifeboat.cli.output import warn
from lifeboat.cli.restore_permission import PERMISSION, insist_on_permission
from lifeboat.errors import Cancelled, LifeboatError

if TYPE_CHECKING:
    from lifeboat.repository.manifest import Manifest
    from lifeboat.repository.system import SystemRepository

_MOST_TOLD = 2000


@dataclass
class Outcome:
    """What a restore has to say at its end; whoever restores fills it in.

    Attributes:
        details: of the last event.
        proven: what was compared while it came back, in a sentence.
        size: plain bytes that came back.
        data_until: the newest change in it.
        phases: seconds by phase; without any, the whole time counts as one.
    """

    details: dict[str, Any] = field(default_factory=dict)
    proven: str = ""
    size: int = 0
    data_until: datetime | None = None
    phases: dict[str, float] = field(default_factory=dict)

    @property
    def milliseconds(self) -> dict[str, int]:
        """The phases, in whole milliseconds."""
        return {phase: round(seconds * 1000) for phase, seconds in self.phases.items()}


@contextmanager
def on_record(
    repository: SystemRepository, manifest: Manifest, target: str, reached: Sequence[str], **what: Any
) -> Iterator[Outcome]:
    """Record a restore as well as keys and targets at hand allow: neither must stand in its way.

    Args:
        manifest: of the recovery point that comes back, for a chain of its newest link.
        target: it is read from.
        reached: the targets that answered, this one first.
        what: what the events say of the restore, such as ``into``.
    """
    from lifeboat.cli.recording import BestEffortJournal

    insist_on_permission()
    permission = PERMISSION.get()
    reached = list(dict.fromkeys([*reached, *permission.targets(repository)]))
    journal = BestEffortJournal(repository, reached, run="command-restore", tell=warn)
    about: dict[str, Any] = {
        "source": manifest.source, "recovery_point": manifest.recovery_point, "target": target
    }  # fmt: skip
    what |= permission.details
    begun = repository.outside.clock()
    use = journal.write("restore_begun", **about, **what)
    outcome = Outcome()
    try:
        permission.begin(repository, manifest.source, use if journal.heard else None)
        yield outcome
    except BaseException as failure:
        said = str(failure)[:_MOST_TOLD] if isinstance(failure, LifeboatError) else ""
        about |= permission.details
        journal.write("restore_failed", **about, error=type(failure).__name__, what=said)
        # What a person stopped says nothing of the recovery point.
        if isinstance(failure, Exception) and not isinstance(failure, Cancelled):
            _keep(journal, repository, manifest, target, begun, outcome, failure)
        raise
    if outcome.phases:
        outcome.details["milliseconds"] = outcome.milliseconds
    journal.write("restore_ended", **about, **what, **outcome.details)
    _keep(journal, repository, manifest, target, begun, outcome, None)


def _keep(
    journal: Any,
    repository: SystemRepository,
    manifest: Manifest,
    target: str,
    begun: datetime,
    outcome: Outcome,
    failure: Exception | None,
) -> None:
    from lifeboat import __version__
    from lifeboat.cli.recording import actor, command
    from lifeboat.recovery.evidence import APPROVE, Check, Proof, Record
    from lifeboat.repository.manifest import Run

    ended = repository.outside.clock()
    objectives = repository.policy.objectives
    millisecond = timedelta(milliseconds=1)
    rto, rpo = objectives.rto_of(manifest.source), objectives.rpo_of(manifest.source)
    permission = PERMISSION.get()
    approve = {} if permission.waited is None else {APPROVE: permission.waited // millisecond}
    proven = () if failure else (Check(name="came back", passed=True, what=outcome.proven),)
    proof = Proof(
        source=manifest.source,
        kind=manifest.kind,
        recovery_point=manifest.recovery_point,
        target=target,
        chosen="asked",
        moment=manifest.moment,
        data_until=outcome.data_until,
        milliseconds=approve | (outcome.milliseconds or {"restore": (ended - begun) // millisecond}),
        size=outcome.size,
        checks=proven,
        error=_what(failure) if failure is not None else "",
        remedy=failure.remedy if isinstance(failure, LifeboatError) else "",
        rto_milliseconds=rto // millisecond,
        rpo_milliseconds=rpo // millisecond,
    )
    journal.keep(
        Record(
            kind="restore",
            mark=secrets.token_hex(4),
            system=repository.system,
            begun=begun,
            ended=ended,
            actor=permission.actor or actor(),
            run=permission.run or Run(command=command("restore", repository.system, manifest.source)),
            reason=permission.reason,
            policy_digest=repository.loaded.digest,
            lifeboat_version=__version__,
            proofs=(proof,),
            passed=failure is None,
            key_id="",
        )
    )


def _what(failure: Exception) -> str:
    return failure.what[:_MOST_TOLD] if isinstance(failure, LifeboatError) else type(failure).__name__
