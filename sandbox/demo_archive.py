"""The demo's logical archive: a weekly one by Airflow, and one table of it brought back beside the running database."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.postgres.logical_details import LOGICAL
from lifeboat.postgres.logical_planning import newest_not_later
from lifeboat.postgres.logical_preparing import prepare
from lifeboat.postgres.logical_proof import RestoredArchive
from lifeboat.postgres.logical_restore import restore_logical
from lifeboat.postgres.parameters import ConnectionParameters, Tls, connection_parameters
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.system import SystemRepository
from sandbox import erp
from sandbox.accounts import SandboxError
from sandbox.demo_backup import SOURCE, repository, run_dag
from sandbox.services import Services
from sandbox.steps import Step, Steps

WEEKLY_DAG, HOME = "demo_database_weekly", "demo_home"
TABLE, RESTORED = "invoices", "erp_invoices_as_they_were"


def archive(services: Services, steps: Steps) -> None:
    """A logical archive while the writer goes on: pg_dump and fingerprints in one snapshot."""
    with steps.step("Weekly archive by Airflow: pg_dump and a fingerprint of each table in one snapshot") as step:
        run_dag(services, WEEKLY_DAG, step)
        (copy,) = repository(services).catalogue("primary").recovery_points(SOURCE).of_kind(LOGICAL)
        manifest = copy.manifest
        seconds = (manifest.committed - manifest.begun).total_seconds()
        read = f"{manifest.plain_size / 1e6:,.0f} MB in {seconds:.1f} s"
        step.result(f"{read}, {manifest.stored_size / 1e6:,.0f} MB stored")
    steps.fact("weekly archive", read)


def bring_one_table_back(services: Services, steps: Steps) -> None:
    """A table comes back from the off-site copy, into a new database, with all that is its own."""
    with steps.step(f"Restore the table {TABLE} alone from the off-site archive, into a new database") as step:
        system = repository(services)
        copy = newest_not_later(system.catalogue("offsite").recovery_points(SOURCE).copies, None, None)
        restored = restore_from(
            system, copy, HOME, services.erp.binaries, erp.DATABASE, RESTORED, step, only=[f"public.{TABLE}"]
        )
        (one,) = restored.databases
        ((rows,),) = services.erp.run_sql(f"SELECT count(*) FROM {TABLE}", database=RESTORED)
        if rows != one.rows or not rows:
            raise SandboxError(f"{TABLE} came back with {rows} rows instead of {one.rows}.")
        ((indexes,),) = services.erp.run_sql(
            "SELECT count(*) FROM pg_indexes WHERE tablename = %s", [TABLE], database=RESTORED
        )
        step.result(f"{one.rows:,} rows and {indexes} indexes in {restored.seconds:.1f} s, compared with the archive")
    steps.fact("one table restored", f"{one.rows:,} rows of {TABLE} in {restored.seconds:.1f} s")


def restore_from(
    system: SystemRepository,
    copy: Copy,
    connection: str,
    binaries: Path,
    database: str,
    name: str,
    step: Step,
    *,
    only: Sequence[str] = (),
) -> RestoredArchive:
    """Bring one database of an archive, or tables of it, into a new one of another name, compared with the archive."""
    source = system.policy.sources[SOURCE]
    assert isinstance(source, PostgresSource)

    def home(place: str) -> ConnectionParameters:
        tls = Tls(source.tls, source.tls_minimum)
        return connection_parameters(system.outside.connection(connection), tls, database=place or None)

    plan = prepare(system, copy, home(""), binaries=binaries, databases=[database], only=only, name=name)
    for obstacle in plan.obstacles:
        raise obstacle
    return restore_logical(
        system,
        plan,
        home,
        progress=lambda phase, done, total: step.doing(f"{phase} {100 * done // max(1, total)} %"),
    )
