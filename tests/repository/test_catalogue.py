"""The catalogue is the listing: what is committed is there, what is foreign is not, what is broken is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lifeboat.errors import ManifestInvalid, RecoveryPointMissing, RepositoryError, TargetUnavailable
from lifeboat.repository.catalogue import Listing
from lifeboat.repository.comparison import against_journal, differences
from lifeboat.repository.copying import copy as copy_point
from lifeboat.repository.journal import Event, read_journal
from lifeboat.repository.layout import RecoveryPointId, is_attempt, is_recovery_point, timeline_of
from lifeboat.repository.sequence import sequence_findings
from tests.repository.world import SOURCE, World

FOREIGN = [
    "demo/database/README",
    "demo/database/manifest.json",
    "demo/database/20261122T020000Z-full-7f3a.bak/manifest.json",
    "demo/database/20260231T020000Z-full-7f3a/manifest.json",
    "demo/database/99999999T999999Z-full-7f3a/manifest.json",
    "demo/database/lost+found/x",
    "demo/database/wal/archived/x",
    "demo/database/wal/0x00000a/20261122T020000Z-wal-7f3a/manifest.json",
    "demo/database/wal/0000000a/20261122T020000Z-wal-7f3a/manifest.json",
    "demo/database/wal/00000001/manifest.json",
    "demo/database/wal/00000001/old/20261122T020000Z-wal-7f3a/manifest.json",
    "demo/journal/x",
    "demo/policies/x",
]


def test_recovery_points_come_in_their_order_each_with_its_kind(any_world: World) -> None:
    repository = any_world.repository()
    fulls = [any_world.point(repository) for _ in range(3)]
    runs = [any_world.point(repository, kind="wal", timeline=1, streams={f"seg-{n}": b"w"}) for n in range(2)]
    catalogue = repository.catalogue("primary")
    assert catalogue.sources() == [SOURCE]
    assert list(catalogue.recovery_points(SOURCE).copies) == fulls
    assert catalogue.recovery_points(SOURCE).of_kind("wal") == []
    assert list(catalogue.wal(SOURCE).copies) == runs
    assert catalogue.timelines(SOURCE) == [1]
    assert catalogue.newest_wal(SOURCE, 1) == runs[-1]
    assert catalogue.newest_wal(SOURCE, 2) is None
    assert catalogue.committed(SOURCE, "full") == [copy.manifest.folder for copy in fulls]
    assert catalogue.committed(SOURCE, "wal") == [copy.manifest.folder for copy in runs]
    assert catalogue.find(SOURCE, fulls[1].manifest.recovery_point) == fulls[1]
    assert catalogue.find(SOURCE, runs[1].manifest.recovery_point) == runs[1]


def test_an_empty_target_holds_nothing(world: World) -> None:
    catalogue = world.repository().catalogue("primary")
    assert catalogue.sources() == []
    assert catalogue.recovery_points(SOURCE) == Listing((), ())
    assert catalogue.wal(SOURCE) == Listing((), ())
    with pytest.raises(RecoveryPointMissing, match="is committed on target primary"):
        catalogue.find(SOURCE, "20261122T020000Z-full-7f3a")
    with pytest.raises(RecoveryPointMissing):
        catalogue.find(SOURCE, "20261122T020000Z-wal-7f3a")


def test_foreign_files_and_folders_are_passed_over(world: World) -> None:
    copy = world.point()
    run = world.point(kind="wal", timeline=1, streams={"seg": b"w"})
    for key in FOREIGN:
        world.file(key).parent.mkdir(parents=True, exist_ok=True)
        world.file(key).write_text("not ours")
    catalogue = world.repository().catalogue("primary")
    assert catalogue.recovery_points(SOURCE) == Listing((copy,), ())
    assert catalogue.wal(SOURCE) == Listing((run,), ())
    assert catalogue.timelines(SOURCE) == [1]
    assert catalogue.committed(SOURCE, "full") == [copy.manifest.folder]
    assert catalogue.committed(SOURCE, "wal") == [run.manifest.folder]
    assert catalogue.newest_wal(SOURCE, 1) == run


def as_link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


def as_mountain(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(65 * 1024 * 1024)


@pytest.mark.parametrize(
    "spoil", [lambda path: path.write_text("{}"), as_link, as_mountain], ids=["not a manifest", "a link", "a mountain"]
)
def test_one_unreadable_recovery_point_is_named_and_hides_no_other(
    world: World, spoil: Callable[[Path], object]
) -> None:
    first, second, third = (world.point() for _ in range(3))
    spoil(world.file(second.manifest.folder.manifest))
    listing = world.repository().catalogue("primary").recovery_points(SOURCE)
    assert listing.copies == (first, third)
    (bad,) = listing.unreadable
    assert bad.folder == second.manifest.folder
    assert bad.target == "primary"
    assert second.manifest.recovery_point in bad.reason


def test_a_target_that_is_away_is_no_empty_catalogue(world: World) -> None:
    copy = world.point()
    catalogue = world.repository().catalogue("primary")
    (world.roots["primary"] / ".lifeboat-target").unlink()
    for use in (
        lambda: catalogue.recovery_points(SOURCE),
        lambda: catalogue.wal(SOURCE),
        lambda: catalogue.committed(SOURCE, "full"),
        lambda: catalogue.find(SOURCE, copy.manifest.recovery_point),
    ):
        with pytest.raises(TargetUnavailable):
            use()


def test_nothing_is_built_upon_a_wal_run_that_can_not_be_believed(world: World) -> None:
    world.point(kind="wal", timeline=1, streams={"seg-1": b"w"})
    newest = world.point(kind="wal", timeline=1, streams={"seg-2": b"w"})
    world.file(newest.manifest.folder.manifest).write_text("{}")
    with pytest.raises(ManifestInvalid):
        world.repository().catalogue("primary").newest_wal(SOURCE, 1)


@pytest.mark.parametrize(
    "name",
    ["20261122T020000Z-full-7f3a\n", "20260231T020000Z-full-7f3a", "\u0662\u0660261122T020000Z-full-7f3a", "x", ""],
)
def test_what_is_no_id_is_none(name: str) -> None:
    assert not is_recovery_point(name)
    with pytest.raises(RepositoryError, match="is not a recovery point's id"):
        RecoveryPointId.parse(name)


def test_ids_sort_by_time_and_are_read_as_they_are_written() -> None:
    texts = ["20261122T020000Z-full-7f3a", "20261122T020001Z-full-0000"]
    assert [str(RecoveryPointId.parse(text)) for text in texts] == texts
    assert RecoveryPointId.parse(texts[0]).begun < RecoveryPointId.parse(texts[1]).begun


def test_names_of_timelines_and_attempts() -> None:
    assert timeline_of("0000000A") == 10
    assert [timeline_of(name) for name in ("0000000a", "A", "0x00000A", "+000000A", "0_00000A")] == [None] * 5
    assert is_attempt("attempt-01-0123abcd")
    assert not is_attempt("attempt-01-0123abcd\n")


def listed(world: World) -> Listing:
    return world.repository().catalogue("primary").recovery_points(SOURCE)


def remove(world: World, recovery_point: str, target: str = "primary") -> None:
    shutil.rmtree(world.file(f"demo/{SOURCE}/{recovery_point}", target))


def test_an_unbroken_row_has_no_findings_also_when_its_oldest_went(world: World) -> None:
    copies = [world.point() for _ in range(4)]
    assert sequence_findings(listed(world).copies) == []
    remove(world, copies[0].manifest.recovery_point)
    assert sequence_findings(listed(world).copies) == []


def test_a_recovery_point_missing_in_the_middle_shows(world: World) -> None:
    copies = [world.point() for _ in range(5)]
    for copy in copies[1:3]:
        remove(world, copy.manifest.recovery_point)
    (finding,) = sequence_findings(listed(world).copies)
    assert finding.startswith("2 missing between")


def test_an_old_recovery_point_brought_back_shows(world: World, tmp_path: Path) -> None:
    copies = [world.point() for _ in range(4)]
    for copy in copies[1:3]:
        remove(world, copy.manifest.recovery_point)
    (finding,) = sequence_findings(listed(world).copies)
    assert copies[0].manifest.recovery_point in finding


def test_two_of_one_number_and_another_history_show(world: World) -> None:
    first = world.point()
    second = world.point(sequence=1, previous=None)
    assert sequence_findings([first, second]) == [
        f"{first.manifest.recovery_point} and {second.manifest.recovery_point} both are number 1."
    ]
    remove(world, second.manifest.recovery_point)
    third = world.point()
    world.clock.advance(hours=1)
    replaced = world.point(sequence=1, previous=None)
    (finding,) = sequence_findings([replaced, third])
    assert "was not made after" in finding


def test_a_damaged_recovery_point_is_among_the_findings(world: World) -> None:
    copy = world.point(state="damaged", findings=("page 7 is broken",))
    assert sequence_findings([copy]) == [f"{copy.manifest.recovery_point} is damaged: page 7 is broken"]


def listings(world: World) -> dict[str, Listing]:
    repository = world.repository()
    return {name: repository.catalogue(name).recovery_points(SOURCE) for name in ("primary", "offsite")}


def carried(world: World, copy) -> None:
    repository = world.repository()
    copy_point(repository.target("primary"), repository.catalogue("offsite"), copy)


def journaled(world: World) -> list[Event]:
    repository = world.repository()
    events = list(read_journal(repository.target("primary"), "demo", repository.trusted))
    assert all(isinstance(event, Event) for event in events)
    return [event for event in events if isinstance(event, Event)]


def commit_and_journal(world: World):
    repository = world.repository()
    copy = world.point(repository)
    journal = repository.journal("primary", run="run", actor="tester")
    for kind, target in (("backup_committed", "primary"), ("copy_committed", "offsite")):
        journal.write(
            kind, source=SOURCE, recovery_point=copy.manifest.recovery_point, target=target, manifest=copy.sha256
        )
    carried(world, copy)
    return copy


def test_a_deleted_newest_shows_in_comparison_with_another_target_and_with_the_journal(world: World) -> None:
    older, newest = commit_and_journal(world), commit_and_journal(world)
    assert differences(listings(world)) == []
    for target in ("primary", "offsite"):
        assert against_journal(listings(world)[target], journaled(world), source=SOURCE, target=target) == []
    remove(world, newest.manifest.recovery_point)
    assert sequence_findings(listed(world).copies) == []
    (finding,) = differences(listings(world))
    assert finding == (
        f"primary lacks the newest full, {newest.manifest.recovery_point} (on offsite); its newest is "
        f"{older.manifest.recovery_point}."
    )
    (finding,) = against_journal(listed(world), journaled(world), source=SOURCE, target="primary")
    assert finding == (
        f"{newest.manifest.recovery_point}, the newest of its kind that was committed on primary, "
        "is not there any more."
    )
    remove(world, newest.manifest.recovery_point, "offsite")
    remove(world, older.manifest.recovery_point, "primary")
    assert [finding for finding in differences(listings(world)) if "it has none" in finding]


def test_an_older_recovery_point_that_retention_removed_is_no_finding(world: World) -> None:
    older, _ = commit_and_journal(world), commit_and_journal(world)
    remove(world, older.manifest.recovery_point)
    assert differences(listings(world)) == []
    assert against_journal(listed(world), journaled(world), source=SOURCE, target="primary") == []


def test_another_attempts_manifest_replayed_in_a_recovery_points_place_shows(world: World) -> None:
    copy = commit_and_journal(world)
    repository = world.repository()
    work = world.work(mark=copy.manifest.recovery_point[-4:], attempt=2)
    from dataclasses import replace

    work = replace(work, recovery_point=RecoveryPointId.parse(copy.manifest.recovery_point))
    other = world.manifest(repository, work, world.store(repository, work), sequence=1, previous=None)
    # Validly signed by a worker whose attempt lost; whoever can write to the target puts it into the winner's place.
    document = other.to_json()
    world.file(other.folder.signature(other.attempt)).write_bytes(repository.signer.signature_file(document))
    world.file(other.folder.manifest).write_bytes(document)
    assert len(listed(world).copies) == 1
    assert differences(listings(world)) == [
        f"{copy.manifest.recovery_point} is not the same on offsite and on primary."
    ]
    (finding,) = against_journal(listed(world), journaled(world), source=SOURCE, target="primary")
    assert "has another manifest than the journal says" in finding


def test_what_a_target_holds_but_can_not_be_read_is_not_called_gone(world: World) -> None:
    copy = commit_and_journal(world)
    world.file(copy.manifest.folder.manifest).write_text("{}")
    assert against_journal(listed(world), journaled(world), source=SOURCE, target="primary") == []
