"""What was rewritten since an earlier recovery point: forced branches, refs that are gone, tags that moved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from lifeboat.code.details import Rewrite
from lifeboat.code.git_program import Git
from lifeboat.code.refs import HEADS, TAGS, RepositoryRefs, changes_between, shown
from lifeboat.policy.code_source import CodeSource

Contains = Callable[[str, str], bool]
"""Whether the second object contains the first in its history."""


def rewrites_between(
    before: RepositoryRefs, after: RepositoryRefs, contains: Contains, source: CodeSource
) -> Iterator[Rewrite]:
    """Every ref of a repository that no longer leads to what it did, and is not only ahead of it."""
    name = after.repository
    for change in changes_between({name: before}, {name: after}):
        ref = change.ref
        if ref in ("", "HEAD") or not change.old or ref.startswith(source.forge_refs):
            continue
        if not change.new:
            what = "deleted"
        elif ref.startswith(TAGS):
            what = "moved"
        elif not contains(change.old, change.new):
            what = "forced"
        else:
            continue
        branch = ref.removeprefix(HEADS)
        expected = branch != ref and any(fnmatchcase(branch, pattern) for pattern in source.rewritable)
        yield Rewrite.model_validate(
            {"repository": name, "ref": shown(ref), "what": what, "old": change.old, "new": change.new,
             "expected": expected}
        )  # fmt: skip


def contained_in(git: Git, at: Path, tick: Callable[[], None]) -> Contains:
    """Asks a clone. What it does not have, nothing in it contains."""

    def contains(old: str, new: str) -> bool:
        return git.run(["merge-base", "--is-ancestor", old, new], at=at, tick=tick, good=(0, 1, 128)).code == 0

    return contains


def in_words(rewrite: Rewrite) -> str:
    """One rewrite, as a finding says it."""
    place = f"{rewrite.repository}: {rewrite.ref}"
    if rewrite.what == "deleted":
        return f"{place} was deleted; it was {rewrite.old}."
    verb = "was moved" if rewrite.what == "moved" else "was force-pushed"
    return f"{place} {verb} from {rewrite.old} to {rewrite.new}."


def alarm_of(rewrites: Sequence[Rewrite], kept_in: str) -> str:
    """What somebody has to be told of rewrites; empty where all of them may be."""
    told = [rewrite for rewrite in rewrites if not rewrite.expected]
    if not told:
        return ""
    more = f" And {len(told) - 5} more." if len(told) > 5 else ""
    return (
        f"History was rewritten at the origin: {' '.join(map(in_words, told[:5]))}{more} What was there before is kept "
        f"in {kept_in}. Find out who did it; a branch that may be rewritten can be named under `rewritable`."
    )
