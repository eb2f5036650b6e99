"""Hooks: a command or an HTTP request of a policy, where recovery touches what Lifeboat does not know."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, WithJsonSchema

from lifeboat.policy.duration import Duration, ExactSpan
from lifeboat.policy.part import ConnectionId, Part
from lifeboat.policy.people import Text, not_empty
from lifeboat.policy.problems import Refused


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Refused("This is no address of the web.", "Write `https://host/path`.")
    if parts.username is not None or parts.password is not None:
        raise Refused("This address holds a user or a password.", "Put them into a `connection`.")
    return url


def _checked_variable(name: str) -> str:
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is None:
        raise Refused(f"`{name}` is no name of a variable.", "Write letters, digits and underscores.")
    return name


Url = Annotated[
    str,
    AfterValidator(_checked_url),
    WithJsonSchema({"type": "string", "pattern": "^https?://[^@]+$", "examples": ["https://erp.example.org/health"]}),
]
_Variable = Annotated[
    str, AfterValidator(_checked_variable), WithJsonSchema({"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"})
]


class CommandHook(Part):
    """A command on the worker."""

    kind: Literal["command"]
    """A command on the worker."""

    command: Annotated[tuple[Text, ...], AfterValidator(not_empty)]
    """The program and its arguments, one item each. No shell reads them, unless the list itself names one."""

    environment: tuple[_Variable, ...] = ()
    """The worker's own variables that it gets besides those of Lifeboat; their values are told to nobody."""

    timeout: ExactSpan = Duration(seconds=300)
    """In what time it has to end; then it is ended, and has failed."""


class HttpHook(Part):
    """An HTTP request."""

    kind: Literal["http"]
    """An HTTP request."""

    url: Url
    """Where to: `https://…`. What stands behind a `?` is told to nobody."""

    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    """The request's method."""

    status: Annotated[int, Field(ge=100, le=599)] = 200
    """The status that the answer must have. No redirect is followed."""

    body: Text | None = None
    """What is sent, as JSON."""

    connection: ConnectionId | None = None
    """The connection whose login and password go with it; without a login, the password is a bearer token."""

    timeout: ExactSpan = Duration(seconds=30)
    """In what time the answer has to be there."""


HookPolicy = Annotated[CommandHook | HttpHook, Field(discriminator="kind")]
