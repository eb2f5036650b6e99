"""``lifeboat retention simulate``: sizes from real recovery points or as given, in a table, as JSON, as a picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from lifeboat.cli.program import run
from tests.cli.conftest import Said
from tests.repository.conftest import demo_system, make_world, moto, own_rclone, rclone, world
from tests.repository.world import World

__all__ = ["demo_system", "make_world", "moto", "own_rclone", "rclone", "world"]

Simulate = Callable[..., Said]
GIVEN = ["--size", "full=80 GB", "--size", "incremental=4 GB", "--size", "wal=2 GB", "--size", "logical=30 GB"]


@pytest.fixture
def priced(world: World) -> World:
    """A system whose primary target has its price, and where deletions can be taken back."""
    primary = f"url: file://{world.roots['primary']}\n"
    return world.bent(primary, f"{primary}    price_per_gb_month: 0.023\n    undelete: 7d\n")


@pytest.fixture
def simulate(priced: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Simulate:
    monkeypatch.delenv("COLUMNS", raising=False)

    def call(*words: str) -> Said:
        capsys.readouterr()
        code = run(
            ["--policies", str(priced.policy.parent), "retention", "simulate", "demo", "--years", "1", *words]
        )  # fmt: skip
        return Said(code, *capsys.readouterr())

    return call


def of_primary(told: Said) -> list[dict[str, Any]]:
    return [month["targets"]["primary"] for month in told.json["sources"][0]["months"]]


def test_sizes_given_are_taken_and_each_month_costs_what_is_stored_at_its_end(simulate: Simulate) -> None:
    told = simulate("database", *GIVEN, "--json")
    assert told.code == 0
    assert told.json["sources"][0]["sizes"]["wal"] == {"bytes": 2 * 10**9, "known_from": "given"}
    months = of_primary(told)
    assert len(months) == 12
    last = months[-1]
    assert last["tiers"]["daily"] == 30
    assert last["kept_bytes"] > 30 * 80 * 10**9
    costs = [Decimal(month["cost"]) for month in months]
    paid = Decimal(last["kept_bytes"] + last["hidden_bytes"]) * Decimal("0.023") / 10**9
    assert abs(costs[-1] - paid) < Decimal("0.0001")
    assert Decimal(told.json["cost"]["primary"]) == sum(costs)
    assert told.json["cost"]["local"] is None
    assert told.json["sources"][0]["stops"] == []


def test_a_person_gets_tables_bars_costs_and_what_they_are_based_on(simulate: Simulate, tmp_path: Path) -> None:
    picture = tmp_path / "demo.svg"
    told = simulate(*GIVEN, "--growth", "20", "--plot", str(picture))
    assert told.code == 0
    for title in ("demo database: sizes", "demo database on primary", "demo database on local: █ kept, ▒ hidden"):
        assert title in told.out
    assert "█▒" in told.out
    assert "in 12 months." in told.out
    said = " ".join(told.err.split())
    assert "`targets.offsite.price_per_gb_month`, `targets.local.price_per_gb_month` in the policy" in said
    assert "`targets.primary.price_per_gb_month`" not in said
    drawn = ElementTree.fromstring(picture.read_text(encoding="utf-8"))
    space = "{http://www.w3.org/2000/svg}"
    texts = [text.text for text in drawn.iter(f"{space}text")]
    assert {"primary", "offsite", "local", "stored, TB"} <= set(texts)
    assert [len((line.get("points") or "").split()) for line in drawn.iter(f"{space}polyline")] == [12, 12, 12]
    assert list(tmp_path.glob(".*.part")) == []


def test_without_anything_to_measure_the_missing_kinds_are_named_and_no_target_is_needed_where_all_are_given(
    simulate: Simulate, priced: World
) -> None:
    told = simulate("--size", "wal=2 GB", "--size", "logical=30 GB")
    assert told.code == 1
    said = " ".join(told.err.split())
    assert "recovery points of the kinds incremental, full take is not known" in said
    assert "--size incremental='10 GB' --size full='10 GB'" in said
    for root in priced.roots.values():
        root.rename(root.with_name(f"{root.name}-away"))
    assert simulate(*GIVEN, "--json").code == 0
    away = simulate("--size", "wal=2 GB")
    assert away.code == 1
    assert "the target primary can't be read" in " ".join(away.err.split())


def test_sizes_are_measured_on_what_a_target_holds(simulate: Simulate, priced: World) -> None:
    priced.clock.now = datetime(2026, 11, 10, 2, tzinfo=UTC)
    fulls = [priced.point(streams={"base.tar": bytes(range(256)) * count}) for count in (400, 10, 20, 30, 40, 50)]
    runs = []
    for _ in range(5):
        runs.append(priced.point(kind="wal", timeline=1, streams={"wal": bytes(range(256)) * 8}))
        priced.clock.now = runs[-1].manifest.moment + timedelta(hours=12)
    told = simulate("--size", "incremental=1 MB", "--size", "logical=1 MB", "--json")
    assert told.code == 0
    sizes = told.json["sources"][0]["sizes"]
    mean = sum(copy.manifest.stored_size for copy in fulls[1:]) // 5
    assert sizes["full"] == {"bytes": mean, "known_from": "measured on primary, 5 recovery points"}
    # Two days from the first to the last, and the first leads to where they begin.
    assert sizes["wal"]["bytes"] == round(sum(run.manifest.stored_size for run in runs[1:]) / 2)
    given = simulate("--size", "incremental=1 MB", "--size", "logical=1 MB", "--size", "full=3 MB", "--json").json
    assert given["sources"][0]["sizes"]["full"] == {"bytes": 3 * 10**6, "known_from": "given"}


def test_less_than_a_day_of_wal_is_no_measure(simulate: Simulate, priced: World) -> None:
    for _ in range(3):
        priced.point(kind="wal", timeline=1)
    told = simulate(*GIVEN[:4], *GIVEN[6:])
    assert told.code == 1
    said = " ".join(told.err.split())
    assert "On primary is 2.0 h of wal, and what a day makes is measured on a day at least." in said
    assert "--size wal='10 GB' (of wal: what a day makes)" in said


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--size", "full"], "is not KIND=SIZE"),
        (["--size", "full=large"], "is no size"),
        (["--plot", "/nowhere/at/all.svg"], "There is no directory"),
    ],
)
def test_options_that_mean_nothing_are_refused(simulate: Simulate, words: list[str], what: str) -> None:
    told = simulate(*words)
    assert told.code == 2
    assert what in " ".join(told.err.replace("│", " ").split())


def test_a_kind_that_the_system_does_not_make_is_refused(simulate: Simulate) -> None:
    told = simulate("--size", "exports=3 GB")
    assert told.code == 1
    assert "makes no recovery points of the kind exports" in told.err


def test_a_retention_that_the_guard_of_its_own_policy_stops_is_told(
    priced: World, capsys: pytest.CaptureFixture[str]
) -> None:
    seldom = priced.bent("alerts:\n", "retention:\n  schedule: 0 5 1 * *\n\nalerts:\n")
    words = ["--policies", str(seldom.policy.parent), "retention", "simulate", "demo", "--years", "1", *GIVEN]
    assert run(words) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "demo database: the cleanup would stop by itself. First on " in said
    capsys.readouterr()
    assert run([*words, "--json"]) == 0
    stops = json.loads(capsys.readouterr().out)["sources"][0]["stops"]
    assert {"target", "tier", "first", "going", "there", "times"} == stops[0].keys()
