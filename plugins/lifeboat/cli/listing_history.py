"""``lifeboat list --history PATH``: every version of a path that the snapshots of a set of files hold."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lifeboat.cli.cancellation import STOP
from lifeboat.cli.output import iso, moment, note, say, show_table, size
from lifeboat.cli.outside import targets_of
from lifeboat.errors import PolicyError

if TYPE_CHECKING:
    from lifeboat.files.entries import Entry
    from lifeboat.repository.catalogue import Copy
    from lifeboat.repository.system import SystemRepository


@dataclass
class Version:
    """One state of a path, and the snapshots that hold it, oldest first.

    Attributes:
        entry: as the index has it; ``None``: the path was not there.
    """

    entry: Entry | None
    snapshots: list[Copy]

    def document(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        entry = self.entry
        return {
            "there": entry is not None,
            "type": None if entry is None else entry.type,
            "size": None if entry is None else entry.size,
            "modified": None if entry is None else iso(_time(entry)),
            "sha256": None if entry is None else entry.sha256 or None,
            "snapshots": [copy.manifest.recovery_point for copy in self.snapshots],
        }


def history(repository: SystemRepository, source: str, path: str, target: str | None) -> list[Version]:
    """The versions of a path on one target, by default the first that the policy names, oldest first.

    Raises:
        PolicyError: the source is no set of files.
    """
    from lifeboat.files.comparing import index_of
    from lifeboat.files.entries import path_order
    from lifeboat.repository.snapshots import snapshots_of

    if repository.policy.sources[source].kind != "files":
        raise PolicyError(f"{source} is no set of files: it has no paths.", "Leave --history out.")
    wanted = path.strip("/")
    order = path_order(wanted)
    versions: list[Version] = []
    for copy in snapshots_of(repository.catalogue(targets_of(repository.loaded, target)[0]), source):
        found = None
        with index_of(repository, copy) as entries:
            for entry in entries:
                STOP.check()
                if entry.order >= order:
                    found = entry if entry.order == order else None
                    break
        if versions and _same(versions[-1].entry, found):
            versions[-1].snapshots.append(copy)
        elif versions or found is not None:
            versions.append(Version(found, [copy]))
    return versions


def _same(one: Entry | None, other: Entry | None) -> bool:
    if one is None or other is None:
        return one is other
    return (one.type, one.size, one.sha256, one.mtime_ns, one.link) == (
        other.type, other.size, other.sha256, other.mtime_ns, other.link
    )  # fmt: skip


def _time(entry: Entry) -> datetime:
    return datetime.fromtimestamp(entry.mtime_ns / 1e9, UTC)


def show_history(system: str, source: str, path: str, versions: list[Version]) -> None:
    """A row for each version."""
    if not versions:
        say(f"No snapshot of {system} {source} holds {path}.")
        return
    show_table(
        f"{system} {source}: {path}",
        ("type", "size", "changed", "first in", "last in", "snapshots"),
        [
            (
                one.entry.type if one.entry is not None else "not there",
                size(one.entry.size) if one.entry is not None and one.entry.type == "file" else "",
                moment(_time(one.entry)) if one.entry is not None else "",
                one.snapshots[0].manifest.recovery_point,
                one.snapshots[-1].manifest.recovery_point,
                str(len(one.snapshots)),
            )
            for one in versions
        ],
        right=(1, 5),
    )
    note(f"`lifeboat restore {system} {source} --recovery-point ID --only {path} --into DIR` brings one back.")
