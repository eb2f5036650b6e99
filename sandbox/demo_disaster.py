"""The demo's disaster: the database is lost on purpose, and brought back to a moment between two commits."""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime

from lifeboat.postgres.moments import AtTime, Latest, Moment
from lifeboat.postgres.restore import Request, Restored, restore
from lifeboat.postgres.restore_sources import read_offer
from sandbox import erp
from sandbox.accounts import SandboxError, server_directory
from sandbox.demo_backup import SOURCE, WAL_DAG, repository
from sandbox.erp_writer import ledger_numbers
from sandbox.postgres import PostgresServer
from sandbox.processes import wait_until
from sandbox.services import Services
from sandbox.steps import Step, Steps


def lose_the_database(services: Services, steps: Steps) -> None:
    """Kill the server with -9 and remove its data directory; Airflow's next WAL run fails and tells Slack."""
    with steps.step("Lose the database: kill -9, data directory removed") as step:
        services.erp.kill()
        services.incident = datetime.now(UTC)
        shutil.rmtree(services.erp.data_directory)
        step.result(f"at {services.incident:%H:%M:%S} UTC, after commit {services.writer.commits()[-1].number}")
    with steps.step("Airflow notices") as step:
        known = len(services.slack.messages())
        with services.airflow.client() as client:
            run = client.trigger(WAL_DAG)
            state = client.wait(WAL_DAG, run)
        if state != "failed":
            raise SandboxError(f"A WAL run without a database ended as {state}.")
        step.doing("until the message is in Slack")
        wait_until(lambda: len(services.slack.messages()) > known, within=60, what="Slack got the message")
        text = str(services.slack.messages()[-1].payload["text"]).splitlines()[0]
        step.result(f"Slack: {text.replace('*', '').replace('`', '')}")


def bring_back(services: Services, steps: Steps) -> None:
    """Restore to a moment between two commits, from the off-site copy alone: the full, the incremental upon it and the
    WAL behind that; and count the rows before and after."""
    system = repository(services)
    offer = read_offer(system, SOURCE, "offsite")
    covered = max(reach.latest for reach in offer.reaches())
    commits = services.writer.commits()
    # The newest that has commits behind it: a schedule may have made another one just before the loss.
    for chain in reversed(offer.bases):
        safe = [one.number for one in commits if one.before > chain.details.stopped and one.after < covered]
        if safe:
            break
    else:
        raise SandboxError("No commit lies between a base and the end of the WAL off-site.")
    chosen = safe[len(safe) // 2]
    moment = services.writer.moment_after(chosen)
    between = f"{moment:%H:%M:%S.%f}, between commits {chosen} and {chosen + 1}"
    with steps.step(f"Restore from off-site to {between}") as step:
        restored, numbers, seconds = _restore_and_look(services, "offsite", AtTime(moment), "moment", step)
        if numbers != list(range(1, chosen + 1)):
            raise SandboxError(
                f"The restored database holds {len(numbers)} commits up to {max(numbers, default=0)}; "
                f"exactly those from 1 to {chosen} should be there."
            )
        links = " + ".join(link.manifest.kind for link in chain.links)
        step.result(f"{links} + WAL: commits 1 to {chosen} are there, {chosen + 1} and later are not: exact")
    steps.fact("restored to", f"{moment:%H:%M:%S.%f} UTC: commit {chosen} is there, commit {chosen + 1} is not")
    parts = restored.phases | {"start": seconds - sum(restored.phases.values())}
    phases = ", ".join(f"{name} {duration:.1f} s" for name, duration in parts.items())
    steps.fact("measured RTO", f"{seconds:.1f} s to an open database ({phases})")


def measure_what_was_lost(services: Services, steps: Steps) -> None:
    """Restore everything there is from the primary target, and compare its last commit with the incident."""
    with steps.step("Restore the latest moment from the primary target, to measure what was lost") as step:
        _, numbers, _ = _restore_and_look(services, "primary", Latest(), "latest", step)
        known = {commit.number: commit for commit in services.writer.commits()}
        last = known[numbers[-1]]
        assert services.incident is not None
        lost = services.incident - last.after
        step.result(f"last commit {last.number}; {len(known) - len(numbers)} commits after it are lost")
    steps.fact("measured RPO", f"{lost.total_seconds():.1f} s from the last recovered commit to the incident")


def _restore_and_look(
    services: Services, target: str, moment: Moment, name: str, step: Step
) -> tuple[Restored, list[int], float]:
    """Restore, start the restored data as a server, and read the ledger; with the seconds until that answer."""
    begun = time.monotonic()
    system = repository(services)
    plan = read_offer(system, SOURCE, target).plan(moment)
    into = server_directory(services.directory / f"restored-{name}") / "data"
    restored = restore(
        system,
        plan,
        Request(target, into, services.erp.binaries),
        progress=lambda phase, done, total: step.doing(f"{phase} {100 * done // max(1, total)} %"),
    )
    step.doing("start it and count")
    server = PostgresServer.on_data(
        services.directory / f"server-{name}", restored.into, passwords=services.erp.passwords
    )
    try:
        server.start()
        seconds = time.monotonic() - begun
        with server.connect(database=erp.DATABASE) as session:
            return restored, ledger_numbers(session), seconds
    finally:
        server.destroy()
