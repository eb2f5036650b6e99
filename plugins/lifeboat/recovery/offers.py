"""What the targets have of one source, and which of it a restore test brings back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from lifeboat.errors import Cancelled, LifeboatError
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.postgres.exports.reading import export_details
from lifeboat.postgres.exports.records import EXPORT
from lifeboat.postgres.logical_details import LOGICAL
from lifeboat.postgres.moments import AtRecoveryPoint, Latest
from lifeboat.postgres.restore_planning import RestorePlan
from lifeboat.postgres.restore_sources import Offer, offer_from
from lifeboat.recovery.choosing import at_random, in_turn
from lifeboat.repository.catalogue import Copy, Listing
from lifeboat.repository.snapshots import in_order
from lifeboat.repository.system import SystemRepository


@dataclass(frozen=True)
class Chosen:
    """One recovery point to bring back.

    Attributes:
        chosen: why this one.
        target: from where.
        recovery_point: its id; of a chain, its newest link's.
        what: what is done with it: a plan for a physical backup, else the snapshot or archive.
    """

    chosen: Literal["newest", "random", "asked"]
    target: str
    recovery_point: str
    what: RestorePlan | Copy

    @property
    def kind(self) -> str:
        """Its kind: the word in its id."""
        copy = self.what.base.copy if isinstance(self.what, RestorePlan) else self.what
        return copy.manifest.kind


@dataclass(frozen=True)
class OnTarget:
    """What one target has of a source.

    Attributes:
        copies: snapshots or logical archives that are good, oldest first.
        offer: of a database, its physical backups and WAL.
        exports: complete ones that are good, oldest first.
    """

    copies: tuple[Copy, ...]
    offer: Offer | None = None
    exports: tuple[Copy, ...] = ()

    @property
    def bases(self) -> dict[str, Copy]:
        """The physical backups, by id."""
        return {} if self.offer is None else {base.manifest.recovery_point: base.copy for base in self.offer.bases}

    @property
    def has_whole(self) -> bool:
        """Whether there is anything that the source as a whole comes back from."""
        return bool(self.bases or self.copies)

    def newest_export(self, target: str) -> Chosen:
        """The newest export."""
        return Chosen("newest", target, self.exports[-1].manifest.recovery_point, self.exports[-1])

    def newest(self, target: str) -> Chosen:
        """Everything up to the last WAL where there is a physical backup, else the newest copy; raises
        ``MomentUnreachable``."""
        if self.offer is not None and self.offer.bases:
            plan = self.offer.plan(Latest())
            return Chosen("newest", target, plan.base.manifest.recovery_point, plan)
        return Chosen("newest", target, self.copies[-1].manifest.recovery_point, self.copies[-1])

    def drawn(self, target: str, newest: str, seed: int, source: str) -> Chosen | None:
        """One of all of them besides the newest; a physical backup as it is, without the WAL behind it."""
        by_id = {copy.manifest.recovery_point: copy for copy in self.copies}
        drawn = at_random([*self.bases, *by_id], newest, seed, source)
        if drawn is None:
            return None
        if self.offer is not None and drawn in self.bases:
            return Chosen("random", target, drawn, self.offer.plan(AtRecoveryPoint(drawn)))
        return Chosen("random", target, drawn, by_id[drawn])


@dataclass
class Offers:
    """What the targets have of one source, each target under one of the three.

    Attributes:
        by_target: what there is that can be brought back, in the policy's order.
        empty: the targets that answered, and have nothing.
        away: why the others can't be read.
    """

    by_target: dict[str, OnTarget] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)
    away: dict[str, LifeboatError] = field(default_factory=dict)

    @property
    def reached(self) -> set[str]:
        """The targets that answered."""
        return {*self.by_target, *self.empty}

    def choose(
        self, source: str, used: Sequence[str], seed: int, *, used_for_exports: Sequence[str] = ()
    ) -> list[Chosen]:
        """The newest recovery point on the target whose turn it is, and one at random on the one after it; of exports
        the newest one besides.

        Nothing where no target has anything.

        Args:
            used, used_for_exports: the targets that the newest was taken from before, oldest first.

        Raises:
            MomentUnreachable: what there is can't be brought back.
        """
        order = in_turn([name for name, found in self.by_target.items() if found.has_whole], used)
        exports = in_turn([name for name, found in self.by_target.items() if found.exports], used_for_exports)
        chosen: list[Chosen] = []
        if order:
            newest = self.by_target[order[0]].newest(order[0])
            other = order[1 % len(order)]
            drawn = self.by_target[other].drawn(other, newest.recovery_point, seed, source)
            chosen += [newest, *([drawn] if drawn is not None else [])]
        if exports:
            chosen.append(self.by_target[exports[0]].newest_export(exports[0]))
        return chosen


def every_copy(_copy: Copy) -> bool:
    """Leaves nothing out."""
    return True


def offers_of(
    repository: SystemRepository,
    source: str,
    targets: Sequence[str],
    tick: Callable[[], None],
    *,
    counts: Callable[[Copy], bool] = every_copy,
) -> Offers:
    """Look at each target.

    Args:
        counts: whether a copy is taken for being there.
    """
    offers = Offers()
    for target in targets:
        tick()
        try:
            found = _on_target(repository, source, target, counts)
        except Cancelled:
            raise
        except LifeboatError as error:
            offers.away[target] = error
            continue
        if found.has_whole or found.exports:
            offers.by_target[target] = found
        else:
            offers.empty.append(target)
    return offers


def _on_target(repository: SystemRepository, source: str, target: str, counts: Callable[[Copy], bool]) -> OnTarget:
    catalogue = repository.catalogue(target)
    points = _counted(catalogue.recovery_points(source), counts)
    if not isinstance(repository.policy.sources[source], PostgresSource):
        return OnTarget(tuple(in_order(points.copies)))
    archives = tuple(copy for copy in points.of_kind(LOGICAL) if copy.manifest.state == "good")
    exports = tuple(
        copy
        for copy in points.of_kind(EXPORT)
        if copy.manifest.state == "good" and not export_details(copy.manifest).partial
    )
    wal = _counted(catalogue.wal(source), counts)
    return OnTarget(archives, offer_from(repository, target, points, wal), exports)


def _counted(listing: Listing, counts: Callable[[Copy], bool]) -> Listing:
    return replace(listing, copies=tuple(copy for copy in listing.copies if counts(copy)))
