"""Chains: each incremental with the links below it, down to the full. Pure functions of manifests.

An incremental is good for nothing without every link below it, and without exactly the one that it was made on: it
names its parent's manifest by digest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lifeboat.postgres.details import FULL, INCREMENTAL, IncrementalDetails, base_details
from lifeboat.postgres.reach import Base
from lifeboat.repository.catalogue import Copy


@dataclass(frozen=True)
class Broken:
    """An incremental that can't be used where it lies.

    Attributes:
        recovery_point: its id.
        why: what is wrong below it, in words.
    """

    recovery_point: str
    why: str

    def __str__(self) -> str:
        return f"{self.recovery_point} can't be used: {self.why}."


@dataclass(frozen=True)
class Chained:
    """What one target has to begin a restore with.

    Attributes:
        bases: the good fulls, and the good incrementals whose whole chain is there; oldest first.
        broken: the other good incrementals.
    """

    bases: tuple[Base, ...]
    broken: tuple[Broken, ...]


def chained(copies: Iterable[Copy]) -> Chained:
    """Put a target's fulls and incrementals together; damaged ones are no link of anything.

    Raises:
        ManifestInvalid: a manifest's PostgreSQL part can't be read.
    """
    known = {copy.manifest.recovery_point: copy for copy in copies if copy.manifest.kind in (FULL, INCREMENTAL)}
    found: dict[str, Base | Broken] = {}
    # A child is begun after its parent has ended, and ids begin with their time: a parent comes before its children.
    for name, copy in sorted(known.items(), key=lambda item: (item[1].manifest.begun, item[0])):
        if copy.manifest.state == "good":
            found[name] = _link(copy, known, found)
    bases = sorted(
        (link for link in found.values() if isinstance(link, Base)),
        key=lambda base: (base.details.stopped, base.manifest.recovery_point),
    )
    return Chained(tuple(bases), tuple(link for link in found.values() if isinstance(link, Broken)))


def _link(copy: Copy, known: dict[str, Copy], found: dict[str, Base | Broken]) -> Base | Broken:
    manifest, details = copy.manifest, base_details(copy.manifest)
    if not isinstance(details, IncrementalDetails):
        return Base(copy, details)
    name = manifest.recovery_point
    parent = found.get(manifest.parent or "")
    if parent is None:
        there = known.get(manifest.parent or "")
        if there is None:
            return Broken(name, f"its parent {manifest.parent or '(it names none)'} is not here")
        reason = "is damaged" if there.manifest.state != "good" else "is not older than it"
        return Broken(name, f"its parent {manifest.parent} {reason}")
    if isinstance(parent, Broken):
        return Broken(name, f"of the chain below it, {parent.why}")
    if parent.copy.sha256 != details.parent_manifest:
        return Broken(name, f"the {manifest.parent} that lies here is another one than it was made on")
    below = parent.details
    belongs = (
        manifest.chain == parent.manifest.chain
        and details.system_identifier == below.system_identifier
        and details.timeline == below.timeline
        and details.start_lsn > below.start_lsn
    )
    if not belongs:
        return Broken(name, f"its manifest contradicts that of its parent {manifest.parent}")
    return Base(copy, details, parent.links)
