"""The operators of a backup DAG that deal with copies: verify, copy, publish."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from lifeboat.operators.progress import LoggedProgress
from lifeboat.operators.step import Step, is_backfill, task_states
from lifeboat.policy.naming import Tier
from lifeboat.policy.targets import PRIMARY

if TYPE_CHECKING:
    from airflow.sdk import Context

    from lifeboat.backup.steps import Point


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
        self._leave_asset_alone_unless_news(context)
        return done.copies

    def _leave_asset_alone_unless_news(self, context: Context) -> None:
        """A DAG that waits for the tier's asset must not take a partial export for the complete one, nor what was made
        for a past moment for the newest.

        Airflow reads a task's outlets when it has ended well.
        """
        ti: Any = context["ti"]
        if is_backfill(context):
            self.log.info("What was made stands for a moment that has passed: the asset is not updated.")
            self.outlets = []
        points = ti.xcom_pull(task_ids=self.backup_task) or []
        # A point without tiers was named by an older version, before this task began.
        if not any(self.tier in point.get("tiers", [self.tier]) for point in points):
            self.log.info("What was made counts for no tier: the asset is not updated.")
            self.outlets = []

    def _insist_on_verified(self, context: Context) -> None:
        """A copy that is there, and not good, is worse than none: this task is the run's last, so its end is the
        run's."""
        from lifeboat.errors import VerificationFailed

        states = task_states(context)
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

        if any(state in ("failed", "upstream_failed") for state in task_states(context).values()):
            raise BackupFailed("Nothing was backed up by this run.", "The log of the task that failed says why.")
        raise AirflowSkipException("Nothing was backed up by this run; the task before says why.")


def _raise_alarm(context: Context, task: str) -> None:
    from lifeboat.errors import BackupFailed

    ti: Any = context["ti"]
    alarms = {str(point.get("alarm") or "") for point in ti.xcom_pull(task_ids=task) or []} - {""}
    if alarms:
        raise BackupFailed(
            " ".join(sorted(alarms)),
            "What was made is stored; mend what is said here before the next incident.",
        )
