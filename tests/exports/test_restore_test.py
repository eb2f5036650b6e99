"""The restore test of exports: every row is read back and compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lifeboat.policy.loading import load_policy
from lifeboat.policy.naming import Tier
from lifeboat.recovery.choosing import targets_used
from lifeboat.recovery.evidence import Proof, Record
from lifeboat.recovery.restore_test import RestoreTest, Wish
from lifeboat.repository.manifest import Run
from lifeboat.repository.system import SystemRepository
from tests.exports.conftest import SOURCE, Exporter

Sql = Callable[..., list[tuple[Any, ...]]]


def a_test_of(exporter: Exporter, scratch: Path, target: str | None = "primary") -> Record:
    wish = Wish(sources=(SOURCE,), target=target, scratch=scratch, seed=1)
    return RestoreTest(exporter.repository, wish, Run(command="a test"), "a test").carry_out()


def with_exports_alone(exporter: Exporter) -> None:
    """A source that has no other tier."""
    policy = exporter.repository.policy
    source = exporter.source.model_copy(update={"tiers": {Tier.EXPORT: exporter.source.tiers[Tier.EXPORT]}})
    loaded = load_policy(exporter.system.policy)
    bent = loaded.__class__(**{**vars(loaded), "policy": policy.model_copy(update={"sources": {SOURCE: source}})})
    exporter.repository = SystemRepository(bent, exporter.repository.outside)


def test_the_newest_complete_export_is_read_back_and_every_row_compared(
    exporter: Exporter, run_sql: Sql, tmp_path: Path
) -> None:
    run_sql("CREATE TABLE users AS SELECT generate_series(1, 100) AS n")
    exporter.export()
    newest = exporter.export()
    exporter.export("public.users")
    with_exports_alone(exporter)
    record = a_test_of(exporter, tmp_path)
    [proof] = record.proofs
    assert record.passed, (proof.error, proof.checks)
    assert (proof.kind, proof.chosen, proof.recovery_point) == ("export", "newest", newest.manifest.recovery_point)
    assert [check.name for check in proof.checks] == ["every exported row", "recovery time", "recovery point"]
    assert proof.checks[0].what.startswith("200 rows in 2 files of 1 tables")
    assert proof.data_until == newest.manifest.moment


def test_beside_other_recovery_points_an_export_s_age_is_held_against_nothing(
    exporter: Exporter, run_sql: Sql, tmp_path: Path
) -> None:
    run_sql("CREATE TABLE users AS SELECT generate_series(1, 100) AS n")
    exporter.export()
    [proof] = a_test_of(exporter, tmp_path).proofs
    assert [check.name for check in proof.checks] == ["every exported row", "recovery time"]


def test_a_damaged_export_fails(exporter: Exporter, run_sql: Sql, tmp_path: Path) -> None:
    run_sql("CREATE TABLE users AS SELECT generate_series(1, 100) AS n")
    copy = exporter.export()
    folder = exporter.directory / "primary" / "demo" / SOURCE / copy.manifest.recovery_point
    largest = max(folder.rglob("*.enc"), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.chmod(0o600)
    largest.write_bytes(data)
    record = a_test_of(exporter, tmp_path)
    assert not record.passed
    assert record.proofs[0].error


def test_exports_and_all_else_take_their_turns_of_the_targets_apart() -> None:
    def proof(kind: str, target: str) -> Proof:
        return Proof(
            source=SOURCE, kind=kind, recovery_point="20261122T020000Z-full-7f3a", target=target, chosen="newest",
            rto_milliseconds=1, rpo_milliseconds=1,
        )  # fmt: skip

    record = Record.model_construct(kind="restore_test", proofs=(proof("full", "primary"), proof("export", "offsite")))
    assert targets_used([record], SOURCE) == ["primary"]
    assert targets_used([record], SOURCE, exports=True) == ["offsite"]
