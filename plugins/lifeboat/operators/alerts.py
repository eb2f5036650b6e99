"""A Slack message for each failed run, from the DAG's own failure callback.

Task callbacks run in the task's process and are lost with it; the DAG's runs in the DAG processor, also after a worker
was killed.
"""

from __future__ import annotations

from typing import Any

from lifeboat.policy.model import Policy
from lifeboat.policy.people import SlackChannel

_TEXT = """:rotating_light: *{{{{ dag.dag_id }}}}* failed: run `{{{{ run_id }}}}`
*At risk:* {risk}
*What to do:* open the run's failed task and read the last lines of its log: they say what happened and what to do. \
Older recovery points are not touched. {remedy}
*Whom to call:* {contact}"""


def failure_callbacks(policy: Policy, source: str, tier: str) -> list[Any]:
    """The notifiers of a tier's DAG: one for each Slack channel that takes critical messages."""
    # The provider is imported only where a policy uses it: DAG files are parsed often.
    from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier

    text = failure_text(policy, source, tier)
    return [
        SlackWebhookNotifier(slack_webhook_conn_id=channel.connection, text=text)
        for channel in policy.alerts.channels.values()
        if isinstance(channel, SlackChannel) and "critical" in channel.severities
    ]


def failure_text(policy: Policy, source: str, tier: str) -> str:
    """The message, with what only the run knows as Jinja expressions."""
    rpo = policy.objectives.rpo_of(source)
    if tier == "wal":
        risk = (
            f"transactions of {policy.system} {source} since the last WAL run could be lost with the server; the "
            f"objective is {rpo}. Meanwhile the server keeps its WAL, which fills its disk."
        )
        remedy = "The next run brings everything since; if several fail in a row, watch the server's free disk space."
    else:
        risk = (
            f"no new {tier} recovery point of {policy.system} {source}, or fewer copies of it than the policy requires; "
            "a restore begins with an older one and takes longer."
        )
        remedy = "Clear the failed task to try again."
    contact = policy.contacts.get("primary")
    whom = "nobody is named in the policy"
    if contact is not None:
        whom = ", ".join(part for part in (contact.name, contact.email, contact.phone) if part)
    return _TEXT.format(risk=risk, remedy=remedy, contact=whom)
