"""The operators of a backup DAG that read the source: preflight, back up, collect WAL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowSkipException,
    DownstreamTasksSkipped,
)

from lifeboat.errors import AlreadyCommitted, RebuildSkipped
from lifeboat.operators.policies import policy_for_task
from lifeboat.operators.progress import LoggedProgress
from lifeboat.operators.step import Step, is_backfill
from lifeboat.policy.naming import Tier
from lifeboat.policy.slots import Slot, is_rebuildable, slot_of
from lifeboat.policy.targets import PRIMARY

if TYPE_CHECKING:
    from airflow.sdk import Context

    from lifeboat.backup.steps import Point
    from lifeboat.policy.model import Policy
    from lifeboat.repository.catalogue import Copy
    from lifeboat.repository.system import SystemRepository
    from lifeboat.source import BackedUp, Stay

FULL_DUE = "full_due"
"""Under which key a WAL task leaves that a full has to be taken: ``because``, ``mark``, ``tiers``."""


class Preflight(Step):
    """Look at everything that the backup needs before it begins, and name all that is missing.

    Skips the run, and says why: a backfill of what can't be rebuilt (the source's past can't be read today) or need not
    be, and a system none of whose connections exist yet. Returns the moment at which it looked: the backup's name
    depends on it.
    """

    def execute(self, context: Context) -> str:
        """Skip, fail with every remedy, or let the backup begin."""
        from lifeboat.backup.preflight import insist, preflight
        from lifeboat.backup.steps import journal_skipped

        loaded, tier = policy_for_task(self.system), Tier(self.tier)
        past = _past_of(context, loaded.policy, self.source, tier)
        self._stay_quiet_until_connected(context, loaded)
        repository = self._repository()
        if past is not None:
            self.log.info("A backfill: it is made for %s of what was kept.", past.moment)
        whole = not (context.get("params") or {}).get("tables")
        try:
            findings = preflight(repository, self.source, tier, tick=self._cancellation.check, past=past, whole=whole)
        except RebuildSkipped as skipped:
            journal = self._journal(context, repository, PRIMARY)
            journal_skipped(journal, self.source, tier, skipped)
            journal.deliver()
            raise AirflowSkipException(str(skipped)) from skipped
        for finding in findings:
            say = {"error": self.log.error, "warning": self.log.warning}.get(finding.severity, self.log.info)
            say("%s: %s %s", finding.subject, finding.what, finding.remedy)
        insist(findings, f"The {self.tier} backup of {self.system} {self.source}")
        return repository.outside.clock().isoformat()


def _past_of(context: Context, policy: Policy, source: str, tier: Tier) -> Slot | None:
    """The past moment that a backfill is for; ``None`` for every other run.

    Raises:
        AirflowSkipException: a backfill of what can't be rebuilt.
    """
    if not is_backfill(context):
        return None
    run: Any = context["dag_run"]
    if not is_rebuildable(policy.sources[source], tier):
        raise AirflowSkipException(
            f"This run is a backfill for {run.logical_date}: a backup reads the data as it is now, and can't be made "
            "for a moment that has passed. Nothing was backed up."
        )
    return slot_of(policy.sources[source].tiers[tier].schedule, policy.zone, run.logical_date)


class BackUp(Step):
    """Dump, compress, encrypt and upload in one streaming pass, and commit on the primary target.

    Returns the names of the committed recovery points: ``[{"id": …, "timeline": …, "tiers": […], "alarm": …}]``.

    Args:
        preflight_task: the task whose returned moment names the backup; ``None`` where there is none before.
        shares_task: the mapped task whose recovery points it brings together; ``None`` where it reads the source alone.
        share: which share of the source it takes, from 1; ``None``: all of it.
        of: how many shares there are.
    """

    template_fields: Sequence[str] = ("share",)

    def __init__(
        self,
        *,
        preflight_task: str | None = None,
        shares_task: str | None = None,
        share: int | None = None,
        of: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.preflight_task = preflight_task
        self.shares_task = shares_task
        self.share = share
        self.of = of

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Run the backup; a task that finds its recovery point committed already has nothing left to do."""
        from lifeboat.backup.steps import Point, back_up
        from lifeboat.operators.run import committed_before, committed_earlier, work_of
        from lifeboat.repository.sharing import Share

        repository = self._repository()
        tier = Tier(self.tier)
        share = Share(self.share, self.of) if self.share is not None else None
        shares = self._taken_shares(context)
        past = _past_of(context, repository.policy, self.source, tier)
        work = work_of(
            context, repository, self.source, tier, self.preflight_task, share=share, shares=shares, past=past
        )
        self.log.info("Recovery point %s, %s", work.recovery_point, work.attempt)
        if work.run.try_number != 1 and (before := committed_before(repository, self.source, tier, work)) is not None:
            return self._done_before(before, shares)
        progress = LoggedProgress(self.log, "Read", repository.outside.clock)
        try:
            done = back_up(
                repository,
                self.source,
                tier,
                work,
                self._journal(context, repository, PRIMARY),
                progress=progress.at,
                tick=self._cancellation.check,
                stay=self._stay(context, repository),
            )
        except AlreadyCommitted:
            # By an earlier try whose worker was thought dead: its recovery point is as good as this one.
            before = committed_before(repository, self.source, tier, work)
            if before is None:
                raise
            return self._done_before(before, shares)
        except RebuildSkipped as skipped:
            raise AirflowSkipException(str(skipped)) from skipped
        self.log.info("%s", done.message)
        if done.alarm:
            if done.damaged:
                _fail_for_good(done.alarm)
            self.log.error("%s", done.alarm)
        self._stop_where_nothing_was_made(context, done)
        self._tell_of_full_due(context, done)
        earlier = committed_earlier(repository, self.source, work)
        return [_name(point, [self.tier]) for point in earlier] + [
            _name(Point.of(copy), copy.manifest.tiers, done.alarm) for copy in done.copies
        ]

    def _taken_shares(self, context: Context) -> tuple[str, ...]:
        """The recovery points of all shares, by their ids."""
        if self.shares_task is None:
            return ()
        ti: Any = context["ti"]
        told = ti.xcom_pull(task_ids=self.shares_task, map_indexes=list(range(self.of)))
        return tuple(str(point["id"]) for points in told for point in points)

    def _stop_where_nothing_was_made(self, _context: Context, _done: BackedUp) -> None:
        """Only the backup of a change may make nothing."""

    def _tell_of_full_due(self, _context: Context, _done: BackedUp) -> None:
        """Where a full is due it is started; only WAL finds that out."""

    def _stay(self, _context: Context, _repository: SystemRepository) -> Stay | None:
        """For how long the source is followed; ``None`` where it is not."""
        return None

    def _done_before(self, copy: Copy, shares: tuple[str, ...]) -> list[dict[str, Any]]:
        from lifeboat.backup.steps import Point

        self.log.info("%s is committed already: nothing is left to do.", copy.manifest.recovery_point)
        if copy.manifest.state == "damaged":
            _fail_for_good(f"It is damaged: {'; '.join(copy.manifest.findings)}")
        return [_name(point, copy.manifest.tiers) for point in (*map(Point, shares), Point.of(copy))]


def _name(point: Point, tiers: Sequence[str], alarm: str = "") -> dict[str, Any]:
    return {"id": point.id, "timeline": point.timeline, "tiers": list(tiers), "alarm": alarm}


def _fail_for_good(alarm: str) -> NoReturn:
    # Not tried again: the retry would find its recovery point committed, and the pages would be no better.
    raise AirflowFailException(f"{alarm} Look into the server's data at once; the older recovery points are good.")


class CollectWal(BackUp):
    """Preflight and collection of WAL in one task: every few minutes a task of its own for the look would cost more
    than the work, and what is missing is said by the collection itself.

    Where the policy says so it follows the server until shortly before the next run is due, and commits again and again
    meanwhile.

    Args:
        start_task: the task that starts a full where one is due; it is skipped where none is.
    """

    def __init__(self, *, start_task: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.start_task = start_task
        self._full_is_due = False

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Skip what a backfill or a system without connections asks for; else collect."""
        loaded = policy_for_task(self.system)
        _past_of(context, loaded.policy, self.source, Tier(self.tier))
        self._stay_quiet_until_connected(context, loaded)
        points = super().execute(context)
        if not self._full_is_due:
            # No worker is woken to find nothing to do. What is raised takes the place of what would be returned.
            context["ti"].xcom_push(key="return_value", value=points)
            raise DownstreamTasksSkipped(tasks=[self.start_task])  # type: ignore[no-untyped-call]
        return points

    def _tell_of_full_due(self, context: Context, done: BackedUp) -> None:
        """Leave it for :class:`~lifeboat.operators.full_after_gap.StartFull`."""
        due = done.full_due
        if due is not None:
            ti: Any = context["ti"]
            ti.xcom_push(
                key=FULL_DUE, value={"because": due.because, "mark": due.mark, "tiers": [due.tier, *due.others]}
            )
            self.log.error("%s", due.because)
            self._full_is_due = True

    def _stay(self, context: Context, repository: SystemRepository) -> Stay | None:
        from lifeboat.policy.schedule import stay_of
        from lifeboat.source import Stay

        tier = repository.policy.sources[self.source].tiers[Tier(self.tier)]
        if not tier.follows or tier.schedule is None:
            return None
        run: Any = context["dag_run"]
        now = repository.outside.clock()
        lasting = stay_of(tier.schedule, repository.policy.zone, now, run.run_after or now)
        self.log.info("Following until %s UTC", f"{now + lasting:%Y-%m-%d %H:%M:%S}")
        return Stay(lasting, committed=self._tell)

    def _tell(self, copy: Copy) -> None:
        manifest = copy.manifest
        self.log.info(
            "%s: %s MB of WAL, covered until %s UTC",
            manifest.recovery_point,
            f"{manifest.plain_size / 1e6:,.1f}",
            f"{manifest.moment:%Y-%m-%d %H:%M:%S}",
        )


class BackUpChange(BackUp):
    """Look, and store what changed, in one task: every few minutes a preflight would cost more than the work.

    Args:
        later_tasks: what follows it, and is skipped where nothing changed: no worker is woken to find nothing to do.
    """

    def __init__(self, *, later_tasks: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.later_tasks = list(later_tasks)

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Skip what a backfill or a system without connections asks for; else store what changed."""
        loaded = policy_for_task(self.system)
        _past_of(context, loaded.policy, self.source, Tier(self.tier))
        self._stay_quiet_until_connected(context, loaded)
        return super().execute(context)

    def _stop_where_nothing_was_made(self, context: Context, done: BackedUp) -> None:
        if not done.copies:
            # What is raised takes the place of what would be returned.
            context["ti"].xcom_push(key="return_value", value=[])
            raise DownstreamTasksSkipped(tasks=self.later_tasks)  # type: ignore[no-untyped-call]
