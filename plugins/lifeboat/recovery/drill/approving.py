"""A drill that somebody agreed to: who did, and how long it took, from when it was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any


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
