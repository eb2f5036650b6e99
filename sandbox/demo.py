"""The demo's story, step by step: each function is one step, in the order of :data:`STORY`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich.table import Table

from sandbox import erp
from sandbox.demo_archive import archive, bring_one_table_back
from sandbox.demo_backup import back_up, back_up_changes, collect_wal, show_recovery_points
from sandbox.demo_disaster import bring_back, lose_the_database, measure_what_was_lost
from sandbox.demo_drill import practise_a_total_loss
from sandbox.demo_restore_test import prove_that_it_comes_back
from sandbox.demo_retention import show_retention
from sandbox.demo_sources import back_up_the_rest, bring_one_file_back, change_and_back_up_again
from sandbox.services import Services
from sandbox.steps import Steps


def fill_the_erp(services: Services, steps: Steps) -> None:
    """Fill the database and start the writer, while Airflow boots."""
    with steps.step("Fill the ERP database") as step:
        size = erp.fill(services.erp, progress=step.doing)
        services.start_writer()
        step.result(f"{size / 1e6:,.0f} MB of customers, invoices, payments and attachments; a writer keeps committing")
    steps.fact("ERP database", f"{size / 1e6:,.0f} MB")


def wait_for_airflow(services: Services, steps: Steps) -> None:
    """Wait until Airflow can run DAGs."""
    with steps.step("Airflow boots") as step:
        # Healthy comes before known: on a fast machine the first run was asked of a DAG that was not parsed yet.
        services.airflow.wait_until_ready(
            dags=services.system.dag_ids(), progress=lambda missing: step.doing(f"until {missing}")
        )
        step.result(services.airflow.url)


def show_the_dags(services: Services, steps: Steps) -> None:
    """List the DAGs that the policies made."""
    with services.airflow.client() as client:
        dags, errors = client.dags(), client.import_errors()
    table = Table(title="DAGs", title_justify="left")
    for column in ("DAG", "schedule", "what it does"):
        table.add_column(column)
    for dag in dags:
        table.add_row(dag["dag_id"], dag.get("timetable_summary") or "on request", dag.get("description") or "")
    steps.console.print(table)
    for error in errors:
        steps.console.print(f"[red]can't be imported:[/red] {error['filename']}")


STORY: tuple[Callable[[Services, Steps], None], ...] = (
    fill_the_erp,
    wait_for_airflow,
    show_the_dags,
    back_up,
    back_up_changes,
    collect_wal,
    archive,
    bring_one_table_back,
    back_up_the_rest,
    change_and_back_up_again,
    bring_one_file_back,
    show_recovery_points,
    prove_that_it_comes_back,
    practise_a_total_loss,
    lose_the_database,
    bring_back,
    measure_what_was_lost,
    show_retention,
)


DRILL: tuple[Callable[[Services, Steps], None], ...] = (
    fill_the_erp,
    wait_for_airflow,
    back_up,
    collect_wal,
    back_up_the_rest,
    practise_a_total_loss,
)
"""What of it a drill alone needs."""


def run(services: Services, steps: Steps, story: Sequence[Callable[[Services, Steps], None]] = STORY) -> None:
    """Tell a story with services that were started; a step that fails ends it with its error."""
    begun = time.monotonic()
    for part in story:
        part(services, steps)
    steps.fact("duration", f"{time.monotonic() - begun:.0f} s")
    steps.summary("What happened")
