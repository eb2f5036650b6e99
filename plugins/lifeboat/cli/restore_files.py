"""``lifeboat restore`` of a set of files: a snapshot, or some of its paths, into a directory that is empty or new."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifeboat.cli.cancellation import STOP
from lifeboat.cli.output import show_fields, show_json, size, warn
from lifeboat.cli.progress import bar
from lifeboat.cli.restore_estimate import estimated
from lifeboat.cli.restore_snapshots import WantedSnapshot, chosen, recorded
from lifeboat.cli.snapshot_plan import SnapshotPlan, obstacle_at, place_of

if TYPE_CHECKING:
    from lifeboat.files.destination import RestoredFiles
    from lifeboat.repository.catalogue import Copy
    from lifeboat.repository.system import SystemRepository

MOST_SHOWN = 20


def restore_a_file_set(repository: SystemRepository, source: str, wanted: WantedSnapshot) -> None:
    """Show the plan, ask, bring it back, say what came back."""
    from lifeboat.files.details import snapshot_details

    into = place_of(wanted)
    copy, reached = chosen(repository, source, wanted)
    details = snapshot_details(copy.manifest)
    plan = SnapshotPlan(
        copy,
        into,
        wanted,
        [
            ("files", f"{details.files:,} of {size(details.size)}, before any pattern"),
            ("from packs of", f"{len(copy.manifest.needs) + 1} recovery points"),
        ],
        {
            "files": details.files,
            "size": details.size,
            "replace_files": wanted.replace_files,
            "needs": list(copy.manifest.needs),
        },
        obstacle_at(into, 0 if wanted.only else details.size, "files", in_use=wanted.replace_files),
        "Files of the snapshot take the place of those that are there." if wanted.replace_files else "",
        None if wanted.only else estimated(repository, source, copy.target, details.size),
    )
    plan.insist_on_agreement()
    restored = _carry_out(repository, copy, into, wanted, reached)
    if wanted.as_json:
        show_json({"plan": plan.document(), "restored": _restored_document(restored)})
    else:
        _show(restored)


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
        result.details = {"files": restored.files, "size": restored.size}
        result.size, result.proven = restored.size, f"{restored.files:,} files, each compared with its digest"
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
