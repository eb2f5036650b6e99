"""The demo's backups: DAG runs through Airflow's REST API, as a person or a schedule would start them."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table

from lifeboat.connections import outside_from
from lifeboat.policy.loading import load_policy
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.system import SystemRepository
from sandbox.accounts import SandboxError
from sandbox.services import Services
from sandbox.steps import Step, Steps

SOURCE = "database"
FULL_DAG, INCREMENTAL_DAG, WAL_DAG = (f"demo_database_{tier}" for tier in ("daily", "incremental", "wal"))
TARGETS = ("primary", "offsite", "local")


def repository(services: Services) -> SystemRepository:
    """The demo's system as the command line would open it: from the policy and ``AIRFLOW_CONN_…`` variables."""
    environment = {f"AIRFLOW_CONN_{name.upper()}": value for name, value in services.connections().items()}
    return SystemRepository(load_policy(services.system.policy), outside_from(environment))


def run_dag(services: Services, dag: str, step: Step, *, conf: dict[str, object] | None = None) -> None:
    """Run a DAG to its end; raises ``SandboxError`` with the failed task's last words."""
    with services.airflow.client() as client:
        run = client.trigger(dag, conf)
        state = client.wait(dag, run, progress=lambda states: step.doing(_in_words(states)))
        if state == "success":
            return
        for task in client.tasks(dag, run):
            if task["state"] == "failed":
                log = client.log(dag, run, task["task_id"], attempt=task["try_number"], map_index=task["map_index"])
                raise SandboxError(f"{dag}: {task['task_id']} failed:\n" + "\n".join(log.splitlines()[-25:]))
    raise SandboxError(f"{dag} ended as {state}.")


def _in_words(states: dict[str, str | None]) -> str:
    running = [task for task, state in states.items() if state == "running"]
    done = sum(state == "success" for state in states.values())
    return f"{done} of {len(states)} tasks done" + (f", now {', '.join(running)}" if running else "")


def back_up(services: Services, steps: Steps) -> None:
    """A full backup while the writer goes on: one pass to the primary target, copied to the others, each verified."""
    with steps.step("Full backup by Airflow, copied to three targets, each copy verified") as step:
        run_dag(services, FULL_DAG, step, conf={"deep_verification": True})
        copy = repository(services).catalogue("primary").recovery_points(SOURCE).copies[-1]
        manifest = copy.manifest
        seconds = (manifest.committed - manifest.begun).total_seconds()
        ratio = manifest.plain_size / manifest.stored_size
        step.result(
            f"{manifest.plain_size / 1e6:,.0f} MB in {seconds:.1f} s, stored as {manifest.stored_size / 1e6:,.0f} MB "
            f"({ratio:.1f} : 1), encrypted"
        )
    steps.fact("full backup", f"{manifest.plain_size / 1e6:,.0f} MB in {seconds:.1f} s, {ratio:.1f} : 1")


def back_up_changes(services: Services, steps: Steps) -> None:
    """An incremental upon the full: what the writer has changed since."""
    with steps.step("Incremental backup by Airflow: what has changed since the full") as step:
        services.writer.wait_for(len(services.writer.commits()) + 100)
        run_dag(services, INCREMENTAL_DAG, step)
        copies = repository(services).catalogue("primary").recovery_points(SOURCE).copies
        manifest = copies[-1].manifest
        # Not always the demo's own: near midnight, six, noon and eighteen o'clock the schedule makes others.
        fulls = {copy.manifest.recovery_point: copy.manifest for copy in copies if copy.manifest.parent is None}
        if manifest.parent is None or manifest.chain not in fulls:
            raise SandboxError(f"{manifest.recovery_point} is no incremental upon a full: {manifest.findings}")
        full = fulls[manifest.chain]
        seconds = (manifest.committed - manifest.begun).total_seconds()
        share = manifest.stored_size / full.stored_size
        step.result(
            f"{manifest.plain_size / 1e6:,.0f} MB in {seconds:.1f} s, stored as {manifest.stored_size / 1e6:,.1f} MB: "
            f"{share:.1%} of the full"
        )
    steps.fact("incremental", f"{manifest.stored_size / 1e6:,.1f} MB stored, {share:.1%} of the full")


def collect_wal(services: Services, steps: Steps) -> None:
    """The WAL twice, with commits before, between and after."""
    with steps.step("Collect WAL by Airflow, twice, while the writer commits") as step:
        for _ in range(2):
            services.writer.wait_for(len(services.writer.commits()) + 100)
            run_dag(services, WAL_DAG, step)
        copies = repository(services).catalogue("primary").wal(SOURCE).copies
        plain = sum(copy.manifest.plain_size for copy in copies)
        covered = max(copy.manifest.moment for copy in copies)
        step.result(f"{plain / 1e6:,.0f} MB of WAL; every commit until {covered:%H:%M:%S} UTC is safe")


def show_recovery_points(services: Services, steps: Steps) -> None:
    """List what the three targets hold."""
    system = repository(services)
    held: dict[tuple[str, str], dict[str, Copy]] = {}
    for target in TARGETS:
        catalogue = system.catalogue(target)
        others = [copy for source in system.policy.sources for copy in catalogue.recovery_points(source).copies]
        for copy in (*others, *catalogue.wal(SOURCE).copies):
            held.setdefault((copy.manifest.source, copy.manifest.recovery_point), {})[target] = copy
    table = Table(title="Recovery points", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in ("source", "recovery point", "plain MB", "stored MB", *TARGETS):
        table.add_column(column, justify="right" if column.endswith("MB") else "left", no_wrap=True)
    for (_, point), copies in sorted(held.items()):
        manifest = next(iter(copies.values())).manifest
        table.add_row(
            manifest.source,
            point,
            f"{manifest.plain_size / 1e6:,.1f}",
            f"{manifest.stored_size / 1e6:,.1f}",
            *("[green]✓[/green]" if target in copies else "[red]✗[/red]" for target in TARGETS),
        )
    steps.console.print(table)
    steps.fact("recovery points", f"{len(held)}, on {', '.join(TARGETS)}")
    if any(len(copies) < len(TARGETS) for copies in held.values()):
        raise SandboxError("A recovery point is missing on a target.")
