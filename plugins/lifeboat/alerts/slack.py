"""Messages to Slack's incoming webhooks, by connections in Airflow's form for them.

Sources: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks,
https://airflow.apache.org/docs/apache-airflow-providers-slack/stable/connections/slack-incoming-webhook.html
"""

from __future__ import annotations

from lifeboat.errors import ConnectionUnknown
from lifeboat.outside import Connection, Outside
from lifeboat.policy.model import Policy
from lifeboat.policy.people import Severity, SlackChannel

_PATIENCE_SECONDS = 15
_SLACK = "hooks.slack.com/services"


def tell(policy: Policy, severity: Severity, text: str, outside: Outside) -> list[str]:
    """Send a message to the Slack channels that take this severity; returns what went wrong, a sentence each.

    Args:
        text: in Slack's own mark-up; what comes from elsewhere went through :func:`escaped`.
    """
    faults = []
    for name, channel in policy.alerts.channels.items():
        if not isinstance(channel, SlackChannel) or severity not in channel.severities:
            continue
        try:
            _send(outside.connection(channel.connection), text)
        except ConnectionUnknown as error:
            faults.append(f"The channel {name} was not told: {error.what}")
        except Exception as error:  # whatever it is, the work that is told of goes on
            # Its text may hold the webhook's address, which is a secret.
            faults.append(f"The channel {name} was not told: {type(error).__name__}.")
    return faults


def escaped(text: str) -> str:
    """Text that means nothing to Slack.

    Source: https://docs.slack.dev/messaging/formatting-message-text#escaping
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _send(connection: Connection, text: str) -> None:
    from slack_sdk.webhook import WebhookClient

    proxy = connection.extra.get("proxy") or None
    answer = WebhookClient(webhook_address(connection), timeout=_PATIENCE_SECONDS, proxy=proxy).send(text=text)
    if answer.status_code != 200:
        raise ConnectionUnknown(
            f"Slack answers the connection {connection.id} with {answer.status_code}.", "Look at its webhook."
        )


def webhook_address(connection: Connection) -> str:
    """Where messages go: the password is the webhook's secret part, or its whole address.

    Raises:
        ConnectionUnknown: there is none.
    """
    secret = (connection.password or "").strip()
    if not secret:
        raise ConnectionUnknown(
            f"The connection {connection.id} has no password: the secret part of the webhook's address.", "Give it."
        )
    if "://" in secret:
        return secret
    base = connection.host or _SLACK
    if "://" not in base:
        port = f":{connection.port}" if connection.port else ""
        base = f"{connection.schema or 'https'}://{base}{port}"
    return f"{base.rstrip('/')}/{secret.lstrip('/')}"
