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


def test_an_incremental_is_taken_listed_planned_and_copied_with_its_chain(
    protected: Protected, lifeboat: Command
) -> None:
    server = protected.server
    server.write_settings(summarize_wal="on")
    server.reload()
    words = ("backup", "demo", "database", "--tier")
    full, first = (lifeboat(protected, *words, tier, "--json") for tier in ("daily", "incremental"))
    server.run_sql("CREATE TABLE something_new ()")
    second = lifeboat(protected, *words, "incremental", "--no-copy", "--json")
    chain = []
    for said in (full, first, second):
        assert said.code == 0, said.err
        chain += [point["id"] for point in said.json["recovery_points"]]
    assert [point.split("-")[1] for point in chain] == ["full", "incremental", "incremental"]
    assert f"Changes since {chain[1]}, in the chain of {chain[0]}" in second.json["message"]

    listed = lifeboat(protected, "list", "demo", "database", "--json").json["sources"][0]["recovery_points"]
    assert [(point["id"], point["parent"], point["chain"]) for point in listed] == [
        (chain[0], None, chain[0]),
        (chain[1], chain[0], chain[0]),
        (chain[2], chain[1], chain[0]),
    ]
    assert f"└ on {chain[1]}" in lifeboat(protected, "list", "demo").out

    into = protected.restores / "data"
    asked = ("restore", "demo", "database", "--recovery-point", chain[2], "--into", str(into), "--plan")
    plan = lifeboat(protected, *asked, "--json").json
    assert [link["id"] for link in plan["links"]] == chain
    assert plan["room_bytes"] > 2 * sum(link["plain_size"] for link in plan["links"]) * 0.6
    shown = lifeboat(protected, *asked).out
    assert "begins with" in shown
    assert shown.count("then link") == 2

    folder = protected.system.local / "demo" / "database"
    assert not (folder / chain[2]).exists()
    (folder / chain[1]).rename(protected.root / "aside")
    copied = lifeboat(
        protected, "copy", "demo", "database", "--target", "local", "--recovery-point", chain[2], "--json"
    )
    assert copied.code == 0, copied.err
    assert copied.json["copied"] == chain[1:]
    (folder / chain[1] / "manifest.json").rename(protected.root / "manifest.json")
    verified = lifeboat(protected, "verify", "demo", "--target", "local", "--json")
    assert verified.code == 1
    assert any(f"its parent {chain[1]} is not here" in one["what"] for one in verified.json["findings"])
