"""``lifeboat backup``: the steps of a backup DAG, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lifeboat.cli.cancellation import STOP
from lifeboat.cli.output import fail, note, show_json, show_table, size, warn
from lifeboat.cli.output import moment as words_of
from lifeboat.cli.outside import surroundings, targets_of, tier_of
from lifeboat.cli.preflight import show_findings
from lifeboat.cli.progress import bar
from lifeboat.errors import BackupFailed, Cancelled, LifeboatError, RebuildSkipped

if TYPE_CHECKING:
    from lifeboat.backup.steps import Point, Published
    from lifeboat.policy.model import Policy
    from lifeboat.policy.naming import Tier
    from lifeboat.policy.slots import Slot
    from lifeboat.repository.catalogue import Copy
    from lifeboat.repository.journal import Journal
    from lifeboat.repository.system import SystemRepository, Work
    from lifeboat.source import BackedUp, Stay


def backup_verb(
    ctx: typer.Context,
    system: Annotated[str, typer.Argument(help="The system, as its policy calls it.")],
    source: Annotated[str, typer.Argument(help="The source in it.")],
    tier: Annotated[
        str,
        typer.Option(help="The tier, such as daily for a full, incremental, or wal."),
    ],
    only: Annotated[
        list[str] | None,
        typer.Option(help="Export these tables alone, as schema.table. May be repeated.", metavar="PATTERN"),
    ] = None,
    copy: Annotated[bool, typer.Option(help="Copy to the other targets as well.")] = True,
    deep: Annotated[bool, typer.Option("--deep", help="Verify deep: decrypt and check every file.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Tier wal: stay with the server and commit what it writes; Ctrl-C ends it.")
    ] = False,
    lasting: Annotated[str, typer.Option("--for", help="With --follow: for how long, such as 15m.")] = "",
    at: Annotated[
        str | None,
        typer.Option(help="For a moment that has passed, of what was kept: archives and exports.", metavar="TIME"),
    ] = None,
    note_text: Annotated[str, typer.Option("--note", help="A note for the manifest.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Back up: preflight, read and store on the primary target, verify, copy to the others, verify those, publish.

    What runs is what the backup DAGs run.
    """
    from lifeboat.cli.recording import actor, command

    here = surroundings(ctx)
    loaded = here.loaded(system)
    chosen = tier_of(loaded, source, tier)
    for notice in loaded.notices:
        note(f"notice: {notice}", "dim")
    stay = _stay_of(chosen, follow=follow, lasting=lasting)
    past = _slot_of(loaded.policy, source, chosen, at) if at is not None else None
    more = [*(word for pattern in only or () for word in ("--only", pattern)), *(["--follow"] if follow else [])]
    more += ["--at", at] if at is not None else []
    words = command("backup", system, source, "--tier", tier, *more, *([] if copy else ["--no-copy"]))
    run = _Run(here.repository(loaded), source, chosen, deep=deep, copy=copy, only=tuple(only or ()), stay=stay)
    run.past = past
    try:
        run.carry_out(words, actor(), note_text)
    except RebuildSkipped as skipped:
        if not skipped.there:
            raise
        # Nothing is left to do: that is what was asked for.
        note(str(skipped))
        if as_json:
            show_json(run.nothing_made(skipped))
        return
    if as_json:
        show_json(run.document())
    else:
        run.show()
    run.raise_failures()


def _stay_of(tier: Tier, *, follow: bool, lasting: str) -> Stay | None:
    from lifeboat.policy.duration import Duration
    from lifeboat.policy.naming import Tier
    from lifeboat.policy.problems import Refused
    from lifeboat.source import Stay

    if not follow:
        if lasting:
            raise typer.BadParameter("It needs --follow.", param_hint="--for")
        return None
    if tier is not Tier.WAL:
        raise typer.BadParameter("Only the tier wal can be followed.", param_hint="--follow")
    try:
        length = Duration.parse(lasting).fixed if lasting else None
    except Refused as error:
        raise typer.BadParameter(error.what, param_hint="--for") from None
    return Stay(length, STOP.leaving, _tell)


def _slot_of(policy: Policy, source: str, tier: Tier, at: str) -> Slot:
    from lifeboat.cli.moment import time_in
    from lifeboat.policy.slots import slot_of

    moment, words = time_in(at, policy.zone)
    note(f"For {words}.", "dim")
    return slot_of(policy.sources[source].tiers[tier].schedule, policy.zone, moment)


def _nothing(_done: int, _total: int) -> None:
    """Nobody looks."""


def _tell(copy: Copy) -> None:
    manifest = copy.manifest
    note(f"{manifest.recovery_point}: {size(manifest.plain_size)} of WAL, covered until {words_of(manifest.moment)}")


@dataclass
class _Run:
    """One backup on its way."""

    repository: SystemRepository
    source: str
    tier: Tier
    deep: bool
    copy: bool
    only: tuple[str, ...] = ()
    stay: Stay | None = None
    past: Slot | None = None
    failures: list[LifeboatError] = field(default_factory=list)
    done: BackedUp | None = None
    published: Published | None = None

    def carry_out(self, words: str, actor: str, note_text: str) -> None:
        from lifeboat.backup.kinds import kind_of
        from lifeboat.backup.steps import Point, Published, publish
        from lifeboat.cli.recording import command
        from lifeboat.policy.targets import PRIMARY
        from lifeboat.repository.manifest import Run
        from lifeboat.repository.system import Work

        repository, source = self.repository, self.repository.policy.sources[self.source]
        self._preflight()
        work: Work = Work.new(
            kind_of(source.kind).point_kind(self.tier, source),
            begun=repository.outside.clock(),
            tiers=(self.tier.value,),
            run=Run(command=words),
            actor=actor,
            note=note_text,
            only=self.only,
            past=self.past,
        )
        self._actor = actor
        journal = self._journal("backup", PRIMARY)
        self.done = self._read(work, journal)
        note(self.done.message)
        points = [Point.of(copy) for copy in self.done.copies]
        others = [name for name in targets_of(repository.loaded) if name != PRIMARY]
        self._take_alarm(self.done)
        if not points:
            self.published = Published({}, [])
            return
        if (due := self.done.full_due) is not None:
            warn(f"{due.because} Take it now: {command('backup', repository.system, self.source, '--tier', due.tier)}")
        if self._verified(PRIMARY, points, journal) and self.copy:
            for name in others:
                self._bring_to(name, points)
        self.published = publish(
            repository,
            self.source,
            points,
            self._journal("publish", PRIMARY, *others),
            left_out=[] if self.copy else others,
        )

    def _read(self, work: Work, journal: Journal) -> BackedUp:
        from lifeboat.backup.steps import back_up

        told: Callable[[int, int], None] = _nothing
        with ExitStack() as stack:
            if self.stay is None:
                told = stack.enter_context(bar("Read")).at
            else:
                # No bar: each recovery point is told of, and the first Ctrl-C ends it in good order.
                stack.enter_context(STOP.gently())
                note("Following; Ctrl-C ends it after what is finished is committed.", "dim")
            return back_up(
                self.repository, self.source, self.tier, work, journal, progress=told, tick=STOP.check, stay=self.stay
            )

    def _preflight(self) -> None:
        from lifeboat.backup.preflight import insist, preflight

        findings = preflight(
            self.repository, self.source, self.tier, tick=STOP.check, past=self.past, whole=not self.only
        )
        show_findings(finding for finding in findings if finding.severity == "warning")
        insist(findings, f"The {self.tier.value} backup of {self.repository.system} {self.source}")

    def _take_alarm(self, done: BackedUp) -> None:
        if done.damaged:
            raise BackupFailed(done.alarm, "Look into the server's data at once; the older recovery points are good.")
        if done.alarm:
            self._failed(BackupFailed(done.alarm, "What was made is stored; mend what is said here now."))

    def _journal(self, step: str, *targets: str) -> Journal:
        return self.repository.journal(*targets, run=f"command-{step}", actor=self._actor)

    def _failed(self, error: LifeboatError) -> None:
        self.failures.append(error)
        fail(error)

    def _verified(self, target: str, points: list[Point], journal: Journal) -> bool:
        from lifeboat.backup.steps import verify

        assert self.done is not None
        total = sum(copy.manifest.stored_size for copy in self.done.copies)
        try:
            with bar(f"Verified on {target}", total) as progress:
                verify(
                    self.repository,
                    self.source,
                    target,
                    points,
                    journal,
                    deep=self.deep,
                    passed=progress.passed,
                    tick=STOP.check,
                )
        except Cancelled:
            raise
        except LifeboatError as error:
            self._failed(error)
            return False
        return True

    def _bring_to(self, target: str, points: list[Point]) -> None:
        """Copy and verify; a target that fails leaves the others alone."""
        from lifeboat.backup.steps import copy_to
        from lifeboat.policy.targets import PRIMARY

        assert self.done is not None
        total = sum(copy.manifest.stored_size for copy in self.done.copies)
        try:
            journal = self._journal(f"copy-{target.replace('_', '-')}", target, PRIMARY)
            with bar(f"Copied to {target}", total) as progress:
                copy_to(
                    self.repository,
                    self.source,
                    self.tier,
                    target,
                    points,
                    journal,
                    passed=progress.passed,
                    tick=STOP.check,
                )
        except Cancelled:
            raise
        except LifeboatError as error:
            if self.repository.policy.targets[target].required:
                self._failed(error)
            else:
                warn(f"There is no copy on {target}, which is not required: {error}")
            return
        self._verified(target, points, journal)

    def document(self) -> dict[str, Any]:
        """The outcome for programs."""
        assert self.done is not None
        assert self.published is not None
        return {
            "system": self.repository.system,
            "source": self.source,
            "tier": self.tier.value,
            "message": self.done.message,
            "recovery_points": [
                {
                    "id": copy.manifest.recovery_point,
                    "kind": copy.manifest.kind,
                    "timeline": copy.manifest.timeline,
                    "moment": copy.manifest.moment,
                    "begun": copy.manifest.begun,
                    "committed": copy.manifest.committed,
                    "plain_size": copy.manifest.plain_size,
                    "stored_size": copy.manifest.stored_size,
                    "state": copy.manifest.state,
                    "copies": self.published.copies[copy.manifest.recovery_point],
                }
                for copy in self.done.copies
            ],
            "missing": self.published.missing,
            "failures": [str(error) for error in self.failures],
        }

    def nothing_made(self, skipped: RebuildSkipped) -> dict[str, Any]:
        """The outcome for programs where there was nothing to do."""
        return {
            "system": self.repository.system,
            "source": self.source,
            "tier": self.tier.value,
            "message": str(skipped),
            "recovery_points": [],
            "there": skipped.there,
            "missing": [],
            "failures": [],
        }

    def show(self) -> None:
        """The outcome for people."""
        assert self.done is not None
        assert self.published is not None
        if not self.done.copies:
            return
        rows = [
            (
                copy.manifest.recovery_point,
                words_of(copy.manifest.moment),
                size(copy.manifest.plain_size),
                size(copy.manifest.stored_size),
                ", ".join(self.published.copies[copy.manifest.recovery_point]) or "no target",
            )
            for copy in self.done.copies
        ]
        show_table("Recovery points", ("id", "moment", "read", "stored", "copies"), rows, right=(2, 3))

    def raise_failures(self) -> None:
        """End with an error when anything that is required is missing, or anything is not good."""
        assert self.published is not None
        if self.published.missing:
            raise BackupFailed(
                f"Copies that the policy requires are missing: {'; '.join(self.published.missing)}.",
                f"What is committed stays. Once the target is back: lifeboat copy {self.repository.system} "
                f"{self.source} --target NAME.",
            )
        if self.failures:
            note(f"Not all is well; failed, and said above: {len(self.failures)}.", "bold red")
            raise typer.Exit(1)
        note("Done.", "green")
