"""Whether a restore may begin: a pure function of what the journal says, the policy and the time.

Fails closed: whatever is missing, twice, late, unreadable or by the wrong person is an objection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from lifeboat.policy.people import RestorePolicy, folded
from lifeboat.recovery.approval.request import RestoreRequest


@dataclass(frozen=True)
class Approval:
    """Somebody's yes.

    Attributes:
        request, sha256: to which request, and to what in it.
        approver: their name.
        time: when.
    """

    request: str
    sha256: str
    approver: str
    time: datetime


@dataclass(frozen=True)
class Found:
    """What the journal says of one request.

    Attributes:
        requests: those of this id: one.
        approvals: what was said yes to.
        refusals: why not, in sentences.
        uses: the restores that began by it: digests of their events.
        unreadable: events that may belong to it and can't be believed on any target.
    """

    requests: tuple[RestoreRequest, ...] = ()
    approvals: tuple[Approval, ...] = ()
    refusals: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()


def objection_to(requester: str, approver: str | None, policy: RestorePolicy, before: Sequence[str] = ()) -> str:
    """Why somebody can't approve what another one asks for, a restore or a drill; empty: they can.

    Args:
        requester: who asks; empty: a schedule does.
        approver: their name; ``None`` where nobody knows it.
        before: who approved it already.
    """
    if approver is None or not folded(approver):
        return "it is not known who answered"
    if folded(approver) == folded(requester):
        return f"{approver} asked for it, and can't approve it"
    if folded(approver) not in {folded(name) for name in policy.approvers}:
        return f"{approver} is not among those who may approve"
    if folded(approver) in {folded(name) for name in before}:
        return f"{approver} approved it already, and another person must"
    return ""


def approvers_of(found: Found, request: RestoreRequest, policy: RestorePolicy) -> list[str]:
    """Those whose approvals count, in order of time."""
    counted: list[str] = []
    for one in sorted(found.approvals, key=lambda approval: approval.time):
        good = one.request == request.id and one.sha256 == request.sha256
        in_time = request.made <= one.time <= request.expires
        if good and in_time and not objection_to(request.requester, one.approver, policy, counted):
            counted.append(one.approver)
    return counted


def needed_approvals(request: RestoreRequest, policy: RestorePolicy) -> int:
    """How many it needs: none only for a scratch place that the policy exempts."""
    return 0 if request.destination == "scratch" and policy.exempt_scratch else policy.approvals


def objections(found: Found, request_id: str, policy: RestorePolicy, now: datetime) -> list[str]:
    """Why a restore may not begin, a sentence each; empty: it may."""
    if len(found.requests) != 1:
        how_many = "no request" if not found.requests else "more than one request"
        return [f"The journal holds {how_many} {request_id}.", *_unreadable(found)]
    request = found.requests[0]
    said = [f"It was refused: {why}." for why in found.refusals]
    if found.uses:
        said.append("A restore began by it already, and an approval is good for one.")
    if not request.made <= now <= request.expires:
        said.append(f"It stood until {request.expires:%Y-%m-%d %H:%M:%S} UTC.")
    counted, needed = approvers_of(found, request, policy), needed_approvals(request, policy)
    if len(counted) < needed:
        who = f" ({', '.join(counted)})" if counted else ""
        said.append(f"It needs the approval of {needed} people, and has {len(counted)}{who}.")
    return [*said, *_unreadable(found)]


def _unreadable(found: Found) -> list[str]:
    return [f"What the journal says of it can't be believed: {what}" for what in found.unreadable]
