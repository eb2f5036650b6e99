"""Who is told, who answers, who may."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from lifeboat.policy.duration import Duration, ExactDuration
from lifeboat.policy.naming import Name
from lifeboat.policy.part import ConnectionId, Part, Queue
from lifeboat.policy.problems import Refused

Email = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$", examples=["devops@example.com"])]
Text = Annotated[str, Field(min_length=1)]
Severity = Literal["critical", "warning", "info"]


def not_empty(items: tuple[str, ...]) -> tuple[str, ...]:
    """The items, of which there must be one."""
    if not items:
        raise Refused("An empty list means that nothing is.", "Remove the key, or name something.")
    return items


def _percent(value: object) -> object:
    if isinstance(value, str) and value.strip().endswith("%"):
        return value.strip().removesuffix("%").strip()
    raise Refused("A share is written in percent.", "Write `80%`.")


def _checked_percent(value: int) -> int:
    if not 1 <= value <= 100:
        raise Refused("A share lies between 1% and 100%.", "Write `80%`.")
    return value


Percent = Annotated[
    int,
    AfterValidator(_checked_percent),
    BeforeValidator(_percent),
    WithJsonSchema({"type": "string", "pattern": r"^\s*\d{1,3}\s*%\s*$", "examples": ["80%"]}),
]


class Contact(Part):
    """Somebody to call."""

    name: Text
    """The person or team."""

    email: Email | None = None
    """Their address."""

    phone: Text | None = None
    """Their number, in quotes."""

    hours: Text | None = None
    """When they answer, such as `24/7`."""

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.email is None and self.phone is None:
            raise Refused(f"`{self.name}` can't be reached.", "Add an `email` or a `phone`.")
        return self


class _Channel(Part):
    severities: Annotated[tuple[Severity, ...], AfterValidator(not_empty)] = ("critical", "warning", "info")
    """What is sent through it."""


class SlackChannel(_Channel):
    """A Slack channel."""

    kind: Literal["slack"]
    """A Slack channel."""

    connection: ConnectionId
    """The Airflow connection of an incoming webhook."""

    channel: Annotated[str, Field(pattern=r"^#[^\s]+$")] | None = None
    """The channel's name, for people: a webhook has its own channel. In quotes, since it begins with `#`."""


class EmailChannel(_Channel):
    """Mail."""

    kind: Literal["email"]
    """Mail."""

    connection: ConnectionId
    """The Airflow connection of the mail server."""

    to: Annotated[list[Email], Field(min_length=1)]
    """Who gets it."""


class SmsChannel(_Channel):
    """Text messages, through a topic of AWS SNS that the numbers subscribe to."""

    kind: Literal["sms"]
    """Text messages, through a topic of AWS SNS."""

    connection: ConnectionId
    """The Airflow connection that may publish to the topic."""

    topic: Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]+$")]
    """The ARN of the topic."""


ChannelPolicy = Annotated[SlackChannel | EmailChannel | SmsChannel, Field(discriminator="kind")]


class AlertConditions(Part):
    """What somebody is told about. A failed backup and a failed verification always are."""

    slower_than_expected: bool = True
    """A run takes longer than its tier's `expected_run`: the objective is in danger."""

    storage_over: Percent | None = None
    """A target is fuller than this."""


class AlertPolicy(Part):
    """Who is told what."""

    channels: dict[Name, ChannelPolicy] = Field(default_factory=dict)
    """The ways that messages go."""

    conditions: AlertConditions = AlertConditions()
    """What is told besides failures."""


class RestoreHost(Part):
    """A host on which a physical restore ends: Lifeboat is installed there, with the system's policies."""

    connection: ConnectionId
    """The Airflow connection (SSH) that leads there; its extra says where the program and the policies are there."""


class RestorePolicy(Part):
    """Who may restore, and where to."""

    approvals: Annotated[int, Field(ge=2, le=5)] = 2
    """How many people must approve a restore, none of them the one who asks."""

    approvers: tuple[Text, ...] = ()
    """The Airflow users who may approve, by name. Without any, nothing is restored but into a scratch place, or from
    the command line by breaking the glass."""

    valid_for: ExactDuration = Duration(seconds=8 * 3600)
    """How long a request stands: all approvals and the restore's beginning must fall into it. No answer means no."""

    scratch: tuple[Path, ...] = ()
    """Directories that nobody works in: the command line restores into them, and into the machine's directory for
    temporary files, without asking anybody."""

    exempt_scratch: bool = False
    """Whether a restore that ends in a scratch place needs no approval in Airflow either; nothing else is exempt."""

    queue: Queue | None = None
    """The workers that restore: they have the room and the programs, and the directories that restores end in."""

    hosts: dict[Name, RestoreHost] = Field(default_factory=dict)
    """Database hosts that a restore may end on."""

    @field_validator("scratch")
    @classmethod
    def _absolute(cls, paths: tuple[Path, ...]) -> tuple[Path, ...]:
        for path in paths:
            if not path.is_absolute() or len(path.parts) < 2:
                raise Refused(f"`{path}` is not a whole path below `/`.", "Write it from `/` on.")
        return paths

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if len({folded(name) for name in self.approvers}) != len(self.approvers):
            raise Refused("Somebody is named twice.", "Name each approver once.", key=("approvers",))
        if self.approvers and self.approvals > len(self.approvers):
            raise Refused(
                f"{self.approvals} approvals are asked for, and {len(self.approvers)} people may give one: "
                "no restore could ever begin.",
                "Name more `approvers`, or ask for fewer `approvals`.",
                key=("approvals",),
            )
        return self


def folded(name: str) -> str:
    """A user's name as it is compared: two that differ by case or by the way they are encoded are one person."""
    return unicodedata.normalize("NFKC", name).strip().casefold()
