"""The operators of the restore's DAG: what is asked for is planned, approved, carried out and handed over.

Between the tasks nothing goes by XCom, which people can edit: all of them find the run's request in the journal, where
it is signed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from lifeboat.alerts.slack import escaped
from lifeboat.operators.alerts import tell_slack
from lifeboat.operators.step import SystemStep

if TYPE_CHECKING:
    from airflow.sdk import Context

    from lifeboat.operators.restore_form import Asked
    from lifeboat.policy.people import Severity
    from lifeboat.recovery.approval.options import RestoreOptions
    from lifeboat.recovery.approval.request import RestoreRequest
    from lifeboat.repository.system import SystemRepository

A_DAY = timedelta(days=1)
MOST_TOLD = 1500


class RestoreStep(SystemStep):
    """A step of one restore."""

    def _request(self, context: Context, repository: SystemRepository) -> RestoreRequest:
        """The newest request of this run; raises ``RestoreError``."""
        from lifeboat.recovery.approval.records import request_of_run

        run: Any = context["dag_run"]
        since = (run.run_after or repository.outside.clock()) - A_DAY
        return request_of_run(repository, run.dag_id, run.run_id, since)

    def _told(self, repository: SystemRepository, severity: Severity, text: str) -> None:
        for fault in tell_slack(repository.policy, severity, text):
            self.log.warning(fault)

    def _lifeboat(
        self,
        repository: SystemRepository,
        options: RestoreOptions,
        host: str,
        words: list[str],
        hear: Callable[[str], None],
    ) -> tuple[int, str]:
        """Run the command line here, or on a database's host; returns its exit code and what it printed."""
        if host:
            from lifeboat.operators.restore_host import on_host

            return on_host(repository, host, words, tell=hear, tick=self._cancellation.check)
        from lifeboat.operators.own_program import OwnProgram

        more = [options.connection] if options.connection else []
        program = OwnProgram(repository.loaded, repository.outside, tell=hear, tick=self._cancellation.check, more=more)
        return program.run(words)


class PlanRestore(RestoreStep):
    """Plans what the form asks for, and puts it on record as a request. Returns the request's ``id``, for people."""

    def execute(self, context: Context) -> str:
        """Do it.

        Raises:
            RestoreError: it is not known who asks, the form contradicts itself, or the plan has obstacles: a moment
                that can't be reached among them, with the nearest that can.
        """
        from lifeboat.errors import RestoreError
        from lifeboat.operators.restore_form import asked_by
        from lifeboat.operators.run import actor_of
        from lifeboat.recovery.approval.records import REQUESTS, approval_journal, write_request
        from lifeboat.recovery.approval.request import RestoreRequest, new_request_id, pinned, without_floats
        from lifeboat.recovery.approval.wording import request_page
        from lifeboat.repository.manifest import Run

        repository = self._repository()
        policy = repository.policy.restore
        run: Any = context["dag_run"]
        requester = str(run.triggering_user_name or "").strip()
        if not requester:
            raise RestoreError(
                "It is not known who asks for this restore, so nobody could be told apart from them.",
                "Trigger the DAG as a user of Airflow: by the form, or with a token of yours.",
            )
        now = repository.outside.clock()
        request_id = new_request_id(now)
        asked = asked_by(context.get("params") or {}, repository.policy, request_id)
        plan = self._plan(repository, asked)
        request = RestoreRequest(
            id=request_id,
            system=self.system,
            source=asked.source,
            options=pinned(asked.options, plan),
            destination=asked.destination,
            host=asked.host,
            requester=requester,
            reason=asked.reason,
            ticket=asked.ticket,
            run=Run(dag_id=run.dag_id, run_id=run.run_id, try_number=1),
            made=now,
            expires=now + policy.valid_for.fixed,
            policy_digest=repository.loaded.digest,
            plan=without_floats(plan),
        )
        write_request(approval_journal(repository, REQUESTS, actor_of(context)), request)
        self.log.info("%s", request_page(request, policy))
        return request.id

    def _plan(self, repository: SystemRepository, asked: Asked) -> dict[str, Any]:
        from lifeboat.errors import RestoreError
        from lifeboat.operators.own_program import printed_json

        words = ["restore", self.system, asked.source, *asked.options.words(), "--plan", "--json"]
        said: list[str] = []

        def hear(line: str) -> None:
            said.append(line)
            self.log.info("%s", line)

        plan = printed_json(*self._lifeboat(repository, asked.options, asked.host, words, hear), said)
        if plan.get("obstacles"):
            raise RestoreError(f"This restore can't be done: {' '.join(map(str, plan['obstacles']))}")
        return plan


class CarryOutRestore(RestoreStep):
    """Restores what was approved, from fetch to check, in one task: the gate is the command's own, which reads the
    journal and nothing else, and uses the approval up."""

    def execute(self, context: Context) -> None:
        """Do it.

        Raises:
            RestoreError: it was not approved, or the approval is used up.
            AirflowFailException: it failed; another try needs another approval.
        """
        from lifeboat.recovery.approval.records import approved

        repository = self._repository()
        request = self._request(context, repository)
        # Said here at once; what counts is said by the command, where it restores.
        approved(repository, request.id, request.source)
        words = ["restore", self.system, request.source, "--approval", request.id, "--yes", "--json"]
        said: list[str] = []

        def hear(line: str) -> None:
            said.append(line)
            self.log.info("%s", line)

        code, printed = self._lifeboat(repository, request.options, request.host, words, hear)
        self.log.info("%s", printed)
        if code != 0:
            why = "\n".join(said)[-MOST_TOLD:]
            self._told(repository, "critical", failure_message(request, why))
            raise AirflowFailException(f"The restore ended with {code}. {why}")


class HandOver(RestoreStep):
    """Says that a restore is over, to those who asked for it, and what is theirs to do now."""

    def execute(self, context: Context) -> None:
        """Do it.

        Raises:
            RestoreError: the journal does not say that it ended well: a task that was marked is no restore.
        """
        from lifeboat.errors import RestoreError
        from lifeboat.operators.run import actor_of
        from lifeboat.recovery.approval.handing_over import next_steps
        from lifeboat.recovery.approval.records import APPROVALS, approval_journal, ended_restore

        repository = self._repository()
        request = self._request(context, repository)
        ended = ended_restore(repository, request.id)
        if ended is None:
            raise RestoreError(
                f"The journal does not say that the restore {request.id} ended well.",
                "Read the log of the task `restore`; marked a success, it has restored nothing.",
            )
        steps = next_steps(request, ended.details)
        approval_journal(repository, APPROVALS, actor_of(context)).write(
            "restore_handed_over", source=request.source, request=request.id, to=request.requester, steps=steps
        )
        shown = "\n".join(f"{number}. {escaped(step)}" for number, step in enumerate(steps, 1))
        self.log.info("%s is back in %s. What to do next:\n%s", request.source, request.place, "\n".join(steps))
        self._told(
            repository,
            "info",
            f":white_check_mark: *{request.system}: {request.source} is back* in {escaped(request.place)}, asked for "
            f"by {escaped(request.requester)}\n{shown}",
        )


def failure_message(request: RestoreRequest, why: str) -> str:
    """What Slack is told of a restore that failed."""
    return (
        f":rotating_light: *{request.system}: the restore of {request.source} failed*\n{escaped(why)}\n"
        f"It was to end in {escaped(request.place)}; nothing half-done is in use. Request `{request.id}`"
    )
