"""The demo's other sources: files, configuration and code are backed up, changed, and brought back."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

from lifeboat.cli.listing_diff import Change, compare
from lifeboat.code.details import code_details
from lifeboat.configuration.details import configuration_details
from lifeboat.files.details import snapshot_details
from lifeboat.files.restoring import restore_files
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.snapshots import snapshots_of
from sandbox.accounts import SandboxError
from sandbox.demo_backup import repository, run_dag
from sandbox.demo_belongings import INVOICE, REPOSITORY, change_belongings, git
from sandbox.services import Services
from sandbox.steps import Step, Steps

FILES, CONFIGURATION, CODE = "files", "configuration", "code"


def back_up_the_rest(services: Services, steps: Steps) -> None:
    """Files, configuration and code, by three DAGs at once."""
    with steps.step("Back up files, configuration and code by Airflow, three DAGs at once") as step:
        _run_at_once(services, ("demo_files_daily", "demo_configuration_daily", "demo_code_daily"), step)
        files = snapshot_details(_newest(services, FILES).manifest)
        settings = configuration_details(_newest(services, CONFIGURATION).manifest)
        code = code_details(_newest(services, CODE).manifest)
        step.result(
            f"{files.files} files of {files.size / 1e6:,.0f} MB, read by two tasks; {settings.count} settings; "
            f"{code.repositories[0].refs} refs"
        )
    with steps.step("Compare the mirror of the repository with its origin, ref by ref") as step:
        home = services.system.home
        origin, mirror = (
            git("ls-remote", str(home / place / f"{REPOSITORY}.git")) for place in ("git", "mirrors")
        )  # fmt: skip
        if origin != mirror or not origin:
            raise SandboxError(f"The mirror differs from its origin:\n{origin}\n{mirror}")
        step.result(f"{len(origin.splitlines())} refs are the same")
    steps.fact(
        "files, settings, code", f"{files.files} files, {settings.count} settings, {code.repositories[0].refs} refs"
    )


def change_and_back_up_again(services: Services, steps: Steps) -> None:
    """What changed since, and what did not cost anything."""
    with steps.step("An invoice is overwritten, a password changed; back up what changed") as step:
        change_belongings(services.system.home)
        _run_at_once(services, ("demo_files_incremental", "demo_configuration_change"), step)
        found = snapshot_details(_newest(services, FILES).manifest)
        before, *_, after = _snapshots(services, CONFIGURATION)
        names = [change.name for change in _changes(services, CONFIGURATION, before, after)]
        changed = [name.rsplit("/", 1)[-1] for name in names]
        if changed != ["erp.conf"]:
            raise SandboxError(f"Of the configuration {names} is said to have changed.")
        step.result(
            f"{found.new_files} files of {found.new_size / 1e3:,.0f} kB were read; of the settings {changed[0]}"
        )


def bring_one_file_back(services: Services, steps: Steps) -> None:
    """The invoice as it was, from the copy off-site."""
    with steps.step("Restore the invoice as it was before, from the off-site copy") as step:
        system = repository(services)
        first, *_, last = snapshots_of(system.catalogue("offsite"), FILES)
        changed = [change.name for change in _changes(services, FILES, first, last)]
        into = services.directory / "invoice"
        restored = restore_files(system, first, into, only=[INVOICE])
        data = (into / INVOICE).read_bytes()
        now = (services.system.home / "uploads" / INVOICE).read_bytes()
        if INVOICE not in changed or restored.files != 1 or not data.startswith(b"%PDF") or data == now:
            raise SandboxError(f"{INVOICE} did not come back as it was.")
        digest = hashlib.sha256(data).hexdigest()[:12]
        step.result(f"{INVOICE}, {len(data):,} bytes, SHA-256 {digest}…; {len(changed)} paths had changed")
    steps.fact("one file restored", f"{INVOICE}, as it was before it was overwritten")


def _run_at_once(services: Services, dags: tuple[str, ...], step: Step) -> None:
    with ThreadPoolExecutor(len(dags)) as threads:
        # All are waited for before the first failure is told: a run that goes on would outlive the sandbox.
        runs = [threads.submit(run_dag, services, dag, step) for dag in dags]
    for run in runs:
        run.result()


def _snapshots(services: Services, source: str) -> list[Copy]:
    return snapshots_of(repository(services).catalogue("primary"), source)


def _newest(services: Services, source: str) -> Copy:
    return _snapshots(services, source)[-1]


def _changes(services: Services, source: str, before: Copy, after: Copy) -> list[Change]:
    points = (before.manifest.recovery_point, after.manifest.recovery_point)
    return compare(repository(services), source, points, None).changes
