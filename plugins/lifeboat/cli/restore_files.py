"""``lifeboat restore`` of a set of files: a snapshot, or some of its paths, into a directory that is empty or new."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lifeboat.cli.agreement import agree
from lifeboat.cli.cancellation import STOP
from lifeboat.cli.output import exact_moment, iso, show_fields, show_json, size, warn
from lifeboat.cli.progress import bar
from lifeboat.cli.restore_snapshots import WantedSnapshot, chosen, recorded
from lifeboat.errors import LifeboatError, NotEnoughDisk, RestoreError

if TYPE_CHECKING:
    from lifeboat.files.destination import RestoredFiles
    from lifeboat.files.details import SnapshotDetails
    from lifeboat.repository.catalogue import Copy
    from lifeboat.repository.system import SystemRepository

MOST_SHOWN = 20


def restore_a_file_set(repository: SystemRepository, source: str, wanted: WantedSnapshot) -> None:
    """Show the plan, ask, bring it back, say what came back."""
    from lifeboat.files.details import snapshot_details

    if wanted.stdout or wanted.into_store:
        raise RestoreError(
            "--stdout and --into-store are for a configuration, and what is asked for is none.",
            "Name a directory that is empty or not there with --into.",
        )
    if wanted.into is None:
        raise RestoreError("It is not said where to.", "Name a directory that is empty or not there with --into.")
    into = wanted.into.expanduser().absolute()
    copy, reached = chosen(repository, source, wanted)
    details = snapshot_details(copy.manifest)
    obstacle = _obstacle(into, details, wanted)
    if not wanted.as_json or wanted.plan:
        _show_plan(copy, details, into, wanted, obstacle)
    if wanted.plan:
        raise typer.Exit(1 if obstacle is not None else 0)
    if obstacle is not None:
        raise obstacle
    instead = " Files of the snapshot take the place of those that are there." if wanted.replace_files else ""
    agree(f"Restore into {into}?{instead}", wanted.yes)
    restored = _carry_out(repository, copy, into, wanted, reached)
    if wanted.as_json:
        show_json({"plan": _document(copy, details, into, wanted, None), "restored": _restored_document(restored)})
    else:
        _show(restored)


def _obstacle(into: Path, details: SnapshotDetails, wanted: WantedSnapshot) -> LifeboatError | None:
    from lifeboat.repository.empty_place import check_place

    try:
        if not (wanted.replace_files and into.is_dir()):
            check_place(into)
    except LifeboatError as error:
        return error
    # A directory in use is filled in itself: it may be a disk of its own.
    place = into if wanted.replace_files and into.is_dir() else into.parent
    free = shutil.disk_usage(place).free
    if not wanted.only and details.size > free:
        return NotEnoughDisk(
            f"{place} has {size(free)} of room, and the files have {size(details.size)}.",
            "Name a place with more, or some of the files with --only.",
        )
    return None


def _show_plan(
    copy: Copy, details: SnapshotDetails, into: Path, wanted: WantedSnapshot, obstacle: LifeboatError | None
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
            ("into", f"{into}{', in the place of files that are there' if wanted.replace_files else ''}"),
        ],
    )
    for finding in manifest.findings:
        warn(finding)
    if wanted.plan and obstacle is not None:
        warn(str(obstacle))


def _document(
    copy: Copy, details: SnapshotDetails, into: Path, wanted: WantedSnapshot, obstacle: LifeboatError | None
) -> dict[str, Any]:
    return {
        "recovery_point": copy.manifest.recovery_point,
        "moment": iso(copy.manifest.moment),
        "target": copy.target,
        "files": details.files,
        "size": details.size,
        "only": list(wanted.only),
        "into": str(into),
        "replace_files": wanted.replace_files,
        "needs": list(copy.manifest.needs),
        "findings": list(copy.manifest.findings),
        "obstacles": [] if obstacle is None else [str(obstacle)],
    }


def _carry_out(
    repository: SystemRepository, copy: Copy, into: Path, wanted: WantedSnapshot, reached: Sequence[str]
) -> RestoredFiles:
    from lifeboat.files.restoring import restore_files

    only = list(wanted.only)
    with recorded(repository, copy, reached, into=str(into), only=only) as result, bar("Restored", 0) as shown:
        restored = restore_files(
            repository,
            copy,
            into,
            only=only,
            replace_files=wanted.replace_files,
            progress=shown.at,
            tick=STOP.check,
        )
        result |= {"files": restored.files, "size": restored.size}
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
