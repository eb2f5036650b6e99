"""``lifeboat restore`` of a set of files: a snapshot, or some of its paths, into a directory that is empty or new."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lifeboat.cli.agreement import agree
from lifeboat.cli.cancellation import STOP
from lifeboat.cli.output import exact_moment, iso, note, show_fields, show_json, size, warn
from lifeboat.cli.outside import in_words, targets_of
from lifeboat.cli.progress import bar
from lifeboat.cli.restore_choice import NEAREST_FIRST
from lifeboat.errors import Cancelled, LifeboatError, MomentUnreachable, NotEnoughDisk, RestoreError

if TYPE_CHECKING:
    from lifeboat.files.destination import RestoredFiles
    from lifeboat.files.details import SnapshotDetails
    from lifeboat.repository.catalogue import Copy
    from lifeboat.repository.system import SystemRepository

MOST_SHOWN = 20


@dataclass(frozen=True)
class WantedFiles:
    """What a person asked for.

    Attributes:
        into: the directory; ``None`` where it was not said.
        at: the newest snapshot not later than this.
        recovery_point: this one.
        target: read from this target alone.
        only: patterns; empty: everything.
        plan, yes, as_json: as the verb's options.
    """

    into: Path | None
    at: datetime | None
    recovery_point: str | None
    target: str | None
    only: tuple[str, ...]
    plan: bool
    yes: bool
    as_json: bool


def restore_snapshot(repository: SystemRepository, source: str, wanted: WantedFiles) -> None:
    """Show the plan, ask, bring it back, say what came back."""
    from lifeboat.files.details import snapshot_details

    if wanted.into is None:
        raise RestoreError("It is not said where to.", "Name a directory that is empty or not there with --into.")
    into = wanted.into.expanduser().absolute()
    copy, reached = _chosen(repository, source, wanted)
    details = snapshot_details(copy.manifest)
    obstacle = _obstacle(into, details, wanted.only)
    if not wanted.as_json or wanted.plan:
        _show_plan(copy, details, into, wanted, obstacle)
    if wanted.plan:
        raise typer.Exit(1 if obstacle is not None else 0)
    if obstacle is not None:
        raise obstacle
    agree(f"Restore into {into}?", wanted.yes)
    restored = _carry_out(repository, source, copy, into, wanted.only, reached)
    if wanted.as_json:
        show_json({"plan": _document(copy, details, into, wanted, None), "restored": _restored_document(restored)})
    else:
        _show(restored)


def _chosen(repository: SystemRepository, source: str, wanted: WantedFiles) -> tuple[Copy, list[str]]:
    """The snapshot, and the targets that answered, the one that has it first. Without a moment or an id the newest of
    all targets is taken: a near one may be behind."""
    from lifeboat.files.selecting import choose_snapshot, snapshots_of

    names = targets_of(repository.loaded, wanted.target)
    names.sort(key=lambda name: NEAREST_FIRST.index(name) if name in NEAREST_FIRST else len(NEAREST_FIRST))
    named = wanted.recovery_point is not None
    found: list[Copy] = []
    refused: list[tuple[str, LifeboatError]] = []
    for name in names:
        note(f"Looking at {name} …", "dim")
        STOP.check()
        try:
            snapshots = snapshots_of(repository.catalogue(name), source)
            found.append(choose_snapshot(snapshots, at=wanted.at, recovery_point=wanted.recovery_point, where=name))
        except Cancelled:
            raise
        except LifeboatError as error:
            refused.append((name, error))
        if found and named:
            break
    if not found:
        if len(refused) == 1:
            raise refused[0][1]
        raise MomentUnreachable(f"No target can serve it:\n{in_words(refused)}")
    for name, refusal in refused:
        warn(f"{name} can't serve it: {refusal.what}")
    # The first of equals: the nearest.
    best = max(found, key=lambda copy: copy.manifest.moment)
    return best, [best.target, *(copy.target for copy in found if copy is not best)]


def _obstacle(into: Path, details: SnapshotDetails, only: Sequence[str]) -> LifeboatError | None:
    from lifeboat.files.destination import check_place

    try:
        check_place(into)
    except LifeboatError as error:
        return error
    free = shutil.disk_usage(into.parent).free
    if not only and details.size > free:
        return NotEnoughDisk(
            f"{into.parent} has {size(free)} of room, and the files have {size(details.size)}.",
            "Name a place with more, or some of the files with --only.",
        )
    return None


def _show_plan(
    copy: Copy, details: SnapshotDetails, into: Path, wanted: WantedFiles, obstacle: LifeboatError | None
) -> None:
    if wanted.as_json:
        show_json(_document(copy, details, into, wanted, obstacle))
        return
    manifest = copy.manifest
    show_fields(
        "Plan",
        [
            ("snapshot", manifest.recovery_point),
            ("of", exact_moment(manifest.moment)),
            ("read from", copy.target),
            ("files", f"{details.files:,} of {size(details.size)}, before any pattern"),
            ("from packs of", f"{len(manifest.needs) + 1} recovery points"),
            ("only", ", ".join(wanted.only) or "everything"),
            ("into", str(into)),
        ],
    )
    for finding in manifest.findings:
        warn(finding)
    if wanted.plan and obstacle is not None:
        warn(str(obstacle))


def _document(
    copy: Copy, details: SnapshotDetails, into: Path, wanted: WantedFiles, obstacle: LifeboatError | None
) -> dict[str, Any]:
    return {
        "recovery_point": copy.manifest.recovery_point,
        "moment": iso(copy.manifest.moment),
        "target": copy.target,
        "files": details.files,
        "size": details.size,
        "only": list(wanted.only),
        "into": str(into),
        "needs": list(copy.manifest.needs),
        "findings": list(copy.manifest.findings),
        "obstacles": [] if obstacle is None else [str(obstacle)],
    }


def _carry_out(
    repository: SystemRepository, source: str, copy: Copy, into: Path, only: Sequence[str], reached: Sequence[str]
) -> RestoredFiles:
    from lifeboat.cli.recording import BestEffortJournal
    from lifeboat.cli.restore_elsewhere import naming_other_copies
    from lifeboat.files.restoring import restore_files
    from lifeboat.repository.layout import RecoveryPointFolder

    journal = BestEffortJournal(repository, reached, run="command-restore", tell=warn)
    manifest = copy.manifest
    about: dict[str, Any] = {"source": source, "recovery_point": manifest.recovery_point, "target": copy.target}
    journal.write("restore_begun", **about, moment=iso(manifest.moment), into=str(into), only=list(only))
    try:
        catalogue = repository.catalogue(copy.target)
        needed = [
            copy,
            *(catalogue.read(RecoveryPointFolder(repository.system, source, name)) for name in manifest.needs),
        ]
        with naming_other_copies(repository, needed), bar("Restored", 0) as shown:
            restored = restore_files(repository, copy, into, only=only, progress=shown.at, tick=STOP.check)
    except BaseException as failure:
        what = str(failure)[:2000] if isinstance(failure, LifeboatError) else ""
        journal.write("restore_failed", **about, error=type(failure).__name__, what=what)
        raise
    journal.write("restore_ended", **about, into=str(into), files=restored.files, size=restored.size)
    return restored


def _restored_document(restored: RestoredFiles) -> dict[str, Any]:
    return {
        "into": str(restored.into),
        "files": restored.files,
        "folders": restored.folders,
        "others": restored.others,
        "size": restored.size,
        "missing": restored.missing,
        "remarks": restored.remarks,
    }


def _show(restored: RestoredFiles) -> None:
    show_fields(
        "Restored",
        [
            ("into", str(restored.into)),
            ("files", f"{restored.files:,} of {size(restored.size)}, each compared with its digest"),
            ("folders", f"{restored.folders:,}"),
            ("links and others", f"{restored.others:,}"),
        ],
    )
    for what, count in restored.remarks.items():
        warn(f"Not given back {count} times: {what}.")
    for path in restored.missing[:MOST_SHOWN]:
        warn(f"{path} is not there: the snapshot itself could not read it.")
    if len(restored.missing) > MOST_SHOWN:
        warn(f"And {len(restored.missing) - MOST_SHOWN} more.")
