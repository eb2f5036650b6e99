"""A database backed up, listed, verified and brought back, all at the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from sandbox.accounts import remove_server_directory, server_directory
from sandbox.postgres import PostgresServer
from tests.cli.conftest import Ledger, Said

Command = Callable[..., Said]


def rows_of(data: Path, log: Path, ledger: Ledger) -> list[int]:
    """Start a restored server and read its table."""
    with PostgresServer.on_data(
        log, data, passwords=ledger.protected.server.passwords, settings={"archive_mode": "off"}
    ) as server:
        return [row[0] for row in server.run_sql("SELECT n FROM ledger ORDER BY n")]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    yield server_directory(tmp_path / "place")
    remove_server_directory(tmp_path / "place")


def test_a_restore_to_a_time_holds_exactly_the_rows_committed_by_then(
    ledger: Ledger, place: Path, lifeboat: Command, tmp_path: Path
) -> None:
    said = lifeboat(
        ledger.protected, "restore", "demo", "database", "--at", ledger.times[3], "--into", str(place / "data"), "--yes"
    )
    assert said.code == 0, said.err
    assert "Restored" in said.out
    assert "What to do next" in said.out
    assert "lifeboat backup demo database --tier daily" in said.out
    assert rows_of(place / "data", tmp_path / "again", ledger) == [0, 1, 2, 3]


def test_the_latest_moment_comes_from_the_offsite_copy_with_the_break_glass_key_alone(
    ledger: Ledger, place: Path, lifeboat: Command, tmp_path: Path
) -> None:
    keys = ledger.protected.system.keys
    away = {keys / name: (keys / name).read_bytes() for name in ("local.key", "signing.pem")}
    for file in away:
        file.unlink()
    try:
        said = lifeboat(
            ledger.protected,
            *("restore", "demo", "database", "--target", "offsite", "--into", str(place / "data"), "--yes", "--json"),
            *("--break-glass-key", str(ledger.protected.system.break_glass)),
        )
    finally:
        for file, content in away.items():
            file.write_bytes(content)
            file.chmod(0o600)
    assert said.code == 0, said.err
    assert "Nothing of this is written to the journal" in said.err
    restored = said.json["restored"]
    assert said.json["plan"]["target"] == "offsite"
    assert set(restored) == {
        *(
            "into",
            "last_commit",
            "stopped_at",
            "reason",
            "timeline",
            "to_the_end",
            "databases",
            "phases",
            "seconds",
            "aside",
        )
    }
    assert set(restored["phases"]) == {"fetch", "stage", "replay", "check"}
    assert rows_of(place / "data", tmp_path / "again", ledger) == [0, 1, 2, 3, 4, 5]


def test_a_named_restore_point_is_reached(ledger: Ledger, place: Path, lifeboat: Command, tmp_path: Path) -> None:
    said = lifeboat(
        ledger.protected,
        *("restore", "demo", "database", "--name", "half way", "--into", str(place / "data"), "--yes"),
    )
    assert said.code == 0, said.err
    assert rows_of(place / "data", tmp_path / "again", ledger) == [0, 1, 2]


def test_a_recovery_point_is_brought_back_as_it_was(
    ledger: Ledger, place: Path, lifeboat: Command, tmp_path: Path
) -> None:
    said = lifeboat(
        ledger.protected,
        *("restore", "demo", "database", "--recovery-point", ledger.full, "--into", str(place / "data"), "--yes"),
    )
    assert said.code == 0, said.err
    assert rows_of(place / "data", tmp_path / "again", ledger) == []


def test_the_plan_shows_everything_and_does_nothing(ledger: Ledger, place: Path, lifeboat: Command) -> None:
    words = ("restore", "demo", "database", "--at", ledger.times[3], "--into", str(place / "data"), "--plan")
    said = lifeboat(ledger.protected, *words)
    assert said.code == 0, said.err
    for piece in ("asked for", "from target", "local", ledger.full, "reachable", "needed", "postgres", "plpgsql"):
        assert piece in said.out
    plan = lifeboat(ledger.protected, *words, "--json").json
    assert plan["base"]["id"] == ledger.full
    assert plan["wal"]["segments"] >= 1
    assert plan["room_bytes"] > plan["base"]["plain_size"]
    assert plan["free_bytes"] > 0
    assert plan["obstacles"] == []
    assert [(row["from"] < row["until"]) for row in plan["reachable"]] == [True]
    assert list(place.iterdir()) == []


def test_a_time_without_an_offset_is_shown_as_it_was_understood(ledger: Ledger, place: Path, lifeboat: Command) -> None:
    naive = datetime.fromisoformat(ledger.times[3]).replace(tzinfo=None)
    said = lifeboat(
        ledger.protected, "restore", "demo", "database", "--at", str(naive), "--into", str(place / "data"), "--plan"
    )
    assert said.code == 0, said.err
    assert f"{naive} on the clock of UTC" in said.out


def test_the_list_names_points_copies_ranges_and_verifications(ledger: Ledger, lifeboat: Command) -> None:
    said = lifeboat(ledger.protected, "list", "demo")
    assert said.code == 0, said.err
    for piece in (ledger.full, "Reachable on offsite", "local: 2"):
        assert piece in said.out
    assert "-wal-" not in said.out  # ranges, not runs


def test_the_list_for_programs_has_the_documented_fields(ledger: Ledger, lifeboat: Command) -> None:
    document = lifeboat(ledger.protected, "list", "demo", "database", "--wal", "--json").json
    assert set(document) == {"system", "sources", "out_of_reach"}
    (source,) = document["sources"]
    assert set(source) == {"source", "recovery_points", "wal", "wal_runs", "reachable", "findings"}
    assert source["findings"] == []
    _, full = source["recovery_points"]
    assert full["id"] == ledger.full
    assert full["kind"] == "full"
    assert full["state"] == "good"
    assert full["note"] == "the second"
    assert [copy["target"] for copy in full["copies"]] == ["primary", "offsite", "local"]
    assert all(copy["last_verified"]["good"] for copy in full["copies"])
    assert len({copy["manifest_sha256"] for copy in full["copies"]}) == 1
    assert [run["timeline"] for run in source["wal_runs"]] == [1, 1]
    assert {one["target"] for one in source["wal"]} == {"primary", "offsite", "local"}
    assert all(one["runs"] == 2 for one in source["wal"])
    assert {one["target"] for one in source["reachable"]} == {"primary", "offsite", "local"}


def test_one_target_alone_can_be_listed(ledger: Ledger, lifeboat: Command) -> None:
    document = lifeboat(ledger.protected, "list", "demo", "--target", "local", "--json").json
    for full in document["sources"][0]["recovery_points"]:
        assert [copy["target"] for copy in full["copies"]] == ["local"]


def test_a_deep_verification_opens_every_copy_of_everything(ledger: Ledger, lifeboat: Command) -> None:
    said = lifeboat(ledger.protected, "verify", "demo", "--deep", "--json")
    assert said.code == 0, said.err + said.out
    document = said.json
    assert document["ok"] is True
    assert document["findings"] == []
    assert len(document["copies"]) == 12
    assert {copy["method"] for copy in document["copies"]} == {"deep"}


def test_the_journal_tells_of_the_backups_and_is_whole(ledger: Ledger, lifeboat: Command) -> None:
    shown = lifeboat(ledger.protected, "journal", "show", "demo", "--since", "1d", "--json")
    assert shown.code == 0, shown.err
    kinds = [event["kind"] for event in shown.json["events"]]
    assert kinds.count("backup_committed") == 4
    assert kinds.count("copy_committed") == 8
    assert shown.json["problems"] == []
    assert all("@" in event["actor"] for event in shown.json["events"])
    verified = lifeboat(ledger.protected, "journal", "verify", "demo", "--json")
    assert verified.code == 0, verified.out
    assert verified.json["ok"] is True
    assert {row["target"] for row in verified.json["targets"]} == {"primary", "offsite", "local"}


def test_nothing_remains_of_work_that_ended_well(ledger: Ledger, lifeboat: Command) -> None:
    said = lifeboat(ledger.protected, "remains", "demo", "database", "--json")
    assert said.code == 0, said.err
    assert said.json["remains"] == {"primary": [], "offsite": [], "local": []}
