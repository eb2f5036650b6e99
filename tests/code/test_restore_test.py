"""The restore test of repositories: every ref comes back."""

from __future__ import annotations

from pathlib import Path

from lifeboat.recovery.restore_test import RestoreTest, Wish
from lifeboat.repository.manifest import Run
from tests.code.conftest import CODE, CodeSet


def test_every_repository_and_ref_comes_back(code: CodeSet, tmp_path: Path) -> None:
    scratch = tmp_path / "somewhere"
    scratch.mkdir()
    code.one.commit()
    code.one.commit("refs/heads/other")
    code.snapshot()
    wish = Wish(sources=(CODE,), scratch=scratch)
    record = RestoreTest(code.world.repository(), wish, Run(command="a test"), "a test").carry_out()
    (proof,) = record.proofs
    # The clock moves on by an hour with each snapshot, which is more than may be lost.
    assert [check.name for check in proof.checks if not check.passed] == ["recovery point"]
    told = {check.name: check.what for check in proof.checks}
    assert told["repositories"] == "1, each looked through by git fsck"
    assert told["refs"] == "2, compared one by one"
    assert list(scratch.iterdir()) == []
