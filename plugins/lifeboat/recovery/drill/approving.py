"""A drill that somebody agreed to: who may, and how long it took, from when it was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from lifeboat.policy.people import RestorePolicy, folded


@dataclass(frozen=True)
class DrillApproval:
    """What a drill's event ``drill_approved`` says.

    Attributes:
        asked, approved: when the drill was asked for, and when somebody agreed.
        approver: who did.
    """

    asked: datetime
    approved: datetime
    approver: str

    @property
    def milliseconds(self) -> int:
        """How long it took."""
        return max(0, (self.approved - self.asked) // timedelta(milliseconds=1))

    def details(self) -> dict[str, Any]:
        """For an event."""
        return {"asked": self.asked.isoformat(), "approved": self.approved.isoformat(), "approver": self.approver}

    @classmethod
    def of(cls, told: dict[str, Any]) -> DrillApproval:
        """Read them back."""
        return cls(
            datetime.fromisoformat(told["asked"]), datetime.fromisoformat(told["approved"]), str(told["approver"])
        )


def objection_to(approver: str, requester: str, policy: RestorePolicy) -> str:
    """Why somebody's answer to a drill does not count; empty: it does.

    Args:
        requester: who asked for it; empty: the schedule did.
    """
    if not folded(approver):
        return "it is not known who answered"
    if requester and folded(approver) == folded(requester):
        return f"{approver} asked for it, and can't agree to it"
    if folded(approver) not in {folded(name) for name in policy.approvers}:
        return f"{approver} is not among those who may approve"
    return ""
