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
from lifeboat.repository.retention.locks import extend_locks
from lifeboat.repository.retention.points import Role
from lifeboat.repository.retention.removing import Removed
from lifeboat.repository.retention.rules import rules_of
from lifeboat.repository.retention.source_plan import SourcePlan, source_plan
from lifeboat.repository.system import PRIMARY, SystemRepository

Tick = Callable[[], None]


@dataclass(frozen=True)
class Cleaned:
    """What a cleanup did on one target.

    Attributes:
        stopped: why nothing new was deleted, in sentences.
        deleted: what was hidden, and what came back.
        extended: whose locks were extended, since something younger needs them.
        removed: whose bytes were removed.
        remains: keys of unfinished work that were removed.
    """

    stopped: tuple[str, ...] = ()
    deleted: Deleted = field(default_factory=Deleted)
    extended: tuple[str, ...] = ()
    removed: tuple[Removed, ...] = ()
    remains: tuple[str, ...] = field(default=(), repr=False)

    def in_words(self) -> str:
        """A sentence for people."""
        freed = sum(one.stored_size for one in self.removed)
        words = [
            f"{len(self.deleted.gone)} deleted" if self.deleted.gone else "",
            f"{len(self.deleted.returned)} taken back" if self.deleted.returned else "",
            f"{len(self.extended)} locked for longer" if self.extended else "",
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
            "locks_extended": list(self.extended),
            "removed": [one.recovery_point for one in self.removed],
            "removed_bytes": sum(one.stored_size for one in self.removed),
            "remains": len(self.remains),
        }


@dataclass(frozen=True)
class Hidden:
    """What the first half of a cleanup did: ``stopped``, ``deleted`` and ``extended`` as in :class:`Cleaned`."""

    stopped: tuple[str, ...]
    deleted: Deleted
    extended: tuple[str, ...]


@dataclass(frozen=True)
class Cleanup:
    """The cleanup of one source on one target.

    Attributes:
        roles: what each kind of recovery point is to the others.
        run, actor: for the journal.
        tick: called between reads and removals; may raise to stop.
    """

    repository: SystemRepository
    source: str
    roles: Mapping[str, Role]
    target: str
    run: str
    actor: str
    tick: Tick = lambda: None

    def all(self) -> Cleaned:
        """Do all of it, one step after the other.

        Raises:
            LifeboatError: a step failed; what was done before is done, and the next cleanup goes on.
        """
        hidden = self.hide()
        removed, remains = self.remove()
        return Cleaned(hidden.stopped, hidden.deleted, hidden.extended, removed, remains)

    def hide(self) -> Hidden:
        """Plan, have the locks reach as far as they must, and hide what goes."""
        plan = self._plan()
        journal = self._journal()
        # Whatever stops a plan, locks are extended: that only protects. On a frozen target nothing is known for sure.
        extended = () if plan.frozen(self.target) else self._extend(plan, journal)
        deleted = soft_delete(self.repository, plan, self.target, journal)
        stopped = (*plan.stopped, *plan.frozen(self.target))
        if stopped:
            journal.write("retention_stopped", source=self.source, target=self.target, what=list(stopped))
        journal.deliver()
        return Hidden(stopped, deleted, extended)

    def remove(self) -> tuple[tuple[Removed, ...], tuple[str, ...]]:
        """Plan, and remove what was hidden long enough; then what unfinished work left more than 48 hours ago."""
        plan = self._plan()
        journal = self._journal()
        removed = purge(self.repository, plan, self.target, journal, tick=self.tick)
        catalogue = self.repository.catalogue(self.target)
        remains: list[str] = []
        # A folder whose manifest can't be believed may be anything; a clock that is wrong makes everything old.
        if not plan.stopped and not plan.frozen(self.target):
            now, aside = self.repository.outside.clock(), plan.held.marks.set_aside(self.target)
            remains = remove_remains(catalogue, self.source, now=now, leave=aside)
            if remains:
                journal.write("remains_removed", source=self.source, target=self.target, objects=len(remains))
        if any(RecoveryPointId.parse(one.recovery_point).kind == WAL for one in removed):
            _remove_bundles(catalogue, self.source)
        journal.deliver()
        return tuple(removed), tuple(remains)

    def _extend(self, plan: SourcePlan, journal: Journal) -> tuple[str, ...]:
        rules = rules_of(self.repository.policy, self.source)
        return extend_locks(
            self.repository, plan.held, plan.decisions, rules, plan.at, self.target, journal, tick=self.tick
        )

    def _plan(self) -> SourcePlan:
        now = self.repository.outside.clock()
        return source_plan(self.repository, self.source, self.roles, now, tick=self.tick)

    def _journal(self) -> Journal:
        # The target itself first: its own journal must know what went from it. The primary one learns what it can.
        return self.repository.journal(*dict.fromkeys((self.target, PRIMARY)), run=self.run, actor=self.actor)


def _remove_bundles(catalogue: Catalogue, source: str) -> None:
    """Remove the bundles of days of whose WAL nothing is left: they are no more than a cache of it."""
    bundles = Bundles(catalogue.target, bundles_folder(catalogue.system, source))
    left = {folder.day for folder in catalogue.wal_folders(source)}
    for day, keys in bundles.days.items():
        if day not in left:
            for key in keys:
                catalogue.target.delete(key)
