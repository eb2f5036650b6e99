"""Which items of a recovery point are meant, and their bytes, each compared with its fingerprint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from pathspec import GitIgnoreSpec

from lifeboat.configuration.fingerprints import same
from lifeboat.configuration.items import Indexed
from lifeboat.configuration.reading import fingerprints_of, index_of, items_of
from lifeboat.errors import ObjectDamaged, RestoreError
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.system import SystemRepository


@dataclass(frozen=True)
class Proven:
    """An item whose bytes are those that were backed up."""

    indexed: Indexed
    content: bytes = field(repr=False)


def chosen_items(index: Iterable[Indexed], only: Sequence[str], what: str) -> list[Indexed]:
    """The items that patterns choose, all without any. A name that is an item's own chooses that one alone.

    Raises:
        RestoreError: none fits.
    """
    index = list(index)
    if not only:
        return index
    names = {one.about.name for one in index}
    exact = {pattern for pattern in only if pattern in names}
    patterns = GitIgnoreSpec.from_lines(pattern for pattern in only if pattern not in exact)
    found = [one for one in index if one.about.name in exact or _fits(patterns, one)]
    if not found:
        raise RestoreError(
            f"Nothing in {what} fits that.",
            "Patterns are those of a .gitignore, on the items' names: `files/etc/erp/**`, `secrets/**`.",
        )
    return found


def _fits(patterns: GitIgnoreSpec, one: Indexed) -> bool:
    return patterns.match_file(f"{one.about.name}/" if one.about.type == "directory" else one.about.name)


def proven_items(
    repository: SystemRepository,
    copy: Copy,
    only: Sequence[str],
    *,
    index: list[Indexed] | None = None,
    tick: Callable[[], None] = lambda: None,
) -> Iterator[Proven]:
    """The chosen items with their bytes, as the tar has them.

    The tar as a whole was proven only when the iterator has ended.

    Raises:
        ObjectDamaged: an item is not what was backed up, or not there.
        RestoreError: nothing fits.
    """
    point = copy.manifest.recovery_point
    fingerprints = fingerprints_of(repository, copy)
    index = index if index is not None else index_of(repository, copy)
    wanted = {one.about.name: one for one in chosen_items(index, only, point)}
    with items_of(repository, copy) as items:
        for name, content in items:
            tick()
            one = wanted.pop(name, None)
            if one is None:
                continue
            if not same(fingerprints.of(one.about, content), one.fingerprint):
                raise ObjectDamaged(
                    f"{name} in {point} on {copy.target} is not what was backed up.", "Use another target's copy."
                )
            yield Proven(one, content)
    for name in wanted:
        raise ObjectDamaged(f"{name} is not in {point} as its index says.", "Use another target's copy.")
