"""What one target alone can't tell: that its newest recovery point is gone, or that another one lies in its place.

The journal and the other targets know what was committed; older recovery points may be missing, since each target keeps
them as long as its own retention says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lifeboat.repository.catalogue import Copy, Listing
from lifeboat.repository.journal import Event
from lifeboat.repository.layout import RecoveryPointId
from lifeboat.repository.marks import points_of


def differences(listings: Mapping[str, Listing]) -> list[str]:
    """What the targets' listings of one source say against each other.

    Args:
        listings: by the target's name.

    Returns:
        Sentences on each target whose newest of a kind is older than another target's, and on recovery points of which
        two targets hold different manifests.
    """
    findings: list[str] = []
    kinds = sorted({copy.manifest.kind for listing in listings.values() for copy in listing.copies})
    for kind in kinds:
        newest = {name: _newest(listing.of_kind(kind)) for name, listing in listings.items()}
        holder, best = max(
            ((name, copy) for name, copy in newest.items() if copy is not None),
            key=lambda held: held[1].manifest.recovery_point,
        )
        for name, copy in newest.items():
            if copy is None or copy.manifest.recovery_point < best.manifest.recovery_point:
                has = f"its newest is {copy.manifest.recovery_point}" if copy is not None else "it has none"
                findings.append(f"{name} lacks the newest {kind}, {best.manifest.recovery_point} (on {holder}); {has}.")
    return findings + _contradictions(listings)


def _newest(copies: Iterable[Copy]) -> Copy | None:
    return max(copies, key=lambda copy: copy.manifest.recovery_point, default=None)


def _contradictions(listings: Mapping[str, Listing]) -> list[str]:
    seen: dict[tuple[str, int | None], Copy] = {}
    findings: list[str] = []
    for listing in listings.values():
        for copy in listing.copies:
            other = seen.setdefault((copy.manifest.recovery_point, copy.manifest.timeline), copy)
            if other.sha256 != copy.sha256:
                findings.append(
                    f"{copy.manifest.recovery_point} is not the same on {copy.target} and on {other.target}."
                )
    return findings


def against_journal(listing: Listing, events: Iterable[Event], *, source: str, target: str) -> list[str]:
    """What the journal says against one target's listing of one source.

    Args:
        listing: the source's recovery points there, with or without its WAL; with those that were deleted and can be
            taken back.
        events: the journal's, in order, from whichever target.
        source, target: which source and which target are meant.

    Returns:
        Sentences on the newest recovery point of each listed kind that was committed there and is gone, and on those
        whose manifest is another one than was committed. What retention removed is not missing.
    """
    present = {copy.manifest.recovery_point: copy for copy in listing.copies}
    unreadable = {bad.folder.recovery_point for bad in listing.unreadable}
    newest: dict[str, str] = {}
    gone: set[str] = set()
    findings: list[str] = []
    for event in events:
        point = event.recovery_point
        if event.kind == "purged" and event.source == source and event.target == target:
            gone.update(points_of(event))
        if event.kind not in ("backup_committed", "copy_committed") or point is None:
            continue
        if event.source != source or event.target != target:
            continue
        kind = RecoveryPointId.parse(point).kind
        newest[kind] = max(newest.get(kind, ""), point)
        gone.discard(point)
        held = present.get(point)
        if held is not None and held.sha256 != event.details.get("manifest"):
            findings.append(f"{point} on {target} has another manifest than the journal says was committed.")
    for point in newest.values():
        if point not in present and point not in unreadable and point not in gone:
            findings.append(f"{point}, the newest of its kind that was committed on {target}, is not there any more.")
    return findings
