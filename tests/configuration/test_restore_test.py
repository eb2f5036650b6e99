"""The restore test of a configuration: everything is opened, and nothing of it is told."""

from __future__ import annotations

from pathlib import Path

from lifeboat.recovery.restore_test import RestoreTest, Wish
from lifeboat.repository.manifest import Run
from tests.configuration.conftest import CANARY, SETTINGS, Configuration


def test_every_item_comes_back_and_no_value_is_in_the_record(settings: Configuration, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    settings.write("one.conf")
    settings.write("folder/two.conf")
    settings.verify(settings.store())
    wish = Wish(sources=(SETTINGS,), scratch=scratch)
    record = RestoreTest(settings.world.repository(), wish, Run(command="a test"), "a test").carry_out()
    assert record.passed, record.proofs
    (proof,) = record.proofs
    assert ("items", True) in [(check.name, check.passed) for check in proof.checks]
    assert proof.size == 2 * len(CANARY)
    assert CANARY not in record.model_dump_json()
    assert list(scratch.iterdir()) == []
