"""The plan for one source: for each copy on each target whether it stays or goes, and why.

The order of the rules, on each target by itself:

1. a target that can't be read, or holds something that can't be believed, loses nothing of this source;
2. holds, and the newest verified ones of each kind;
3. what is inside its tier's retention, and inside the target's where that is shorter;
4. the base that recovery to any moment of the window begins with, and all WAL since;
5. what something that stays is restored with;
6. what the store itself has locked;

and over all targets: a copy that only its target's own retention ends stays while too few others would.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from lifeboat.repository.retention.decisions import Action, Decision, Reason
from lifeboat.repository.retention.points import HeldPoint, Role, TargetState
from lifeboat.repository.retention.rules import CLOCKS_DIFFER, Cutoffs, SourceRules

WAL_TIER = "wal"
_Why = tuple[Reason, str, datetime | None]


def plan_source(states: Sequence[TargetState], rules: SourceRules, now: datetime) -> list[Decision]:
    """Decide about every copy of one source.

    Args:
        states: each target that the policy names, once; one that could not be read is frozen, and may be empty.
        now: the moment that this is done at.
    """
    plans = [_TargetPlan(state, rules, now) for state in states]
    for plan in plans:
        plan.insist_on_copies([other for other in plans if other is not plan])
    return [decision for plan in plans for decision in plan.decisions()]


class _TargetPlan:
    """One target's part. What is in ``kept`` stays, with its reason; what is there and not in it goes."""

    def __init__(self, state: TargetState, rules: SourceRules, now: datetime) -> None:
        self.state = state
        self.kept: dict[str, _Why] = {}
        self._past: dict[tuple[str, ...], _Why] = {}
        self._rules = rules
        self._now = now
        self._cutoffs = Cutoffs.of(rules, state.target, now)
        self._points = {point.recovery_point: point for point in state.points}
        self._there = self._not_gone()
        if state.frozen:
            for point in state.points:
                self.kept[point.recovery_point] = (Reason.FROZEN, state.frozen, None)
            return
        self._keep_held()
        self._keep_newest()
        self._keep_tiers()
        self._keep_window()
        self._keep_needed(self.kept)
        self._keep_locked()

    def _not_gone(self) -> list[HeldPoint]:
        """All but what was deleted; what was deleted and is held, or what stands on it was not, may return."""
        there = [point for point in self._points.values() if point.deleted is None or point.hold]
        names = {point.recovery_point for point in there}
        asked = [point for point in there if point.needs]
        while asked:
            for name in asked.pop().needs:
                if name in self._points and name not in names:
                    names.add(name)
                    there.append(self._points[name])
                    asked.append(self._points[name])
        return there

    def _keep(self, point: HeldPoint, reason: Reason, about: str = "", until: datetime | None = None) -> None:
        self.kept.setdefault(point.recovery_point, (reason, about, until))

    def _keep_held(self) -> None:
        for point in self._points.values():
            if point.hold:
                self._keep(point, Reason.HOLD, point.hold)

    def _keep_newest(self) -> None:
        """Where nothing of a kind is verified, all of it stays: age is no reason to lose what may be the only one."""
        kinds: dict[str, list[HeldPoint]] = {}
        for point in self._there:
            if point.role is not Role.LOG:
                kinds.setdefault(point.kind, []).append(point)
        for points in kinds.values():
            good = [point for point in points if point.good]
            if not good:
                for point in points:
                    self._keep(point, Reason.NOTHING_VERIFIED)
                continue
            good.sort(key=_age, reverse=True)
            for point in good[: self._rules.keep_at_least]:
                self._keep(point, Reason.NEWEST)
            missing = self._rules.keep_at_least - len(good)
            if missing > 0:
                others = sorted((point for point in points if not point.good), key=_age, reverse=True)
                for point in others[:missing]:
                    self._keep(point, Reason.NOTHING_VERIFIED)

    def _keep_tiers(self) -> None:
        since = {tier: self._cutoffs.of_tier(tier) for tier in self._rules.tiers}
        for point in self._there:
            if point.recovery_point in self.kept:
                continue
            longest, unknown = "", not point.tiers
            for tier in point.tiers:
                if tier not in since:
                    unknown = True
                elif point.moment >= since[tier] and (not longest or since[tier] < since[longest]):
                    longest = tier
            if longest:
                self._keep(point, Reason.TIER, longest)
            elif unknown:
                self._keep(point, Reason.UNKNOWN_TIER, " and ".join(point.tiers) or "(none)")

    def _keep_window(self) -> None:
        """Recovery to any moment of the window needs a verified base from before it, and all WAL since."""
        logs = [point for point in self._there if point.role is Role.LOG]
        if not logs and WAL_TIER not in self._rules.tiers:
            return
        bases = [
            point for point in self._there if point.role in (Role.BASE, Role.LINK) and point.good and self._whole(point)
        ]
        if not bases:
            for point in logs:
                self._keep(point, Reason.NOTHING_VERIFIED)
            return
        newest = max(bases, key=_begin)
        leads_from = newest
        if WAL_TIER in self._rules.tiers:
            opens = self._cutoffs.of_tier(WAL_TIER)
            before = [point for point in bases if point.begun <= opens]
            base = max(before, key=_begin) if before else min(bases, key=_begin)
            self._keep(base, Reason.WINDOW, until=max(opens, base.begun))
            leads_from = min(newest, base, key=_begin)
            # Where fulls are kept for less time than WAL, each would go before it can take the place of the one that
            # the window begins with, and all WAL since that one would stay for ever.
            if after := [point for point in bases if point.begun > max(opens, base.begun)]:
                self._keep(min(after, key=_begin), Reason.NEXT, base.recovery_point)
        since = leads_from.begun - CLOCKS_DIFFER
        for point in logs:
            if point.moment >= since:
                self._keep(point, Reason.LEADS_ON, until=leads_from.begun)

    def _whole(self, point: HeldPoint) -> bool:
        """Whether all that it is restored with is there, too."""
        asked, seen = [point], {point.recovery_point}
        while asked:
            for name in asked.pop().needs:
                found = self._points.get(name)
                if found is None:
                    return False
                if name not in seen:
                    seen.add(name)
                    asked.append(found)
        return True

    def _keep_needed(self, by: Iterable[str]) -> None:
        asked = [self._points[name] for name in by if self._points[name].needs]
        while asked:
            point = asked.pop()
            for name in point.needs:
                found = self._points.get(name)
                if found is not None and name not in self.kept:
                    self._keep(found, Reason.NEEDED, f"{point.recovery_point} is restored with it")
                    if found.needs:
                        asked.append(found)

    def _keep_locked(self) -> None:
        locked = []
        for point in self._there:
            if point.locked_until is not None and point.locked_until > self._now:
                if point.recovery_point not in self.kept:
                    locked.append(point.recovery_point)
                self._keep(point, Reason.LOCK, until=point.locked_until)
        self._keep_needed(locked)

    def insist_on_copies(self, others: Sequence[_TargetPlan]) -> None:
        """Keep what only this target's own retention ends, unless enough verified copies stay elsewhere."""
        if self._cutoffs.target is None:
            return
        again = []
        for point in self._there:
            if point.recovery_point in self.kept or not self._inside_its_tier(point):
                continue
            elsewhere = sum(other.has_good(point.recovery_point) for other in others)
            if elsewhere < self._rules.minimum_copies:
                about = f"{elsewhere} of {self._rules.minimum_copies}"
                self._keep(point, Reason.COPIES, about)
                again.append(point.recovery_point)
        self._keep_needed(again)

    def has_good(self, recovery_point: str) -> bool:
        """Whether a verified copy is here and stays; of a target that could not be read nothing is known."""
        point = self._points.get(recovery_point)
        return point is not None and not self.state.frozen and point.good and recovery_point in self.kept

    def _inside_its_tier(self, point: HeldPoint) -> bool:
        return any(tier not in self._rules.tiers or point.moment >= self._cutoffs.tiers[tier] for tier in point.tiers)

    def decisions(self) -> Iterable[Decision]:
        """All of them, in the order of the points."""
        needed_by_deleted = self._needed_by_deleted()
        for point in self._points.values():
            why = self.kept.get(point.recovery_point)
            if point.deleted is not None:
                yield self._about_deleted(point, why, needed_by_deleted)
            elif why is not None:
                yield Decision(self.state.target, point, Action.STAYS, *why)
            else:
                yield Decision(self.state.target, point, Action.GOES, *self._why_it_goes(point))

    def _why_it_goes(self, point: HeldPoint) -> _Why:
        # What is inside its tier goes by the target's own retention alone.
        if self._cutoffs.target is not None and self._inside_its_tier(point):
            return (Reason.PAST_TARGET, "", self._cutoffs.target)
        # One sentence for all of a tier: of a million WAL points most go.
        if point.tiers not in self._past:
            tier = min(point.tiers, key=lambda name: self._cutoffs.tiers[name])
            about = f"{tier} is kept for {self._rules.tiers[tier]}"
            self._past[point.tiers] = (Reason.PAST_TIER, about, self._cutoffs.tiers[tier])
        return self._past[point.tiers]

    def _about_deleted(self, point: HeldPoint, why: _Why | None, needed: Mapping[str, str]) -> Decision:
        target, deleted = self.state.target, point.deleted
        assert deleted is not None
        if self.state.frozen and why is not None:
            return Decision(target, point, Action.WAITS, *why)
        if why is not None:
            return Decision(target, point, Action.RETURNS, *why)
        ends = deleted + self._rules.targets[target].undelete
        if ends > self._now:
            return Decision(target, point, Action.WAITS, Reason.UNDELETE, until=ends)
        if point.recovery_point in needed:
            about = f"{needed[point.recovery_point]} can be taken back"
            return Decision(target, point, Action.WAITS, Reason.NEEDED_BY_DELETED, about)
        if point.locked_until is not None and point.locked_until > self._now:
            return Decision(target, point, Action.WAITS, Reason.LOCK, until=point.locked_until)
        return Decision(target, point, Action.PURGED, Reason.UNDELETE_ENDED, until=ends)

    def _needed_by_deleted(self) -> dict[str, str]:
        """What a deletion that can still be taken back would need: itself deleted, it must not be removed before."""
        undelete = self._rules.targets[self.state.target].undelete
        asked = [
            point
            for point in self._points.values()
            if point.deleted is not None and point.needs and point.deleted + undelete > self._now
        ]
        needed: dict[str, str] = {}
        while asked:
            point = asked.pop()
            for name in point.needs:
                if name not in needed and name in self._points:
                    needed[name] = point.recovery_point
                    asked.append(self._points[name])
        return needed


def _age(point: HeldPoint) -> datetime:
    return point.moment


def _begin(point: HeldPoint) -> datetime:
    return point.begun
