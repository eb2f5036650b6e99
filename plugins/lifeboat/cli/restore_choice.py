"""Which target a restore reads from: the first that can serve it, and never silently one that lacks the newest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lifeboat.cli.cancellation import STOP
from lifeboat.cli.output import exact_moment, note
from lifeboat.cli.outside import in_words, targets_of
from lifeboat.errors import Cancelled, LifeboatError, MomentUnreachable

if TYPE_CHECKING:
    from lifeboat.postgres.moments import Moment
    from lifeboat.postgres.restore_planning import RestorePlan
    from lifeboat.postgres.restore_sources import Offer
    from lifeboat.repository.system import SystemRepository

NEAREST_FIRST = ("local", "primary", "offsite")


@dataclass(frozen=True)
class Choice:
    """Where a restore reads, and what it will do.

    Attributes:
        offer: what that target has.
        plan: what will be done with it.
        reached: the targets that answered, this one first: they can take journal events.
        remarks: what a person should know of the choice.
    """

    offer: Offer
    plan: RestorePlan
    reached: tuple[str, ...]
    remarks: tuple[str, ...]


def choose(
    repository: SystemRepository,
    source: str,
    moment: Moment,
    *,
    target: str | None,
    base: str | None,
    timeline: int | None,
) -> Choice:
    """Choose a target and plan.

    Asked for the latest moment, every target is looked at, and the one that reaches furthest is taken: a near one may
    be behind.

    Raises:
        MomentUnreachable: no target that answers can serve it.
        LifeboatError: the one target named can't.
    """
    from lifeboat.postgres.moments import Latest

    names = targets_of(repository.loaded, target)
    names.sort(key=lambda name: NEAREST_FIRST.index(name) if name in NEAREST_FIRST else len(NEAREST_FIRST))
    latest = isinstance(moment, Latest)
    found: list[tuple[Offer, RestorePlan]] = []
    refused: list[tuple[str, LifeboatError]] = []
    for name in names:
        note(f"Looking at {name} …", "dim")
        try:
            found.append(_offered(repository, source, name, moment, base, timeline))
        except Cancelled:
            raise
        except LifeboatError as error:
            refused.append((name, error))
        if found and not latest:
            break
    if not found:
        raise _nothing(moment, refused)
    offer, plan = max(found, key=lambda pair: pair[1].reach.latest)
    reached = [offer.target, *(other.target for other, _ in found if other.target != offer.target)]
    return Choice(offer, plan, tuple(reached), tuple(_remarks(found, refused, offer, latest, target)))


def _offered(
    repository: SystemRepository, source: str, name: str, moment: Moment, base: str | None, timeline: int | None
) -> tuple[Offer, RestorePlan]:
    from lifeboat.postgres.restore_sources import read_offer

    STOP.check()
    offer = read_offer(repository, source, name)
    return offer, offer.plan(moment, base_id=base, timeline=timeline)


def _nothing(moment: Moment, refused: Sequence[tuple[str, LifeboatError]]) -> LifeboatError:
    if len(refused) == 1:
        return refused[0][1]
    return MomentUnreachable(f"No target can bring back {moment}.", f"What each of them says:\n{in_words(refused)}")


def _remarks(
    found: Sequence[tuple[Offer, RestorePlan]],
    refused: Sequence[tuple[str, LifeboatError]],
    chosen: Offer,
    latest: bool,
    only: str | None,
) -> list[str]:
    remarks = [f"{name} was passed over: {error}" for name, error in refused]
    if latest and refused:
        remarks.append(f"Whether {' or '.join(name for name, _ in refused)} has anything newer is not known.")
    if latest and only is not None:
        remarks.append(f"Only {only} was asked; another target may have something newer.")
    if latest:
        newest = {offer.target: plan.reach.latest for offer, plan in found}
        remarks += [
            f"{name} ends earlier, at {exact_moment(end)}."
            for name, end in newest.items()
            if end < _end(newest, chosen.target)
        ]
    remarks += [f"{chosen.target} holds what can't be believed, and it is not used: {bad}" for bad in chosen.unreadable]
    remarks += [f"On {chosen.target}, {broken}" for broken in chosen.broken]
    return remarks


def _end(newest: dict[str, datetime], name: str) -> datetime:
    return newest[name]
