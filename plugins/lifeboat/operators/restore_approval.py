"""The operator that asks people: Airflow's own, with an answer that counts only as a signed event of the journal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk.exceptions import AirflowFailException, TaskAwaitingInput

from lifeboat.alerts.slack import escaped
from lifeboat.operators.restore import RestoreStep

if TYPE_CHECKING:
    from airflow.sdk import Context

    from lifeboat.recovery.approval.request import RestoreRequest
    from lifeboat.repository.system import SystemRepository

APPROVE, REJECT = "Approve", "Reject"


class ApproveRestore(RestoreStep, HITLOperator):
    """One person's answer to a request.

    Waits until somebody who may has answered: an answer of anybody else is put aside, and it waits on. What is approved
    is the request as the journal has it, with its plan; the answer is an event there. No answer in time means no.
    """

    def __init__(self, *, number: int, **kwargs: Any) -> None:
        super().__init__(subject="A restore is asked for", options=[APPROVE, REJECT], **kwargs)
        self.number = number

    def execute(self, context: Context) -> Any:
        """Ask.

        Raises:
            RestoreError: the run has no request.
            AirflowFailException: nobody may approve, or it is too late.
        """
        repository = self._repository()
        request = self._request(context, repository)
        if self._enough(repository, request):
            self.log.info("No further approval is needed.")
            return None
        return self._ask(context, repository, request, "")

    def execute_complete(self, context: Context, event: Mapping[str, Any], shown: str = "") -> Any:
        """Take the answer. Returns who approved, for people.

        Args:
            shown: the digest of the request that was shown to whoever answered.

        Raises:
            AirflowFailException: somebody refused, nobody answered in time, or it is not known who did; or the plan
                was made anew since it was shown.
        """
        repository = self._repository()
        request = self._request(context, repository)
        if shown != request.sha256:
            raise AirflowFailException(
                "The plan was made anew while this task waited, and the answer is to one that holds no longer. Clear "
                "this task: it shows the new one."
            )
        if "error" in event:
            nobody = event.get("error_type") == "timeout"
            self._refuse(context, repository, request, "nobody answered in time" if nobody else "the answer was lost")
        name = str((event.get("responded_by_user") or {}).get("name") or "").strip()
        if not name:
            self._refuse(context, repository, request, "it is not known who answered")
        return self._answered(context, repository, request, name, list(event.get("chosen_options") or ()))

    def _answered(
        self, context: Context, repository: SystemRepository, request: RestoreRequest, name: str, chosen: list[str]
    ) -> Any:
        from lifeboat.operators.run import actor_of
        from lifeboat.policy.people import folded
        from lifeboat.recovery.approval.records import APPROVALS, approval_journal, found_of, write_approval
        from lifeboat.recovery.approval.ruling import approvers_of, objection_to

        policy = repository.policy.restore
        before = approvers_of(found_of(repository, request.id), request, policy)
        why = objection_to(request.requester, name, policy, before)
        withdrawn = folded(name) == folded(request.requester)
        if chosen != [APPROVE] and (not why or withdrawn):
            self._refuse(context, repository, request, f"{name} {'withdrew it' if withdrawn else 'said no'}")
        if why:
            self.log.warning("The answer does not count: %s.", why)
            return self._ask(context, repository, request, why)
        journal = approval_journal(repository, APPROVALS, f"{actor_of(context)}, answered by {name}")
        write_approval(journal, request, name, repository.outside.clock())
        self.log.info("%s approves %s, SHA-256 %s.", name, request.id, request.sha256)
        return name

    def _enough(self, repository: SystemRepository, request: RestoreRequest) -> bool:
        from lifeboat.recovery.approval.records import found_of
        from lifeboat.recovery.approval.ruling import approvers_of, needed_approvals

        policy = repository.policy.restore
        needed = needed_approvals(request, policy)
        return needed == 0 or len(approvers_of(found_of(repository, request.id), request, policy)) >= needed

    def _ask(self, context: Context, repository: SystemRepository, request: RestoreRequest, why: str) -> Any:
        """Park the task until somebody answers; never returns, but by what Airflow raises."""
        from lifeboat.recovery.approval.wording import request_page

        policy = repository.policy.restore
        left = request.expires - repository.outside.clock()
        if left.total_seconds() <= 0:
            self._refuse(context, repository, request, "nobody answered in time")
        self.response_timeout = left
        self.subject = f"Restore {request.system} {request.source}: approval {self.number} of {policy.approvals}"
        refused = f"\n> The last answer does not count: {why}.\n" if why else ""
        self.body = f"{refused}\n{request_page(request, policy)}"
        self._told(
            repository,
            "warning",
            f":raised_hand: *{self.subject}*\n{escaped(request.requester)} asks: {escaped(request.reason)}\n"
            f"Into {escaped(request.place)}. Who may: {escaped(', '.join(policy.approvers))}\n"
            + (f"The last answer does not count: {escaped(why)}.\n" if why else "")
            + f"<{self.generate_link_to_ui_from_context(context=context)}|Look at the plan and answer>",
        )
        try:
            return HITLOperator.execute(self, context)
        except TaskAwaitingInput as waiting:
            # Airflow keeps what a task first showed; what an answer is to, goes with the task.
            raise TaskAwaitingInput(
                method_name=waiting.method_name, timeout=waiting.timeout, kwargs={"shown": request.sha256}
            ) from None

    def _refuse(self, context: Context, repository: SystemRepository, request: RestoreRequest, why: str) -> None:
        from lifeboat.operators.run import actor_of
        from lifeboat.recovery.approval.records import APPROVALS, approval_journal, write_refusal

        write_refusal(approval_journal(repository, APPROVALS, actor_of(context)), request, why)
        self._told(
            repository,
            "warning",
            f":no_entry: *{request.system}: {request.source} is not restored*: {escaped(why)}. Asked for by "
            f"{escaped(request.requester)}: {escaped(request.reason)}",
        )
        raise AirflowFailException(
            f"The restore {request.id} is refused: {why}. Another one needs a new run of this DAG, and other approvals."
        )
