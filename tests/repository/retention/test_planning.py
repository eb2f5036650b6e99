"""Each rule of retention by an example, at its boundary, with the sentence that people read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from lifeboat.policy.duration import Duration
from lifeboat.policy.loading import load_policy
from lifeboat.repository.retention.decisions import Action, Decision
from lifeboat.repository.retention.guarding import stopped_by_clock, stopped_by_number
from lifeboat.repository.retention.planning import plan_source
from lifeboat.repository.retention.points import HeldPoint, Role, TargetState
from lifeboat.repository.retention.rules import SourceRules, TargetRules, undelete_window
from tests.repository.retention.histories import carried_out

NOW = datetime(2026, 3, 31, 5, 0, tzinfo=UTC)
TIERS = {
    "wal": Duration.parse("30d"),
    "incremental": Duration.parse("30d"),
    "daily": Duration.parse("30d"),
    "weekly": Duration.parse("90d"),
    "monthly": Duration.parse("12 months"),
    "yearly": Duration.parse("7 years"),
}
PLACES: Mapping[str, TargetRules] = {"primary": TargetRules(), "local": TargetRules(Duration.parse("7d"))}
RULES = SourceRules(TIERS, PLACES)


ERP = Path(__file__).parents[3] / "include" / "policies" / "erp.yaml"


def full(day: str, *tiers: str, good: bool = True, **more: object) -> HeldPoint:
    moment = datetime.fromisoformat(day).replace(tzinfo=UTC)
    name = f"full {day}"
    point = HeldPoint(name, "full", Role.BASE, tiers or ("daily",), moment, moment, good=good)
    return replace(point, **more)  # type: ignore[arg-type]


def link(day: str, parent: HeldPoint, **more: object) -> HeldPoint:
    made = full(day, "incremental", **more)
    needs = (parent.recovery_point,)
    return replace(made, recovery_point=f"link {day}", kind="incremental", role=Role.LINK, needs=needs)


def archive(day: str, *tiers: str, **more: object) -> HeldPoint:
    return replace(full(day, *tiers, **more), recovery_point=f"archive {day}", kind="logical", role=Role.ALONE)


def wal(day: str) -> HeldPoint:
    return replace(full(day, "wal", good=False), recovery_point=f"wal {day}", kind="wal", role=Role.LOG)


def decided(*points: HeldPoint, rules: SourceRules = RULES, now: datetime = NOW, **more: object) -> dict[str, Decision]:
    state = TargetState("primary", points, **more)  # type: ignore[arg-type]
    return {one.point.recovery_point: one for one in plan_source([state], rules, now)}


def told(decisions: dict[str, Decision], name: str) -> str:
    return decisions[name].sentence(UTC)


NEWEST = full("2026-03-31T02:00")


def test_a_daily_stays_thirty_days_to_the_second_and_then_goes() -> None:
    plan = decided(full("2026-03-01T05:00:00"), full("2026-03-01T04:59:59"), full("2026-02-28T02:00"), NEWEST)
    assert told(plan, "full 2026-03-01T05:00:00") == "Kept as the daily of 2026-03-01."
    goes = "Goes: daily is kept for 30d, and made before 2026-03-01 05:00."
    assert told(plan, "full 2026-02-28T02:00") == goes
    assert told(plan, "full 2026-03-01T04:59:59") == goes


def test_the_last_base_before_the_window_stays_and_wal_since_leads_on_from_it() -> None:
    before = full("2026-02-28T02:00")
    logs = [wal("2026-02-28T00:30"), wal("2026-02-28T01:30"), wal("2026-02-28T12:00"), wal("2026-03-02T12:00")]
    plan = decided(full("2026-02-27T02:00"), before, full("2026-03-02T02:00"), NEWEST, *logs)
    assert told(plan, "full 2026-02-28T02:00") == "Kept: recovery to any moment since 2026-03-01 05:00 begins with it."
    assert plan["full 2026-02-27T02:00"].action is Action.GOES
    assert plan["wal 2026-02-28T00:30"].action is Action.GOES
    # An hour more of it, for clocks that differ.
    leads = "Kept: it leads on from a backup of 2026-02-28 02:00 that is kept for recovery to any moment."
    assert told(plan, "wal 2026-02-28T01:30") == told(plan, "wal 2026-02-28T12:00") == leads
    assert told(plan, "wal 2026-03-02T12:00") == "Kept as the wal of 2026-03-02 12:00."


def test_a_base_of_a_long_tier_or_a_hold_pins_no_other_wal() -> None:
    monthly = full("2025-12-07T01:00", "monthly")
    held = full("2026-01-10T02:00", hold="an audit")
    logs = [wal("2025-12-08T00:00"), wal("2026-01-11T00:00")]
    plan = decided(monthly, held, full("2026-02-28T02:00"), NEWEST, *logs)
    assert told(plan, "full 2025-12-07T01:00") == "Kept as the monthly of December 2025."
    assert told(plan, "full 2026-01-10T02:00") == "Kept: held (an audit)."
    assert {plan[log.recovery_point].action for log in logs} == {Action.GOES}


def test_where_dailies_go_before_wal_does_the_oldest_one_stays_for_the_window() -> None:
    """A policy that keeps WAL for longer than fulls promises the window all the same."""
    rules = replace(RULES, tiers={**TIERS, "daily": Duration.parse("7d")})
    fulls = [full(f"2026-03-{day}T02:00") for day in (10, 11, 12)]
    plan = decided(*fulls, NEWEST, wal("2026-03-10T03:00"), rules=rules)
    assert told(plan, "full 2026-03-10T02:00") == "Kept: recovery to any moment since 2026-03-10 02:00 begins with it."
    assert told(plan, "full 2026-03-11T02:00") == (
        "Kept: it takes the place of full 2026-03-10T02:00, which recovery to any moment begins with now."
    )
    assert plan["full 2026-03-12T02:00"].action is Action.GOES
    assert plan["wal 2026-03-10T03:00"].action is Action.STAYS


def test_a_chain_is_whole_or_gone() -> None:
    base = full("2026-02-24T02:00")
    first = link("2026-02-25T02:00", base)
    second = link("2026-03-02T02:00", first)
    window = full("2026-02-28T02:00")
    plan = decided(base, first, second, window, NEWEST)
    assert told(plan, "link 2026-02-25T02:00") == "Kept, since link 2026-03-02T02:00 is restored with it."
    assert told(plan, "full 2026-02-24T02:00") == "Kept, since link 2026-02-25T02:00 is restored with it."
    later = decided(base, first, second, full("2026-03-30T02:00"), link("2026-04-10T00:00", NEWEST), NEWEST,
                    now=datetime(2026, 4, 30, tzinfo=UTC))  # fmt: skip
    assert {later[one.recovery_point].action for one in (base, first, second)} == {Action.GOES}


def test_a_month_is_counted_on_the_calendar_and_several_tiers_keep_for_the_longest() -> None:
    plan = decided(
        archive("2025-03-31T04:00", "monthly"), archive("2025-03-31T06:00", "monthly"),
        archive("2025-12-07T01:00", "weekly", "monthly"), archive("2025-12-14T01:00", "weekly"),
        archive("2019-04-01T04:00", "yearly"), archive("2019-03-30T04:00", "yearly"), archive("2026-03-29T01:00"),
    )  # fmt: skip
    assert told(plan, "archive 2025-03-31T04:00") == (
        "Goes: monthly is kept for 1 year, and made before 2025-03-31 05:00."
    )
    assert told(plan, "archive 2025-03-31T06:00") == "Kept as the monthly of March 2025."
    assert told(plan, "archive 2025-12-07T01:00") == "Kept as the monthly of December 2025."
    assert plan["archive 2025-12-14T01:00"].action is Action.GOES
    assert told(plan, "archive 2019-04-01T04:00") == "Kept as the yearly of 2019."
    assert plan["archive 2019-03-30T04:00"].action is Action.GOES


def test_dates_are_told_on_the_clock_of_the_policys_zone() -> None:
    late = archive("2026-02-28T23:30", "monthly")
    decision = decided(late, archive("2026-03-29T01:00", "weekly"))["archive 2026-02-28T23:30"]
    assert decision.sentence(ZoneInfo("Indian/Mauritius")) == "Kept as the monthly of March 2026."


def test_only_verified_ones_count_and_without_any_nothing_goes() -> None:
    old, older = full("2026-01-02T02:00"), full("2026-01-01T02:00")
    unverified = full("2026-03-30T02:00", good=False)
    plan = decided(older, old, unverified)
    assert told(plan, "full 2026-01-02T02:00") == "Kept: among the newest verified of its kind."
    assert plan["full 2026-01-01T02:00"].action is Action.GOES
    none = decided(replace(older, good=False), replace(old, good=False), wal("2026-01-01T05:00"))
    assert {one.action for one in none.values()} == {Action.STAYS}
    assert told(none, "full 2026-01-01T02:00") == "Kept: nothing of its kind is verified here."
    three = decided(older, old, unverified, rules=replace(RULES, keep_at_least=3))
    assert {one.action for one in three.values()} == {Action.STAYS}


def test_a_copy_that_leaves_its_target_early_leaves_enough_verified_ones_elsewhere() -> None:
    week_old, base = full("2026-03-20T02:00"), full("2026-02-10T02:00")
    chained, newest_link = link("2026-03-20T08:00", base), link("2026-03-31T03:00", NEWEST)

    def local(*elsewhere: HeldPoint, frozen: str = "", copies: int = 1) -> dict[str, Decision]:
        here = TargetState("local", (base, week_old, chained, full("2026-03-23T02:00"), NEWEST, newest_link))
        there = TargetState("primary", elsewhere, frozen)
        plan = plan_source([there, here], replace(RULES, minimum_copies=copies), NOW)
        return {one.point.recovery_point: one for one in plan if one.target == "local"}

    all_there = (base, week_old, chained, NEWEST)
    gone = local(*all_there)
    assert told(gone, "full 2026-03-20T02:00") == (
        "Goes: made before 2026-03-24 05:00, and this target keeps copies no longer."
    )
    for few in (
        local(base, replace(week_old, good=False), replace(chained, good=False), NEWEST),
        local(base, NEWEST),
        local(*all_there, copies=2),
        local(*all_there, frozen="It could not be reached"),
    ):
        assert few["full 2026-03-20T02:00"].action is Action.STAYS
        assert few["link 2026-03-20T08:00"].action is Action.STAYS
        assert few["full 2026-02-10T02:00"].action is Action.STAYS  # the link is restored with it
    assert told(local(NEWEST), "full 2026-03-20T02:00") == (
        "Kept: too few verified copies would stay elsewhere (0 of 1)."
    )


def test_what_the_store_has_locked_stays_with_all_it_needs_until_the_lock_ends() -> None:
    base = full("2026-01-01T02:00")
    locked = link("2026-01-02T02:00", base, locked_until=NOW + timedelta(seconds=1))
    others = (NEWEST, link("2026-03-31T03:00", NEWEST), full("2026-02-28T02:00"))
    plan = decided(base, locked, *others)
    assert told(plan, "link 2026-01-02T02:00") == "Kept: the store has locked it until 2026-03-31 05:00."
    assert plan["full 2026-01-01T02:00"].action is Action.STAYS
    ended = decided(base, replace(locked, locked_until=NOW), *others)
    assert {ended[one.recovery_point].action for one in (base, locked)} == {Action.GOES}


def test_a_tier_that_the_policy_no_longer_names_is_kept_and_said() -> None:
    plan = decided(full("2020-01-01T02:00", "quarterly"), NEWEST)
    assert told(plan, "full 2020-01-01T02:00") == "Kept: the policy no longer says how long its tier quarterly is kept."


def test_a_deletion_can_be_taken_back_within_its_window_and_then_the_bytes_go() -> None:
    gone = full("2026-01-01T02:00", deleted=NOW - timedelta(days=7) + timedelta(seconds=1))
    plan = decided(gone, NEWEST)
    assert told(plan, "full 2026-01-01T02:00") == "Deleted, can be taken back until 2026-03-31 05:00."
    over = decided(replace(gone, deleted=NOW - timedelta(days=7)), NEWEST)
    assert told(over, "full 2026-01-01T02:00") == "Removed: deleted, and could be taken back until 2026-03-31 05:00."
    held = decided(replace(gone, hold="an audit"), NEWEST)
    assert told(held, "full 2026-01-01T02:00") == "Taken back: held (an audit)."


def test_what_a_deleted_link_is_restored_with_stays_as_long_as_that_can_be_taken_back() -> None:
    base = full("2026-01-01T02:00", deleted=NOW - timedelta(days=20))
    late = link("2026-01-02T02:00", base, deleted=NOW - timedelta(days=1))
    plan = decided(base, late, NEWEST)
    assert told(plan, "full 2026-01-01T02:00") == "Deleted, stays as long as link 2026-01-02T02:00 can be taken back."


def test_a_target_that_cannot_be_believed_loses_nothing_and_gets_nothing_back() -> None:
    gone = full("2026-01-01T02:00", deleted=NOW - timedelta(days=70), hold="an audit")
    plan = decided(gone, full("2025-01-01T02:00"), NEWEST, frozen="a manifest there can't be believed")
    assert told(plan, "full 2025-01-01T02:00") == "Kept: a manifest there can't be believed."
    assert plan["full 2026-01-01T02:00"].action is Action.WAITS


def test_too_much_at_once_stops_the_source_and_says_how_much() -> None:
    old = [full(f"2026-01-{day:02d}T02:00") for day in range(1, 5)]
    young = [full(f"2026-03-{day:02d}T02:00") for day in range(10, 27)]
    few = decided(*old[:3], *young[:2], full("2026-02-28T02:00"))
    assert stopped_by_number(list(few.values()), RULES) == []  # three at once are never too many
    more = list(decided(*old, *young[:14], full("2026-02-28T02:00")).values())
    [stopped] = stopped_by_number(more, RULES)
    assert stopped.startswith(
        "On target primary, 4 of 19 recovery points of tier daily would go: more than 20% of them, and more than 3. "
    )
    assert "raise `retention.most_deleted`" in stopped
    fifth = list(decided(*old, *young[:15], full("2026-02-28T02:00")).values())
    assert stopped_by_number(fifth, RULES) == []  # 4 of 20


def test_a_clock_that_was_set_back_stops_everything() -> None:
    assert stopped_by_clock(None, NOW) == ""
    assert stopped_by_clock(NOW + timedelta(minutes=10), NOW) == ""
    assert "2026-03-31 05:10:01 UTC: one of the two clocks" in stopped_by_clock(NOW + timedelta(seconds=601), NOW)


def test_a_deletion_can_be_taken_back_for_as_long_as_its_place_or_its_set_of_files_says() -> None:
    policy = load_policy(ERP, environment={}).policy
    assert undelete_window(policy, "files", "primary") == timedelta(days=90)
    assert undelete_window(policy, "database", "primary") == timedelta(days=7)
    assert undelete_window(policy, "files", "local") == timedelta()


def test_where_fulls_are_kept_for_less_time_than_wal_the_wal_goes_all_the_same_and_the_window_stays_whole() -> None:
    """A year of dailies kept for a week and of WAL kept for two, cleaned every day."""
    rules = replace(
        RULES,
        tiers={"daily": Duration.parse("7d"), "wal": Duration.parse("14d")},
        targets={"primary": TargetRules(undelete=timedelta())},
    )
    state: tuple[TargetState, ...] = (TargetState("primary", ()),)
    for number in range(365):
        now = NOW + timedelta(days=number)
        new = (full(f"{now:%Y-%m-%d}", "daily"), wal(f"{now:%Y-%m-%d}"))
        state = (replace(state[0], points=(*state[0].points, *new)),)
        for _ in range(2):
            state = carried_out(state, list(plan_source(state, rules, now)), now)
        points = [point for point in state[0].points if point.deleted is None]
        runs = sorted(point.moment for point in points if point.role is Role.LOG)
        bases = sorted(point.begun for point in points if point.role is Role.BASE)
        assert len(runs) <= 23
        assert len(bases) <= 11
        if number > 14:
            assert bases[0] <= now - timedelta(days=14)
        assert [one for one in runs if one < bases[0] - timedelta(days=1)] == []
        # No run since the first base is missing.
        assert len(runs) >= (runs[-1] - runs[0]).days + 1
