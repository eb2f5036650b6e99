"""A cleanup hides first and removes long after; what a person says is heeded; dying and crossing do no harm."""

from __future__ import annotations

from datetime import timedelta

import pytest

from lifeboat.errors import RecoveryPointMissing, RepositoryError, TargetError
from lifeboat.repository.bundles import Bundles
from lifeboat.repository.bundling import Bundler
from lifeboat.repository.journal import Event, read_journal
from lifeboat.repository.layout import RecoveryPointId, bundles_folder
from lifeboat.repository.marking import read_marks, read_removed
from lifeboat.repository.retention.decisions import Action
from lifeboat.repository.retention.keeping import end_quarantine, hold, quarantine, release, undo
from lifeboat.repository.sequence import sequence_findings
from tests.repository.retention.cleaned_system import CleanedSystem, dies
from tests.repository.world import SOURCE, SYSTEM, World, everything


@pytest.fixture
def world(world: World) -> World:
    """On its primary target, a directory too, a deletion can be taken back for a week."""
    primary = f"url: file://{world.roots['primary']}\n"
    return world.bent(primary, f"{primary}    undelete: 7d\n")


@pytest.fixture
def system(world: World) -> CleanedSystem:
    """Three dailies past their thirty days, one that recovery to any moment begins with, and one of today."""
    cleaned = CleanedSystem(world)
    *cleaned.old, cleaned.base = cleaned.days(4)  # type: ignore[attr-defined]
    world.clock.advance(days=31)
    cleaned.new = cleaned.point()  # type: ignore[attr-defined]
    return cleaned


def old(system: CleanedSystem) -> list[str]:
    return system.old  # type: ignore[attr-defined,no-any-return]


def new(system: CleanedSystem) -> str:
    return system.new  # type: ignore[attr-defined,no-any-return]


def kept(system: CleanedSystem) -> list[str]:
    return [system.base, new(system)]  # type: ignore[attr-defined]


def say(system: CleanedSystem) -> list[Event]:
    repository = system.repository()
    target = repository.target("primary")
    return [event for event in read_journal(target, SYSTEM, repository.trusted) if isinstance(event, Event)]


def marks(system: CleanedSystem) -> list[Event]:
    repository = system.repository()
    return read_marks(repository.target("primary"), SYSTEM, SOURCE, repository.trusted)


def removed(system: CleanedSystem) -> dict[str, int]:
    repository = system.repository()
    return read_removed(repository.target("primary"), SYSTEM, SOURCE, repository.trusted)


def test_what_is_past_its_retention_is_hidden_and_no_byte_of_it_moves(system: CleanedSystem) -> None:
    before = everything(system.world)
    done = system.clean()
    assert sorted(done.deleted.gone) == old(system)
    assert system.shown() == kept(system)
    after = everything(system.world)
    assert before.items() <= after.items()
    with pytest.raises(
        RecoveryPointMissing, match=r"was deleted on target primary at .*daily is kept for 30d"
    ) as caught:
        system.repository().catalogue("primary").find(SOURCE, old(system)[0])
    assert f"lifeboat retention undo demo database {old(system)[0]} --target primary" in caught.value.remedy


def test_a_second_cleanup_deletes_nothing_more(system: CleanedSystem) -> None:
    system.clean()
    before = everything(system.world)
    done = system.clean()
    assert (done.deleted.gone, done.removed) == ((), ())
    assert everything(system.world) == before


def test_the_bytes_go_when_the_time_to_take_it_back_has_ended_and_not_a_minute_before(system: CleanedSystem) -> None:
    begun = system.world.clock()
    system.clean()
    system.world.clock.now = begun + timedelta(days=7) - timedelta(minutes=1)
    assert system.clean().removed == ()
    system.world.clock.now = begun + timedelta(days=7)
    done = system.clean()
    assert sorted(one.recovery_point for one in done.removed) == old(system)
    assert not [key for key in everything(system.world) if key.split("/")[2:3] and key.split("/")[2] in old(system)]
    system.whole()
    assert marks(system) == []
    told = next(event for event in say(system) if event.kind == "purged")
    assert sorted(told.details["points"]) == old(system)


def test_what_was_removed_is_known_and_not_missing(system: CleanedSystem) -> None:
    kept = old(system)[0]
    hold(system.repository(), SOURCE, [kept], "the auditors", "a person")
    system.clean()
    system.world.clock.advance(days=8)
    system.clean()
    assert removed(system) == {old(system)[1]: 2, old(system)[2]: 3}
    copies = system.repository().catalogue("primary").recovery_points(SOURCE).copies
    assert sequence_findings(copies) != []
    assert sequence_findings(copies, removed(system).values()) == []


def test_on_a_directory_a_deletion_can_not_be_taken_back_since_its_room_is_needed(world: World) -> None:
    system = CleanedSystem(world)
    *gone, _ = system.days(4, on=("primary", "local"))
    world.clock.advance(days=31)
    system.point(on=("primary", "local"))
    done = system.clean("local")
    assert sorted(one.recovery_point for one in done.removed) == gone
    assert [name for name in system.shown("primary") if name in gone] == gone
    system.whole("local")


def test_a_deletion_is_taken_back_and_stays_so_since_it_is_held(system: CleanedSystem) -> None:
    system.clean()
    back = undo(system.repository(), SOURCE, old(system)[:1], ["primary"], "needed for a lawsuit", "a person")
    assert back == [f"{old(system)[0]} on primary"]
    assert system.shown() == [old(system)[0], *kept(system)]
    system.clean()
    system.world.clock.advance(days=8)
    system.clean()
    assert system.shown() == [old(system)[0], *kept(system)]
    release(system.repository(), SOURCE, old(system)[:1], "settled", "a person")
    assert sorted(system.clean().deleted.gone) == old(system)[:1]


def test_a_deletion_that_was_taken_back_without_a_hold_is_made_again(system: CleanedSystem) -> None:
    system.clean()
    undo(system.repository(), SOURCE, old(system)[:1], ["primary"], "a mistake", "a person", held=False)
    assert sorted(system.clean().deleted.gone) == old(system)[:1]


def test_what_is_not_deleted_or_gone_for_good_can_not_be_taken_back(system: CleanedSystem) -> None:
    for point in (new(system), old(system)[0]):
        with pytest.raises(RepositoryError, match="is not deleted"):
            undo(system.repository(), SOURCE, [point], ["primary"], "", "a person")
    system.clean()
    system.world.clock.advance(days=8)
    system.clean()
    with pytest.raises(RepositoryError, match="is not deleted"):
        undo(system.repository(), SOURCE, old(system)[:1], ["primary"], "", "a person")


def test_a_hold_keeps_a_point_on_every_target_and_its_end_lets_it_go(system: CleanedSystem) -> None:
    assert hold(system.repository(), SOURCE, old(system)[:1], "the auditors", "a person") == []
    plan = {one.point.recovery_point: one for one in system.plan().of("primary")}
    assert plan[old(system)[0]].sentence(system.world.loaded.policy.zone) == "Kept: held (the auditors)."
    assert sorted(system.clean().deleted.gone) == old(system)[1:]
    release(system.repository(), SOURCE, old(system)[:1], "done", "a person")
    assert system.clean().deleted.gone == (old(system)[0],)


def test_a_hold_set_after_the_deletion_brings_the_point_back(system: CleanedSystem) -> None:
    system.clean()
    hold(system.repository(), SOURCE, old(system)[:1], "the auditors", "a person")
    assert system.clean().deleted.returned == (old(system)[0],)
    assert old(system)[0] in system.shown()


def test_what_nobody_has_can_not_be_held_and_what_is_not_held_not_released(system: CleanedSystem) -> None:
    with pytest.raises(RecoveryPointMissing, match="primary, offsite, local were asked"):
        hold(system.repository(), SOURCE, ["20200101T000000Z-full-0000"], "", "a person")
    with pytest.raises(RepositoryError, match="is not held"):
        release(system.repository(), SOURCE, [new(system)], "", "a person")


def test_a_hold_that_a_target_missed_is_brought_to_it_by_the_next_cleanup(system: CleanedSystem) -> None:
    world = system.world
    away = world.roots["offsite"].rename(world.roots["offsite"].with_name("elsewhere"))
    assert hold(system.repository(), SOURCE, [new(system)], "the auditors", "a person") == ["offsite"]
    away.rename(world.roots["offsite"])
    system.clean("offsite")
    repository = system.repository()
    held = read_marks(repository.target("offsite"), SYSTEM, SOURCE, repository.trusted)
    assert [event.kind for event in held] == ["held"]


def test_a_plan_that_deletes_too_much_at_once_deletes_nothing_and_says_so(world: World) -> None:
    system = CleanedSystem(world)
    system.days(6)
    world.clock.advance(days=33)
    system.point()
    done = system.clean()
    assert done.deleted.gone == ()
    assert "5 of 7 recovery points of tier daily would go" in done.stopped[0]
    stopped = next(event for event in say(system) if event.kind == "retention_stopped")
    assert stopped.details["what"] == list(done.stopped)


def test_where_nothing_new_was_written_for_weeks_nothing_goes(system: CleanedSystem) -> None:
    system.world.clock.advance(days=36)
    done = system.clean()
    assert done.deleted.gone == ()
    assert "the clock is ahead, or nothing is backed up any more" in done.stopped[0]


def test_a_manifest_that_can_not_be_believed_stops_its_source_until_it_is_set_aside(system: CleanedSystem) -> None:
    bad = system.copies["primary", old(system)[1]].manifest.folder
    system.world.file(bad.manifest).write_text("{}")
    assert system.clean().deleted.gone == ()
    with pytest.raises(RepositoryError, match="can be believed"):
        quarantine(system.repository(), SOURCE, new(system), "primary", "looks odd", "a person")
    quarantine(system.repository(), SOURCE, old(system)[1], "primary", "a disk error", "a person")
    assert sorted(system.clean().deleted.gone) == [old(system)[0], old(system)[2]]
    system.world.clock.advance(days=8)
    system.clean()
    assert system.world.file(bad.manifest).exists()
    assert [key for key in everything(system.world) if old(system)[1] in key and "attempt" in key]
    end_quarantine(system.repository(), SOURCE, old(system)[1], "primary", "", "a person")
    assert any("can't be believed" in state.frozen for state in system.plan().held.states)


def test_a_forged_mark_hides_nothing_and_stops_every_deletion(system: CleanedSystem) -> None:
    system.clean()
    folder = system.world.roots["primary"] / SYSTEM / SOURCE / "marks"
    file = next(folder.iterdir())
    file.write_bytes(file.read_bytes().replace(b"soft_deleted", b"soft_deleteD"))
    assert len(system.shown()) == 5
    system.world.clock.advance(days=8)
    assert all(one.action is Action.STAYS for one in system.plan().decisions)
    with pytest.raises(RepositoryError):
        system.clean()
    system.whole()


def test_a_mark_of_another_source_or_place_is_no_mark(system: CleanedSystem) -> None:
    system.clean()
    root = system.world.roots["primary"] / SYSTEM
    file = next((root / SOURCE / "marks").iterdir())
    file.rename(file.with_name(file.name.replace("20", "21", 1)))
    assert len(system.shown()) == 5


def test_files_that_lifeboat_did_not_write_stay(system: CleanedSystem) -> None:
    folder = system.copies["primary", old(system)[0]].manifest.folder
    foreign = system.world.file(folder.path + "notes.txt")
    foreign.write_text("mine")
    system.clean()
    system.world.clock.advance(days=8)
    done = {one.recovery_point: one for one in system.clean().removed}
    assert done[old(system)[0]].foreign == (folder.path + "notes.txt",)
    assert foreign.read_text() == "mine"


def test_the_bundle_of_a_day_goes_with_the_last_of_its_wal(world: World) -> None:
    system = CleanedSystem(world)
    wal = system.point(kind="wal", timeline=1, tiers=("wal",))
    world.clock.advance(days=1)
    system.days(1)
    later = system.point(kind="wal", timeline=1, tiers=("wal",))
    world.clock.advance(days=2)
    repository = system.repository()
    written = list(Bundler(repository, "primary").wal(SOURCE))
    assert len(written) == 2
    world.clock.advance(days=30)
    system.point()
    assert wal in system.clean().deleted.gone
    world.clock.advance(days=8)
    system.clean()
    bundles = Bundles(repository.target("primary"), bundles_folder(SYSTEM, SOURCE))
    assert list(bundles.days) == [RecoveryPointId.parse(later).begun.strftime("%Y%m%d")]


def test_another_copy_in_the_place_of_the_deleted_one_is_not_removed(system: CleanedSystem) -> None:
    system.clean()
    point = old(system)[0]
    repository = system.repository()
    folder = system.copies["primary", point].manifest.folder
    for key in [key for key in everything(system.world) if key.startswith(folder.path)]:
        repository.target("primary").delete(key)
    now = system.world.clock.now
    system.world.clock.now = system.copies["primary", point].manifest.begun
    work = system.world.work(mark=point.rsplit("-", 1)[-1])
    system.world.point(work=work, sequence=1, previous=None, streams={"other": b"else"})
    system.world.clock.now = now + timedelta(days=8)
    assert point in system.shown()
    assert point not in [one.recovery_point for one in system.clean().removed]
    system.whole()


@pytest.mark.parametrize("days", [0, 8], ids=["soft deletion", "purge"])
def test_wherever_a_cleanup_dies_the_next_one_ends_its_work_and_nothing_is_left_half(world: World, days: int) -> None:
    system = CleanedSystem(world)
    gone = system.days(1)
    wal = system.point(kind="wal", timeline=1, tiers=("wal",))
    world.clock.advance(days=1)
    stay = system.days(1)
    world.clock.advance(days=31)
    stay += [system.point()]
    if days:
        system.clean()
        world.clock.advance(days=days)
    deaths = 0
    for repository, mortal in system.at_each_change():
        with dies():
            system.clean(repository=repository)
        deaths += mortal.dead
        assert set(stay) <= set(system.shown())
        system.clean()
        assert system.shown() == stay
        if days:
            system.whole()
            assert not left_of(system, *gone, wal)
            assert removed(system)[gone[0]] == 1
            assert marks(system) == []
        assert system.clean().removed == ()
    assert deaths >= (8 if days else 2)


@pytest.mark.parametrize("days", [0, 8], ids=["soft deletion", "purge"])
def test_two_cleanups_at_once_do_together_what_one_does_wherever_they_cross(world: World, days: int) -> None:
    system = CleanedSystem(world)
    *gone, base = system.days(3)
    world.clock.advance(days=31)
    stay = [base, system.point()]
    if days:
        system.clean()
        world.clock.advance(days=days)
    crossings = 0
    for repository, mortal in system.at_each_change():
        mortal.meanwhile = system.clean
        system.clean(repository=repository)
        crossings += mortal.changes >= mortal.dies_at
        assert system.shown() == stay
        if days:
            system.clean()
            system.whole()
            assert not left_of(system, *gone)
            assert marks(system) == []
    assert crossings >= (8 if days else 2)


def test_a_hold_that_crosses_a_removal_is_heeded_or_says_that_it_came_too_late(world: World) -> None:
    system = CleanedSystem(world)
    first = system.days(3)[0]
    world.clock.advance(days=31)
    system.point()
    system.clean()
    world.clock.advance(days=8)
    outcomes = set()
    for repository, mortal in system.at_each_change():
        said: list[str] = []

        def holds(said: list[str] = said) -> None:
            try:
                hold(system.repository(), SOURCE, [first], "the auditors", "a person")
                said.append("held")
            except (RepositoryError, TargetError):
                said.append("late")

        mortal.meanwhile = holds
        system.clean(repository=repository)
        system.clean()
        system.whole()
        outcomes |= {(word, first in system.shown()) for word in said}
    assert ("held", True) in outcomes
    assert ("late", False) in outcomes
    assert ("held", False) not in outcomes


def left_of(system: CleanedSystem, *points: str) -> list[str]:
    """What lies in the folders of recovery points that are gone."""
    return [key for key in everything(system.world) if any(point in key.split("/") for point in points)]
