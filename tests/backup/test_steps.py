"""The steps after the backup: one target's failure leaves the others alone, and what is missing is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lifeboat.backup.preflight import insist, preflight
from lifeboat.backup.steps import Point, Published, back_up, copy_to, missed, publish, verify
from lifeboat.errors import (
    Cancelled,
    ConnectionUnknown,
    ObjectDamaged,
    PreflightFailed,
    TargetUnavailable,
    VerificationFailed,
)
from lifeboat.policy.naming import Tier
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.journal import Event, Journal, read_journal
from lifeboat.repository.system import SystemRepository
from tests.repository.world import SOURCE, World, everything


def nothing(*_: object) -> None:
    """For who is not interested."""


def cancel(*_: object) -> None:
    raise Cancelled("stopped by a test")


def journal_of(repository: SystemRepository, *others: str) -> Journal:
    repository.outside.clock.advance(seconds=1)  # type: ignore[attr-defined]  # each step has a time of its own
    return repository.journal("primary", *others, run="run", actor="tester")


def carry(world: World, target: str, *copies: Copy, tick: Callable[[], None] = nothing) -> list[Copy]:
    repository = world.repository()
    points = [Point.of(copy) for copy in copies]
    return copy_to(repository, SOURCE, Tier.DAILY, target, points, journal_of(repository), passed=nothing, tick=tick)


def check(world: World, target: str, *copies: Copy, journal: Journal | None = None) -> int:
    repository = world.repository()
    journal = journal or journal_of(repository)
    points = [Point.of(copy) for copy in copies]
    return len(verify(repository, SOURCE, target, points, journal, deep=False, passed=nothing, tick=nothing))


def published(world: World, *copies: Copy, left_out: tuple[str, ...] = ()) -> Published:
    repository = world.repository()
    points = [Point.of(copy) for copy in copies]
    return publish(repository, SOURCE, points, journal_of(repository, "offsite", "local"), left_out=left_out)


def events(world: World, target: str = "primary") -> list[Event]:
    repository = world.repository()
    found = list(read_journal(repository.target(target), "demo", repository.trusted))
    assert all(isinstance(event, Event) for event in found)
    return [event for event in found if isinstance(event, Event)]


def kinds(world: World) -> list[str]:
    return [event.kind for event in events(world)]


def take_away(world: World, target: str) -> Path:
    """The target is not mounted any more; returns its marker's place."""
    marker = world.roots[target] / ".lifeboat-target"
    marker.unlink()
    return marker


def bring_back(marker: Path) -> None:
    marker.write_text("demo-local\n")


def damage(world: World, copy: Copy, target: str = "primary") -> str:
    key = copy.manifest.folder.attempt(copy.manifest.attempt) + copy.manifest.streams[0].volumes[0].file
    path = world.file(key, target)
    path.write_bytes(b"\0" + path.read_bytes()[1:])
    return key


def test_all_goes_well(world: World) -> None:
    copy = world.point()
    assert check(world, "primary", copy) == 1
    for target in ("offsite", "local"):
        assert carry(world, target, copy)[0].manifest == copy.manifest
        assert check(world, target, copy) == 1
    result = published(world, copy)
    assert result == Published({copy.manifest.recovery_point: ["primary", "offsite", "local"]}, [])
    assert kinds(world) == ["verified", "copy_committed", "verified", "copy_committed", "verified", "published"]


def test_a_target_that_is_away_leaves_primary_and_the_other_copy_alone(world: World) -> None:
    copy = world.point()
    take_away(world, "offsite")
    before = everything(world)
    with pytest.raises(TargetUnavailable, match="offsite"):
        carry(world, "offsite", copy)
    assert {key: everything(world)[key] for key in before} == before
    carry(world, "local", copy)
    assert check(world, "local", copy) == 1
    result = published(world, copy)
    assert result.copies == {copy.manifest.recovery_point: ["primary", "local"]}
    (missing,) = result.missing
    assert missing.startswith(f"{copy.manifest.recovery_point} on offsite: ")
    assert kinds(world) == ["copy_failed", "copy_committed", "verified", "copy_missing", "published"]
    assert events(world)[0].details["error"] == "TargetUnavailable"


def test_a_copy_that_is_not_required_may_be_missing_and_is_recorded(world: World) -> None:
    copy = world.point()
    take_away(world, "offsite")
    marker = f"url: file://{world.roots['offsite']}\n"
    lenient = world.bent(marker, f"{marker}    required: false\n")
    carry(lenient, "local", copy)
    assert published(lenient, copy).missing == []
    assert "copy_missing" in kinds(world)


def test_a_target_that_a_person_left_out_is_recorded_as_such(world: World) -> None:
    copy = world.point()
    carry(world, "local", copy)
    assert published(world, copy, left_out=("offsite",)).missing == []
    (event,) = [event for event in events(world) if event.kind == "copy_missing"]
    assert event.details["what"] == "left out by the person who started the run"


def test_a_missing_primary_copy_is_always_missing(world: World) -> None:
    copy = world.point()
    world.file(copy.manifest.folder.manifest).unlink()
    assert [one for one in published(world, copy).missing if " on primary: " in one]


def test_a_copy_whose_manifest_can_not_be_believed_does_not_count(world: World) -> None:
    copy = world.point()
    for target in ("offsite", "local"):
        carry(world, target, copy)
    world.file(copy.manifest.folder.manifest, "offsite").write_text("{}")
    (missing,) = published(world, copy).missing
    assert " on offsite: " in missing


def test_copying_again_changes_nothing(world: World) -> None:
    copy = world.point()
    carry(world, "offsite", copy)
    objects = {key: data for key, data in everything(world, "offsite").items() if "/journal/" not in key}
    carry(world, "offsite", copy)
    assert {key: data for key, data in everything(world, "offsite").items() if "/journal/" not in key} == objects


def test_a_target_gets_what_it_missed_newest_first_with_the_events(world: World) -> None:
    marker = take_away(world, "offsite")
    older = [world.point() for _ in range(3)]
    for copy in older:
        with pytest.raises(TargetUnavailable):
            carry(world, "offsite", copy)
    bring_back(marker)
    copy = world.point()
    carried = carry(world, "offsite", copy)
    assert [one.manifest.recovery_point for one in carried] == [
        one.manifest.recovery_point for one in [copy, *reversed(older)]
    ]
    assert [event.kind for event in events(world, "offsite")] == kinds(world)


def test_what_was_missed_more_than_a_week_ago_is_left_to_a_person(world: World) -> None:
    old = world.point()
    world.clock.advance(days=6, hours=22)
    recent = world.point()
    world.clock.advance(hours=2)
    repository = world.repository()
    primary, offsite = repository.catalogue("primary"), repository.catalogue("offsite")
    assert missed(repository, SOURCE, Tier.DAILY, primary, offsite) == [recent.manifest.folder]
    assert old.manifest.folder not in missed(repository, SOURCE, Tier.DAILY, primary, offsite)


def test_a_target_is_not_brought_what_its_own_retention_would_remove(world: World) -> None:
    world.point()
    world.clock.advance(days=2)
    recent = world.point()
    marker = f"url: file://{world.roots['offsite']}\n"
    repository = world.bent(marker, f"{marker}    retention: 1d\n").repository()
    primary, offsite = repository.catalogue("primary"), repository.catalogue("offsite")
    assert missed(repository, SOURCE, Tier.DAILY, primary, offsite) == [recent.manifest.folder]


def test_wal_runs_that_were_missed_are_brought_with_wal_and_fulls_with_fulls(world: World) -> None:
    full = world.point()
    run = world.point(kind="wal", timeline=1, streams={"seg": b"w"})
    repository = world.repository()
    primary, offsite = repository.catalogue("primary"), repository.catalogue("offsite")
    assert missed(repository, SOURCE, Tier.DAILY, primary, offsite) == [full.manifest.folder]
    assert missed(repository, SOURCE, Tier.WAL, primary, offsite) == [run.manifest.folder]


def test_an_older_one_that_can_not_be_carried_fails_nothing(world: World) -> None:
    broken, unreadable, good, copy = (world.point() for _ in range(4))
    damage(world, broken)
    world.file(unreadable.manifest.folder.manifest).write_text("{}")
    carried = carry(world, "offsite", copy)
    assert [one.manifest for one in carried] == [copy.manifest, good.manifest]


def test_one_damaged_recovery_point_of_the_run_does_not_hold_back_the_others(world: World) -> None:
    first, second = world.point(), world.point()
    key = damage(world, first)
    with pytest.raises(ObjectDamaged, match=key):
        carry(world, "offsite", first, second)
    offsite = world.repository().catalogue("offsite")
    assert [one.manifest for one in offsite.recovery_points(SOURCE).copies] == [second.manifest]
    assert kinds(world) == ["copy_failed", "copy_committed"]


def test_a_bad_copy_is_named_and_journaled_and_the_others_are_looked_at(world: World) -> None:
    good, bad, also_bad = (world.point() for _ in range(3))
    keys = [damage(world, bad), damage(world, also_bad)]
    with pytest.raises(VerificationFailed, match="2 of 3 recovery points on primary are not good") as caught:
        check(world, "primary", bad, good, also_bad)
    assert all(key in str(caught.value) for key in keys)
    assert kinds(world) == ["verification_failed", "verified", "verification_failed"]
    with pytest.raises(VerificationFailed, match="1 of 3 objects"):
        check(world, "primary", bad)


def test_a_damage_is_told_also_when_it_can_not_be_journaled(world: World) -> None:
    copy = world.point()
    carry(world, "offsite", copy)
    damage(world, copy, "offsite")
    repository = world.repository()
    journal = journal_of(repository)
    take_away(world, "primary")
    with pytest.raises(VerificationFailed, match="on offsite are not good"):
        check(world, "offsite", copy, journal=journal)


def test_a_good_copy_that_can_not_be_journaled_does_not_count(world: World) -> None:
    copy = world.point()
    carry(world, "offsite", copy)
    repository = world.repository()
    journal = journal_of(repository)
    take_away(world, "primary")
    with pytest.raises(TargetUnavailable):
        check(world, "offsite", copy, journal=journal)


def test_cancelling_a_verification_is_no_verdict(world: World) -> None:
    copy = world.point()
    repository = world.repository()
    with pytest.raises(Cancelled):
        verify(
            repository,
            SOURCE,
            "primary",
            [Point.of(copy)],
            journal_of(repository),
            deep=False,
            passed=cancel,
            tick=nothing,
        )
    assert events(world) == []


def test_cancelling_a_copy_comes_through_also_from_what_was_missed_before(world: World) -> None:
    copies = [world.point() for _ in range(3)]
    with pytest.raises(Cancelled):
        carry(world, "offsite", copies[-1], tick=cancel)
    ticks = 0

    def second_time() -> None:
        nonlocal ticks
        ticks += 1
        if ticks == 2:
            raise Cancelled("stopped by a test")

    with pytest.raises(Cancelled):
        carry(world, "offsite", copies[-1], tick=second_time)
    assert len(world.repository().catalogue("offsite").recovery_points(SOURCE).copies) == 1


def start_backup(world: World, *, tick: Callable[[], None] = nothing) -> None:
    repository = world.repository()
    back_up(repository, SOURCE, Tier.DAILY, world.work(), journal_of(repository), progress=nothing, tick=tick)


def test_a_backup_that_fails_is_journaled_and_its_own_error_comes_out(world: World) -> None:
    with pytest.raises(ConnectionUnknown, match="demo_database"):
        start_backup(world)
    (event,) = events(world)
    assert (event.kind, event.details["error"], event.target) == ("backup_failed", "ConnectionUnknown", "primary")
    assert world.repository().catalogue("primary").recovery_points(SOURCE).copies == ()


def test_a_backup_that_fails_with_its_target_says_so_although_nothing_can_be_journaled(world: World) -> None:
    take_away(world, "primary")
    with pytest.raises(TargetUnavailable, match="primary"):
        start_backup(world)


def test_preflight_names_every_missing_thing_at_once(world: World) -> None:
    take_away(world, "offsite")
    key = world.loaded.policy.encryption.keys[0].file
    bent = world.bent(str(key), f"{key}-gone")
    findings = preflight(bent.repository(), SOURCE, Tier.DAILY, tick=nothing)
    errors = {finding.subject for finding in findings if finding.severity == "error"}
    assert errors == {"encryption", SOURCE}
    assert [finding for finding in findings if finding.severity == "warning" and "offsite" in finding.subject]
    with pytest.raises(PreflightFailed, match="2 missing") as caught:
        insist(findings, "The backup")
    assert "demo-local" in str(caught.value)
    assert "demo_database" in str(caught.value)


def test_preflight_fails_for_a_primary_target_that_is_away(world: World) -> None:
    take_away(world, "primary")
    findings = preflight(world.repository(), SOURCE, Tier.DAILY, tick=nothing)
    assert [finding for finding in findings if finding.severity == "error" and "primary" in finding.subject]


def test_preflight_fails_for_a_signing_key_whose_time_is_over(world: World) -> None:
    validity = "valid_from: 2026-01-01T00:00:00Z"
    bent = world.bent(validity, f"{validity}\n      valid_until: 2026-11-22T01:00:00Z")
    findings = preflight(bent.repository(), SOURCE, Tier.DAILY, tick=nothing)
    assert [finding for finding in findings if finding.severity == "error" and finding.subject == "signing"]


def test_preflight_without_findings_lets_begin() -> None:
    insist([], "The backup")


def test_cancelling_a_preflight_comes_through(world: World) -> None:
    with pytest.raises(Cancelled):
        preflight(world.repository(), SOURCE, Tier.DAILY, tick=cancel)
