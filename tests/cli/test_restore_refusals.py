"""What a restore refuses, before anything is touched."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox.accounts import remove_server_directory, server_directory
from tests.cli.conftest import Ledger, Said

Command = Callable[..., Said]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    yield server_directory(tmp_path / "place")
    remove_server_directory(tmp_path / "place")


def restore(ledger: Ledger, lifeboat: Command, into: Path, *words: str) -> Said:
    return lifeboat(ledger.protected, "restore", "demo", "database", "--into", str(into), *words)


def test_without_yes_and_without_anybody_to_ask_nothing_is_done(
    ledger: Ledger, lifeboat: Command, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    said = restore(ledger, lifeboat, place / "data", "--latest")
    assert said.code == 1
    assert "asked for" in said.out  # the plan was shown
    assert "Nobody is there to be asked" in said.err
    assert "--yes" in said.err
    assert list(place.iterdir()) == []


def test_a_destination_that_is_not_empty_is_left_alone(ledger: Ledger, lifeboat: Command, place: Path) -> None:
    (place / "data").mkdir()
    (place / "data" / "precious").write_text("mine")
    said = restore(ledger, lifeboat, place / "data", "--yes")
    assert said.code == 1
    assert "is not empty" in said.err
    assert "→" in said.err
    assert [path.name for path in place.rglob("*")] == ["data", "precious"]
    planned = restore(ledger, lifeboat, place / "data", "--plan", "--json")
    assert planned.code == 1
    assert "is not empty" in planned.json["obstacles"][0]


def test_what_looks_like_no_data_directory_is_not_renamed_either(
    ledger: Ledger, lifeboat: Command, place: Path
) -> None:
    (place / "data").mkdir()
    (place / "data" / "precious").write_text("mine")
    said = restore(ledger, lifeboat, place / "data", "--replace-directory", "--yes")
    assert said.code == 1
    assert "no data directory of PostgreSQL: it won't be renamed" in said.err
    assert [path.name for path in place.rglob("*")] == ["data", "precious"]


@pytest.mark.parametrize(
    ("words", "piece"),
    [
        (("--into", "/nowhere", "--replace-database"), "single databases and tables come from a logical archive"),
        (("--connection", "any", "--replace-directory"), "for a physical backup"),
    ],
)
def test_each_word_is_for_what_it_replaces(
    ledger: Ledger, lifeboat: Command, words: tuple[str, ...], piece: str
) -> None:
    said = lifeboat(ledger.protected, "restore", "demo", "database", *words, "--yes")
    assert said.code == 1
    assert piece in said.err


@pytest.mark.parametrize(
    ("words", "piece"),
    [
        (("--at", "2020-01-01 00:00:00"), "Reachable: "),
        (("--at", "2026-11-22"), "is not read as a moment"),
        (("--at", "yesterday"), "is not read as a moment"),
        (("--lsn", "nonsense"), "is no log sequence number"),
        (("--lsn", "FF/0"), "can't be brought back by any target"),
        (("--name", "nobody named it"), "nobody named it"),
        (("--recovery-point", "20200101T000000Z-full-0000"), "no good recovery point"),
        (("--recovery-point", "nonsense"), "is not a recovery point's id"),
        (("--base", "20200101T000000Z-full-0000"), "20200101T000000Z-full-0000"),
        (("--latest", "--lsn", "0/0"), "More than one moment"),
        (("--target", "elsewhere"), "has no target 'elsewhere'"),
        (("--tablespace", "nonsense"), "is not OLD=NEW"),
        (("--tablespace", "/a=/b"), "has no tablespace at /a"),
        (("--binaries", "/nonexistent"), "--binaries"),
        (("--break-glass-key", "/nonexistent"), "break-glass key can't be read"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_can_not_be_done_is_said_with_what_can(
    ledger: Ledger, lifeboat: Command, place: Path, words: tuple[str, ...], piece: str
) -> None:
    said = restore(ledger, lifeboat, place / "data", *words, "--yes")
    assert said.code == 1
    if piece == "can't be brought back by any target":
        piece = "No target can bring back LSN FF/00000000"
    assert piece in said.err
    assert "→" in said.err
    assert list(place.iterdir()) == []


def test_a_system_or_source_that_is_not_there_is_answered_with_those_that_are(
    ledger: Ledger, lifeboat: Command, place: Path
) -> None:
    said = lifeboat(ledger.protected, "restore", "nothing", "database", "--into", str(place / "data"))
    assert said.code == 1
    assert "Systems there: demo." in said.err
    said = lifeboat(ledger.protected, "backup", "demo", "nothing", "--tier", "daily")
    assert said.code == 1
    assert "It has: database." in said.err
    said = lifeboat(ledger.protected, "backup", "demo", "database", "--tier", "yearly")
    assert said.code == 1
    assert "Tiers that run: wal, incremental, daily, weekly." in said.err


def test_a_connection_that_is_missing_is_named_and_the_others_serve(
    ledger: Ledger, lifeboat: Command, place: Path, tmp_path: Path
) -> None:
    connections = json.loads(ledger.protected.connections.read_text())
    del connections["demo_primary"]
    fewer = tmp_path / "fewer.json"
    fewer.touch(mode=0o600)
    fewer.write_text(json.dumps(connections))
    said = restore(ledger, lifeboat, place / "data", "--latest", "--plan", "--connections", str(fewer))
    assert said.code == 0, said.err
    assert "primary was passed over" in said.err
    assert "AIRFLOW_CONN_DEMO_PRIMARY" in said.err
    assert "Whether primary has anything newer is not known" in said.err


def test_the_latest_comes_from_the_target_that_reaches_furthest(
    ledger: Ledger, lifeboat: Command, place: Path, tmp_path: Path
) -> None:
    runs = sorted((ledger.protected.system.local / "demo/database/wal/00000001").iterdir())
    runs[-1].rename(tmp_path / "aside")
    try:
        said = restore(ledger, lifeboat, place / "data", "--latest", "--plan", "--json")
        alone = restore(ledger, lifeboat, place / "data", "--latest", "--target", "local", "--plan", "--json")
    finally:
        (tmp_path / "aside").rename(runs[-1])
    assert said.json["target"] == "primary"
    assert any("local ends earlier" in remark for remark in said.json["remarks"])
    assert alone.json["target"] == "local"
    assert any("another target may have something newer" in remark for remark in alone.json["remarks"])


def test_when_all_targets_are_away_each_says_why(ledger: Ledger, lifeboat: Command, place: Path) -> None:
    marker = ledger.protected.system.local / ".lifeboat-target"
    nothing = place.parent / "nothing.json"
    nothing.touch(mode=0o600)
    nothing.write_text("{}")
    marker.rename(marker.with_name("aside"))
    try:
        said = restore(ledger, lifeboat, place / "data", "--yes", "--connections", str(nothing))
        listed = lifeboat(ledger.protected, "--connections", str(nothing), "list", "demo")
    finally:
        marker.with_name("aside").rename(marker)
    for one in (said, listed):
        assert one.code == 1
        assert "no marker file" in one.err
        assert "AIRFLOW_CONN_DEMO_PRIMARY" in one.err


def test_a_restore_works_where_targets_can_only_be_read(
    ledger: Ledger, lifeboat: Command, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lifeboat.errors import TargetError
    from lifeboat.targets.local import LocalTarget

    def refuse(self: LocalTarget, key: str, data: bytes, **more: object) -> None:
        raise TargetError(f"Target local: writing {key} failed: Read-only file system.")

    # Root may write everywhere, so a refusal of the kernel can't be had for certain.
    monkeypatch.setattr(LocalTarget, "put_new", refuse)
    said = restore(ledger, lifeboat, place / "data", "--target", "local", "--yes")
    assert said.code == 0, said.err
    assert said.err.count("takes no events") == 1
    assert (place / "data" / "PG_VERSION").is_file()
