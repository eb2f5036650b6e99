"""What is rewritten at the origin is told as loudly as a failure, and what was there before stays where it was."""

from __future__ import annotations

from lifeboat.code.refs import Ref, RefChange, RepositoryRefs, changes_between
from tests.code.conftest import CodeSet, Origin, details, git, ids


def test_a_force_push_is_told_with_both_ids_and_the_old_state_comes_back(code: CodeSet) -> None:
    code.one.commit()
    old = code.one.commit()
    first = code.snapshot()
    root = git("rev-list", "--max-parents=0", "refs/heads/main", at=code.one.path)
    new = code.one.commit("refs/heads/main", root)
    # As a forge does in the end: the old commit is nowhere at the origin any more.
    git("reflog", "expire", "--expire=now", "--all", at=code.one.path)
    git("gc", "--prune=now", "--quiet", at=code.one.path)
    done = code.verified()
    point = first.manifest.recovery_point
    assert f"erp: refs/heads/main was force-pushed from {old} to {new}." in done.alarm
    assert f"kept in {point}" in done.alarm
    (copy,) = done.copies
    assert any(old in finding and new in finding and point in finding for finding in copy.manifest.findings)
    (event,) = code.events("code_history_rewritten")
    assert event.recovery_point == copy.manifest.recovery_point
    assert event.details["kept_in"] == point
    assert event.details["refs"] == [
        {"ref": "refs/heads/main", "what": "forced", "old": old, "new": new, "expected": False}
    ]
    assert ids(code.restore(first, name="before")["erp"].path)["refs/heads/main"] == old
    assert ids(code.restore(copy, name="after")["erp"].path)["refs/heads/main"] == new


def test_a_branch_that_only_moved_on_is_no_rewrite(code: CodeSet) -> None:
    code.one.commit()
    code.snapshot()
    code.one.commit()
    code.one.commit("refs/heads/new")
    code.one.tag("v2")
    code.snapshot()
    assert code.events("code_history_rewritten") == []


def test_deleted_branches_and_moved_and_deleted_tags_are_told(code: CodeSet) -> None:
    code.one.commit()
    gone = code.one.commit("refs/heads/gone", code.one.ids()["refs/heads/main"])
    was = code.one.tag("v1")
    code.one.tag("v2")
    code.snapshot()
    code.one.delete("refs/heads/gone")
    code.one.delete("refs/tags/v2")
    code.one.commit()
    now = code.one.tag("v1")
    done = code.verified()
    assert f"erp: refs/heads/gone was deleted; it was {gone}." in done.alarm
    assert f"erp: refs/tags/v1 was moved from {was} to {now}." in done.alarm
    assert "refs/tags/v2 was deleted" in done.alarm
    assert details(done.copies[0]).rewritten == 3
    # It was told: the next run is about what comes next.
    assert code.take().alarm == ""


def test_branches_that_may_be_rewritten_wake_nobody_and_are_recorded(code: CodeSet) -> None:
    code.protect(rewritable='["feature/*"]')
    main = code.one.commit()
    code.one.commit("refs/heads/feature/a", main)
    code.one.commit("refs/heads/feature/b", main)
    code.one.set("refs/pull/1/merge", code.one.commit("refs/heads/feature/a"))
    code.snapshot()
    code.one.delete("refs/heads/feature/a")
    code.one.commit("refs/heads/feature/b", main)
    code.one.delete("refs/pull/1/merge")
    copy = code.snapshot()
    assert len([finding for finding in copy.manifest.findings if "feature/" in finding]) == 2
    (event,) = code.events("code_history_rewritten")
    assert all(ref["expected"] for ref in event.details["refs"])


def test_a_repository_that_cannot_be_read_any_more_is_told_and_what_is_kept_of_it_stays(code: CodeSet) -> None:
    two = Origin.make(code.origins / "two.git")
    two.commit()
    code.one.commit()
    code.protect(code.one.url, two.url)
    first = code.snapshot()
    before = two.ids()
    two.path.rename(code.origins / "elsewhere")
    code.one.commit()
    done = code.verified()
    assert "two could not be read: two can't be cloned from" in done.alarm
    (copy,) = done.copies
    assert copy.manifest.needs == (first.manifest.recovery_point,)
    code.verify(copy, deep=True)
    back = code.restore(copy)
    assert ids(back["two"].path) == before
    assert back["two"].as_of == first.manifest.recovery_point
    assert ids(back["erp"].path) == code.one.ids()


def test_an_empty_repository_and_one_that_never_could_be_read_are_no_damage_when_they_are_away(code: CodeSet) -> None:
    code.one.commit()
    empty = Origin.make(code.origins / "empty.git")
    code.protect(code.one.url, empty.url)
    code.snapshot()
    empty.path.rename(code.origins / "elsewhere")
    code.protect(code.one.url, empty.url, f"file://{code.origins}/never.git")
    (copy,) = code.verified().copies
    assert [bool(one.unread) for one in details(copy).repositories] == [False, True, True]
    code.verify(copy, deep=True)
    assert set(code.restore(copy)) == {"erp"}


def test_a_month_later_what_has_not_changed_is_stored_anew(code: CodeSet) -> None:
    code.one.commit()
    first = code.snapshot()
    code.world.clock.advance(days=32)
    second = code.snapshot()
    assert second.manifest.needs == ()
    assert details(second).generation == second.manifest.recovery_point
    assert details(second).compared_with == first.manifest.recovery_point


def test_what_was_never_verified_is_referred_to_by_nothing(code: CodeSet) -> None:
    code.one.commit()
    code.take()
    (copy,) = code.take().copies
    assert copy.manifest.needs == ()
    assert details(copy).compared_with == ""


def test_changes_between_two_indexes_are_named_by_repository_and_ref() -> None:
    def state(name: str, head: str, **refs: str) -> RepositoryRefs:
        return RepositoryRefs(name, "sha1", head, "", {ref: Ref(ref, object_id) for ref, object_id in refs.items()})

    before = {"a": state("a", "refs/heads/x", one="1", two="2", three="3"), "gone": state("gone", "", ref="9")}
    after = {"a": state("a", "refs/heads/y", one="1", two="22", four="4"), "new": state("new", "")}
    assert changes_between(before, before) == []
    assert changes_between(before, after) == [
        RefChange("a", "HEAD", "refs/heads/x", "refs/heads/y"),
        RefChange("a", "four", "", "4"),
        RefChange("a", "three", "3", ""),
        RefChange("a", "two", "2", "22"),
        RefChange("gone", "", "there", ""),
        RefChange("gone", "ref", "9", ""),
        RefChange("new", "", "", "new"),
    ]
