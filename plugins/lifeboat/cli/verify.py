"""``lifeboat verify``: is every copy good, and is everything there?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lifeboat.cli.cancellation import STOP
from lifeboat.cli.holdings import Away, Holding, holdings
from lifeboat.cli.output import note, say, show_json, show_table, size, warn
from lifeboat.cli.outside import check_source, surroundings, targets_of
from lifeboat.cli.progress import Bar, bar
from lifeboat.errors import Cancelled, LifeboatError, RecoveryPointMissing

if TYPE_CHECKING:
    from lifeboat.cli.continuity import Hole
    from lifeboat.repository.catalogue import Copy
    from lifeboat.repository.journal import Event, Journal
    from lifeboat.repository.system import SystemRepository


def verify_verb(
    ctx: typer.Context,
    system: Annotated[str, typer.Argument(help="The system, as its policy calls it.")],
    source: Annotated[str | None, typer.Argument(help="The source in it; by default every one.")] = None,
    recovery_point: Annotated[
        str | None, typer.Option(help="Verify this one; by default all, and that none is missing.", metavar="ID")
    ] = None,
    target: Annotated[str | None, typer.Option(help="Verify this target's copies alone.")] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Decrypt, and check every file and WAL record; needs a key, and no disk.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare every copy's bytes with its manifest; without an id also the rows, the targets and the journal."""
    here = surroundings(ctx)
    loaded = here.loaded(system)
    if source is not None:
        check_source(loaded, source)
    repository = here.repository(loaded)
    targets = targets_of(loaded, target)
    found, away = holdings(repository, targets, None if source is None else [source])
    if deep:
        _ = repository.opening  # without a key nothing is deep, and nothing is bad either
    check = _Verification(repository, deep=deep)
    check.copies(found, recovery_point)
    if recovery_point is None:
        check.continuity(found)
    good = check.good and not away
    if as_json:
        show_json({"system": system, "deep": deep, "ok": good, **check.document(), "out_of_reach": _away(away)})
    else:
        check.show()
        for one in away:
            warn(f"The target {one.target} is out of reach, and was not verified: {one.error}")
        if good:
            say("All good.", "green")
    if not good:
        raise typer.Exit(1)


def _away(away: Sequence[Away]) -> list[dict[str, str]]:
    return [{"target": one.target, "what": one.error.what, "remedy": one.error.remedy} for one in away]


@dataclass
class _Verification:
    repository: SystemRepository
    deep: bool
    results: list[dict[str, Any]] = field(default_factory=list)
    holes: list[Hole] = field(default_factory=list)
    journals: dict[str, Journal] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)

    @property
    def good(self) -> bool:
        return all(result["good"] for result in self.results) and not any(hole.severe for hole in self.holes)

    def copies(self, found: Sequence[Holding], only: str | None) -> None:
        """Verify all copies, or those of one recovery point."""
        chosen = [
            (holding, copy)
            for holding in found
            for copy in holding.copies
            if only in (None, copy.manifest.recovery_point)
        ]
        if only is not None and not chosen:
            raise RecoveryPointMissing(
                f"No target that answers has a recovery point {only} that can be believed.",
                "`lifeboat list` shows what there is, and what can't be believed.",
            )
        total = sum(copy.manifest.stored_size for _, copy in chosen)
        with bar("Verified", total) as progress:
            for holding, copy in chosen:
                self._copy(holding, copy, progress)
        for journal in self.journals.values():
            journal.deliver()

    def _copy(self, holding: Holding, copy: Copy, progress: Bar) -> None:
        from lifeboat.backup.steps import Point, verify

        result: dict[str, Any] = {
            "source": holding.source,
            "id": copy.manifest.recovery_point,
            "timeline": copy.manifest.timeline,
            "target": holding.target,
        }
        try:
            (verified,) = verify(
                self.repository,
                holding.source,
                holding.target,
                [Point.of(copy)],
                self._journal(holding.target),
                deep=self.deep,
                passed=progress.passed,
                tick=STOP.check,
            )
        except Cancelled:
            raise
        except LifeboatError as error:
            self.results.append(result | {"good": False, "what": error.what, "remedy": error.remedy})
            return
        figures = {"objects": verified.objects, "stored_size": verified.stored_size, "read_back": verified.read_back}
        self.results.append(result | {"good": True, "method": verified.method, **figures})

    def _journal(self, target: str) -> Journal:
        from lifeboat.cli.recording import BestEffortJournal
        from lifeboat.policy.targets import PRIMARY

        if target not in self.journals:
            names = [target] if target == PRIMARY else [target, PRIMARY]
            self.journals[target] = BestEffortJournal(
                self.repository, names, run=f"command-verify-{target.replace('_', '-')}", tell=self._tell_once
            )
        return self.journals[target]

    def _tell_once(self, what: str) -> None:
        if what not in self.told:
            self.told.add(what)
            warn(what)

    def continuity(self, found: Sequence[Holding]) -> None:
        """Look for what is missing."""
        from lifeboat.cli.continuity import compare_targets, compare_with_journal
        from lifeboat.cli.overview import overview

        names = sorted({holding.target for holding in found})
        # Any target's journal may have seen what a target has lost.
        seen = {event.key: event for name in names for event in self._events(name)}
        events = [event for _, event in sorted(seen.items())]
        for source in sorted({holding.source for holding in found}):
            view = overview(source, [holding for holding in found if holding.source == source])
            self.holes += compare_targets(self.repository, view)
            for name in names:
                self.holes += compare_with_journal(view, events, name)

    def _events(self, target: str) -> list[Event]:
        from lifeboat.repository.journal import Event, read_journal

        found = []
        repository = self.repository
        try:
            for one in read_journal(repository.target(target), repository.system, repository.trusted):
                STOP.check()
                if isinstance(one, Event):
                    found.append(one)
        except Cancelled:
            raise
        except LifeboatError as error:
            warn(f"The journal on {target} can't be read, so that what was deleted there may not show: {error}")
        return found

    def document(self) -> dict[str, Any]:
        """The outcome for programs."""
        return {
            "copies": self.results,
            "findings": [
                {"source": hole.source, "target": hole.target, "what": hole.what, "severe": hole.severe}
                for hole in self.holes
            ],
        }

    def show(self) -> None:
        """The outcome for people: a row for each target, and a line for each thing that is wrong."""
        rows = []
        for source, target in sorted({(result["source"], result["target"]) for result in self.results}):
            row = [one for one in self.results if (one["source"], one["target"]) == (source, target)]
            good = [one for one in row if one["good"]]
            rows.append(
                (
                    source,
                    target,
                    str(len(good)),
                    str(len(row) - len(good)),
                    size(sum(one["stored_size"] for one in good)),
                    size(sum(one["read_back"] for one in good)),
                    ", ".join(sorted({one["method"] for one in good})),
                )
            )
        columns = ("source", "target", "good", "not good", "stored", "read back", "method")
        show_table("Verified", columns, rows, right=(2, 3, 4, 5))
        for one in self.results:
            if not one["good"]:
                note(f"not good: {one['id']} on {one['target']}: {one['what']}", "bold red")
                note(f"  → {one['remedy']}", "red")
        for hole in self.holes:
            style = "bold red" if hole.severe else "yellow"
            note(f"{'wrong' if hole.severe else 'note'}: {hole.source} on {hole.target}: {hole.what}", style)
