"""The operators of the retention's DAG: plan, guard, hide, remove, report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from lifeboat.errors import Cancelled, LifeboatError
from lifeboat.operators.step import SystemStep, stay_quiet_until_connected, task_states
from lifeboat.policy.built import built_tiers

if TYPE_CHECKING:
    from airflow.sdk import Context

    from lifeboat.repository.retention.cleaning import Cleanup
    from lifeboat.repository.retention.points import Role
    from lifeboat.repository.system import SystemRepository


class RetentionStep(SystemStep):
    """A step of a system's cleanup: it uses the connections that may remove."""

    removing = True

    def _sources(self, repository: SystemRepository) -> dict[str, Mapping[str, Role]]:
        """The sources, with what each kind of recovery point is to the others."""
        from lifeboat.backup.kinds import kind_of

        names = dict.fromkeys(source for source, _ in built_tiers(repository.policy))
        return {name: kind_of(repository.policy.sources[name].kind).roles() for name in names}


class PlanCleanup(RetentionStep):
    """Decide about every copy of every source, and say so in the log.

    Skips a system none of whose targets' connections exist yet. Returns, by source, ``stopped`` (sentences) and
    ``goes``, ``removed``, ``taken back``: how many, by target.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        """Changes nothing."""
        from lifeboat.repository.retention.decisions import Action
        from lifeboat.repository.retention.source_plan import source_plan

        repository = self._repository()
        stay_quiet_until_connected(repository.loaded, removing=True)
        told: dict[str, Any] = {}
        words = {Action.GOES: "goes", Action.PURGED: "removed", Action.RETURNS: "taken back"}
        for source, roles in self._sources(repository).items():
            plan = source_plan(repository, source, roles, repository.outside.clock(), tick=self._cancellation.check)
            counts: dict[str, Counter[str]] = {}
            for one in plan.decisions:
                if one.action in words:
                    counts.setdefault(words[one.action], Counter())[one.target] += 1
                    line = one.sentence(repository.policy.zone)
                    self.log.info("%s on %s, %s: %s", source, one.target, one.point.recovery_point, line)
            frozen = [sentence for state in plan.held.states for sentence in plan.frozen(state.target)]
            for sentence in (*frozen, *plan.stopped):
                self.log.error("%s: %s", source, sentence)
            told[source] = {"stopped": list(plan.stopped)} | {word: dict(count) for word, count in counts.items()}
        return told


class GuardCleanup(SystemStep):
    """End a dry run, and a cleanup of which nothing may go on; returns the sources that may.

    Args:
        plan_task: the task that planned.
    """

    def __init__(self, *, plan_task: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan_task = plan_task

    def execute(self, context: Context) -> list[str]:
        """Fail where every source is stopped; ``report`` fails for those that are, once the others are cleaned."""
        ti: Any = context["ti"]
        planned: dict[str, Any] = ti.xcom_pull(task_ids=self.plan_task)
        if (context.get("params") or {}).get("dry_run"):
            raise AirflowSkipException("A dry run: the plan's log says what would go. Nothing was changed.")
        stopped = {source: told["stopped"] for source, told in planned.items() if told["stopped"]}
        if planned and len(stopped) == len(planned):
            raise AirflowFailException(in_words(stopped))
        return [source for source in planned if source not in stopped]


def in_words(stopped: Mapping[str, Sequence[str]]) -> str:
    """Why sources were not cleaned."""
    return " ".join(f"{source}: {sentence}" for source, sentences in stopped.items() for sentence in sentences)


class CleanTarget(RetentionStep):
    """One half of a cleanup on one target, for every source that may be cleaned.

    It plans anew, so it can be tried again, and by two runs at once. A source that fails does not keep the others.

    Args:
        target: which.
        guard_task: the task that says which sources.
    """

    template_fields: Sequence[str] = ("target",)

    def __init__(self, *, target: str, guard_task: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target = target
        self.guard_task = guard_task

    def execute(self, context: Context) -> dict[str, Any]:
        """Return by source what was done.

        Raises:
            LifeboatError: of the first source that failed, when all were tried.
        """
        from lifeboat.operators.run import actor_of, journal_run
        from lifeboat.repository.retention.cleaning import Cleanup

        ti: Any = context["ti"]
        may = ti.xcom_pull(task_ids=self.guard_task) or []
        repository = self._repository()
        run, actor = journal_run(context), actor_of(context)
        done: dict[str, Any] = {}
        failures: list[LifeboatError] = []
        for source, roles in self._sources(repository).items():
            if source not in may:
                continue
            try:
                done[source] = self._clean(
                    Cleanup(repository, source, roles, self.target, run, actor, self._cancellation.check)
                )
            except Cancelled:
                raise
            except LifeboatError as failure:
                self.log.exception("%s on %s was not cleaned", source, self.target)
                failures.append(failure)
        if failures:
            raise failures[0]
        return done

    def _clean(self, cleanup: Cleanup) -> dict[str, Any]:
        raise NotImplementedError


class SoftDelete(CleanTarget):
    """Hide what goes, and show again what a rule keeps now; no byte moves."""

    def _clean(self, cleanup: Cleanup) -> dict[str, Any]:
        hidden = cleanup.hide()
        for sentence in hidden.stopped:
            self.log.error("%s: %s", cleanup.source, sentence)
        figures = {
            "deleted": len(hidden.deleted.gone),
            "taken_back": len(hidden.deleted.returned),
            "locks_extended": len(hidden.extended),
        }
        self.log.info(
            "%s on %s: %d deleted, %d taken back, %d locked for longer", cleanup.source, self.target, *figures.values()
        )
        return {**figures, "stopped": list(hidden.stopped)}


class Purge(CleanTarget):
    """Remove what was hidden long enough, and what unfinished work left behind."""

    def _clean(self, cleanup: Cleanup) -> dict[str, Any]:
        removed, remains = cleanup.remove()
        freed = sum(one.stored_size for one in removed)
        self.log.info(
            "%s on %s: %d removed (%s MB), %d objects of unfinished work",
            cleanup.source, self.target, len(removed), f"{freed / 1e6:,.1f}", len(remains),
        )  # fmt: skip
        for one in removed:
            for key in one.foreign:
                self.log.warning("%s is not Lifeboat's, and was left.", key)
        return {"removed": len(removed), "bytes": freed, "remains": len(remains)}


class ReportCleanup(RetentionStep):
    """Record what the cleanup did, and fail when a part of it was stopped or failed.

    Runs in every case; a run that was skipped from its beginning stays skipped.

    Args:
        plan_task: the task that planned.
        target_tasks: by target, the tasks whose results it puts together.
    """

    def __init__(self, *, plan_task: str, target_tasks: Mapping[str, Sequence[str]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan_task = plan_task
        self.target_tasks = {target: list(tasks) for target, tasks in target_tasks.items()}

    def execute(self, context: Context) -> dict[str, Any]:
        """Return the figures, by target."""
        from lifeboat.repository.system import PRIMARY

        ti: Any = context["ti"]
        planned: dict[str, Any] | None = ti.xcom_pull(task_ids=self.plan_task)
        failed = sorted(task for task, state in task_states(context).items() if state in ("failed", "upstream_failed"))
        if planned is None:
            if failed:
                raise AirflowFailException(f"Nothing could be planned: see the log of {', '.join(failed)}.")
            raise AirflowSkipException("Nothing was planned; the task before says why.")
        if (context.get("params") or {}).get("dry_run"):
            return {"dry_run": planned}
        figures = self._figures(ti)
        repository = self._repository()
        journal = self._journal(context, repository, PRIMARY)
        journal.write("retention_ended", targets=figures, failed=failed)
        for target, told in figures.items():
            said = ", ".join(f"{count} {word.replace('_', ' ')}" for word, count in told.items())
            self.log.info("%s: %s", target, said or "nothing was done")
        stopped = self._stopped(ti, planned)
        if stopped or failed:
            tasks = f"Tasks that failed: {', '.join(failed)}; their logs say why." if failed else ""
            raise AirflowFailException(" ".join(filter(None, [in_words(stopped), tasks])))
        return figures

    def _stopped(self, ti: Any, planned: Mapping[str, Any]) -> dict[str, list[str]]:
        """Why sources were not cleaned, or not on every target, each reason once."""
        reasons = {source: dict.fromkeys(told["stopped"]) for source, told in planned.items()}
        for task in (task for tasks in self.target_tasks.values() for task in tasks):
            for source, told in (ti.xcom_pull(task_ids=task) or {}).items():
                reasons.setdefault(source, {}).update(dict.fromkeys(told.get("stopped", ())))
        return {source: list(sentences) for source, sentences in reasons.items() if sentences}

    def _figures(self, ti: Any) -> dict[str, dict[str, int]]:
        figures: dict[str, dict[str, int]] = {}
        for target, tasks in self.target_tasks.items():
            told: Counter[str] = Counter()
            for task in tasks:
                for source in (ti.xcom_pull(task_ids=task) or {}).values():
                    told.update({word: count for word, count in source.items() if isinstance(count, int)})
            figures[target] = dict(told)
        return figures
