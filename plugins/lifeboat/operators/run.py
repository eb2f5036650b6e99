"""The names that one DAG run gives to its work: the same again for every retry, others for another run."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

from lifeboat.backup.kinds import kind_of
from lifeboat.backup.steps import Point
from lifeboat.policy.naming import Tier
from lifeboat.policy.slots import Slot
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.layout import WAL, RecoveryPointId
from lifeboat.repository.manifest import Run
from lifeboat.repository.sharing import Share
from lifeboat.repository.system import PRIMARY, SystemRepository, Work

if TYPE_CHECKING:
    from airflow.sdk import Context


def work_of(
    context: Context,
    repository: SystemRepository,
    source: str,
    tier: Tier,
    preflight: str | None,
    *,
    share: Share | None = None,
    shares: tuple[str, ...] = (),
    past: Slot | None = None,
) -> Work:
    """What this try is called.

    The id's time is when the run really began, never its logical date: a run for a past date reads today's data, unless
    it is a backfill of what can be rebuilt (``past``). The
    four digits come from the run and from its preflight's moment, so that a retry, or this task cleared alone, finds
    them again, and a run that was cleared as a whole gets others.

    Args:
        preflight: the task that returned its moment; ``None`` where the backup is the run's first task.
        share, shares, past: as in :class:`~lifeboat.repository.system.Work`.
    """
    run: Any = context["dag_run"]
    ti: Any = context["ti"]
    begun = run.start_date or repository.outside.clock()
    looked = ti.xcom_pull(task_ids=preflight) if preflight is not None else None
    named = [run.dag_id, run.run_id, looked or begun.isoformat(), *([str(share.number)] if share is not None else [])]
    mark = hashlib.sha256(" ".join(named).encode()).hexdigest()[:4]
    policy = repository.policy.sources[source]
    number = int(ti.try_number or 1)
    kind = kind_of(policy.kind).point_kind(tier, policy)
    work = Work.new(
        kind if share is None else share.kind(kind),
        begun=begun,
        tiers=(tier.value,),
        run=Run(dag_id=run.dag_id, run_id=run.run_id, try_number=number),
        actor=actor_of(context),
        mark=mark,
        attempt=number,
        note=str((context.get("params") or {}).get("note") or ""),
        only=tuple(str(table) for table in (context.get("params") or {}).get("tables") or ()),
        due=due_day(run, repository),
        past=past,
    )
    return replace(work, share=share, shares=shares)


def due_day(run: Any, repository: SystemRepository) -> date | None:
    """The day on which a schedule wanted this run, on the clock of the policy's zone; ``None`` for any other run."""
    kind = str(getattr(run.run_type, "value", run.run_type))
    moment = run.logical_date or run.run_after
    return moment.astimezone(repository.policy.zone).date() if kind == "scheduled" and moment is not None else None


def committed_before(repository: SystemRepository, source: str, tier: Tier, work: Work) -> Copy | None:
    """What an earlier try of the same task committed: killed before it could say so, or cleared after its success.

    Airflow sets the run's beginning anew when a task of an ended run is cleared, and with it the time in the id: so the
    four digits and the run that the manifest names are what is looked for.
    """
    if work.recovery_point.kind == WAL:
        # A WAL run that was committed is not done again: the next try takes up what came after it.
        return None
    catalogue = repository.catalogue(PRIMARY)
    policy = repository.policy.sources[source]
    kinds = dict.fromkeys((work.recovery_point.kind, *kind_of(policy.kind).point_kinds(tier, policy)))
    for folder in (folder for kind in kinds for folder in reversed(catalogue.committed(source, kind))):
        if RecoveryPointId.parse(folder.recovery_point).mark != work.recovery_point.mark:
            continue
        copy = catalogue.read(folder)
        found = copy.manifest.run
        if (found.dag_id, found.run_id) == (work.run.dag_id, work.run.run_id):
            return copy
    return None


def committed_earlier(repository: SystemRepository, source: str, work: Work) -> list[Point]:
    """The WAL that earlier tries of the same task committed before they ended: it belongs to the run as much as what
    this try brings."""
    if work.recovery_point.kind != WAL or work.run.try_number == 1:
        return []
    catalogue = repository.catalogue(PRIMARY)
    since = work.recovery_point.begun.replace(microsecond=0)
    found = []
    for folder in catalogue.committed(source, WAL):
        point = RecoveryPointId.parse(folder.recovery_point)
        if point.mark != work.recovery_point.mark or point.begun < since:
            continue
        run = catalogue.read(folder).manifest.run
        if (run.dag_id, run.run_id) == (work.run.dag_id, work.run.run_id) and run.try_number != work.run.try_number:
            found.append(Point(folder.recovery_point, folder.timeline))
    return found


def actor_of(context: Context) -> str:
    """Who did it, for the journal: the DAG run, and the user who started it."""
    run: Any = context["dag_run"]
    user = f" by {run.triggering_user_name}" if run.triggering_user_name else ""
    return f"airflow {run.dag_id} {run.run_id}{user}"


def journal_run(context: Context) -> str:
    """The name of this task's own run of events."""
    ti: Any = context["ti"]
    digest = hashlib.sha256(f"{ti.dag_id} {ti.run_id}".encode()).hexdigest()[:6]
    place = f"-{ti.map_index}" if ti.map_index is not None and ti.map_index >= 0 else ""
    task = str(ti.task_id).replace(".", "-").replace("_", "-")
    return f"{task}{place}-{digest}-{ti.try_number}"
