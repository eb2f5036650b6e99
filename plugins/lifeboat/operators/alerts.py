"""A Slack message for each failed run, from the DAG's own failure callback.

Task callbacks run in the task's process and are lost with it; the DAG's runs in the DAG processor, also after a worker
was killed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lifeboat.alerts.slack import tell
from lifeboat.operators.outside import airflow_outside
from lifeboat.policy.model import Policy
from lifeboat.policy.people import Severity, SlackChannel

_PATIENCE_SECONDS = 15


@dataclass(frozen=True)
class SlackAlert:
    """Tells a Slack channel of a failed run; the DAG's failure callback.

    Attributes:
        connection: the id of the incoming webhook's connection.
        risk: what could be lost now.
        remedy: what to do besides reading the failed task's log.
        whom: whom to call.
    """

    connection: str
    risk: str
    remedy: str
    whom: str

    def __call__(self, context: Any) -> None:
        """Send it. What goes wrong with that stands in the DAG processor's log."""
        # Imported when something has failed: DAG files are parsed often, and the provider takes a second.
        from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook

        hook = SlackWebhookHook(slack_webhook_conn_id=self.connection, timeout=_PATIENCE_SECONDS)
        hook.send(text=self.text(context["dag"].dag_id, context["run_id"]))

    def text(self, dag_id: str, run_id: str) -> str:
        """The message, in Slack's own mark-up."""
        return (
            f":rotating_light: *{dag_id}* failed: run `{run_id}`\n"
            f"*At risk:* {self.risk}\n"
            "*What to do:* open the run's failed task and read the last lines of its log: they say what happened and "
            f"what to do. Older recovery points are not touched. {self.remedy}\n"
            f"*Whom to call:* {self.whom}"
        )


def tell_slack(policy: Policy, severity: Severity, text: str) -> list[str]:
    """Send a message to the Slack channels that take this severity; returns what went wrong, a sentence each.

    Args:
        text: in Slack's own mark-up; what comes from outside went through ``escaped``.
    """
    return tell(policy, severity, text, airflow_outside())


def failure_callbacks(policy: Policy, source: str, tier: str) -> list[SlackAlert]:
    """The alerts of a tier's DAG: one for each Slack channel that takes critical messages."""
    return _alerts(policy, *_risk_and_remedy(policy, source, tier))


def cleanup_failure_callbacks(policy: Policy) -> list[SlackAlert]:
    """The alerts of the retention's DAG."""
    return _alerts(
        policy,
        f"nothing is lost, but recovery points of {policy.system} that are past their retention stay on one or more "
        "targets, whose room may end.",
        f"`lifeboat retention plan {policy.system}` shows what would go, why, and what stands in the way.",
    )


def restore_test_failure_callbacks(policy: Policy) -> list[SlackAlert]:
    """The alerts of the restore test's DAG."""
    return _alerts(
        policy,
        f"{policy.system} may not come back, or not in time: a restore test found something that is not as it should "
        "be.",
        f"`lifeboat test {policy.system}` does it again by hand, with `--target` from one target alone.",
    )


def restore_failure_callbacks(policy: Policy) -> list[SlackAlert]:
    """The alerts of the restore's DAG."""
    return _alerts(
        policy,
        f"a restore of {policy.system} that somebody asked for was refused, or failed; nothing half-done is in use.",
        "Another one needs another request and other approvals; `lifeboat restore --break-glass REASON` needs none.",
    )


def drill_failure_callbacks(policy: Policy) -> list[SlackAlert]:
    """The alerts of the drill's DAG."""
    return _alerts(
        policy,
        f"{policy.system} may not come back from a loss, or not in time: a step of its drill failed.",
        f"`lifeboat report test {policy.system}` says which, and what has to be put right; "
        f"`lifeboat drill {policy.system}` does it again by hand.",
    )


def _alerts(policy: Policy, risk: str, remedy: str) -> list[SlackAlert]:
    return [
        SlackAlert(channel.connection, risk, remedy, _whom(policy))
        for channel in policy.alerts.channels.values()
        if isinstance(channel, SlackChannel) and "critical" in channel.severities
    ]


def _risk_and_remedy(policy: Policy, source: str, tier: str) -> tuple[str, str]:
    rpo = policy.objectives.rpo_of(source)
    if tier == "wal":
        return (
            f"transactions of {policy.system} {source} since the last WAL run could be lost with the server; the "
            f"objective is {rpo}. Meanwhile the server keeps its WAL, which fills its disk.",
            "The next run brings everything since; if several fail in a row, watch the server's free disk space.",
        )
    if tier == "change":
        return (
            f"what was changed in {policy.system} {source} since its newest recovery point, or something of it that "
            "can't be read.",
            "The next run looks again, and the daily run stores all of it in any case.",
        )
    return (
        f"no new {tier} recovery point of {policy.system} {source}, or fewer copies of it than the policy requires; "
        "a restore begins with an older one and takes longer.",
        "Clear the failed task to try again.",
    )


def _whom(policy: Policy) -> str:
    contact = policy.contacts.get("primary")
    if contact is None:
        return "nobody is named in the policy"
    return ", ".join(part for part in (contact.name, contact.email, contact.phone) if part)
