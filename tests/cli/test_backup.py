"""``lifeboat backup``, ``preflight``, ``copy`` and ``remains`` when something is not as it should be."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.cli.conftest import Protected, Said, keys_below

Command = Callable[..., Said]


def test_a_target_that_is_away_stops_no_other_copy_and_is_filled_later(protected: Protected, lifeboat: Command) -> None:
    protected.offsite.kill()
    said = lifeboat(protected, "backup", "demo", "database", "--tier", "daily", "--json")
    assert said.code == 1
    assert "Copies that the policy requires are missing" in said.err
    assert "on offsite" in said.err
    (point,) = said.json["recovery_points"]
    assert point["copies"] == ["primary", "local"]
    assert len(said.json["missing"]) == 1

    listed = lifeboat(protected, "list", "demo", "database", "--json")
    assert listed.code == 0
    assert [one["target"] for one in listed.json["out_of_reach"]] == ["offsite"]
    assert lifeboat(protected, "verify", "demo").code == 1

    protected.offsite.start()
    verified = lifeboat(protected, "verify", "demo", "--json")
    assert verified.code == 1
    assert "missing here" in verified.json["findings"][0]["what"]
    copied = lifeboat(protected, "copy", "demo", "database", "--target", "offsite", "--json")
    assert copied.code == 0, copied.err
    assert copied.json["copied"] == [point["id"]]
    assert lifeboat(protected, "copy", "demo", "database", "--target", "offsite", "--json").json["copied"] == []
    assert lifeboat(protected, "verify", "demo").code == 0


def test_a_target_that_is_not_required_may_lack_the_copy(protected: Protected, lifeboat: Command) -> None:
    text = protected.system.policy.read_text()
    protected.system.policy.write_text(
        text.replace("connection: demo_offsite", "connection: demo_offsite\n    required: false")
    )
    protected.offsite.kill()
    said = lifeboat(protected, "backup", "demo", "database", "--tier", "daily")
    assert said.code == 0, said.err
    assert "There is no copy on offsite, which is not required" in said.err


def test_without_copies_only_the_primary_target_is_written_and_the_progress_of_wal_is_told(
    protected: Protected, lifeboat: Command
) -> None:
    assert lifeboat(protected, "backup", "demo", "database", "--tier", "daily", "--no-copy").code == 0
    protected.server.run_sql("CREATE TABLE something_new ()")
    said = lifeboat(protected, "backup", "demo", "database", "--tier", "wal", "--no-copy", "--json")
    assert said.code == 0, said.err
    assert "Read: " in said.err
    assert said.json["recovery_points"][0]["copies"] == ["primary"]
    assert [key for key in keys_below(protected.offsite.root) if "journal" not in key] == []


def test_everything_that_is_missing_is_said_at_once_and_nothing_is_written(
    protected: Protected, lifeboat: Command
) -> None:
    (protected.system.keys / "local.key").unlink()
    (protected.system.keys / "signing.pem").unlink()
    connections = json.loads(protected.connections.read_text())
    wrong = connections["demo_database"] | {"password": "not-the-password"}
    protected.connections.write_text(json.dumps(connections | {"demo_database": wrong}))
    said = lifeboat(protected, "backup", "demo", "database", "--tier", "daily")
    assert said.code == 1
    for subject in ("encryption", "signing", "database"):
        assert f"- {subject}: " in said.err
    assert "not-the-password" not in said.err
    assert said.out == ""
    assert protected.primary_keys() == []
    looked = lifeboat(protected, "preflight", "demo", "database", "--json")
    assert looked.code == 1
    assert looked.json["ready"] is False
    assert {row["severity"] for row in looked.json["findings"]} >= {"error"}
    assert all(set(row) == {"severity", "subject", "what", "remedy"} for row in looked.json["findings"])


def test_remains_are_shown_and_removed_once_they_are_old(protected: Protected, lifeboat: Command) -> None:
    attempt = protected.system.local / "demo/database/20260101T020000Z-full-aaaa/attempt-01-0123abcd"
    attempt.mkdir(parents=True)
    left = attempt / "base.tar.001"
    left.write_bytes(b"half")
    young = lifeboat(protected, "remains", "demo", "database", "--target", "local", "--json")
    assert young.json["remains"] == {"local": []}
    old = (datetime.now(UTC) - timedelta(hours=50)).timestamp()
    os.utime(left, (old, old))
    shown = lifeboat(protected, "remains", "demo", "database", "--target", "local")
    assert shown.code == 0
    assert left.name in shown.out
    assert left.exists()
    removed = lifeboat(protected, "remains", "demo", "database", "--target", "local", "--remove", "--json")
    assert removed.code == 0, removed.err
    assert [Path(key).name for key in removed.json["remains"]["local"]] == [left.name]
    assert not left.exists()
