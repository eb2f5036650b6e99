"""``lifeboat list --diff A B``: what changed between two recovery points of a source, by names, never by values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lifeboat.cli.cancellation import STOP
from lifeboat.cli.output import note, say, show_table, warn
from lifeboat.cli.outside import targets_of
from lifeboat.cli.restore_choice import NEAREST_FIRST
from lifeboat.errors import Cancelled, LifeboatError, PolicyError, RecoveryPointMissing

if TYPE_CHECKING:
    from lifeboat.repository.catalogue import Copy
    from lifeboat.repository.system import SystemRepository


@dataclass(frozen=True)
class Change:
    """One thing that is not as it was.

    Attributes:
        name: what: a path, an item, a ref.
        kind: what kind of thing it is, in the source's own words.
        how: ``added``, ``changed`` or ``removed``.
        what: of a changed one, what of it.
    """

    name: str
    kind: str
    how: str
    what: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {"name": self.name, "kind": self.kind, "change": self.how, "what": list(self.what)}


Differ = Callable[["SystemRepository", "Copy", "Copy"], list[Change]]


def differ_of(kind: str) -> Differ | None:
    """Compares two recovery points of that kind of source; ``None`` for a kind that can't be compared. A kind that can
    is registered here and nowhere else."""
    return {"configuration": _configuration, "files": _files, "code": _code}.get(kind)


def _configuration(repository: SystemRepository, before: Copy, after: Copy) -> list[Change]:
    from lifeboat.configuration.differing import differences_of

    return [
        Change(one.name, one.type, one.how, one.what) for one in differences_of(repository, before, after, STOP.check)
    ]


def _files(repository: SystemRepository, before: Copy, after: Copy) -> list[Change]:
    from lifeboat.files.differing import differences_of

    return [
        Change(one.path, one.type, one.how, one.what) for one in differences_of(repository, before, after, STOP.check)
    ]


def _code(repository: SystemRepository, before: Copy, after: Copy) -> list[Change]:
    from lifeboat.code.earlier import refs_of
    from lifeboat.code.refs import changes_between

    return [
        Change(
            f"{one.repository} {one.ref}".strip(),
            "ref" if one.ref else "repository",
            _how(one.old, one.new),
            (f"from {one.old[:12]}", f"to {one.new[:12]}") if one.old and one.new else (),
        )
        for one in changes_between(refs_of(repository, before), refs_of(repository, after))
    ]


def _how(old: str, new: str) -> str:
    if not old:
        return "added"
    return "changed" if new else "removed"


@dataclass(frozen=True)
class Compared:
    """Two recovery points, and what changed from the first to the second."""

    before: Copy
    after: Copy
    changes: list[Change]

    def document(self, system: str, source: str) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "system": system,
            "source": source,
            "from": self.before.manifest.recovery_point,
            "to": self.after.manifest.recovery_point,
            "changes": [change.document() for change in self.changes],
        }


def compare(repository: SystemRepository, source: str, points: tuple[str, str], target: str | None) -> Compared:
    """Compare two recovery points, each read from the nearest target that has it.

    Raises:
        PolicyError: recovery points of this kind of source can't be compared.
        RecoveryPointMissing: no target that answers has one of them.
    """
    kind = repository.policy.sources[source].kind
    differ = differ_of(kind)
    if differ is None:
        raise PolicyError(
            f"Recovery points of {source}, a source of kind {kind}, can't be compared.",
            "Sets of files, configurations and repositories can.",
        )
    before, after = (_found(repository, source, point, target) for point in points)
    return Compared(before, after, differ(repository, before, after))


def _found(repository: SystemRepository, source: str, point: str, target: str | None) -> Copy:
    names = targets_of(repository.loaded, target)
    names.sort(key=lambda name: NEAREST_FIRST.index(name) if name in NEAREST_FIRST else len(NEAREST_FIRST))
    for name in names:
        STOP.check()
        try:
            return repository.catalogue(name).find(source, point)
        except Cancelled:
            raise
        except RecoveryPointMissing:
            continue
        except LifeboatError as error:
            warn(f"{name} can't serve {point}: {error.what}")
    raise RecoveryPointMissing(
        f"There is no recovery point {point} of {source} on {', '.join(names)}.", "`lifeboat list` shows them."
    )


def show_compared(system: str, source: str, compared: Compared) -> None:
    """A row for each change."""
    before, after = compared.before.manifest.recovery_point, compared.after.manifest.recovery_point
    if not compared.changes:
        say(f"Nothing changed in {system} {source} from {before} to {after}.")
        return
    show_table(
        f"{system} {source}: from {before} to {after}",
        # A long name is folded; what stands first is cut.
        ("change", "kind", "of it", "name"),
        [(one.how, one.kind, ", ".join(one.what), one.name) for one in compared.changes],
    )
    note(f"{len(compared.changes)} changed.", "dim")
