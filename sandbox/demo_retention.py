"""The demo's retention: two years of backups as a calendar, a soft delete, one deletion taken back, and the purge."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from rich.text import Text

from lifeboat.policy.naming import work_dag_id
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.retention.cleaning import Cleanup
from sandbox.accounts import SandboxError
from sandbox.demo_archive import restore_from
from sandbox.demo_backup import TARGETS, run_dag
from sandbox.demo_history import (
    ACTOR,
    DATABASE,
    SOURCE,
    SYSTEM,
    History,
    begin_ledger,
    due_between,
    left_by_cleanup,
)
from sandbox.demo_holdings import Seen, compare, look
from sandbox.postgres import SUPERUSER, PostgresServer
from sandbox.postgres_role import create_reading_role
from sandbox.services import Services
from sandbox.steps import Steps

CLEANUP_DAG = work_dag_id(SYSTEM, "retention_cleanup")
YEARS_BACK, LAST_CLEANUP, UNDELETE = timedelta(days=730), timedelta(days=5), timedelta(days=7)
GUARD, RAISED = "most_deleted: 20%", "most_deleted: 60%"
HOME = "demo_history_home"


def show_retention(services: Services, steps: Steps) -> None:
    """Two years of backups, made up; their plan; what goes is hidden, one of it taken back, the others removed."""
    # Airflow finds the policy while the history is made.
    policy = services.system.policies / f"{SYSTEM}.yaml"
    policy.write_text(services.system.policy_text(SYSTEM), encoding="utf-8")
    now = datetime.now(UTC)
    with _ledger(services, now) as history:
        _make_history(history, now, steps)
        before = look(history)
        _show_calendar(history, steps, "primary")
        _see_it_refused(history, before, steps)
        policy.write_text(policy.read_text(encoding="utf-8").replace(GUARD, RAISED), encoding="utf-8")
        going = _soft_delete(services, history, before, steps)
        hidden = look(history)
        chosen = _take_one_back(history, going, steps)
        back = look(history)
        later = _let_a_week_pass(history, now, steps)
        week = look(history)
        _purge(history, going, chosen, later, steps)
        compare(steps, {"before": before, "soft-deleted": hidden, "one taken back": back,
                         "a week of backups later": week, "purged": look(history)})  # fmt: skip
        _restore(history, chosen, steps)
        _show_calendar(history, steps, "primary", "--at", later.isoformat())


@contextmanager
def _ledger(services: Services, now: datetime) -> Iterator[History]:
    """The small database's server; it goes when the history's story is told."""
    with PostgresServer(services.directory / "ledger", settings={"fsync": "off"}) as server:
        create_reading_role(server)
        first = (now - YEARS_BACK).date()
        begin_ledger(server, first)
        connections = services.connections() | {
            "demo_history_database": server.airflow_connection("lifeboat", DATABASE),
            HOME: server.airflow_connection(SUPERUSER),
        }
        environment = {f"AIRFLOW_CONN_{name.upper()}": value for name, value in connections.items()}
        yield History(services.system, server, environment, first, now)


def _make_history(history: History, now: datetime, steps: Steps) -> None:
    with steps.step("Two years of backups of a small ledger, made up: each a real one, at its own date") as step:
        source, policy = history.source, history.loaded.policy
        dues = due_between(source, now - YEARS_BACK, now)
        cleaned = now - LAST_CLEANUP
        wanted = left_by_cleanup(policy, SOURCE, dues, cleaned)
        wanted |= {due: TARGETS for due in dues if due.moment > cleaned}
        history.make(wanted, step.doing)
        step.result(
            f"{len(dues)} were due; the {len(wanted)} that a last cleanup, {LAST_CLEANUP.days} days ago, would have "
            "left are on the targets, verified"
        )
    steps.fact("made-up history", f"{len(wanted)} recovery points, {min(history.made):%Y-%m-%d} to {now:%Y-%m-%d}")


def _lifeboat(history: History, steps: Steps, *words: str, shown: bool = True) -> tuple[int, str]:
    """A command as a person gives it; its exit code and what it said."""
    console = steps.console
    colours = {"FORCE_COLOR": "1"} if console.is_terminal else {}
    ended = subprocess.run(
        [sys.executable, "-m", "lifeboat.cli", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ
        | {"LIFEBOAT_POLICIES": str(history.system.policies), "COLUMNS": str(console.width)}
        | colours
        | dict(history.connections),
        check=False,
    )
    if shown:
        console.print(Text(f"$ lifeboat {shlex.join(words)}", style="bold"), soft_wrap=True)
        console.print(Text.from_ansi(ended.stdout.rstrip()), soft_wrap=True)
    return ended.returncode, ended.stdout


def _show_calendar(history: History, steps: Steps, target: str, *more: str) -> None:
    code, said = _lifeboat(history, steps, "retention", "plan", SYSTEM, "--calendar", "--target", target, *more)
    if code:
        raise SandboxError(f"The plan of {SYSTEM} could not be shown: it ended with {code}.", said)


def _see_it_refused(history: History, before: dict[str, Seen], steps: Steps) -> None:
    """A cleanup after days without one would delete more at once than the policy lets it."""
    with steps.step(f"Cleanup as the policy stands: {GUARD}") as step:
        code, said = _lifeboat(history, steps, "retention", "run", SYSTEM, "--target", "primary", shown=False)
        refused = [line for line in said.splitlines() if "On target primary" in line]
        if code != 1 or not refused or look(history) != before:
            raise SandboxError("A cleanup that would delete too much was not refused.", said)
        step.result(f"refused, nothing deleted: {refused[0].split('primary: ')[-1].split(': more than')[0]}")


def _past_retention(history: History, target: str) -> set[str]:
    """What lies past its retention on a target, reckoned by hand: past that of each tier that it is made for, or past
    the target's own. The newest is never past it."""
    policy, now = history.loaded.policy, datetime.now(UTC)
    kept = {tier.value: one.retention.before(now, policy.zone) for tier, one in history.source.tiers.items()}
    own = policy.targets[target].retention
    copies = history.repository().catalogue(target).recovery_points(SOURCE).copies
    return {
        manifest.recovery_point
        for manifest in (copy.manifest for copy in copies[:-1])
        if all(manifest.moment < kept[tier] for tier in manifest.tiers)
        or (own is not None and manifest.moment < own.before(now, policy.zone))
    }


def _soft_delete(services: Services, history: History, before: dict[str, Seen], steps: Steps) -> dict[str, set[str]]:
    """Airflow's cleanup: readers no longer see what goes, and its bytes lie where they lay; on the local target, whose
    room is needed, they are removed at once. What went, by target."""
    with steps.step(f"Cleanup by Airflow with {RAISED}") as step:
        going = {target: _past_retention(history, target) for target in TARGETS}
        services.airflow.wait_until_ready(dags=[CLEANUP_DAG], progress=lambda missing: step.doing(f"until {missing}"))
        run_dag(services, CLEANUP_DAG, step)
        after = look(history)
        for target in TARGETS:
            gone = before[target].shown - after[target].shown
            if gone != going[target] or not gone:
                raise SandboxError(f"Readers of {target} miss {sorted(gone)} instead of {sorted(going[target])}.")
        for target in ("primary", "offsite"):
            if (after[target].lying, after[target].stored_size) != (before[target].lying, before[target].stored_size):
                raise SandboxError(f"A soft delete moved bytes on {target}.")
        if after["local"].lying & going["local"]:
            raise SandboxError("The local target, which keeps nothing deleted, has not been cleaned.")
        counts = ", ".join(f"{len(going[target])} on {target}" for target in TARGETS)
        step.result(f"{counts}: no longer seen; no byte moved on primary and offsite, local is rid of its own")
    steps.fact("soft-deleted", counts)
    return going


def _take_one_back(history: History, going: dict[str, set[str]], steps: Steps) -> str:
    """Undo one deletion: it is seen again, and held, so that the next cleanup leaves it."""
    chosen = max(going["primary"])
    if chosen not in going["offsite"]:
        raise SandboxError(f"{chosen} was not deleted off-site.")
    with steps.step("Take one deletion back") as step:
        code, said = _lifeboat(
            history, steps, "retention", "undo", SYSTEM, SOURCE, chosen, "--reason", "an auditor asks for that day"
        )
        repository = history.repository()
        for target in ("primary", "offsite"):
            repository.catalogue(target).find(SOURCE, chosen)
            if code or not repository.catalogue(target).marks(SOURCE).hold(chosen):
                raise SandboxError(f"{chosen} did not come back on {target}, held.", said)
        step.result(f"{chosen} is seen again, and held")
    steps.fact("taken back", f"{chosen}, held since")
    return chosen


def _let_a_week_pass(history: History, now: datetime, steps: Steps) -> datetime:
    """Set the clock on by more than a deletion can be taken back for, with the backups of these days."""
    later = datetime.now(UTC).replace(microsecond=0) + UNDELETE + timedelta(hours=1)
    with steps.step(f"A week passes: the clock is set to {later:%Y-%m-%d %H:%M} UTC") as step:
        wanted = {due: TARGETS for due in due_between(history.source, now, later)}
        history.make(wanted, step.doing)
        step.result(f"{len(wanted)} more backups")
    return later


def _purge(history: History, going: dict[str, set[str]], chosen: str, later: datetime, steps: Steps) -> None:
    """What was deleted a week ago can't be taken back any more, and its bytes go; what was taken back stays."""
    with steps.step("Purge: what can't be taken back any more") as step:
        repository = history.repository(lambda: later, removing=True)
        objects = freed = 0
        for target in ("primary", "offsite"):
            removed, _ = Cleanup(repository, SOURCE, history.roles(), target, "demo", ACTOR).remove()
            due = going[target] - {chosen}
            if {one.recovery_point for one in removed} != due:
                raise SandboxError(f"{target}: {removed} went instead of {sorted(due)}.")
            objects += sum(one.objects for one in removed)
            freed += sum(one.stored_size for one in removed)
        after = look(history)
        for target in TARGETS:
            if left := after[target].lying & (going[target] - {chosen}):
                raise SandboxError(f"Of {', '.join(sorted(left))} something is left on {target}.")
            if target != "local" and chosen not in after[target].shown:
                raise SandboxError(f"{chosen} went from {target} although it is held.")
        step.result(f"{objects} objects, {freed / 1e3:,.0f} kB, removed on primary and offsite; {chosen} stays")
    steps.fact("purged", f"{objects} objects, {freed / 1e3:,.0f} kB; what was taken back is there")


def _restore(history: History, chosen: str, steps: Steps) -> None:
    """Bring the recovery point back that had been deleted: it holds every day until its own, and none after."""
    with steps.step("Restore from off-site what had been deleted and taken back") as step:
        system = history.repository()
        copy: Copy = system.catalogue("offsite").find(SOURCE, chosen)
        name = f"{DATABASE}_{copy.manifest.moment:%Y_%m_%d}"
        restore_from(system, copy, HOME, history.server.binaries, DATABASE, name, step)
        ((days, last),) = history.server.run_sql("SELECT count(*), max(day) FROM days", database=name)
        expected = copy.manifest.moment.date()
        if last != expected or days != (expected - history.first).days + 1:
            raise SandboxError(f"{name} has {days} days up to {last}; up to {expected} was expected.")
        step.result(f"{days} days up to {last}, and none after it: exact")
