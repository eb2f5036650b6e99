"""What a plan is made of is read from the targets as they are."""

from __future__ import annotations

from datetime import timedelta

from lifeboat.repository.catalogue import Copy
from lifeboat.repository.copying import copy as copy_point
from lifeboat.repository.retention.points import Role, TargetState
from lifeboat.repository.retention.reading import read_source
from lifeboat.repository.retention.rules import rules_of
from tests.repository.world import SOURCE, World

ROLES = {"full": Role.BASE, "incremental": Role.LINK, "wal": Role.LOG, "export": Role.ALONE}


def verified(world: World, copy: Copy, target: str = "primary", *, kind: str = "verified", sha256: str = "") -> None:
    repository = world.repository()
    journal = repository.journal(target, run=f"test-{world.clock():%H%M%S}", actor="a test")
    point = copy.manifest.recovery_point
    details = {"method": "read", "manifest": sha256 or copy.sha256} if kind == "verified" else {}
    journal.write(kind, source=SOURCE, recovery_point=point, target=target, **details)  # type: ignore[arg-type]
    world.clock.advance(minutes=1)


def read(world: World) -> dict[str, TargetState]:
    return {state.target: state for state in read_source(world.repository(), SOURCE, ROLES).states}


def test_points_are_read_with_what_they_need_and_whether_each_copy_was_verified(world: World) -> None:
    full = world.point()
    link = world.point(kind="incremental", parent=full.manifest.recovery_point, chain=full.manifest.chain)
    wal = world.point(kind="wal", timeline=1)
    export = world.point(kind="export", tiers=())
    damaged = world.point(state="damaged")
    for copy in (full, link, damaged):
        verified(world, copy)
    verified(world, link, kind="verification_failed")
    verified(world, export, sha256="0" * 64)
    states = read(world)
    points = {point.recovery_point: point for point in states["primary"].points}
    assert set(points) == {copy.manifest.recovery_point for copy in (full, link, wal, export, damaged)}
    assert [name for name, point in points.items() if point.good] == [full.manifest.recovery_point]
    assert points[link.manifest.recovery_point].needs == (full.manifest.recovery_point,)
    assert points[wal.manifest.recovery_point].role is Role.LOG
    assert points[export.manifest.recovery_point].tiers == ("export",)
    assert states["local"].points == ()
    assert {state.frozen for state in states.values()} == {""}
    assert read_source(world.repository(), SOURCE, ROLES).latest == damaged.manifest.committed


def test_wal_leads_on_from_what_a_late_standby_had_replayed_and_not_from_when_it_was_read(world: World) -> None:
    world.point(moment=world.clock() - timedelta(hours=5))
    world.point()
    late, other = read(world)["primary"].points
    assert other.begun - late.begun == timedelta(hours=6)


def test_a_copy_is_as_good_as_its_own_targets_journal_says(world: World) -> None:
    full = world.point()
    repository = world.repository()
    copy_point(repository.target("primary"), repository.catalogue("local"), full)
    verified(world, full)
    assert [point.good for state in read(world).values() for point in state.points] == [True, False]
    verified(world, full, "local")
    assert [point.good for state in read(world).values() for point in state.points] == [True, True]


def test_a_manifest_that_cannot_be_believed_freezes_its_source_everywhere(world: World) -> None:
    world.point()
    bad = world.point()
    path = world.file(bad.manifest.folder.manifest)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b'"sequence": 2', b'"sequence": 7'))
    states = read(world)
    assert len(states["primary"].points) == 1
    for state in states.values():
        assert f"{bad.manifest.recovery_point} on primary can't be believed" in state.frozen


def test_a_kind_that_this_version_does_not_know_freezes_its_source(world: World) -> None:
    point = world.point(kind="snapshot")
    frozen = read(world)["primary"].frozen
    assert frozen == f"{point.manifest.recovery_point} on primary is of a kind that this Lifeboat does not know"


def test_a_target_out_of_reach_is_frozen_by_itself(world: World) -> None:
    world.point()
    world.roots["local"].rename(world.roots["local"].with_name("unplugged"))
    states = read(world)
    assert states["primary"].frozen == ""
    assert states["local"].frozen.startswith("it could not be read: ")


def test_rules_are_those_of_the_policy_and_a_local_copy_cannot_be_taken_back(world: World) -> None:
    rules = rules_of(world.loaded.policy, SOURCE)
    assert rules.tiers.keys() == {tier.value for tier in world.loaded.policy.sources[SOURCE].tiers}
    assert (rules.most_share, rules.most_count, rules.minimum_copies) == (0.2, 3, 1)
    assert {name: target.undelete.days for name, target in rules.targets.items()} == dict.fromkeys(world.roots, 0)
