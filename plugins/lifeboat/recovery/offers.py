"""What the targets have of one source, and which of it a restore test brings back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from lifeboat.errors import Cancelled, LifeboatError
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.postgres.moments import AtRecoveryPoint, Latest
from lifeboat.postgres.restore_planning import RestorePlan
from lifeboat.postgres.restore_sources import Offer, read_offer
from lifeboat.recovery.choosing import at_random, in_turn
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.snapshots import snapshots_of
from lifeboat.repository.system import SystemRepository


@dataclass(frozen=True)
class Chosen:
    """One recovery point to bring back.

    Attributes:
        chosen: why this one.
        target: from where.
        recovery_point: its id; of a chain, its newest link's.
        what: what is done with it: a plan for a database, else the snapshot.
    """

    chosen: Literal["newest", "random"]
    target: str
    recovery_point: str
    what: RestorePlan | Copy

    @property
    def kind(self) -> str:
        """Its kind: the word in its id."""
        copy = self.what.base.copy if isinstance(self.what, RestorePlan) else self.what
        return copy.manifest.kind


@dataclass
class Offers:
    """What the targets have of one source, each target under one of the three.

    Attributes:
        by_target: what there is that can be brought back, in the policy's order.
        empty: the targets that answered, and have nothing.
        away: why the others can't be read.
    """

    by_target: dict[str, Offer | list[Copy]] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)
    away: dict[str, LifeboatError] = field(default_factory=dict)

    @property
    def reached(self) -> set[str]:
        """The targets that answered."""
        return {*self.by_target, *self.empty}

    def choose(self, source: str, used: Sequence[str], seed: int) -> list[Chosen]:
        """The newest recovery point on the target whose turn it is, and one at random on the one after it.

        Nothing where no target has anything.

        Args:
            used: the targets that the newest was taken from before, oldest first.

        Raises:
            MomentUnreachable: what there is can't be brought back.
        """
        order = in_turn(list(self.by_target), used)
        if not order:
            return []
        newest = _newest(order[0], self.by_target[order[0]])
        other = order[1 % len(order)]
        drawn = _drawn(other, self.by_target[other], newest, seed, source)
        return [newest, *([drawn] if drawn is not None else [])]


def offers_of(repository: SystemRepository, source: str, targets: Sequence[str], tick: Callable[[], None]) -> Offers:
    """Look at each target."""
    offers = Offers()
    for target in targets:
        tick()
        try:
            found = _offered(repository, source, target)
        except Cancelled:
            raise
        except LifeboatError as error:
            offers.away[target] = error
            continue
        if found.bases if isinstance(found, Offer) else found:
            offers.by_target[target] = found
        else:
            offers.empty.append(target)
    return offers


def _offered(repository: SystemRepository, source: str, target: str) -> Offer | list[Copy]:
    if isinstance(repository.policy.sources[source], PostgresSource):
        return read_offer(repository, source, target)
    return snapshots_of(repository.catalogue(target), source)


def _newest(target: str, offer: Offer | list[Copy]) -> Chosen:
    if isinstance(offer, Offer):
        plan = offer.plan(Latest())
        return Chosen("newest", target, plan.base.manifest.recovery_point, plan)
    return Chosen("newest", target, offer[-1].manifest.recovery_point, offer[-1])


def _drawn(target: str, offer: Offer | list[Copy], newest: Chosen, seed: int, source: str) -> Chosen | None:
    copies = [base.copy for base in offer.bases] if isinstance(offer, Offer) else offer
    by_id = {copy.manifest.recovery_point: copy for copy in copies}
    drawn = at_random(list(by_id), newest.recovery_point, seed, source)
    if drawn is None:
        return None
    what = offer.plan(AtRecoveryPoint(drawn)) if isinstance(offer, Offer) else by_id[drawn]
    return Chosen("random", target, drawn, what)
