"""Repositories are stored with every ref, come back with every ref, and are stored once while they don't change."""

from __future__ import annotations

import pytest

from lifeboat.code.details import code_details
from lifeboat.errors import RestoreError
from tests.code.conftest import CodeSet, Origin, details, git, ids


def test_a_repository_comes_back_with_every_ref_and_its_head(code: CodeSet) -> None:
    code.one.commit()
    code.one.commit("refs/heads/feature/a")
    code.one.tag("v1.0")
    code.one.set("refs/notes/commits", code.one.ids()["refs/heads/main"])
    code.one.set("refs/pull/7/head", code.one.commit("refs/heads/feature/a"))
    git("symbolic-ref", "HEAD", "refs/heads/feature/a", at=code.one.path)
    copy = code.snapshot()
    code.verify(copy, deep=True)
    back = code.restore(copy)["erp"]
    assert ids(back.path) == code.one.ids()
    assert git("symbolic-ref", "HEAD", at=back.path) == "refs/heads/feature/a"
    git("fsck", "--full", "--strict", at=back.path)
    assert back.refs == 5


def test_a_repository_that_has_not_changed_is_not_stored_twice(code: CodeSet) -> None:
    code.one.commit()
    first = code.snapshot()
    second = code.snapshot()
    assert second.manifest.needs == (first.manifest.recovery_point,)
    assert [stream.name for stream in second.manifest.streams] == ["refs.jsonl"]
    code.verify(second, deep=True)
    assert ids(code.restore(second)["erp"].path) == code.one.ids()
    code.one.commit()
    third = code.snapshot()
    assert third.manifest.needs == ()
    assert [stream.name for stream in third.manifest.streams] == ["erp.bundle", "refs.jsonl"]
    assert code_details(third.manifest).compared_with == second.manifest.recovery_point


def test_a_restore_touches_nothing_that_is_there(code: CodeSet) -> None:
    code.one.commit()
    copy = code.snapshot()
    (code.back / "used").mkdir()
    (code.back / "used" / "file").write_text("mine")
    (code.back / "file").write_text("mine")
    for name in ("used", "file", "none/below"):
        with pytest.raises(RestoreError, match=r"Nothing was touched|is no directory|Make it first"):
            code.restore(copy, name=name)
    assert sorted(path.name for path in code.back.rglob("*")) == ["file", "file", "used"]
    (code.back / "empty").mkdir()
    assert code.restore(copy, name="empty")["erp"].path.exists()


def test_empty_repositories_and_those_with_sha_256_come_back(code: CodeSet) -> None:
    long = Origin.make(code.origins / "long.git", "--object-format=sha256")
    long.commit()
    code.protect(code.one.url, long.url)
    copy = code.snapshot()
    assert [one.bundle for one in details(copy).repositories] == ["", "long.bundle"]
    code.verify(copy, deep=True)
    back = code.restore(copy)
    assert ids(back["erp"].path) == {}
    assert ids(back["long"].path) == long.ids()
    assert len(long.ids()["refs/heads/main"]) == 64
