"""How long preflight has a store keep what belongs to a source."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from lifeboat.backup.preflight import preflight
from lifeboat.policy.naming import Tier
from lifeboat.targets.target import Finding, Kept
from tests.files.conftest import FILES, FileSet, demo_system, files, make_world, moto, own_rclone, rclone
from tests.repository.world import World

__all__ = ["demo_system", "files", "make_world", "moto", "own_rclone", "rclone"]


def asked(world: World, source: str, target: str) -> Kept:
    repository = world.repository()
    found: list[Kept | None] = []

    def check(kept: Kept | None = None) -> list[Finding]:
        found.append(kept)
        return []

    repository.target(target).check = check  # type: ignore[method-assign]
    preflight(repository, source, Tier.DAILY, tick=lambda: None)
    (kept,) = found
    assert kept is not None
    return kept


def test_files_must_stay_for_retention_undelete_and_the_generation_that_refers_to_them(files: FileSet) -> None:
    source = files.world.loaded.policy.sources[FILES]
    kept = asked(files.world, FILES, "primary")
    assert kept.folders == (f"demo/{FILES}/", "demo/journal/")
    # A target that is a directory has no `undelete` unless it says so.
    assert kept.lasting == timedelta(days=30) + source.generation.fixed  # type: ignore[union-attr]


def test_a_target_that_keeps_copies_for_less_time_and_says_what_can_be_taken_back_counts(files: FileSet) -> None:
    world = files.world.bent("  local:\n", "  local:\n    retention: 10d\n    undelete: 3d\n")
    source = world.loaded.policy.sources[FILES]
    generation = source.generation.fixed  # type: ignore[union-attr]
    assert asked(world, FILES, "local").lasting == timedelta(days=13) + generation


def test_an_s3_target_keeps_what_can_be_undone(
    make_world: Callable[..., World], request: pytest.FixtureRequest
) -> None:
    world = make_world(request.getfixturevalue("moto"))
    tiers = world.loaded.policy.sources["database"].tiers.values()
    longest = max(tier.retention.fixed for tier in tiers)
    assert asked(world, "database", "primary").lasting == longest + world.loaded.policy.retention.undelete.fixed
