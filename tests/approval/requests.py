"""Requests to restore, made up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from lifeboat.recovery.approval.options import RestoreOptions
from lifeboat.recovery.approval.request import RestoreRequest, new_request_id
from lifeboat.repository.manifest import Run

MADE = datetime(2026, 11, 27, 3, 15, tzinfo=UTC)


def request(made: datetime = MADE, **more: Any) -> RestoreRequest:
    about: dict[str, Any] = {
        "id": new_request_id(made), "system": "demo", "source": "database", "requester": "ann", "reason": "lost",
        "options": RestoreOptions(into="/srv/data", target="primary"), "destination": "worker_directory",
        "run": Run(dag_id="demo_restore", run_id="manual__1", try_number=1), "made": made,
        "expires": made + timedelta(hours=8), "policy_digest": "sha256:00",
        "plan": {"target": "primary", "recovery_point": "20261122T000000Z-full-7f3a", "obstacles": []},
    }  # fmt: skip
    return RestoreRequest(**about | more)
