"""A mirror has the origin's refs after each run, compared one by one, and what it would have lost under other names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.code.conftest import CodeSet, Origin, git, ids
from tests.code.test_contents import make_hostile


@pytest.fixture
def mirror(code: CodeSet) -> Path:
    """An empty repository on the second server, and a first commit at the origin."""
    place = code.origins.parent / "mirrors" / "erp.git"
    Origin.make(place)
    code.protect(mirror=f"file://{place.parent}")
    code.one.commit()
    return place


def followed(mirror: Path) -> dict[str, str]:
    return {name: object_id for name, object_id in ids(mirror).items() if not name.startswith("refs/lifeboat/")}


def kept(mirror: Path) -> dict[str, str]:
    return {name: object_id for name, object_id in ids(mirror).items() if name.startswith("refs/lifeboat/")}


def test_a_mirror_gets_every_ref_and_follows(code: CodeSet, mirror: Path) -> None:
    code.one.tag("v1")
    code.one.set("refs/notes/commits", code.one.ids()["refs/heads/main"])
    code.one.set("refs/odd/one", code.one.ids()["refs/heads/main"])
    code.snapshot()
    assert followed(mirror) == code.one.ids()
    code.one.commit()
    code.one.commit("refs/heads/b")
    code.snapshot()
    assert followed(mirror) == code.one.ids()
    assert kept(mirror) == {}
    first, second = code.events("mirrored")
    assert (first.details["refs"], second.details["refs"]) == (4, 5)
    git("fsck", "--full", at=mirror)


def test_what_a_forge_makes_by_itself_and_what_no_server_takes_is_backed_up_and_not_mirrored(
    code: CodeSet, mirror: Path
) -> None:
    code.one.set("refs/pull/1/head", code.one.ids()["refs/heads/main"])
    code.one.set("refs/stash", code.one.ids()["refs/heads/main"])
    copy = code.snapshot()
    assert list(followed(mirror)) == ["refs/heads/main"]
    assert ids(code.restore(copy)["erp"].path) == code.one.ids()
    assert code.events("mirrored")[0].details["left_out"] == 2


def test_what_is_forced_deleted_or_moved_at_the_origin_is_kept_on_the_mirror_until_retention_ends(
    code: CodeSet, mirror: Path
) -> None:
    root = code.one.ids()["refs/heads/main"]
    lost = code.one.commit()
    gone = code.one.commit("refs/heads/gone", root)
    was = code.one.tag("v1")
    code.snapshot()
    code.one.commit("refs/heads/main", root)
    code.one.delete("refs/heads/gone")
    code.one.tag("v1")
    done = code.verified()
    assert "was force-pushed" in done.alarm
    assert "mirror" not in done.alarm
    assert followed(mirror) == code.one.ids()
    assert sorted(kept(mirror).values()) == sorted([lost, gone, was])
    assert {name.split("/", 3)[3] for name in kept(mirror)} == {"heads/main", "heads/gone", "tags/v1"}
    assert all(name.startswith("refs/lifeboat/20261122T030000Z/") for name in kept(mirror))
    event = code.events("mirrored")[-1]
    assert {one["id"] for one in event.details["kept"]} == {lost, gone, was}
    code.world.clock.advance(days=29)
    code.snapshot()
    assert len(kept(mirror)) == 3
    code.world.clock.advance(days=2)
    code.snapshot()
    assert kept(mirror) == {}
    assert code.events("mirrored")[-1].details["expired"] == 3
    assert followed(mirror) == code.one.ids()


def test_a_mirror_that_is_away_fails_the_run_and_not_the_recovery_point(code: CodeSet, mirror: Path) -> None:
    mirror.rename(mirror.with_name("away"))
    done = code.verified()
    assert "The mirror of erp was not brought up" in done.alarm
    assert len(code.shown()) == 1
    (event,) = code.events("mirror_failed")
    assert event.details["repository"] == "erp"
    mirror.with_name("away").rename(mirror)
    code.snapshot()
    assert followed(mirror) == code.one.ids()


def test_a_mirror_that_refuses_a_ref_is_named(code: CodeSet, mirror: Path) -> None:
    git("config", "receive.denyDeletes", "true", at=mirror)
    code.one.commit("refs/heads/b")
    code.snapshot()
    code.one.delete("refs/heads/b")
    done = code.verified()
    assert "refs/heads/b" in done.alarm
    assert "The mirror refused refs" in done.alarm


def test_a_mirror_that_lacks_a_ref_after_the_push_is_named(code: CodeSet, mirror: Path) -> None:
    """A server whose rules throw away what it has taken: a hook that runs after the push."""
    hooks = code.origins.parent / "hooks"
    hooks.mkdir()
    (hooks / "post-receive").write_text("#!/bin/sh\ngit update-ref -d refs/heads/b\n")
    (hooks / "post-receive").chmod(0o755)
    git("config", "core.hooksPath", str(hooks), at=mirror)
    code.one.commit("refs/heads/b")
    done = code.take()
    assert "other refs than the origin after the push: refs/heads/b" in done.alarm
    assert len(code.shown()) == 1


def test_what_only_the_mirror_has_is_kept_there_before_it_goes(code: CodeSet, mirror: Path) -> None:
    stray = Origin(mirror).commit("refs/heads/stray")
    code.snapshot()
    assert list(kept(mirror).values()) == [stray]
    assert followed(mirror) == code.one.ids()


def test_hostile_names_are_mirrored_and_kept_as_they_are(code: CodeSet, mirror: Path) -> None:
    names = make_hostile(code.one)
    code.snapshot()
    own = {name: object_id for name, object_id in code.one.ids().items() if not name.startswith("refs/lifeboat/")}
    assert followed(mirror) == own
    for name in names:
        if name.startswith("refs/heads/"):
            code.one.delete(name)
    done = code.verified()
    assert "was deleted" in done.alarm
    assert "mirror" not in done.alarm
    assert {name.split("/", 3)[3] for name in kept(mirror)} == {
        name.removeprefix("refs/") for name in names if name.startswith("refs/heads/")
    }


def test_each_repository_may_have_a_mirror_of_its_own(code: CodeSet, mirror: Path) -> None:
    two = Origin.make(code.origins / "two.git")
    two.commit()
    own = Origin.make(code.origins.parent / "own.git")
    code.protect(
        code.one.url,
        f"{{url: {two.url}, name: second, mirror: 'file://{own.path}'}}",
        mirror=f"file://{mirror.parent}",
    )
    code.snapshot()
    assert own.ids() == two.ids()
    assert followed(mirror) == code.one.ids()
