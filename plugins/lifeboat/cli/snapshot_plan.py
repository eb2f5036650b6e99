"""The plan of a snapshot's restore into a directory: shown, and agreed to before anything is done."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lifeboat.cli.agreement import agree
from lifeboat.cli.output import exact_moment, iso, length, show_fields, show_json, size, warn
from lifeboat.cli.restore_estimate import in_words
from lifeboat.cli.restore_permission import insist_on_permission
from lifeboat.cli.restore_snapshots import WantedSnapshot
from lifeboat.errors import LifeboatError, NotEnoughDisk, RestoreError

if TYPE_CHECKING:
    from lifeboat.recovery.estimating import Estimate
    from lifeboat.repository.catalogue import Copy

MOST_FINDINGS = 20


def place_of(wanted: WantedSnapshot) -> Path:
    """Where it goes; raises ``RestoreError`` where that was not said."""
    if wanted.into is None:
        raise RestoreError("It is not said where to.", "Name a directory that is empty or not there with --into.")
    return wanted.into.expanduser().absolute()


def obstacle_at(into: Path, needed: int, what: str, *, in_use: bool = False) -> LifeboatError | None:
    """What stands in the way of so many bytes; ``None``: nothing.

    Args:
        what: they are, in the plural.
        in_use: the directory may have something in it.
    """
    from lifeboat.repository.empty_place import check_place

    # A directory in use is filled in itself: it may be a disk of its own.
    filled = in_use and into.is_dir()
    place = into if filled else into.parent
    try:
        if not filled:
            check_place(into)
    except LifeboatError as error:
        return error
    free = shutil.disk_usage(place).free
    if needed > free:
        return NotEnoughDisk(
            f"{place} has {size(free)} of room, and the {what} have {size(needed)}.",
            f"Name a place with more, or some of the {what} with --only.",
        )
    return None


@dataclass(frozen=True)
class SnapshotPlan:
    """What would be done.

    Attributes:
        copy: the recovery point on the target that is read.
        rows: what the kind of source has to say, for people.
        details: the same for programs.
        obstacle: what stands in the way.
        warning: what a person should know before agreeing.
        measured: how long it will take by what restores before it took; ``None`` where there was none.
    """

    copy: Copy
    into: Path
    wanted: WantedSnapshot
    rows: Sequence[tuple[str, str]]
    details: Mapping[str, Any]
    obstacle: LifeboatError | None
    warning: str = ""
    measured: Estimate | None = None

    def document(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        manifest = self.copy.manifest
        return {
            "recovery_point": manifest.recovery_point,
            "moment": iso(manifest.moment),
            "target": self.copy.target,
            **self.details,
            "only": list(self.wanted.only),
            "estimated_seconds": None if self.measured is None else round(self.measured.seconds),
            "into": str(self.into),
            "findings": list(manifest.findings),
            "obstacles": [] if self.obstacle is None else [str(self.obstacle)],
        }

    def insist_on_agreement(self) -> None:
        """Show it, and go on only where nothing stands in the way and somebody agreed.

        Raises:
            typer.Exit: nothing but the plan was asked for.
            LifeboatError: the obstacle, or that nobody agreed.
        """
        if not self.wanted.as_json:
            self._show()
        elif self.wanted.plan:
            show_json(self.document())
        if self.wanted.plan:
            raise typer.Exit(1 if self.obstacle is not None else 0)
        if self.obstacle is not None:
            raise self.obstacle
        insist_on_permission()
        agree(" ".join(filter(None, [f"Restore into {self.into}?", self.warning])), self.wanted.yes)

    def _show(self) -> None:
        manifest = self.copy.manifest
        fields = [
            ("recovery point", manifest.recovery_point),
            ("of", exact_moment(manifest.moment)),
            ("read from", self.copy.target),
            *self.rows,
            ("only", ", ".join(self.wanted.only) or "everything"),
            ("into", str(self.into)),
        ]
        if self.measured is not None:
            fields.append(("will take", f"about {length(self.measured.seconds)}, {in_words(self.measured)}"))
        show_fields("Plan", fields)
        for finding in manifest.findings[:MOST_FINDINGS]:
            warn(finding)
        if len(manifest.findings) > MOST_FINDINGS:
            warn(f"And {len(manifest.findings) - MOST_FINDINGS} more findings.")
        if self.wanted.plan and self.obstacle is not None:
            warn(str(self.obstacle))
