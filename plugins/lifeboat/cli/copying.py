"""``lifeboat copy``: bring a target what it lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lifeboat.cli.cancellation import STOP
from lifeboat.cli.output import fail, note, say, show_json, warn
from lifeboat.cli.outside import check_source, surroundings, targets_of
from lifeboat.cli.progress import bar
from lifeboat.errors import Cancelled, LifeboatError, PolicyError

if TYPE_CHECKING:
    from datetime import datetime

    from lifeboat.repository.catalogue import Catalogue, Copy
    from lifeboat.repository.journal import Journal
    from lifeboat.repository.system import SystemRepository


def copy_verb(
    ctx: typer.Context,
    system: Annotated[str, typer.Argument(help="The system, as its policy calls it.")],
    source: Annotated[str, typer.Argument(help="The source in it.")],
    target: Annotated[str, typer.Option(help="The target that lacks something.")],
    recovery_point: Annotated[
        str | None, typer.Option(help="Bring this one; by default all that are missing.", metavar="ID")
    ] = None,
    origin: Annotated[str, typer.Option("--from", help="The target to read from.")] = "primary",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Copy recovery points that a target lacks, as they are stored, and verify each there."""
    from lifeboat.cli.recording import BestEffortJournal

    here = surroundings(ctx)
    loaded = here.loaded(system)
    check_source(loaded, source)
    for name in (target, origin):
        targets_of(loaded, name)
    if target == origin:
        raise PolicyError(f"{target} can't be copied to itself.", "Name another target with --from.")
    repository = here.repository(loaded)
    journal = BestEffortJournal(repository, [target, origin], run="command-copy", tell=warn)
    work = _Copying(repository, source, repository.catalogue(origin), repository.catalogue(target), journal)
    wanted = work.wanted(recovery_point)
    note(f"{len(wanted)} to copy from {origin} to {target}.")
    with bar(f"Copied to {target}", sum(copy.manifest.stored_size for copy in wanted)) as progress:
        for copy in wanted:
            work.bring(copy, progress.passed)
    journal.deliver()
    if as_json:
        show_json(
            {
                "system": system,
                "source": source,
                "from": origin,
                "target": target,
                "copied": work.copied,
                "failed": work.failed,
            }
        )
    else:
        say(f"{len(work.copied)} copied and verified, {len(work.failed)} failed.", "red" if work.failed else "green")
    if work.failed:
        raise typer.Exit(1)


class _Copying:
    def __init__(
        self, repository: SystemRepository, source: str, origin: Catalogue, goal: Catalogue, journal: Journal
    ) -> None:
        self._repository = repository
        self._source = source
        self._origin = origin
        self._goal = goal
        self._journal = journal
        self.copied: list[str] = []
        self.failed: list[dict[str, str]] = []

    def wanted(self, only: str | None) -> list[Copy]:
        """What to copy: the one asked for, or whatever is committed at the origin and not at the goal."""
        if only is not None:
            from lifeboat.backup.steps import links_lacking

            one = self._origin.find(self._source, only)
            return [*links_lacking(self._origin, self._goal, one), one]
        listings = [self._origin.recovery_points(self._source), self._origin.wal(self._source)]
        for listing in listings:
            for bad in listing.unreadable:
                self._failed(bad.folder.recovery_point, bad.reason)
        STOP.check()
        copies = [copy for listing in listings for copy in listing.copies]
        kinds = {copy.manifest.kind for copy in copies}
        there = {folder.path for kind in kinds for folder in self._goal.committed(self._source, kind)}
        return [copy for copy in copies if copy.manifest.folder.path not in there]

    def bring(self, original: Copy, passed: Any) -> None:
        """Copy and verify one; a failure is kept and the next one tried."""
        from lifeboat.backup.steps import Point, verify
        from lifeboat.repository.copying import copy

        manifest, target = original.manifest, self._goal.target.name
        try:
            STOP.check()
            made = copy(self._origin.target, self._goal, original, retain_until=self._lock(original), passed=passed)
            self._journal.write(
                "copy_committed",
                source=self._source,
                recovery_point=manifest.recovery_point,
                target=target,
                manifest=made.sha256,
                stored_size=manifest.stored_size,
            )
            verify(
                self._repository,
                self._source,
                target,
                [Point.of(made)],
                self._journal,
                deep=False,
                passed=lambda _: STOP.check(),
                tick=STOP.check,
            )
        except Cancelled:
            raise
        except LifeboatError as error:
            fail(error)
            self._failed(manifest.recovery_point, str(error))
        else:
            self.copied.append(manifest.recovery_point)

    def _failed(self, recovery_point: str, what: str) -> None:
        self.failed.append({"id": recovery_point, "what": what})

    def _lock(self, original: Copy) -> datetime | None:
        from lifeboat.backup.steps import kept_since, lock_until
        from lifeboat.policy.naming import Tier

        tiers = self._repository.policy.sources[self._source].tiers
        known = [Tier(name) for name in original.manifest.tiers if name in {tier.value for tier in tiers}]
        if not known:
            return None
        since = kept_since(self._repository, original.manifest)
        return lock_until(self._repository, self._source, known[0], self._goal.target.name, since)
