"""The restore test of a set of files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lifeboat.policy.naming import Tier
from lifeboat.recovery.evidence import Proof, Record
from lifeboat.recovery.restore_test import RestoreTest, Wish
from lifeboat.repository.manifest import Run
from tests.files.conftest import FILES, FileSet


def a_test_of(files: FileSet, scratch: Path) -> Record:
    wish = Wish(sources=(FILES,), scratch=scratch, seed=1)
    # The clock moves on by an hour with each snapshot.
    files.world = files.world.bent("rpo: 15m", "rpo: 2h")
    return RestoreTest(files.world.repository(), wish, Run(command="a test"), "a test").carry_out()


def outcomes(proof: Proof) -> dict[str, tuple[bool, str]]:
    return {check.name: (check.passed, check.what) for check in proof.checks}


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    place = tmp_path / "scratch"
    place.mkdir()
    return place


def test_files_of_every_type_come_back_and_are_counted(files: FileSet, scratch: Path) -> None:
    (files.tree / "folder").mkdir()
    (files.tree / "folder" / "file").write_bytes(b"x" * 1000)
    os.link(files.tree / "folder" / "file", files.tree / "another name")
    (files.tree / "link").symlink_to("folder")
    (files.tree / "empty").touch()
    os.mkfifo(files.tree / "pipe")
    first = files.snapshot()
    (files.tree / "later").write_bytes(b"y")
    second = files.snapshot(Tier.INCREMENTAL)
    record = a_test_of(files, scratch)
    newest, drawn = record.proofs
    assert record.passed, (outcomes(newest), outcomes(drawn))
    assert [newest.recovery_point, drawn.recovery_point] == [
        second.manifest.recovery_point, first.manifest.recovery_point
    ]  # fmt: skip
    assert outcomes(newest)["files"] == (True, "4, each compared with its digest")
    assert outcomes(drawn)["files"] == (True, "3, each compared with its digest")
    assert newest.data_until == second.manifest.moment
    assert list(scratch.iterdir()) == []


def test_a_pack_that_is_damaged_fails_the_test(files: FileSet, scratch: Path) -> None:
    (files.tree / "file").write_bytes(os.urandom(5000))
    copy = files.snapshot()
    (pack,) = files.world.roots["primary"].rglob("pack-00001.tar*")
    pack.chmod(0o600)
    pack.write_bytes(pack.read_bytes()[:-100] + bytes(100))
    record = a_test_of(files, scratch)
    assert not record.passed
    (proof,) = record.proofs
    assert proof.recovery_point == copy.manifest.recovery_point
    assert proof.error
    assert proof.remedy
    assert list(scratch.iterdir()) == []
