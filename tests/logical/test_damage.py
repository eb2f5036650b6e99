"""What a store, or somebody who can write to it, may do to an archive: nothing of it is restored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lifeboat.errors import LifeboatError
from lifeboat.repository.catalogue import Copy
from tests.damaged_page import make_rotten
from tests.exports.test_damage import DAMAGES
from tests.logical.archives import Archives


@pytest.fixture
def small(own_archives: Callable[..., Archives]) -> Archives:
    mine = own_archives()
    mine.server.run_sql("CREATE TABLE users AS SELECT n, md5(n::text) AS text FROM generate_series(1, 500) AS n")
    return mine


def attempt_of(archives: Archives, copy: Copy) -> Path:
    root = archives.system.policies.parents[1] / "primary"
    return root / copy.manifest.folder.attempt(copy.manifest.attempt)


def test_any_damage_to_any_object_is_found_and_nothing_is_restored(small: Archives) -> None:
    copy, other = small.back_up(), small.back_up()
    files = [volume.file for stream in copy.manifest.streams for volume in stream.volumes]
    assert len(files) == 3  # the archive, the listing of its contents, the globals
    before = small.databases()
    for place, file in enumerate(files):
        path = attempt_of(small, copy) / file
        beside, elsewhere = attempt_of(small, copy) / files[place - 1], attempt_of(small, other) / file
        good = path.read_bytes()
        for damage in DAMAGES.values():
            damage(path, beside, elsewhere)
            with pytest.raises(LifeboatError):
                small.verify(copy)
            with pytest.raises(LifeboatError):
                small.restore(small.plan(copy, name="never", globals_wanted=True))
            assert small.databases() == before
            path.unlink(missing_ok=True)
            path.write_bytes(good)
    assert small.verify(copy)["rows"] == 500
    small.restore(small.plan(copy, name="back"))
    assert small.home.run_sql("SELECT count(*) FROM users", database="back") == [(500,)]


def test_a_damaged_page_of_the_source_fails_the_archive_and_nothing_is_committed(small: Archives) -> None:
    make_rotten(small.server)
    with pytest.raises(LifeboatError, match=r"invalid page|rotten"):
        small.back_up()
    assert small.committed() == []
