"""What would be kept at each month's end: reckoned by hand for a small policy, and the same as planning all at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifeboat.configuration.kind import ConfigurationKind
from lifeboat.policy.configuration_source import ConfigurationSource
from lifeboat.policy.duration import Duration
from lifeboat.policy.naming import Tier
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.postgres.kind import PostgresKind
from lifeboat.repository.retention.decisions import Action
from lifeboat.repository.retention.foreseeing import Makings, foresee
from lifeboat.repository.retention.planning import plan_source
from lifeboat.repository.retention.points import TargetState
from lifeboat.repository.retention.rules import SourceRules, TargetRules
from lifeboat.repository.retention.simulating import Simulation, Sizes, Stored, month_ends, simulate

START = datetime(2026, 1, 1, tzinfo=UTC)  # a Thursday
CLEANUP = "0 5 * * *"
SIZES = Sizes({"full": 100, "incremental": 20, "wal": 7, "logical": 10, "export": 1})
LONG = {
    "daily": {"schedule": "0 2 * * *", "retention": "30d"},
    "weekly": {"schedule": "0 1 * * 0", "retention": "90d"},
    "monthly": {"schedule": "0 1 * * 0#1", "retention": "12 months"},
    "yearly": {"schedule": "0 4 1 1 *", "retention": "7 years"},
}
CHAIN = {
    "wal": {"schedule": "*/5 * * * *", "retention": "3d"},
    "incremental": {"schedule": "0 */6 * * *", "retention": "3d"},
    "daily": {"schedule": "0 2 * * *", "retention": "3d"},
}
PLACES = {
    "primary": TargetRules(undelete=timedelta(days=7)),
    "local": TargetRules(Duration.parse("7d"), timedelta()),
}


def makings(tiers: Mapping[str, Any], zone: str = "UTC") -> Makings:
    source = PostgresSource.model_validate({"kind": "postgres", "connection": "db", "tiers": tiers})
    kind = PostgresKind()
    return Makings(
        source, {tier: kind.point_kinds(tier, source) for tier in source.tiers}, kind.roles(), ZoneInfo(zone)
    )


def rules(made: Makings, places: Mapping[str, TargetRules] = PLACES, **more: object) -> SourceRules:
    tiers = {tier.value: policy.retention for tier, policy in made.source.tiers.items()}
    return replace(SourceRules(tiers, places, made.zone), **more)


def simulated(tiers: Mapping[str, Any], months: int, **more: object) -> Simulation:
    made = makings(tiers)
    return simulate(made, rules(made, **more), SIZES, CLEANUP, START, months)


def counted(daily: int, weekly: int, monthly: int, yearly: int) -> dict[str, int]:
    return {"daily": daily, "weekly": weekly, "monthly": monthly, "yearly": yearly}


def test_a_grandfather_father_son_policy_fills_up_over_seven_years_as_reckoned_by_hand() -> None:
    ends = {f"{end.month:%Y-%m}": end.targets["primary"] for end in simulated(LONG, 86).ends}
    # 31 dailies were made, and the one of 1 January is hidden since the cleanup of the 31st; four Sundays, the first of
    # them the month's; the yearly of 1 January.
    assert ends["2026-01"] == Stored(counted(30, 4, 1, 1), 0, 35, 1, 30 * 100 + 5 * 10, 100)
    # Eight Sundays since 4 January, two of them months'. Hidden is what went on the last seven days.
    assert ends["2026-02"] == Stored(counted(30, 8, 2, 1), 0, 39, 7, 30 * 100 + 9 * 10, 700)
    # 13 Sundays since 4 October; of the twelve months' archives nine are older. The weekly of 27 September is hidden.
    assert ends["2026-12"] == Stored(counted(30, 13, 12, 1), 0, 30 + 13 + 9 + 1, 8, 30 * 100 + 23 * 10, 7 * 100 + 10)
    assert [ends[f"{year}-12"].tiers["yearly"] for year in range(2026, 2033)] == [1, 2, 3, 4, 5, 6, 7]
    # The yearly of 2026 went in January of 2033, and that of 2033 came.
    assert ends["2033-01"].tiers["yearly"] == 7
    assert ends["2033-02"].tiers["yearly"] == 7


def test_a_local_target_keeps_its_week_and_frees_the_room_at_once() -> None:
    ends = [end.targets["local"] for end in simulated(LONG, 3).ends]
    assert ends == [Stored(counted(7, 1, 0, 0), 0, 8, 0, 710, 0)] * 3


def test_what_else_a_rule_keeps_is_counted_besides() -> None:
    (end,) = simulated(LONG, 1, keep_at_least=3).ends
    # Of the archives only that of 25 January is inside the week; the two before it are among the newest three.
    assert end.targets["local"] == Stored(counted(7, 1, 0, 0), 2, 10, 0, 730, 0)


def test_a_chain_stands_on_its_newest_link_and_wal_is_a_recovery_point_a_day() -> None:
    made = makings(CHAIN)
    points = list(foresee(made, START, START + timedelta(days=2)))
    assert [(point.kind, point.moment.hour) for point in points[:7]] == [
        ("full", 2), ("incremental", 6), ("incremental", 12), ("incremental", 18),
        ("wal", 0), ("incremental", 0), ("full", 2),
    ]  # fmt: skip
    names = [point.recovery_point for point in points]
    assert [point.needs for point in points[:7]] == [(), (names[0],), (names[1],), (names[2],), (), (names[3],), ()]
    assert points[7].needs == (names[6],)
    assert [(point.begun, point.moment) for point in points if point.kind == "wal"] == [
        (START, START + timedelta(days=1)),
        (START + timedelta(days=1), START + timedelta(days=2)),
    ]
    end = simulate(made, rules(made), SIZES, CLEANUP, START, 1).ends[0].targets["primary"]
    # On the 31st at 05:00 the window opens on the 28th at 05:00: dailies of 29, 30, 31, and that of the 28th for the
    # window; incrementals since the 28th at 06:00, with that of midnight; WAL since the 28th, and of its first day.
    assert end.tiers == {"wal": 4, "incremental": 4 * 4, "daily": 3}
    assert end.besides == 1
    assert end.kept_bytes == 4 * 100 + 16 * 20 + 4 * 7


def test_the_first_incremental_is_a_full_and_so_is_the_next_after_the_longest_chain() -> None:
    tiers = {**CHAIN, "daily": {"schedule": "0 2 1 1 *", "retention": "3d"},
             "incremental": {"schedule": "0 */6 * * *", "retention": "3d", "longest_chain": 2}}  # fmt: skip
    begun = START + timedelta(hours=3)
    made = [one for one in foresee(makings(tiers), begun, begun + timedelta(days=2)) if one.kind != "wal"]
    assert [point.kind for point in made] == ["full", "incremental", "incremental"] * 2 + ["full", "incremental"]
    assert {point.tiers for point in made} == {("incremental",)}
    instead = {**tiers, "incremental": {**CHAIN["incremental"], "instead": "full"}}
    fulls = makings(instead).fulls_instead()
    assert makings(tiers).fulls_instead() is None
    assert fulls is not None
    assert {point.kind for point in foresee(fulls, START, START + timedelta(days=3))} == {"full", "wal"}


def test_long_tiers_of_one_day_share_an_archive_whoever_runs_first_and_fulls_share_only_with_fulls() -> None:
    tiers: dict[str, dict[str, str]] = {
        "weekly": {"schedule": "0 3 * * 0", "retention": "90d"},
        "monthly": {"schedule": "0 1 * * 0#1", "retention": "12 months"},
        "yearly": {"schedule": "0 2 4 1 *", "retention": "7 years"},
    }
    sunday = datetime(2026, 1, 4, tzinfo=UTC)
    shared = list(foresee(makings(tiers), sunday, sunday + timedelta(days=1)))
    assert [(one.kind, one.tiers, one.moment.hour) for one in shared] == [
        ("logical", ("weekly", "monthly", "yearly"), 1)
    ]
    tiers["monthly"]["method"] = "physical"
    apart = list(foresee(makings(tiers), sunday, sunday + timedelta(days=1)))
    assert [(one.kind, one.tiers) for one in apart] == [("full", ("monthly",)), ("logical", ("weekly", "yearly"))]


def test_a_tier_without_a_schedule_makes_nothing_and_needs_no_size() -> None:
    made = makings({"daily": LONG["daily"], "export": {"retention": "30d"}})
    assert made.by_hand() == [Tier.EXPORT]
    assert made.kinds_made() == ["full"]
    assert {one.kind for one in foresee(made, START, START + timedelta(days=3))} == {"full"}


def test_sizes_grow_from_today_on() -> None:
    made = makings({"yearly": LONG["yearly"]})
    sizes = Sizes({"logical": 1000}, growth=0.5)
    ends = simulate(made, rules(made), sizes, CLEANUP, START + timedelta(hours=4, minutes=1), 25).ends
    bytes_by_month = [end.targets["primary"].kept_bytes for end in ends]
    assert bytes_by_month[:12] == [0] * 12
    # The yearlies of 2027 and 2028, one and two years from now: a thousand and a half, and a half of that upon it.
    assert bytes_by_month[12] == pytest.approx(1500, abs=2)
    assert bytes_by_month[24] == pytest.approx(1500 + 2250, abs=5)


def test_months_are_those_of_the_policys_zone() -> None:
    zone = ZoneInfo("Indian/Mauritius")
    late = datetime(2026, 1, 31, 21, tzinfo=UTC)  # 1 February there
    assert list(month_ends(late, 2, zone)) == [
        (date(2026, 2, 1), datetime(2026, 2, 28, 20, tzinfo=UTC)),
        (date(2026, 3, 1), datetime(2026, 3, 31, 20, tzinfo=UTC)),
    ]
    made = makings({"daily": {"schedule": "30 0 * * *", "retention": "1 year"}}, "Indian/Mauritius")
    end = simulate(made, rules(made), SIZES, CLEANUP, late, 1).ends[0]
    assert end.targets["primary"].kept == 27  # the run of 1 February, 00:30, was before 21:00 UTC


def test_what_its_own_guard_would_stop_is_told_with_the_first_time() -> None:
    once_a_month = makings({"daily": {"schedule": "0 2 * * *", "retention": "5d"}})
    rare = simulate(once_a_month, rules(once_a_month), SIZES, "0 5 15 * *", START, 3)
    # On 15 January fourteen are there with that of the same day fifteen, and those up to the 10th are past.
    (stop, *others) = rare.stops
    assert (stop.target, stop.tier, stop.going, stop.there, stop.times) == ("local", "daily", 10, 15, 3)
    assert stop.first == datetime(2026, 1, 15, 5, tzinfo=UTC)
    assert [(one.target, one.going) for one in others] == [("primary", 10)]
    assert simulated(LONG, 3).stops == ()


def test_wal_counts_for_the_guard_as_many_runs_as_there_are_in_a_day() -> None:
    assert makings(CHAIN).runs_a_day("wal", START) == 288
    follow = {"schedule": "*/15 * * * *", "mode": "follow", "flush_every": "1m", "retention": "3d"}
    assert makings({**CHAIN, "wal": follow}).runs_a_day("wal", START) == 1440
    # Of four days of WAL one goes each day: a day's point is less than few, its runs are a fifth of all and more.
    stops = {(one.target, one.tier): one for one in simulated(CHAIN, 1).stops}
    assert stops["primary", "wal"].going == 288
    assert stops["primary", "wal"].there == 288 * 4
    assert ("primary", "wal") not in {(one.target, one.tier) for one in simulated(CHAIN, 1, most_share=0.3).stops}


_DAYS = st.integers(1, 40).map(lambda days: f"{days}d")
_TIERS = st.fixed_dictionaries(
    {"daily": st.fixed_dictionaries({"schedule": st.sampled_from(["0 2 * * *", "30 4 * * 1,4"]), "retention": _DAYS})},
    optional={
        "wal": st.fixed_dictionaries({"schedule": st.just("*/5 * * * *"), "retention": _DAYS}),
        "incremental": st.fixed_dictionaries(
            {
                "schedule": st.sampled_from(["0 */6 * * *", "0 5 * * *"]),
                "retention": _DAYS,
                "longest_chain": st.integers(1, 9),
            }
        ),
        "weekly": st.fixed_dictionaries(
            {
                "schedule": st.just("0 1 * * 0"),
                "retention": _DAYS,
                "method": st.sampled_from(["logical", "physical"]),
            }
        ),
        "monthly": st.fixed_dictionaries(
            {"schedule": st.just("0 1 * * 0#1"), "retention": st.sampled_from(["1 month", "2 months"])}
        ),
        "export": st.fixed_dictionaries({"schedule": st.just("0 22 * * *"), "retention": _DAYS}),
    },
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    tiers=_TIERS,
    start=st.integers(0, 400),
    months=st.integers(1, 2),
    local=st.none() | st.integers(1, 20),
    undelete=st.integers(0, 9),
    few=st.integers(1, 3),
    copies=st.integers(1, 3),
    cleanup=st.sampled_from([CLEANUP, "0 5 * * 3", "0 */12 * * *"]),
)
def test_cleaning_every_day_keeps_what_one_plan_of_everything_keeps(
    tiers: Mapping[str, dict[str, Any]], start: int, months: int, local: int | None, undelete: int, few: int,
    copies: int, cleanup: str,
) -> None:  # fmt: skip
    # Where WAL outlasts fulls, each day's plan keeps one in reserve that a single plan of everything would not know.
    physical = [tiers[name] for name in ("daily", "incremental", "weekly") if name in tiers]
    bases = [tier["retention"] for tier in physical if tier.get("method") != "logical"]
    shortest = min(bases, key=lambda days: int(days.removesuffix("d")))
    made = makings({name: {**tier, "retention": shortest} if name == "wal" else tier for name, tier in tiers.items()})
    begun = START + timedelta(days=start, hours=start % 24)
    places = {
        "primary": TargetRules(undelete=timedelta(days=undelete)),
        "offsite": TargetRules(undelete=timedelta(days=7)),
        "local": TargetRules(None if local is None else Duration.parse(f"{local}d"), timedelta()),
    }
    by = rules(made, places, keep_at_least=few, minimum_copies=copies)
    walked = simulate(made, by, SIZES, cleanup, begun, months)
    assert [end.month.day for end in walked.ends] == [1] * months
    if walked.cleaned is None:
        return
    everything = list(foresee(made, begun, walked.cleaned))
    at_once = plan_source([TargetState(target, everything) for target in places], by, walked.cleaned)
    for state in walked.last:
        kept = {one.recovery_point for one in state.points if one.deleted is None and one.moment <= walked.cleaned}
        stays = {
            one.point.recovery_point
            for one in at_once
            if one.target == state.target and one.action is Action.STAYS
        }  # fmt: skip
        assert kept == stays
        end = walked.ends[-1].targets[state.target]
        assert end.kept == sum(one.deleted is None for one in state.points)
        assert end.kept + end.hidden == len(state.points)


def test_what_changes_will_store_is_not_foreseen() -> None:
    tiers = {
        "change": {"schedule": "*/15 * * * *", "retention": "30d"},
        "daily": {"schedule": "0 3 * * *", "retention": "30d"},
    }
    source = ConfigurationSource.model_validate({"kind": "configuration", "airflow_variables": ["a"], "tiers": tiers})
    kind = ConfigurationKind()
    made = Makings(
        source, {tier: kind.point_kinds(tier, source) for tier in source.tiers}, kind.roles(), ZoneInfo("UTC")
    )
    points = list(foresee(made, START, START + timedelta(days=10)))
    assert [point.moment.hour for point in points] == [3] * 10
