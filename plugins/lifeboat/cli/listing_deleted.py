"""``lifeboat list --deleted``: what retention hides from readers, and until when that can be taken back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lifeboat.cli.output import iso, moment, note, show_table, size

if TYPE_CHECKING:
    from datetime import datetime

    from lifeboat.cli.overview import Overview
    from lifeboat.repository.catalogue import Copy
    from lifeboat.repository.marks import Mark
    from lifeboat.repository.system import SystemRepository


@dataclass(frozen=True)
class Deleted:
    """A copy whose bytes are there, and that readers no longer see.

    Attributes:
        until: when it may be removed; ``None`` when its removal has begun, and it can't be taken back.
    """

    copy: Copy
    mark: Mark
    until: datetime | None

    def document(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "id": self.copy.manifest.recovery_point,
            "target": self.copy.target,
            "deleted": iso(self.mark.time),
            "can_be_taken_back_until": None if self.until is None else iso(self.until),
            "reason": self.mark.reason,
            "stored_size": self.copy.manifest.stored_size,
        }


def deleted_copies(repository: SystemRepository, view: Overview) -> list[Deleted]:
    """What is hidden of one source, target by target."""
    return [
        one
        for holding in view.holdings
        for one in _on_target(repository, view.source, holding.target, [*holding.points.deleted, *holding.wal.deleted])
    ]


def _on_target(repository: SystemRepository, source: str, target: str, copies: list[Copy]) -> Iterator[Deleted]:
    from lifeboat.repository.retention.rules import undelete_window

    if not copies:
        return
    marks = repository.catalogue(target).marks(source)
    window = undelete_window(repository.policy, source, target)
    for copy in copies:
        point = copy.manifest.recovery_point
        mark = marks.deleted(point, target, copy.sha256)
        if mark is not None:  # else taken back since it was listed
            begun = any(one.is_about(target, copy.sha256) for one in marks.of(point, "purge_begun", target))
            yield Deleted(copy, mark, None if begun else mark.time + window)


def show_deleted(system: str, source: str, found: list[Deleted]) -> None:
    """A table of them."""
    if not found:
        return
    show_table(
        f"{system} {source}: deleted, and not yet removed",
        ("id", "target", "stored", "deleted", "can be taken back until", "why"),
        [
            (
                one.copy.manifest.recovery_point,
                one.copy.target,
                size(one.copy.manifest.stored_size),
                moment(one.mark.time),
                "no longer" if one.until is None else moment(one.until),
                one.mark.reason,
            )
            for one in found
        ],
        right=(2,),
    )
    note(f"`lifeboat retention undo {system} {source} ID…` takes a deletion back.")


def tell_of_deleted(system: str, view: Overview) -> None:
    """One line, so that nobody takes what is hidden for lost."""
    counts = Counter(
        {holding.target: len(holding.points.deleted) + len(holding.wal.deleted) for holding in view.holdings}
    )
    counted = ", ".join(f"{count} on {target}" for target, count in counts.items() if count)
    if counted:
        note(f"{system} {view.source}: deleted and not yet removed: {counted}. `--deleted` lists them.")
