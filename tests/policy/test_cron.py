from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from lifeboat.policy.cron import checked_cron, longest_gap, moment_of, next_run
from lifeboat.policy.problems import Refused

YEAR = date(2026, 1, 1)
PARIS = ZoneInfo("Europe/Paris")
LINES = [
    "*/5 * * * *", "*/7 * * * *", "*/15 0-22 * * *", "30 2 * * *", "0 */4 * * *", "0 1 * * 0#1", "0 6 L 3,6,9,12 *",
    "15,45 1-3 * * *", "0 * * * 1", "0 4 1 1 *", "0 0 29 2 *", "10 2 * * sun", "*/20 1,2,3 25-31 3,10 *", "0 0 * * L5",
]  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_good_lines_are_kept(line: str) -> None:
    assert checked_cron(f"  {line}  ") == line


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 1 1-7 * 1", "either of them"),
        ("0 1 */2 * 1", "either of them"),
        ("0 1 L */3 *", "not of the quarters"),
        ("0 1 30 2 *", "No date ever"),
        ("@daily", "five fields"),
        ("0 2 * * * 30", "five fields"),
        ("", "five fields"),
        ("0 25 * * *", "no cron line"),
        ("0 1 * * 1#6", "no cron line"),
        ("R 2 * * *", "random"),
        ("H(0-29) 2 * * *", "random"),
        ("five past * * two", "no cron line"),
    ],
)
def test_traps_are_refused_with_a_remedy(line: str, words: str) -> None:
    with pytest.raises(Refused) as caught:
        checked_cron(line)
    assert words in caught.value.what
    assert caught.value.remedy


def test_the_longest_gap_of_a_day_is_longer_where_the_clock_goes_back() -> None:
    gap = longest_gap("*/15 0-22 * * *", PARIS, YEAR)
    assert gap.length == timedelta(hours=1, minutes=15)
    assert longest_gap("0 2 * * *", PARIS, YEAR).length == timedelta(hours=25)
    assert longest_gap("0 2 * * *", UTC, YEAR).length == timedelta(hours=24)


def test_a_line_that_runs_every_hour_goes_on_by_real_time() -> None:
    assert longest_gap("*/5 * * * *", PARIS, YEAR).length == timedelta(minutes=5)
    assert longest_gap("*/45 * * * *", PARIS, YEAR).length == timedelta(minutes=45)


def test_a_time_that_occurs_twice_is_its_second_and_one_that_is_skipped_comes_later() -> None:
    twice, skipped = datetime.combine(date(2026, 10, 25), time(2, 30)), datetime.combine(date(2026, 3, 29), time(2, 30))
    assert moment_of(twice, PARIS) == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    assert moment_of(skipped, PARIS) == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)


def test_five_weeks_may_lie_between_two_first_sundays() -> None:
    assert longest_gap("0 1 * * 0#1", UTC, YEAR).length == timedelta(weeks=5)


def test_a_yearly_line_has_its_year_and_a_leap_day_its_four() -> None:
    assert longest_gap("0 4 1 1 *", UTC, YEAR).length == timedelta(days=365)
    assert longest_gap("0 0 29 2 *", UTC, YEAR).length == timedelta(days=1461)


def _brute(line: str, zone: ZoneInfo, year_from: date) -> timedelta:
    """Every run of the year, one after the other, the way Airflow steps from one to the next."""
    start = datetime.combine(year_from, time())
    fixed = croniter(line, start).expanded[1] == ["*"]
    current = moment_of(croniter(line, start, max_years_between_matches=9).get_prev(datetime), zone)
    longest = timedelta()
    while True:
        naive = current.astimezone(zone).replace(tzinfo=None)
        following = croniter(line, naive, max_years_between_matches=9).get_next(datetime)
        after = current + (following - naive) if fixed else moment_of(following, zone)
        longest = max(longest, after - current)
        current = after
        if naive > start + timedelta(days=366):
            return longest


_MINUTES = st.sampled_from(["0", "30", "15,45"])
_HOURS = st.sampled_from(["2", "*/4", "1-3", "1,2,3", "*/6"])
_DAYS = st.sampled_from(["* * *", "* * 0", "* * 1#1", "L 3,6,9,12 *", "25-31 3,10 *", "* * mon-fri"])
_ZONES = st.sampled_from(["UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca"])


@settings(max_examples=8, deadline=None)
@given(_MINUTES, _HOURS, _DAYS, _ZONES.map(ZoneInfo), st.dates(date(2025, 1, 1), date(2030, 1, 1)))
def test_the_longest_gap_is_that_of_every_single_run(
    minute: str, hour: str, days: str, zone: ZoneInfo, year_from: date
) -> None:
    line = f"{minute} {hour} {days}"
    gap = longest_gap(line, zone, year_from).length
    brute = _brute(line, zone, year_from)
    # Both look at one year; at its edges one of them may see one run more.
    assert gap >= brute or gap == _brute(line, zone, year_from - timedelta(days=1))


_ASK_AIRFLOW = """
import json, sys
from airflow.timetables._cron import CronMixin
import pendulum
lines, zone, spans = json.load(sys.stdin)
answer = []
for line in lines:
    cron = CronMixin(line, zone)
    for start, end in spans:
        now, until, runs = pendulum.parse(start), pendulum.parse(end), []
        while now < until:
            now = cron._get_next(now)
            runs.append(now.isoformat())
        answer.append([line, runs])
print("ANSWER" + json.dumps(answer))
"""


def test_airflow_itself_makes_the_same_gaps_over_both_changes_of_the_clock(tmp_path: Path) -> None:
    lines = ["*/15 0-22 * * *", "30 2 * * *", "15,45 1-3 * * *", "0 */4 * * *", "*/20 * * * *"]
    spans = [("2026-03-27T00:00:00Z", "2026-03-31T00:00:00Z"), ("2026-10-23T00:00:00Z", "2026-10-27T00:00:00Z")]
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    answer = subprocess.run(
        [sys.executable, "-c", _ASK_AIRFLOW],
        input=json.dumps([lines, "Europe/Paris", spans]),
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    longest: dict[str, timedelta] = dict.fromkeys(lines, timedelta())
    for line, runs in json.loads(answer.stdout.split("ANSWER")[1]):
        for early, late in pairwise(datetime.fromisoformat(run) for run in runs):
            longest[line] = max(longest[line], late - early)
            assert next_run(line, PARIS, early) == late
    assert longest == {line: longest_gap(line, PARIS, YEAR).length for line in lines}


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(LINES),
    _ZONES.map(ZoneInfo),
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_the_next_run_is_the_first_one_after_the_moment(line: str, zone: ZoneInfo, moment: datetime) -> None:
    due = next_run(line, zone, moment)
    assert due > moment
    naive = (moment - timedelta(days=2)).astimezone(zone).replace(tzinfo=None)
    fixed = croniter(line, naive).expanded[1] == ["*"]
    cron = croniter(line, naive, max_years_between_matches=9)
    while (following := moment_of(cron.get_next(datetime), zone)) <= moment:
        pass
    # A line that runs in every hour goes on by real time: on the days of a change of the clock nobody's list has that.
    changes = zone.utcoffset(naive) != zone.utcoffset(due.astimezone(zone).replace(tzinfo=None))
    assert due == following or (fixed and changes)


def test_the_next_run_comes_twice_as_late_in_the_hour_that_comes_twice_only_for_lines_on_the_clock() -> None:
    # Paris sets its clock back at 01:00 UTC: 02:30 comes at 00:30 and at 01:30 UTC, and means the second.
    half_past = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert next_run("*/15 * * * *", PARIS, half_past) == half_past + timedelta(minutes=15)
    assert next_run("30 2 * * *", PARIS, half_past) == half_past + timedelta(hours=1)
    assert next_run("0 4 * * *", PARIS, half_past) == datetime(2026, 10, 25, 3, tzinfo=UTC)
