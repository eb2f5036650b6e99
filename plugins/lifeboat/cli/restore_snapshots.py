"""What `lifeboat restore` does alike for every source whose recovery points are snapshots."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifeboat.cli.cancellation import STOP
from lifeboat.cli.output import iso, note, warn
from lifeboat.cli.outside import in_words, targets_of
from lifeboat.cli.restore_choice import NEAREST_FIRST
from lifeboat.cli.restore_record import Outcome, on_record
from lifeboat.errors import Cancelled, LifeboatError, MomentUnreachable

if TYPE_CHECKING:
    from lifeboat.repository.catalogue import Copy
    from lifeboat.repository.system import SystemRepository


@dataclass(frozen=True)
class WantedSnapshot:
    """What a person asked for, of a source whose recovery points are snapshots.

    Attributes:
        into: the directory; ``None`` where it was not said.
        at: the newest snapshot not later than this.
        recovery_point: this one.
        target: read from this target alone.
        only: patterns; empty: everything.
        replace_files: into a directory that is in use.
        plan, yes, as_json: as the verb's options.
        stdout, into_store: of a configuration: where to, instead of a directory.
    """

    into: Path | None
    at: datetime | None
    recovery_point: str | None
    target: str | None
    only: tuple[str, ...]
    replace_files: bool
    plan: bool
    yes: bool
    as_json: bool
    stdout: bool = False
    into_store: bool = False


Restorer = Callable[["SystemRepository", str, WantedSnapshot], None]


def restorer_of(kind: str) -> Restorer | None:
    """Shows the plan, asks, and brings a snapshot of that kind of source back; ``None`` for any other kind."""
    if kind == "files":
        from lifeboat.cli.restore_files import restore_a_file_set

        return restore_a_file_set
    if kind == "code":
        from lifeboat.cli.restore_code import restore_code

        return restore_code
    if kind == "configuration":
        from lifeboat.cli.restore_configuration import restore_a_configuration

        return restore_a_configuration
    return None


def chosen(repository: SystemRepository, source: str, wanted: WantedSnapshot) -> tuple[Copy, list[str]]:
    """The snapshot, and the targets that answered, the one that has it first. Without a moment or an id the newest of
    all targets is taken: a near one may be behind."""
    from lifeboat.repository.snapshots import choose_snapshot, snapshots_of

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


@contextmanager
def recorded(repository: SystemRepository, copy: Copy, reached: Sequence[str], **what: Any) -> Iterator[Outcome]:
    """Put a restore on record. A damaged object's error names the copies that are elsewhere.

    Args:
        reached: the targets that answered.
        what: what the events say of the restore.

    Yields:
        What the end is to say; the block fills it in.
    """
    from lifeboat.cli.restore_elsewhere import naming_other_copies
    from lifeboat.repository.layout import RecoveryPointFolder

    manifest = copy.manifest
    with on_record(repository, manifest, copy.target, reached, moment=iso(manifest.moment), **what) as outcome:
        outcome.data_until = manifest.moment
        catalogue = repository.catalogue(copy.target)
        needed = [
            copy,
            *(
                catalogue.read(RecoveryPointFolder(repository.system, manifest.source, name))
                for name in manifest.stands_on
            ),
        ]
        with naming_other_copies(repository, needed):
            yield outcome
