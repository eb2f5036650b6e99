"""What changed between two indexes: names and kinds, never values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from lifeboat.configuration.fingerprints import Fingerprints
from lifeboat.configuration.items import Indexed
from lifeboat.configuration.reading import fingerprints_of, index_of, items_of
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.system import SystemRepository


@dataclass(frozen=True)
class Difference:
    """One item that is not as it was.

    Attributes:
        how: what became of it.
        what: of a changed one, what of it: ``content``, ``mode``, ``owner``, ``link``, ``type``, ``version``.
    """

    name: str
    type: str
    how: Literal["added", "changed", "removed"]
    what: tuple[str, ...] = ()


def differences(before: Iterable[Indexed], after: Iterable[Indexed]) -> list[Difference]:
    """The differences between two indexes whose fingerprints have one key, in the order of the names."""
    old = {one.about.name: one for one in before}
    new = {one.about.name: one for one in after}
    found = []
    for name in sorted(old.keys() | new.keys(), key=lambda name: (old.get(name) or new[name]).about.order):
        if name not in new:
            found.append(Difference(name, old[name].about.type, "removed"))
        elif name not in old:
            found.append(Difference(name, new[name].about.type, "added"))
        elif what := _changed(old[name], new[name]):
            found.append(Difference(name, new[name].about.type, "changed", what))
    return found


def _changed(old: Indexed, new: Indexed) -> tuple[str, ...]:
    one, other = old.about, new.about
    told = {
        "type": one.type != other.type,
        "content": (old.fingerprint, old.size) != (new.fingerprint, new.size),
        "mode": one.mode != other.mode,
        "owner": (one.uid, one.gid) != (other.uid, other.gid),
        "link": one.link != other.link,
        "version": dict(one.origin) != dict(other.origin),
    }
    return tuple(name for name, differs in told.items() if differs)


def differences_of(
    repository: SystemRepository, before: Copy, after: Copy, tick: Callable[[], None]
) -> list[Difference]:
    """The differences between two recovery points. Where their fingerprints have two keys, the older one's items are
    read and fingerprinted anew.

    Raises:
        ObjectDamaged, KeyUnavailable, ManifestInvalid: one of them can't be read.
    """
    theirs, ours = fingerprints_of(repository, before), fingerprints_of(repository, after)
    old = index_of(repository, before)
    if theirs.key != ours.key:
        old = _anew(repository, before, old, ours, tick)
    return differences(old, index_of(repository, after))


def _anew(
    repository: SystemRepository, copy: Copy, index: list[Indexed], key: Fingerprints, tick: Callable[[], None]
) -> list[Indexed]:
    known = {one.about.name: one.about for one in index}
    found: dict[str, str] = {}
    with items_of(repository, copy) as items:
        for name, content in items:
            tick()
            if name in known:
                found[name] = key.of(known[name], content)
    return [Indexed(one.about, one.size, found.get(one.about.name, one.fingerprint)) for one in index]
