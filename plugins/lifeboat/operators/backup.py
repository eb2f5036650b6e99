"""The operators of a backup DAG: preflight, back up, verify, copy, publish."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowSkipException,
    DownstreamTasksSkipped,
)

from lifeboat.errors import AlreadyCommitted
from lifeboat.operators.policies import policy_for_task
from lifeboat.operators.progress import LoggedProgress
from lifeboat.operators.step import Step
from lifeboat.policy.naming import Tier
from lifeboat.policy.targets import PRIMARY

if TYPE_CHECKING:
    from airflow.sdk import Context

    from lifeboat.backup.steps import Point
    from lifeboat.repository.catalogue import Copy
    from lifeboat.repository.system import SystemRepository
    from lifeboat.source import BackedUp, Stay

FULL_DUE = "full_due"
"""Under which key a WAL task leaves that a full has to be taken: ``because``, ``mark``, ``tiers``."""


class Preflight(Step):
    """Look at everything that the backup needs before it begins, and name all that is missing.

    Skips the run, and says why: a backfill (data of the past can't be read today), and a system none of whose
    connections exist yet. Returns the moment at which it looked: the backup's name depends on it.
    """

    def execute(self, context: Context) -> str:
        """Skip, fail with every remedy, or let the backup begin."""
        from lifeboat.backup.preflight import insist, preflight

        _refuse_backfill(context)
        loaded = policy_for_task(self.system)
        self._stay_quiet_until_connected(context, loaded)
        repository = self._repository()
        findings = preflight(repository, self.source, Tier(self.tier), tick=self._cancellation.check)
        for finding in findings:
            say = {"error": self.log.error, "warning": self.log.warning}.get(finding.severity, self.log.info)
            say("%s: %s %s", finding.subject, finding.what, finding.remedy)
        insist(findings, f"The {self.tier} backup of {self.system} {self.source}")
        return repository.outside.clock().isoformat()


def _refuse_backfill(context: Context) -> None:
    run: Any = context["dag_run"]
    if str(getattr(run.run_type, "value", run.run_type)) == "backfill":
        raise AirflowSkipException(
            f"This run is a backfill for {run.logical_date}: a backup reads the data as it is now, and can't be made "
            "for a moment that has passed. Nothing was backed up."
        )


class BackUp(Step):
    """Dump, compress, encrypt and upload in one streaming pass, and commit on the primary target.

    Returns the names of the committed recovery points: ``[{"id": …, "timeline": …, "tiers": […], "alarm": …}]``.

    Args:
        preflight_task: the task whose returned moment names the backup; ``None`` where there is none before.
    """

    def __init__(self, *, preflight_task: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.preflight_task = preflight_task

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Run the backup; a task that finds its recovery point committed already has nothing left to do."""
        from lifeboat.backup.steps import Point, back_up
        from lifeboat.operators.run import committed_before, committed_earlier, work_of

        repository = self._repository()
        tier = Tier(self.tier)
        work = work_of(context, repository, self.source, tier, self.preflight_task)
        self.log.info("Recovery point %s, %s", work.recovery_point, work.attempt)
        if work.run.try_number != 1 and (before := committed_before(repository, self.source, tier, work)) is not None:
            return self._done_before(before)
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
            return self._done_before(before)
        self.log.info("%s", done.message)
        if done.alarm:
            if done.damaged:
                _fail_for_good(done.alarm)
            self.log.error("%s", done.alarm)
        self._tell_of_full_due(context, done)
        earlier = committed_earlier(repository, self.source, work)
        return [_name(point, [self.tier]) for point in earlier] + [
            _name(Point.of(copy), copy.manifest.tiers, done.alarm) for copy in done.copies
        ]

    def _tell_of_full_due(self, _context: Context, _done: BackedUp) -> None:
        """Where a full is due it is started; only WAL finds that out."""

    def _stay(self, _context: Context, _repository: SystemRepository) -> Stay | None:
        """For how long the source is followed; ``None`` where it is not."""
        return None

    def _done_before(self, copy: Copy) -> list[dict[str, Any]]:
        from lifeboat.backup.steps import Point

        self.log.info("%s is committed already: nothing is left to do.", copy.manifest.recovery_point)
        if copy.manifest.state == "damaged":
            _fail_for_good(f"It is damaged: {'; '.join(copy.manifest.findings)}")
        return [_name(Point.of(copy), copy.manifest.tiers)]


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
        _refuse_backfill(context)
        self._stay_quiet_until_connected(context, policy_for_task(self.system))
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


class _OnTarget(Step):
    """A step that deals with one target and with the points that the backup task named."""

    template_fields: Sequence[str] = ("target",)

    def __init__(self, *, target: str, backup_task: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target = target
        self.backup_task = backup_task

    def _points(self, context: Context) -> list[Point]:
        return _points_of(context, self.backup_task)

    def _watched(self, progress: LoggedProgress) -> Callable[[int], None]:
        """Progress that also looks whether the task was told to stop: bytes are carried on other threads."""

        def passed(size: int) -> None:
            self._cancellation.check()
            progress.passed(size)

        return passed

    def _skip_if_left_out(self, context: Context) -> None:
        if self.target != PRIMARY and self.target in _left_out(context, [self.target]):
            raise AirflowSkipException(f"The person who started this run left out the target {self.target}.")


def _points_of(context: Context, task: str) -> list[Point]:
    from lifeboat.backup.steps import Point

    ti: Any = context["ti"]
    told = ti.xcom_pull(task_ids=task) or []
    return [Point(str(point["id"]), point.get("timeline")) for point in told]


def _left_out(context: Context, targets: Sequence[str]) -> list[str]:
    chosen = (context.get("params") or {}).get("targets")
    return [] if chosen is None else [name for name in targets if name not in chosen]


class Verify(_OnTarget):
    """Compare a copy's every object with its manifest; deep on request: decrypt, decompress, check every file."""

    def execute(self, context: Context) -> None:
        """Fail when the copy is not good."""
        from lifeboat.backup.steps import verify

        self._skip_if_left_out(context)
        repository = self._repository()
        progress = LoggedProgress(self.log, "Verified", repository.outside.clock)
        # The primary target first: when this one is away, that must be on record somewhere.
        others = [self.target] if self.target != PRIMARY else []
        verified = verify(
            repository,
            self.source,
            self.target,
            self._points(context),
            self._journal(context, repository, PRIMARY, *others),
            deep=bool((context.get("params") or {}).get("deep_verification")),
            passed=self._watched(progress),
            tick=self._cancellation.check,
        )
        for result in verified:
            self.log.info(
                "Good: %d objects, %s MB, %s MB read back (%s)",
                result.objects,
                f"{result.stored_size / 1e6:,.1f}",
                f"{result.read_back / 1e6:,.1f}",
                result.method,
            )


class CopyTo(_OnTarget):
    """Carry the stored bytes from the primary target to another one, and what that one missed before."""

    def execute(self, context: Context) -> None:
        """Copy this run's recovery points; fail when they can't be carried."""
        from lifeboat.backup.steps import copy_to

        self._skip_if_left_out(context)
        repository = self._repository()
        progress = LoggedProgress(self.log, "Copied", repository.outside.clock)
        copies = copy_to(
            repository,
            self.source,
            Tier(self.tier),
            self.target,
            self._points(context),
            self._journal(context, repository, PRIMARY, self.target),
            passed=self._watched(progress),
            tick=self._cancellation.check,
        )
        self.log.info("On %s: %s", self.target, ", ".join(copy.manifest.recovery_point for copy in copies))


class Publish(Step):
    """Record what exists now, and fail when a copy that the policy requires is missing, or any copy is not good.

    Runs in every case; a run that was skipped from its beginning stays skipped.

    Args:
        verify_tasks: the tasks that verify copies: those that are mapped follow the order of ``others``.
    """

    def __init__(self, *, backup_task: str, verify_tasks: Sequence[str], others: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.backup_task = backup_task
        self.verify_tasks = list(verify_tasks)
        self.others = list(others)

    def execute(self, context: Context) -> dict[str, list[str]]:
        """Return the targets that have each recovery point."""
        from lifeboat.errors import BackupFailed, VerificationFailed

        try:
            return self._publish(context)
        except (BackupFailed, VerificationFailed) as error:
            # The tasks before have had their own tries: another look would only tell people minutes later.
            raise AirflowFailException(str(error)) from error

    def _publish(self, context: Context) -> dict[str, list[str]]:
        from lifeboat.backup.steps import publish
        from lifeboat.errors import BackupFailed

        points = _points_of(context, self.backup_task)
        if not points:
            self._nothing_to_publish(context)
        repository = self._repository()
        done = publish(
            repository,
            self.source,
            points,
            self._journal(context, repository, PRIMARY, *self.others),
            left_out=_left_out(context, self.others),
        )
        for point, targets in done.copies.items():
            self.log.info("%s is on: %s", point, ", ".join(targets) or "no target")
        if done.missing:
            raise BackupFailed(
                f"Copies that the policy requires are missing: {'; '.join(done.missing)}.",
                "The primary copy is not affected. Clear the failed copy task once the target is back; the next run "
                "brings it what it missed.",
            )
        self._insist_on_verified(context)
        _raise_alarm(context, self.backup_task)
        self._leave_asset_alone_unless_counted(context)
        return done.copies

    def _leave_asset_alone_unless_counted(self, context: Context) -> None:
        """A DAG that waits for the tier's asset must not take a partial export for the complete one.

        Airflow reads a task's outlets when it has ended well.
        """
        ti: Any = context["ti"]
        points = ti.xcom_pull(task_ids=self.backup_task) or []
        # A point without tiers was named by an older version, before this task began.
        if not any(self.tier in point.get("tiers", [self.tier]) for point in points):
            self.log.info("What was made counts for no tier: the asset is not updated.")
            self.outlets = []

    def _insist_on_verified(self, context: Context) -> None:
        """A copy that is there, and not good, is worse than none: this task is the run's last, so its end is the
        run's."""
        from lifeboat.errors import VerificationFailed

        states = _states(context)
        verified = {task: PRIMARY for task in self.verify_tasks} | {
            f"{task}_{index}": target for task in self.verify_tasks for index, target in enumerate(self.others)
        }
        bad = [target for task, target in verified.items() if states.get(task) == "failed"]
        if bad:
            raise VerificationFailed(
                f"Copies that could not be verified: on {', '.join(bad)}.",
                "The log of the verification says why. Until it is mended, the other targets' copies are what counts.",
            )

    def _nothing_to_publish(self, context: Context) -> None:
        from lifeboat.errors import BackupFailed

        if any(state in ("failed", "upstream_failed") for state in _states(context).values()):
            raise BackupFailed("Nothing was backed up by this run.", "The log of the task that failed says why.")
        raise AirflowSkipException("Nothing was backed up by this run; the task before says why.")


def _states(context: Context) -> dict[str, str | None]:
    """The states of the run's tasks; a mapped one's index follows its name after an underscore."""
    ti: Any = context["ti"]
    return dict(ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id]).get(ti.run_id, {}))


def _raise_alarm(context: Context, task: str) -> None:
    from lifeboat.errors import BackupFailed

    ti: Any = context["ti"]
    alarms = {str(point.get("alarm") or "") for point in ti.xcom_pull(task_ids=task) or []} - {""}
    if alarms:
        raise BackupFailed(
            " ".join(sorted(alarms)),
            "What was made is stored; mend what is said here before the next incident.",
        )
