"""A huge set is read by several tasks, each a share of it, and brought together to one snapshot."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from lifeboat.errors import RecoveryPointMissing
from lifeboat.policy.naming import Tier
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.manifest import Run
from lifeboat.repository.sharing import MOST_SHARES, Share
from lifeboat.repository.snapshots import snapshots_of
from lifeboat.repository.system import Work
from tests.files.conftest import FILES, FileSet, details
from tests.files.test_snapshots import write

OF = 3


def work(files: FileSet, tier: Tier, share: Share | None = None, shares: tuple[str, ...] = ()) -> Work:
    kind = "incremental" if tier is Tier.INCREMENTAL else "full"
    named = Work.new(
        kind if share is None else share.kind(kind),
        begun=files.world.clock(), tiers=(tier.value,), run=Run(command="a test"), actor="a test",
    )  # fmt: skip
    return replace(named, share=share, shares=shares)


def read_share(files: FileSet, tier: Tier, share: Share) -> Copy:
    [copy] = files.take(tier, work=work(files, tier, share)).copies
    return copy


def read_shares(files: FileSet, tier: Tier) -> list[Copy]:
    """All of them at once, as several workers do."""
    with ThreadPoolExecutor(OF) as workers:
        return list(workers.map(lambda share: read_share(files, tier, share), Share.all(OF)))


def bring_together(files: FileSet, tier: Tier, shares: list[Copy]) -> Copy:
    *before, copy = files.take(
        tier, work=work(files, tier, shares=tuple(one.manifest.recovery_point for one in shares))
    ).copies
    assert before == shares
    for one in (*shares, copy):
        files.verify(one)
    return copy


def grow(files: FileSet, count: int = 40) -> None:
    for number in range(count):
        write(files, f"{number % 7}/{number}", os.urandom(2_000))
    write(files, "0/first", "a file with two names")
    (files.tree / "6").mkdir(exist_ok=True)
    os.link(files.tree / "0" / "first", files.tree / "6" / "second")
    (files.tree / "link").symlink_to("0/first")
    (files.tree / "empty").mkdir()


def test_shares_brought_together_are_the_whole_set_and_hold_each_byte_once(files: FileSet) -> None:
    grow(files)
    shares = read_shares(files, Tier.DAILY)
    assert all(details(one).files < 40 for one in shares)
    copy = bring_together(files, Tier.DAILY, shares)
    assert details(copy).files == 42
    assert details(copy).new_files == 41
    # What the shares read was not read again, and is stored in them.
    assert [stream.name for stream in copy.manifest.streams] == ["index.jsonl"]
    assert set(copy.manifest.needs) == {one.manifest.recovery_point for one in shares}
    files.verify(copy, deep=True)
    files.comes_back_as_it_was(copy)


def test_the_next_one_compares_with_the_whole_and_reads_what_is_new(files: FileSet) -> None:
    grow(files)
    first = bring_together(files, Tier.DAILY, read_shares(files, Tier.DAILY))
    write(files, "3/new", "new")
    second = bring_together(files, Tier.INCREMENTAL, read_shares(files, Tier.INCREMENTAL))
    assert details(second).compared_with == first.manifest.recovery_point
    assert (details(second).new_files, details(second).read_size) == (1, 3)
    assert details(second).generation == details(first).generation
    files.comes_back_as_it_was(second)
    alone = files.snapshot(Tier.INCREMENTAL)
    assert details(alone).compared_with == second.manifest.recovery_point
    assert details(alone).read_size == 0


def test_what_changes_between_the_shares_and_their_bringing_together_is_read_then(files: FileSet) -> None:
    grow(files)
    shares = read_shares(files, Tier.DAILY)
    # Replaced as programs do it: under its name lies another inode, which another share would have had to see.
    write(files, "1/other", "replaced")
    (files.tree / "1" / "other").replace(files.tree / "1" / "1")
    (files.tree / "2" / "2").unlink()
    write(files, "5/late", "late")
    copy = bring_together(files, Tier.DAILY, shares)
    assert details(copy).files == 42
    files.verify(copy, deep=True)
    files.comes_back_as_it_was(copy)


def test_all_names_of_a_file_are_in_one_share(files: FileSet) -> None:
    grow(files, 0)
    for number in range(20):
        first = write(files, f"file {number}", f"of number {number}")
        os.link(first, files.tree / f"other name of {number}")
    shares = read_shares(files, Tier.DAILY)
    assert sum(details(one).new_files for one in shares) == 21
    files.comes_back_as_it_was(bring_together(files, Tier.DAILY, shares))


def test_a_share_is_no_snapshot_and_nothing_is_compared_with_it(files: FileSet) -> None:
    grow(files)
    shares = read_shares(files, Tier.DAILY)
    for one in shares:
        files.verify(one)
    assert snapshots_of(files.world.repository().catalogue("primary"), FILES) == []
    assert details(files.snapshot(Tier.INCREMENTAL)).compared_with == ""


def test_copies_bring_the_shares_along(files: FileSet) -> None:
    grow(files)
    shares = read_shares(files, Tier.DAILY)
    copy = bring_together(files, Tier.DAILY, shares)
    files.copy(copy)
    there = files.world.repository().catalogue("offsite").recovery_points(FILES).copies
    assert {one.manifest.recovery_point for one in there} == {one.manifest.recovery_point for one in (*shares, copy)}
    files.verify(copy, deep=True, target="offsite")


def test_without_one_of_its_shares_nothing_is_committed(files: FileSet) -> None:
    grow(files)
    ids = [one.manifest.recovery_point for one in read_shares(files, Tier.DAILY)]
    gone = files.world.repository().catalogue("primary").find(FILES, ids[1]).manifest.folder
    Path(files.world.file(gone.manifest, "primary")).unlink()
    with pytest.raises(RecoveryPointMissing):
        files.take(Tier.DAILY, work=work(files, Tier.DAILY, shares=tuple(ids)))
    assert snapshots_of(files.world.repository().catalogue("primary"), FILES) == []


@pytest.mark.parametrize("of", [1, 2, MOST_SHARES])
def test_everything_belongs_to_exactly_one_share(of: int) -> None:
    for number in range(100):
        assert sum(share.has(number) for share in Share.all(of)) == 1


@pytest.mark.parametrize("share", [lambda: Share(0, 3), lambda: Share(4, 3), lambda: Share(1, MOST_SHARES + 1)])
def test_a_share_that_can_not_be_is_refused(share: Callable[[], Share]) -> None:
    with pytest.raises(ValueError, match="There is no share"):
        share()
