from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifeboat.policy.built import BUILT, Built
from lifeboat.policy.checking import Verdict, check
from lifeboat.policy.duration import Duration
from lifeboat.policy.loading import load_policy
from lifeboat.policy.naming import Tier
from lifeboat.policy.problems import PolicyRefused
from lifeboat.policy.schedule import stay_of, worst_case, worst_case_of
from lifeboat.policy.tiers import TierPolicy

Write = Callable[..., Path]
NOW = datetime(2026, 11, 22, 2, tzinfo=UTC)
WAL = 'wal: {schedule: "*/5 * * * *", retention: 30d, expected_run: 4m}'


def _check(path: Path, now: datetime = NOW) -> Verdict:
    return check(load_policy(path), clock=lambda: now)


def _wal(keys: str) -> tuple[str, str]:
    return (WAL, f"wal: {{{keys}}}")


def test_five_minutes_of_wal_keep_an_objective_of_fifteen(write: Write) -> None:
    verdict = _check(write())
    assert verdict.problems == ()
    assert verdict.worst_cases["database"].total == timedelta(minutes=10)


def test_wal_every_fifteen_minutes_breaks_an_objective_of_fifteen(write: Write) -> None:
    (problem,) = _check(write("shop.yaml", ("*/5 * * * *", "*/15 * * * *"))).problems
    assert (problem.line, problem.key) == (26, "sources.database.tiers.wal.schedule")
    assert "Up to 20m of work can be lost, above the recovery point objective of 15m" in problem.what
    assert "waits up to 15m for the next" in problem.what
    assert problem.remedy == "Run it at least every 10m, or change the objective."


@pytest.mark.parametrize(("run", "kept"), [("8m", True), ("9m", True), ("9m 1s", False)])
def test_the_objective_is_kept_up_to_the_last_second(write: Write, run: str, kept: bool) -> None:
    verdict = _check(write("shop.yaml", ("expected_run: 4m", f"expected_run: {run}"), ("rpo: 15m", "rpo: 19m")))
    assert (verdict.problems == ()) is kept


def test_a_run_longer_than_its_period_pushes_the_next_one_back(write: Write) -> None:
    verdict = _check(write("shop.yaml", ("expected_run: 4m", "expected_run: 20m"), ("rpo: 15m", "rpo: 41m")))
    assert verdict.problems == ()
    assert verdict.worst_cases["database"].total == timedelta(minutes=41)


def test_waiting_and_running_alone_may_break_the_objective(write: Write) -> None:
    (problem,) = _check(write("shop.yaml", ("expected_run: 4m", "expected_run: 14m"))).problems
    assert "Waiting and running alone" in problem.remedy


def test_the_hour_that_comes_twice_breaks_what_holds_all_year(write: Write) -> None:
    two_hours = (("*/5 * * * *", "0 */2 * * *"), ("rpo: 15m", "rpo: 2h 5m"))
    assert _check(write("shop.yaml", *two_hours)).problems == ()
    paris = ("system: shop", "system: shop\ntimezone: Europe/Paris")
    (problem,) = _check(write("shop.yaml", *two_hours, paris)).problems
    assert "waits up to 3h for the next (2027-10-30 22:00 UTC is such a run)" in problem.what


def test_a_source_without_a_schedule_keeps_no_objective(write: Write) -> None:
    daily = ('schedule: "0 2 * * *", ', "")
    (problem,) = _check(write("shop.yaml", _wal("retention: 30d"), daily)).problems
    assert "Nothing of it runs by a schedule" in problem.what


def test_tiers_that_are_not_built_keep_no_objective(write: Write) -> None:
    policy = load_policy(write()).policy
    source = policy.sources["database"]
    without_wal = Built(tiers={"postgres": frozenset({Tier.DAILY})})
    kept_by = [worst_case(source, policy.zone, NOW.date(), built) for built in (BUILT, without_wal)]
    assert [case.tier for case in kept_by if case is not None] == [Tier.WAL, Tier.DAILY]


def test_wal_needs_a_physical_full_and_a_logical_archive_is_none(write: Write) -> None:
    with pytest.raises(PolicyRefused, match="`weekly` with `method: physical`"):
        _check(write("shop.yaml", ("      daily:", "      weekly:")))
    physical = ('      daily: {schedule: "0 2 * * *",', '      weekly: {schedule: "0 2 * * *", method: physical,')
    assert _check(write("shop.yaml", physical)).problems == ()


@pytest.mark.parametrize(("retention", "kept"), [("24h", True), ("23h", False)])
def test_wal_is_kept_from_one_full_backup_to_the_next(write: Write, retention: str, kept: bool) -> None:
    path = write("shop.yaml", ("retention: 30d, expected_run", f"retention: {retention}, expected_run"))
    problems = _check(path).problems
    assert (problems == ()) is kept
    assert kept or "no way on" in problems[0].what


@pytest.mark.parametrize(("retention", "kept"), [("1d", True), ("86399s", False)])
def test_a_target_is_never_without_a_full_backup(write: Write, retention: str, kept: bool) -> None:
    local = f"  local: {{url: file:///srv/backups, marker: m, retention: {retention}}}\nencryption:"
    problems = _check(write("shop.yaml", ("encryption:", local))).problems
    assert (problems == ()) is kept
    assert kept or problems[0].key == "targets.local.retention"


@pytest.mark.parametrize(("copies", "kept"), [(1, True), (2, False)])
def test_more_copies_than_targets_that_keep_theirs_are_refused(write: Write, copies: int, kept: bool) -> None:
    local = "  local: {url: file:///srv/backups, marker: m, retention: 7d}\nencryption:"
    text = write("shop.yaml", ("encryption:", local)).read_text() + f"retention: {{minimum_copies: {copies}}}\n"
    problems = _check(write("shop.yaml", text=text)).problems
    assert (problems == ()) is kept
    assert kept or (problems[0].key, "none would ever leave" in problems[0].what) == ("retention.minimum_copies", True)


def test_a_tier_is_never_without_a_recovery_point(write: Write) -> None:
    text = write().read_text() + '      monthly: {schedule: "0 1 * * 0#1", retention: 34d}\n'
    (problem,) = _check(write("shop.yaml", text=text)).problems
    assert problem.key == "sources.database.tiers.monthly.retention"
    assert "35d" in problem.what


def test_a_timeout_below_the_expected_run_is_refused(write: Write) -> None:
    (problem,) = _check(write("shop.yaml", ("expected_run: 4m", "expected_run: 4m, timeout: 3m"))).problems
    assert problem.key == "sources.database.tiers.wal.timeout"


def test_a_signing_key_that_is_not_valid_now_is_refused(write: Write) -> None:
    verdict = _check(write(), now=datetime(2025, 12, 31, tzinfo=UTC))
    assert [problem.key for problem in verdict.problems] == ["signing.trusted.0.valid_from"]


def test_what_a_person_should_know_is_told(write: Write) -> None:
    start = "valid_from: 2026-01-01T00:00:00Z"
    until = (start, f"{start}\n      valid_until: 2026-12-01T00:00:00Z")
    review = ("system: shop", "system: shop\nreviews: {version: x, last: 2026-01-01, next: 2026-11-21, every: 90d}")
    tls = ("    connection: shop_database\n", "    connection: shop_database\n    tls: require\n")
    notices = " ".join(_check(write("shop.yaml", until, review, tls)).notices)
    alone = ("Nobody is named", "no channel", "one target only")
    for words in (*alone, "`tls: require`", "ends on 2026-12-01", "was due on 2026-11-21"):
        assert words in notices


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30]), st.integers(0, 7200), st.integers(1, 7200))
def test_the_worst_case_is_the_period_the_queue_and_the_run(minutes: int, queue: int, run: int) -> None:
    tier = TierPolicy(
        schedule=f"*/{minutes} * * * *",
        retention=Duration(seconds=86400),
        expected_queue=Duration(seconds=queue),
        expected_run=Duration(seconds=run),
    )
    case = worst_case_of(Tier.WAL, tier, ZoneInfo("Europe/Paris"), date(2026, 1, 1))
    assert case is not None
    assert case.total == max(timedelta(minutes=minutes), timedelta(seconds=run)) + timedelta(seconds=queue + run)


FOLLOW = 'schedule: "*/15 * * * *", mode: follow, retention: 30d, expected_run: 30s'


def test_following_makes_the_worst_case_a_flush_or_a_hand_over_and_its_commit(write: Write) -> None:
    verdict = _check(write("shop.yaml", _wal(FOLLOW)))
    assert verdict.problems == ()
    # 10 s before the next is due, 60 s for a worker, 20 s for its start: longer than the flush of 60 s.
    assert verdict.worst_cases["database"].total == timedelta(minutes=2)
    assert verdict.worst_cases["database"].period == timedelta(minutes=15)
    quick = _check(write("shop.yaml", _wal(f"{FOLLOW}, expected_queue: 0s, flush_every: 5m")))
    assert quick.worst_cases["database"].total == timedelta(minutes=5, seconds=30)


@pytest.mark.parametrize(
    ("keys", "remedy"),
    [
        ("flush_every: 15m", "Flush at least every 14m 30s, or change the objective."),
        ("expected_queue: 14m 1s", "Between two runs alone it takes that long"),
    ],
)
def test_a_policy_that_follows_and_breaks_its_objective_is_refused(write: Write, keys: str, remedy: str) -> None:
    (problem,) = _check(write("shop.yaml", _wal(f"{FOLLOW}, {keys}"))).problems
    assert problem.key == "sources.database.tiers.wal.flush_every"
    assert "waits up to" in problem.what
    assert remedy in problem.remedy


def test_a_timeout_that_ends_a_run_while_it_follows_is_refused(write: Write) -> None:
    (problem,) = _check(write("shop.yaml", _wal(f"{FOLLOW}, timeout: 15m"))).problems
    assert problem.key == "sources.database.tiers.wal.timeout"
    assert "follows for up to 15m 30s" in problem.what
    assert _check(write("shop.yaml", _wal(f"{FOLLOW}, timeout: 15m 30s"))).problems == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_wal("mode: follow, retention: 30d"), "without a `schedule` none ever is"),
        (_wal(f"{FOLLOW}, flush_every: 9s"), "thousands a day"),
        (('daily: {schedule: "0 2 * * *"', 'daily: {mode: follow, schedule: "0 2 * * *"'), "Only the tier `wal`"),
    ],
)
def test_what_can_not_be_followed_is_refused(write: Write, change: tuple[str, str], words: str) -> None:
    with pytest.raises(PolicyRefused) as refused:
        load_policy(write("shop.yaml", change))
    assert any(words in problem.what for problem in refused.value.problems)


QUARTERS = "*/15 * * * *"


@pytest.mark.parametrize(
    ("now", "due", "stay"),
    [
        # It began a little after it was due: until shortly before the next is.
        ("02:00:07", "02:00:00", timedelta(minutes=14, seconds=43)),
        # This worker's clock is a little behind the scheduler's.
        ("01:59:58", "02:00:00", timedelta(minutes=14, seconds=52)),
        # A retry, long after.
        ("02:21:00", "02:00:00", timedelta(minutes=8, seconds=50)),
        # The next one is due at any moment.
        ("02:14:55", "02:00:00", timedelta()),
    ],
)
def test_a_run_follows_until_shortly_before_the_next_is_due(now: str, due: str, stay: timedelta) -> None:
    def at(clock: str) -> datetime:
        return datetime.fromisoformat(f"2026-11-22T{clock}Z")

    assert stay_of(QUARTERS, ZoneInfo("UTC"), at(now), at(due)) == stay
