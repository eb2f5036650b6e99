"""The operator that asks people before a drill: Airflow's own, with an answer that counts as a signed event alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk.exceptions import AirflowFailException

from lifeboat.alerts.slack import escaped
from lifeboat.operators.alerts import tell_slack
from lifeboat.operators.drill import DrillTask

if TYPE_CHECKING:
    from airflow.sdk import Context

APPROVE, REJECT = "Approve", "Reject"


class ApproveDrill(DrillTask, HITLOperator):
    """One person's answer to a drill that somebody, or the schedule, asks for.

    Waits until somebody who may has answered: an answer of anybody else is put aside, and it waits on. How long that
    took, from the run's beginning, is a phase of the drill. No answer in time means no.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(subject="A drill is asked for", options=[APPROVE, REJECT], **kwargs)

    def execute(self, context: Context) -> Any:
        """Ask.

        Raises:
            AirflowSkipException: none of the connections of the system's targets exists yet.
        """
        self._practice(context)
        return self._ask(context, "")

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Take the answer. Returns who agreed, for people.

        Raises:
            AirflowFailException: somebody who may said no, or nobody answered in time.
        """
        from lifeboat.recovery.approval.ruling import objection_to

        if "error" in event:
            nobody = event.get("error_type") == "timeout"
            raise self._not_made("nobody answered in time" if nobody else "the answer was lost")
        run: Any = context["dag_run"]
        name = str((event.get("responded_by_user") or {}).get("name") or "").strip()
        why = objection_to(str(run.triggering_user_name or ""), name, self._repository().policy.restore)
        if why:
            self.log.warning("The answer does not count: %s.", why)
            return self._ask(context, why)
        if list(event.get("chosen_options") or ()) != [APPROVE]:
            raise self._not_made(f"{name} said no")
        practice = self._practice(context)
        practice.agree(run.start_date, name)
        self.log.info("%s agrees to the drill.", name)
        return name

    def _not_made(self, why: str) -> AirflowFailException:
        return AirflowFailException(
            f"The drill of {self.system} is not made: {why}. Trigger another one, when somebody of `restore.approvers` "
            "in the policy is at hand."
        )

    def _ask(self, context: Context, why: str) -> Any:
        """Park the task until somebody answers; never returns, but by what Airflow raises."""
        policy = self._repository().policy
        run: Any = context["dag_run"]
        params = context.get("params") or {}
        requester = str(run.triggering_user_name or "the schedule")
        self.response_timeout = policy.restore.valid_for.fixed
        self.subject = f"Drill of {self.system}"
        refused = f"> The last answer does not count: {why}.\n\n" if why else ""
        self.body = (
            f"{refused}Asked for by {requester}; scenario: {params.get('scenario') or 'the one whose turn it is'}. "
            "Nothing of the living system is touched, except by the hooks of the policy. The clock runs."
        )
        text = (
            f":raised_hand: *{escaped(self.subject)}*\nAsked for by {escaped(requester)}. Who may agree: "
            f"{escaped(', '.join(policy.restore.approvers))}\n"
            f"<{self.generate_link_to_ui_from_context(context=context)}|Look and answer>"
        )
        for fault in tell_slack(policy, "warning", text):
            self.log.warning(fault)
        return HITLOperator.execute(self, context)
