"""Missed runs: what was due and has no record, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from lifeboat.policy.drills import ProofPolicy
from lifeboat.policy.model import Policy
from lifeboat.recovery.evidence import Record, RecordKind
from lifeboat.recovery.missed import MissedRun, due_times, missed_runs, read_until
from tests.proving.test_evidence import record

FIRST_MONDAYS = "0 6 * * 1#1"
SCHEDULES = [FIRST_MONDAYS, "0 6 L 3,6,9,12 *", "30 2 * * *", "0 5 * * 0", "0 0 1 * *", "15 */6 * * *"]
ZONES = ["UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]
BEGIN, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 12, 31, tzinfo=UTC)

schedules = st.sampled_from(SCHEDULES)
zones = st.sampled_from(ZONES)
moments = st.datetimes(BEGIN.replace(tzinfo=None), END.replace(tzinfo=None), timezones=st.just(UTC))
spans = st.timedeltas(timedelta(), timedelta(days=40))
offsets = st.timedeltas(timedelta(days=-10), timedelta(days=100))


def policy_of(tests: str | None = None, drills: str | None = None, zone: str = "UTC") -> Policy:
    """A policy of which nothing but its schedules and its zone is read."""
    parts = {"tests": tests, "drills": drills}
    proofs: dict[str, Any] = {name: ProofPolicy(schedule=line) if line else None for name, line in parts.items()}
    return Policy.model_construct(timezone=zone, **proofs)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def begun(when: datetime, kind: RecordKind = "restore_test") -> Record:
    return record(begun=when, kind=kind)


def missed(
    policy: Policy, *records: Record, since: str = "2026-09-01", until: str = "2026-11-30", now: str = "2027-01-01"
) -> list[MissedRun]:
    return missed_runs(policy, records, since=at(since), until=at(until), now=at(now))


def moved(since: datetime, later: list[timedelta]) -> list[datetime]:
    """Whole milliseconds, as times of records are."""
    return [since.replace(microsecond=0) + timedelta(milliseconds=one // timedelta(milliseconds=1)) for one in later]


def test_a_due_time_without_a_record_before_the_next_one_is_missed() -> None:
    runs = missed(policy_of(FIRST_MONDAYS), begun(at("2026-09-07T06:00")), begun(at("2026-11-30T12:00")))
    assert runs == [MissedRun("restore_test", at("2026-10-05T06:00"), at("2026-11-02T06:00"), may_come=False)]


def test_a_record_from_just_before_the_due_time_is_not_of_it() -> None:
    policy = policy_of(FIRST_MONDAYS)
    runs = missed(policy, begun(at("2026-10-05T05:59:59")), since="2026-10-05", until="2026-10-31")
    assert [run.due for run in runs] == [at("2026-10-05T06:00")]
    assert missed(policy, begun(at("2026-10-05T06:00")), since="2026-10-05", until="2026-10-31") == []


def test_a_record_of_the_next_due_time_is_not_of_this_one() -> None:
    runs = missed(policy_of(FIRST_MONDAYS), begun(at("2026-11-02T06:00")), since="2026-10-01", until="2026-10-31")
    assert [run.due for run in runs] == [at("2026-10-05T06:00")]


def test_a_test_that_failed_was_not_missed() -> None:
    failed = record(begun=at("2026-10-05T07:00"), lacking={"files": "nothing"})
    assert not failed.passed
    assert missed(policy_of(FIRST_MONDAYS), failed, since="2026-10-01", until="2026-10-31") == []


def test_a_record_of_another_kind_is_none_of_this_kind() -> None:
    policy = policy_of(tests=FIRST_MONDAYS, drills="0 6 10 * *")
    records = begun(at("2026-10-05T07:00"), "drill"), begun(at("2026-10-10T07:00"))
    runs = missed(policy, *records, since="2026-10-05", until="2026-10-31")
    assert [(run.kind, run.due) for run in runs] == [("drill", at("2026-10-10T06:00"))]
    runs = missed(policy, records[0], since="2026-10-05", until="2026-10-31")
    assert [run.kind for run in runs] == ["restore_test", "drill"]


def test_what_is_due_is_not_missed_for_good_until_the_next_is_due() -> None:
    policy = policy_of(FIRST_MONDAYS)
    (late,) = missed(policy, since="2026-11-01", now="2026-11-26")
    assert late == MissedRun("restore_test", at("2026-11-02T06:00"), at("2026-12-07T06:00"), may_come=True)
    (gone,) = missed(policy, since="2026-11-01", now="2026-12-07T06:00")
    assert not gone.may_come


def test_what_lies_ahead_is_not_missed() -> None:
    assert missed(policy_of(FIRST_MONDAYS), since="2026-11-01", now="2026-11-02T05:59:59") == []
    assert len(missed(policy_of(FIRST_MONDAYS), since="2026-11-01", now="2026-11-02T06:00")) == 1


def test_due_times_are_on_the_clock_of_the_policys_zone() -> None:
    runs = missed(policy_of("0 6 * * *", zone="Europe/Paris"), since="2026-10-24", until="2026-10-26")
    assert [run.due for run in runs] == [at("2026-10-24T04:00"), at("2026-10-25T05:00")]


def test_a_policy_without_schedules_misses_nothing() -> None:
    assert missed(policy_of()) == []


@given(schedules, zones, moments, spans, offsets, st.lists(offsets, max_size=20))
def test_a_due_time_is_missed_if_and_only_if_no_record_lies_in_its_span(
    schedule: str, zone: str, since: datetime, length: timedelta, present: timedelta, later: list[timedelta]
) -> None:
    policy, until, now, times = policy_of(schedule, zone=zone), since + length, since + present, moved(since, later)
    records = [begun(time) for time in times]
    runs = missed_runs(policy, records, since=since, until=until, now=now)
    kept = {run.due: run for run in runs}
    assert [run.due for run in runs] == sorted(kept)
    for due, following in due_times(schedule, ZoneInfo(zone), since, until):
        answered = any(due <= time < following for time in times)
        assert (due in kept) == (due <= now and not answered)
        if due in kept:
            assert kept[due].following == following
            assert kept[due].may_come == (now < following)
    assert set(kept) <= {due for due, _ in due_times(schedule, ZoneInfo(zone), since, until)}


@given(schedules, zones, moments, spans)
def test_due_times_are_those_of_the_period_and_leave_none_out(
    schedule: str, zone: str, since: datetime, length: timedelta
) -> None:
    times = list(due_times(schedule, ZoneInfo(zone), since, since + length))
    assert all(since <= due <= since + length for due, _ in times)
    assert all(due < following for due, following in times)
    # A longer period has the same ones inside this one, in unbroken succession.
    longer = list(due_times(schedule, ZoneInfo(zone), since - timedelta(days=3), since + length + timedelta(days=3)))
    assert [pair for pair in longer if since <= pair[0] <= since + length] == times
    assert [following for _, following in longer[:-1]] == [due for due, _ in longer[1:]]


@given(schedules, zones, moments, spans, moments)
def test_a_record_at_every_due_time_leaves_nothing_missed(
    schedule: str, zone: str, since: datetime, length: timedelta, now: datetime
) -> None:
    policy, until = policy_of(drills=schedule, zone=zone), since + length
    records = [begun(due, "drill") for due, _ in due_times(schedule, ZoneInfo(zone), since, until)]
    assert missed_runs(policy, records, since=since, until=until, now=now) == []


@given(schedules, zones, moments, spans, offsets, st.lists(offsets, max_size=20))
def test_records_begun_after_what_is_read_change_nothing(
    schedule: str, zone: str, since: datetime, length: timedelta, present: timedelta, later: list[timedelta]
) -> None:
    policy, until, now = policy_of(schedule, zone=zone), since + length, since + present
    times = [time for time in moved(since, later) if time <= now]
    last = read_until(policy, since=since, until=until, now=now)
    assert last <= now
    about: dict[str, Any] = {"since": since, "until": until, "now": now}
    whole = missed_runs(policy, [begun(time) for time in times], **about)
    assert missed_runs(policy, [begun(time) for time in times if since <= time <= last], **about) == whole


def test_records_are_read_until_the_due_time_after_the_last_one_or_the_present() -> None:
    def until(now: str) -> datetime:
        return read_until(policy_of(FIRST_MONDAYS), since=at("2026-10-01"), until=at("2026-10-31"), now=at(now))

    assert until("2026-12-01") == at("2026-11-02T06:00")
    assert until("2026-11-01") == at("2026-11-01")
    assert until("2026-10-03") == at("2026-10-03")
    none = read_until(policy_of(), since=at("2026-10-01"), until=at("2026-10-31"), now=at("2026-12-01"))
    assert none == at("2026-10-31")


def test_a_due_time_within_the_periods_first_second_and_before_it_is_not_of_the_period() -> None:
    since = at("2026-10-05T06:00:00.500")
    assert list(due_times(FIRST_MONDAYS, ZoneInfo("UTC"), since, at("2026-10-31"))) == []
    times = list(due_times(FIRST_MONDAYS, ZoneInfo("UTC"), at("2026-10-05T06:00"), at("2026-10-05T06:00")))
    assert times == [(at("2026-10-05T06:00"), at("2026-11-02T06:00"))]
