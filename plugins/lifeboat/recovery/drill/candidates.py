"""What a drill tries to bring back of a source, the one that loses least first. Pure functions of what targets have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from lifeboat.errors import MomentUnreachable
from lifeboat.postgres.moments import AtRecoveryPoint, AtTime, Latest, Moment
from lifeboat.postgres.reach import Base
from lifeboat.postgres.restore_planning import RestorePlan
from lifeboat.postgres.restore_sources import Offer
from lifeboat.recovery.offers import Chosen, OnTarget

CHAINS, SNAPSHOTS = 3, 4
"""How far back a drill goes on each target: what is older is no recovery that anybody would call one."""
MOST_TRIED = 8


@dataclass(frozen=True)
class Candidate:
    """One way to bring a source back.

    Attributes:
        chosen: what is done.
        reaches: the moment up to which it brings everything back.
    """

    chosen: Chosen
    reaches: datetime


def candidates(by_target: Mapping[str, OnTarget], back_to: datetime | None) -> list[Candidate]:
    """What can be tried, in this order: physical backups before archives; what reaches furthest; then what is built
    upon the newest recovery point; then the targets as they come.

    Args:
        by_target: what there is, in the order of preference.
        back_to: nothing after it may be in what comes back; ``None``: the newest is wanted.
    """
    found = [one for target, held in by_target.items() for one in _on(target, held, back_to)]
    order = {target: number for number, target in enumerate(by_target)}
    # Sorted four times, the least important first: a recovery point's id begins with its time.
    found.sort(key=lambda one: order[one.chosen.target])
    found.sort(key=lambda one: one.chosen.recovery_point, reverse=True)
    found.sort(key=lambda one: one.reaches, reverse=True)
    # A cluster that is lost comes back as one: an archive of its databases, seconds newer, is another thing.
    found.sort(key=lambda one: not isinstance(one.chosen.what, RestorePlan))
    return found[:MOST_TRIED]


def _on(target: str, held: OnTarget, back_to: datetime | None) -> Iterator[Candidate]:
    if held.offer is not None:
        for base in _bases(held.offer):
            yield from _ways(target, held.offer, base, back_to)
    fitting = [copy for copy in held.copies if back_to is None or copy.manifest.moment <= back_to]
    for copy in fitting[-SNAPSHOTS:]:
        manifest = copy.manifest
        chosen = Chosen("newest" if back_to is None else "asked", target, manifest.recovery_point, copy)
        yield Candidate(chosen, manifest.moment)


def _bases(offer: Offer) -> list[Base]:
    """Of the newest chains the last link and the full: where the one is damaged, WAL leads on from the other."""
    chains: dict[str, list[Base]] = {}
    for base in offer.bases:
        chains.setdefault(base.manifest.chain, []).append(base)
    newest = sorted(chains.values(), key=lambda chain: chain[-1].details.stopped)[-CHAINS:]
    return [base for chain in newest for base in ((chain[0], chain[-1]) if len(chain) > 1 else chain)]


def _ways(target: str, offer: Offer, base: Base, back_to: datetime | None) -> Iterator[Candidate]:
    """Along the WAL to the moment or as far as it goes; and the base as it is, should the WAL be what is damaged."""
    id_ = base.manifest.recovery_point
    along = _along(offer, id_, back_to)
    if along is not None:
        plan, reaches = along
        yield Candidate(Chosen("newest" if back_to is None else "asked", target, id_, plan), reaches)
        if not plan.reach.runs:
            return
    stopped = base.details.stopped
    if back_to is None or stopped <= back_to:
        alone = offer.plan(AtRecoveryPoint(id_))
        yield Candidate(Chosen("newest" if back_to is None else "asked", target, id_, alone), stopped)


def _along(offer: Offer, base: str, back_to: datetime | None) -> tuple[RestorePlan, datetime] | None:
    moments: list[Moment] = [Latest()] if back_to is None else [AtTime(back_to), Latest()]
    for moment in moments:
        try:
            plan = offer.plan(moment, base_id=base)
        except MomentUnreachable:
            continue
        reaches = moment.time if isinstance(moment, AtTime) else plan.reach.latest
        # Where the moment lies behind the end of the WAL, that end is as near to it as can be reached.
        if back_to is None or reaches <= back_to:
            return plan, reaches
    return None
