"""A request to restore: who asks for what, why, and the plan that was made of it, with everything in it named.

It is an event of the journal, signed as all of them are. What is approved is its digest, so that an approval holds for
this plan and no other; and what is carried out is what stands in it, so that nothing can be changed between.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from lifeboat.errors import RestoreError
from lifeboat.recovery.approval.options import RestoreOptions
from lifeboat.repository.canonical import canonical
from lifeboat.repository.manifest import Run

DestinationKind = Literal["scratch", "connection", "worker_directory", "ssh_host"]
_STAMP = "%Y%m%dT%H%M%SZ"
_ID = re.compile(r"(\d{8}T\d{6}Z)-restore-[0-9a-f]{8}")


class RestoreRequest(BaseModel):
    """A restore that somebody asks for.

    Attributes:
        format_version: of this document.
        id: sorts by time: ``20261127T031500Z-restore-7f3a12bc``.
        system, source: what comes back.
        options: what the restore is told; the target, and the recovery point that it begins with, are named.
        destination: what kind of place it ends in.
        host: the database host by its name in the policy; empty: the worker.
        requester: who asks, by the name that Airflow knows.
        reason, ticket: why, and where that is written.
        run: of which this is the request.
        made, expires: when, and until when it may begin.
        policy_digest: the policy that it was made by.
        plan: what was shown, as ``lifeboat restore --plan --json`` prints it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    id: str = Field(pattern=f"^{_ID.pattern}$")
    system: str
    source: str
    options: RestoreOptions
    destination: DestinationKind
    host: str = ""
    requester: str = Field(min_length=1)
    reason: str
    ticket: str = ""
    run: Run
    made: AwareDatetime
    expires: AwareDatetime
    policy_digest: str
    plan: dict[str, Any] = Field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """What an approval is for."""
        return hashlib.sha256(canonical(self.model_dump(mode="json"))).hexdigest()

    @property
    def place(self) -> str:
        """Where it ends, in words."""
        named = self.options.into or f"the server of the connection {self.options.connection}"
        where = f" on the host {self.host}" if self.host else ""
        return f"{named}{where} ({self.destination.replace('_', ' ')})"


def new_request_id(now: datetime) -> str:
    """An id that nobody can guess."""
    return f"{now.astimezone(UTC).strftime(_STAMP)}-restore-{secrets.token_hex(4)}"


def request_time(request_id: str) -> datetime:
    """When a request was made, to the second.

    Raises:
        RestoreError: it is no id of a request.
    """
    found = _ID.fullmatch(request_id)
    try:
        return datetime.strptime(found.group(1), _STAMP).replace(tzinfo=UTC) if found else _no_id(request_id)
    except ValueError:
        return _no_id(request_id)


def _no_id(request_id: str) -> datetime:
    raise RestoreError(
        f"{request_id!r} is no id of a request to restore.",
        "It looks like 20261127T031500Z-restore-7f3a12bc; the plan task of the restore's DAG logs it.",
    )


def without_floats(value: Any) -> Any:
    """A plan as an event may hold it: whole numbers."""
    if isinstance(value, float):
        return round(value)
    if isinstance(value, dict):
        return {key: without_floats(one) for key, one in value.items()}
    return [without_floats(one) for one in value] if isinstance(value, list) else value


def pinned(options: RestoreOptions, plan: dict[str, Any]) -> RestoreOptions:
    """The options with everything named that the plan chose: a target, and a recovery point. What comes back is then
    what was shown, whatever else was backed up meanwhile; asked for the latest, it may reach further."""
    changes: dict[str, Any] = {"target": plan["target"]}
    if "links" in plan:
        changes["base"] = plan["base"]["id"]
        changes["timeline"] = plan["timeline"]
    else:
        changes |= {"recovery_point": plan["recovery_point"], "at": None}
    return options.model_copy(update=changes)
