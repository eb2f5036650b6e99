"""``lifeboat report evidence``, on targets that are directories."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from lifeboat.cli.program import run
from lifeboat.cli.report import _period
from lifeboat.errors import PolicyError
from lifeboat.recovery.evidence import Record
from tests.cli.conftest import Said
from tests.proving.test_evidence import kept, record
from tests.repository.conftest import demo_system, make_world, world
from tests.repository.world import World

__all__ = ["demo_system", "make_world", "world"]

DAILY = '\ntests:\n  schedule: "0 0 * * *"\n\nsources:\n'
CHECK = Path(__file__).resolve().parents[2] / "include" / "auditor" / "check_evidence.py"
NEW_YORK = ZoneInfo("America/New_York")


class Desk:
    """A person at a command line, and a system of which one restore was tested, on the day before yesterday."""

    def __init__(self, world: World, room: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.world = world
        self.archive = room / "evidence.tar.gz"
        self.day = (datetime.now(UTC) - timedelta(days=2)).replace(hour=0, minute=0, second=0, microsecond=0)
        self.world.clock.now = self.day
        self.record: Record = kept(world, record(begun=self.day + timedelta(seconds=1)), "primary")
        self._capsys = capsys

    def report(self, *words: str, since: str = "", until: str = "") -> Said:
        day = f"{self.day:%Y-%m-%d}"
        period = ["--from", since or day, "--to", until or day]
        return self.call("report", "evidence", "demo", *period, "--into", str(self.archive), *words)

    def call(self, *words: str) -> Said:
        self._capsys.readouterr()
        code = run(["--policies", str(self.world.policy.parent), *words])
        return Said(code, *self._capsys.readouterr())


@pytest.fixture
def desk(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.delenv("COLUMNS", raising=False)
    return Desk(world.bent("\nsources:\n", DAILY), tmp_path, capsys)


def test_a_report_shows_each_record_with_its_controls_and_makes_an_archive_that_the_script_believes(desk: Desk) -> None:
    told = desk.report()
    assert told.code == 0, told.err
    assert desk.record.id in told.out
    assert "restore test" in told.out
    assert "passed" in told.out
    assert "A1.2, A1.3, A.8.13, CP-9(1)" in told.out
    assert "Due, and without" not in told.out
    assert hashlib.sha256(desk.archive.read_bytes()).hexdigest() in told.out
    keys = desk.archive.with_name("keys.json")
    shown = desk.call("policy", "show", "demo", "--json").json
    keys.write_text(json.dumps(shown["policy"]["signing"]["trusted"]))
    words = [sys.executable, "-I", str(CHECK), str(desk.archive), str(keys)]
    checked = subprocess.run(words, capture_output=True, text=True, env={}, check=True)
    assert desk.record.id in checked.stdout


def test_a_report_in_json_is_the_archives_index_and_where_it_lies(desk: Desk) -> None:
    document = desk.report("--json").json
    with tarfile.open(desk.archive) as archive:
        index = json.load(archive.extractfile("index.json"))  # type: ignore[arg-type]
    assert (
        document
        == {
            "file": os.fspath(desk.archive),
            "sha256": hashlib.sha256(desk.archive.read_bytes()).hexdigest(),
            "whole": True,
        }
        | index
    )
    assert [row["id"] for row in document["records"]] == [desk.record.id]


def test_runs_that_were_missed_are_shown_and_are_no_failure(desk: Desk) -> None:
    before = desk.day - timedelta(days=2)
    told = desk.report(since=f"{before:%Y-%m-%d}")
    assert told.code == 0
    assert "Due, and without a record" in told.out
    assert f"{before:%Y-%m-%d} 00:00:00 UTC" in told.out
    assert sum(line.endswith(" missed") for line in map(str.rstrip, told.out.splitlines())) == 2


def unlink_record(desk: Desk) -> None:
    desk.world.file(desk.record.key).unlink()


def unlink_event(desk: Desk) -> None:
    (event,) = desk.world.roots["primary"].glob("demo/journal/**/*.json")
    event.unlink()


def change_record(desk: Desk) -> None:
    path = desk.world.file(desk.record.key)
    path.chmod(0o600)
    path.write_text(path.read_text().replace("tester", "nobody"))


@pytest.mark.parametrize(
    ("harm", "said"),
    [(unlink_record, "missing: "), (unlink_event, "unannounced: "), (change_record, "not believed: ")],
)
def test_what_is_amiss_is_said_and_ends_with_1_and_the_archive_is_made(
    desk: Desk, harm: Callable[[Desk], None], said: str
) -> None:
    harm(desk)
    told = desk.report()
    assert told.code == 1
    assert said in told.err
    assert desk.record.id in told.err
    assert desk.archive.is_file()


def test_the_next_target_is_read_where_the_first_is_away(desk: Desk) -> None:
    kept(desk.world, record(begun=desk.day + timedelta(seconds=1), mark="fedcba98"), "primary", "offsite")
    desk.world.roots["primary"].joinpath(".lifeboat-target").unlink()
    told = desk.report()
    assert "The target primary is out of reach" in told.err
    assert "evidence on offsite" in told.out
    # The journal is on the primary target alone here: that nothing announces the record there is said.
    assert told.code == 1
    assert desk.report("--target", "primary").code == 1


def test_a_named_target_that_is_away_is_an_error_and_makes_no_archive(desk: Desk) -> None:
    desk.world.roots["primary"].joinpath(".lifeboat-target").unlink()
    told = desk.report("--target", "primary")
    assert told.code == 1
    assert told.err.startswith("error: ")
    assert not desk.archive.exists()


def test_no_archive_is_overwritten(desk: Desk) -> None:
    desk.archive.write_text("mine")
    told = desk.report()
    assert told.code == 1
    assert "is there already" in told.err
    assert desk.archive.read_text() == "mine"
    # It is said before anything is read.
    desk.world.roots["primary"].joinpath(".lifeboat-target").unlink()
    assert "is there already" in desk.report("--target", "primary").err


@pytest.mark.parametrize(
    ("since", "until", "said"),
    [
        ("yesterday", "2026-11-30", "--from 'yesterday' is neither a day nor a time"),
        ("2026-11-01", "2026-02-31", "--to '2026-02-31' is neither a day nor a time"),
        ("2026-11-02", "2026-11-01", "ends before it begins"),
        ("2026-11-01", "9999-12-31", "neither a day nor a time"),
    ],
)
def test_a_period_that_is_none_is_refused(desk: Desk, since: str, until: str, said: str) -> None:
    told = desk.report(since=since, until=until)
    assert told.code == 1
    assert said in told.err
    assert "→" in told.err
    assert not desk.archive.exists()


def test_days_are_whole_days_on_the_policys_clock_and_times_are_themselves() -> None:
    period = _period("2026-03-08", "2026-03-08", NEW_YORK)
    assert period.since == datetime(2026, 3, 8, 5, tzinfo=UTC)
    # The clock was set on in that night: the day has 23 hours.
    assert period.until == datetime(2026, 3, 9, 3, 59, 59, 999_999, tzinfo=UTC)
    period = _period("2026-03-08 12:00", "2026-03-08T18:30:15Z", NEW_YORK)
    assert period.since == datetime(2026, 3, 8, 16, tzinfo=UTC)
    assert period.until == datetime(2026, 3, 8, 18, 30, 15, 999_999, tzinfo=UTC)


def test_a_time_that_came_twice_is_asked_back() -> None:
    with pytest.raises(PolicyError, match="twice or never"):
        _period("2026-11-01 01:30:00", "2026-11-02", NEW_YORK)
