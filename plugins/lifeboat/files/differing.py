"""What changed between two snapshots: paths and types, by their indexes alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from lifeboat.files.comparing import index_of
from lifeboat.files.entries import Entry
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.system import SystemRepository


@dataclass(frozen=True)
class Difference:
    """One path that is not as it was.

    Attributes:
        how: what became of it.
        what: of a changed one, what of it: ``type``, ``content``, ``size``, ``mode``, ``owner``, ``link``,
            ``attributes``.
    """

    path: str
    type: str
    how: Literal["added", "changed", "removed"]
    what: tuple[str, ...] = ()


def differences_of(
    repository: SystemRepository, before: Copy, after: Copy, tick: Callable[[], None]
) -> list[Difference]:
    """The differences between two snapshots, in the order of a walk; memory for the differences alone.

    Raises:
        ObjectDamaged, KeyUnavailable, ManifestInvalid: an index can't be read.
    """
    found = []
    with index_of(repository, before) as old, index_of(repository, after) as new:
        for one, other in side_by_side_in_order(old, new):
            tick()
            if (difference := _difference(one, other)) is not None:
                found.append(difference)
    return found


def side_by_side_in_order(old: Iterable[Entry], new: Iterable[Entry]) -> Iterator[tuple[Entry | None, Entry | None]]:
    """Every path of two indexes, with what each of them says of it; both in their order."""
    before, after = iter(old), iter(new)
    one, other = next(before, None), next(after, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one.order < other.order):
            yield one, None
            one = next(before, None)
        elif one is None or other.order < one.order:
            yield None, other
            other = next(after, None)
        else:
            yield one, other
            one, other = next(before, None), next(after, None)


def _difference(one: Entry | None, other: Entry | None) -> Difference | None:
    if other is None:
        return None if one is None else Difference(one.path, one.type, "removed")
    if one is None:
        return Difference(other.path, other.type, "added")
    told = {
        "type": one.type != other.type,
        "content": one.sha256 != other.sha256,
        "size": one.type == other.type == "file" and one.size != other.size,
        "mode": one.mode != other.mode,
        "owner": (one.uid, one.gid) != (other.uid, other.gid),
        "link": (one.link, one.hard_link) != (other.link, other.hard_link),
        "attributes": one.xattrs != other.xattrs,
    }
    what = tuple(name for name, differs in told.items() if differs)
    return Difference(other.path, other.type, "changed", what) if what else None
