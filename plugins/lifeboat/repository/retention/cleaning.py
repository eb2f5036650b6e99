"""One target's cleanup of one source: plan, hide, plan again, remove; and the remains of what was never finished."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lifeboat.repository.bundles import Bundles
from lifeboat.repository.catalogue import Catalogue
from lifeboat.repository.journal import Journal
from lifeboat.repository.layout import WAL, RecoveryPointId, bundles_folder
from lifeboat.repository.remains import remove_remains
from lifeboat.repository.retention.deleting import Deleted, purge, soft_delete
from lifeboat.repository.retention.points import Role
from lifeboat.repository.retention.removing import Removed
from lifeboat.repository.retention.source_plan import SourcePlan, source_plan
from lifeboat.repository.system import PRIMARY, SystemRepository

Tick = Callable[[], None]


@dataclass(frozen=True)
class Cleaned:
    """What a cleanup did on one target.

    Attributes:
        stopped: why nothing new was deleted, in sentences.
        deleted: what was hidden, and what came back.
        removed: whose bytes were removed.
        remains: keys of unfinished work that were removed.
    """

    stopped: tuple[str, ...] = ()
    deleted: Deleted = field(default_factory=Deleted)
    removed: tuple[Removed, ...] = ()
    remains: tuple[str, ...] = field(default=(), repr=False)

    def in_words(self) -> str:
        """A sentence for people."""
        freed = sum(one.stored_size for one in self.removed)
        words = [
            f"{len(self.deleted.gone)} deleted" if self.deleted.gone else "",
            f"{len(self.deleted.returned)} taken back" if self.deleted.returned else "",
            f"{len(self.removed)} removed ({freed / 1e6:,.1f} MB)" if self.removed else "",
            f"{len(self.remains)} objects of unfinished work removed" if self.remains else "",
        ]
        said = ", ".join(word for word in words if word)
        return f"{said or 'nothing had to go'}."

    def document(self) -> dict[str, Any]:
        """The same for programs and the journal."""
        return {
            "stopped": list(self.stopped),
            "deleted": list(self.deleted.gone),
            "taken_back": list(self.deleted.returned),
            "removed": [one.recovery_point for one in self.removed],
            "removed_bytes": sum(one.stored_size for one in self.removed),
            "remains": len(self.remains),
        }


def clean(
    repository: SystemRepository,
    source: str,
    roles: Mapping[str, Role],
    target: str,
    *,
    run: str,
    actor: str,
    tick: Tick = lambda: None,
) -> Cleaned:
    """Do all of it, one step after the other.

    Raises:
        LifeboatError: a step failed; what was done before is done, and the next cleanup goes on.
    """
    deleted, stopped = hide(repository, source, roles, target, run=run, actor=actor, tick=tick)
    removed, remains = remove(repository, source, roles, target, run=run, actor=actor, tick=tick)
    return Cleaned(stopped, deleted, removed, remains)


def hide(
    repository: SystemRepository,
    source: str,
    roles: Mapping[str, Role],
    target: str,
    *,
    run: str,
    actor: str,
    tick: Tick = lambda: None,
) -> tuple[Deleted, tuple[str, ...]]:
    """Plan, and hide what goes; with why the plan was stopped, where it was."""
    plan = source_plan(repository, source, roles, repository.outside.clock(), tick=tick)
    journal = _journal(repository, target, run, actor)
    deleted = soft_delete(repository, plan, target, journal)
    if plan.stopped:
        journal.write("retention_stopped", source=source, target=target, what=list(plan.stopped))
    journal.deliver()
    return deleted, plan.stopped


def remove(
    repository: SystemRepository,
    source: str,
    roles: Mapping[str, Role],
    target: str,
    *,
    run: str,
    actor: str,
    tick: Tick = lambda: None,
) -> tuple[tuple[Removed, ...], tuple[str, ...]]:
    """Plan, and remove what was hidden long enough; then what unfinished work left behind more than 48 hours ago."""
    plan: SourcePlan = source_plan(repository, source, roles, repository.outside.clock(), tick=tick)
    journal = _journal(repository, target, run, actor)
    removed = purge(repository, plan, target, journal, tick=tick)
    remains: list[str] = []
    # A folder whose manifest can't be believed may be anything; a clock that is wrong makes everything old.
    if not plan.stopped and not any(state.frozen for state in plan.held.states if state.target == target):
        aside = {
            mark.recovery_point for mark in plan.held.marks if mark.kind == "quarantined" and mark.target == target
        }
        catalogue = repository.catalogue(target)
        remains = remove_remains(catalogue, source, now=repository.outside.clock(), leave=aside)
        if remains:
            journal.write("remains_removed", source=source, target=target, objects=len(remains))
    if any(RecoveryPointId.parse(one.recovery_point).kind == WAL for one in removed):
        _remove_bundles(repository.catalogue(target), source)
    journal.deliver()
    return tuple(removed), tuple(remains)


def _remove_bundles(catalogue: Catalogue, source: str) -> None:
    """Remove the bundles of days of whose WAL nothing is left: they are no more than a cache of it."""
    bundles = Bundles(catalogue.target, bundles_folder(catalogue.system, source))
    left = {folder.day for folder in catalogue.wal_folders(source)}
    for day, keys in bundles.days.items():
        if day not in left:
            for key in keys:
                catalogue.target.delete(key)


def _journal(repository: SystemRepository, target: str, run: str, actor: str) -> Journal:
    # The target itself first: its own journal must know what went from it. The primary one learns what it can.
    return repository.journal(*dict.fromkeys((target, PRIMARY)), run=run, actor=actor)
