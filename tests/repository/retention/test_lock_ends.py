"""Until when locks must reach, each rule by an example and all of them over made-up histories."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as some

from lifeboat.repository.retention.decisions import Action
from lifeboat.repository.retention.lock_ends import lock_ends
from lifeboat.repository.retention.planning import plan_source
from lifeboat.repository.retention.points import HeldPoint, Role
from lifeboat.repository.retention.rules import SourceRules
from tests.repository.retention.histories import history
from tests.repository.retention.test_planning import PLACES, RULES, TIERS, archive, full, link, wal

NOW = datetime(2026, 3, 20, 5, tzinfo=UTC)


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def ends(*points: HeldPoint, rules: SourceRules = RULES, now: datetime = NOW) -> dict[str, datetime]:
    return lock_ends(points, rules, now)


def test_what_nothing_stands_on_needs_no_longer_lock() -> None:
    assert ends(full("2026-03-01"), archive("2026-03-08", "weekly", "monthly"), wal("2026-02-01")) == {}


def test_a_chain_is_locked_until_the_last_of_it_ends() -> None:
    base = full("2026-03-01")
    first = link("2026-03-02", base)
    second = link("2026-03-05", first)
    assert ends(base, first, second) == {
        "full 2026-03-01": day("2026-04-04"),
        "link 2026-03-02": day("2026-04-04"),
    }


def test_of_several_that_stand_on_it_the_last_end_counts_and_of_several_tiers_the_longest() -> None:
    base = full("2026-01-31")
    early = link("2026-02-01", base)
    monthly = link("2026-02-02", base)
    monthly = HeldPoint(**{**{name: getattr(monthly, name) for name in HeldPoint.__slots__}, "tiers": ("monthly",)})
    assert ends(base, monthly, early) == {"full 2026-01-31": day("2027-02-02")}


def test_a_tier_that_the_policy_no_longer_has_says_nothing() -> None:
    base = full("2026-03-01")
    rules = SourceRules({"daily": TIERS["daily"]}, PLACES)
    assert ends(base, link("2026-03-02", base), rules=rules) == {}


def test_a_lock_that_would_end_in_the_past_is_left_out() -> None:
    base = full("2026-01-01")
    chain = (base, link("2026-01-02", base))
    assert ends(*chain, now=day("2026-02-01")) == {}
    assert ends(*chain, now=day("2026-02-01") - timedelta(seconds=1)) == {"full 2026-01-01": day("2026-02-01")}


def test_a_base_that_wal_leads_on_from_is_locked_for_its_last_moment() -> None:
    older, newer = full("2026-03-01"), full("2026-03-08")
    logs = (wal("2026-03-07"), wal("2026-03-09"))
    assert ends(older, newer, *logs) == {
        "full 2026-03-01": day("2026-04-07"),
        "full 2026-03-08": day("2026-04-08"),
    }
    assert ends(older, newer, logs[0]) == {"full 2026-03-01": day("2026-04-06")}


def test_wal_leads_from_verified_ones_alone_and_their_chain_is_locked_as_long() -> None:
    base = full("2026-03-01")
    good, bad = link("2026-03-02", base), link("2026-03-03", base, good=False)
    assert ends(base, good, bad, wal("2026-03-19")) == {
        "full 2026-03-01": day("2026-04-18"),
        "link 2026-03-02": day("2026-04-18"),
    }


def test_a_link_whose_chain_is_not_whole_takes_nobodys_place() -> None:
    base, lost = full("2026-03-01"), full("2026-03-02")
    broken = link("2026-03-03", lost)
    assert ends(base, broken, wal("2026-03-19")) == {"full 2026-03-01": day("2026-04-18")}


def test_what_claims_to_be_of_the_future_locks_nothing_for_years() -> None:
    base = full("2026-03-01")
    far = link("2036-03-02", base)
    assert ends(base, far, wal("2036-01-01")) == {"full 2026-03-01": NOW + timedelta(days=30)}


@settings(max_examples=1000)
@given(some.binary(min_size=10, max_size=160))
def test_whatever_stays_can_be_restored_from_what_is_locked_as_long_as_itself(data: bytes) -> None:
    made = history(data)
    for state in made.states:
        kept = [
            one.point
            for one in plan_source([state], made.rules, made.now)
            if one.action in (Action.STAYS, Action.RETURNS)
        ]
        points = {point.recovery_point: point for point in kept}
        reach = lock_ends(kept, made.rules, made.now)
        assert set(reach) <= set(points)
        assert all(end > made.now for end in reach.values())
        for point in kept:
            own = max(
                (made.rules.tiers[tier].after(point.moment) for tier in point.tiers if tier in made.rules.tiers),
                default=made.now,
            )
            if point.recovery_point in reach:
                own = max(own, reach[point.recovery_point])
            for name in point.needs:
                if name in points and own > made.now:
                    assert reach[name] >= own
        _leads_on(points, reach, made.rules, made.now)


def _leads_on(points: dict[str, HeldPoint], reach: dict[str, datetime], rules: SourceRules, now: datetime) -> None:
    """Each moment of WAL that is inside its retention has a locked base before it, where there is a verified one."""

    def whole(point: HeldPoint) -> bool:
        return all(name in points and whole(points[name]) for name in point.needs)

    bases = [point for point in points.values() if point.role in (Role.BASE, Role.LINK) and point.good and whole(point)]
    for log in points.values():
        if log.role is not Role.LOG or (end := rules.tiers["wal"].after(log.moment)) <= now:
            continue
        before = [base for base in bases if base.begun <= log.moment]
        if before:
            base = max(before, key=lambda one: one.begun)
            assert reach[base.recovery_point] >= end
