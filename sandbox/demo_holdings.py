"""What the targets hold of the demo's history: as readers see it, and as it lies there."""

from __future__ import annotations

from dataclasses import dataclass

from rich.table import Table

from sandbox.demo_backup import TARGETS
from sandbox.demo_history import SOURCE, SYSTEM, History
from sandbox.steps import Steps


@dataclass(frozen=True)
class Seen:
    """What one target holds.

    Attributes:
        shown: recovery points that readers see.
        lying: recovery points of which anything lies there.
        stored_size: the bytes of all of these.
    """

    shown: frozenset[str]
    lying: frozenset[str]
    stored_size: int


def look(history: History) -> dict[str, Seen]:
    """What each target holds now."""
    repository = history.repository()
    seen = {}
    for target in TARGETS:
        shown = (copy.manifest.recovery_point for copy in repository.catalogue(target).recovery_points(SOURCE).copies)
        folder = f"{SYSTEM}/{SOURCE}/"
        # Marks of retention lie beside the recovery points; they are no part of them.
        found = [
            (info.key.removeprefix(folder).split("/")[0], info.size) for info in repository.target(target).list(folder)
        ]
        points = [(name, size) for name, size in found if "-logical-" in name]
        seen[target] = Seen(frozenset(shown), frozenset(name for name, _ in points), sum(size for _, size in points))
    return seen


def compare(steps: Steps, stages: dict[str, dict[str, Seen]]) -> None:
    """Show the stages below each other."""
    table = Table(title="Recovery points that readers see, and the bytes that lie there", title_justify="left")
    for column in ("", *TARGETS):
        table.add_column(column, justify="right" if column else "left")
    for stage, seen in stages.items():
        cells = (seen[target] for target in TARGETS)
        table.add_row(stage, *(f"{len(one.shown)}  {one.stored_size / 1e3:6,.0f} kB" for one in cells))
    steps.console.print(table)
