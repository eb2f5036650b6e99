"""A request in words: what those who are asked to approve it see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lifeboat.policy.people import RestorePolicy
from lifeboat.recovery.approval.request import RestoreRequest
from lifeboat.recovery.approval.ruling import needed_approvals
from lifeboat.recovery.wording import length_of, size_of

_MOST_NAMED = 20
_SIZES = {"fetch_bytes": "to fetch", "room_bytes": "room needed", "free_bytes": "room there", "size": "size"}


def request_page(request: RestoreRequest, policy: RestorePolicy) -> str:
    """A request as Markdown: everything that is decided upon, and what an approval holds for."""
    rows = "\n".join(f"| {name} | {_cell(what)} |" for name, what in _rows(request))
    remarks = "".join(f"\n- {_plain(str(remark))}" for remark in request.plan.get("remarks") or ())
    noted = f"\n\n**To know:**{remarks}" if remarks else ""
    return f"""**{request.requester}** asks to restore **{request.system} {request.source}**.

| | |
| --- | --- |
{rows}{noted}

{needed_approvals(request, policy)} people must approve, none of them {request.requester}. An approval holds for exactly
this: its digest is `{request.sha256}`. It is good for one restore, until {request.expires:%Y-%m-%d %H:%M} UTC.
"""


def _rows(request: RestoreRequest) -> Iterator[tuple[str, str]]:
    options = request.options
    yield "why", request.reason
    yield "ticket", request.ticket or "none"
    yield "asked for", str(request.plan.get("asked") or options.at or options.recovery_point or "the latest")
    yield from _of_the_plan(request.plan)
    yield "only", ", ".join(options.only) or "everything"
    yield "into", request.place
    for name in ("replace_rows", "replace_files", "replace_database", "replace_directory"):
        if getattr(options, name, False):
            yield "**replaces**", f"what is there ({name.replace('_', ' ')})"
    yield "id", request.id


def _of_the_plan(plan: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "from target", str(plan.get("target"))
    yield "recovery point", _points(plan)
    if plan.get("moment"):
        yield "stands for", str(plan["moment"])
    if wal := plan.get("wal"):
        yield "then WAL", f"{wal['segments']} segments up to {wal['end_lsn']}"
    if reachable := plan.get("reachable"):
        yield "reachable", "; ".join(f"{one['from']} to {one['until']}" for one in reachable)
    if databases := [one for one in plan.get("databases") or () if "new_name" in one]:
        yield "databases", ", ".join(f"{one['database']} as {one['new_name']}" for one in databases[:_MOST_NAMED])
    for key, name in _SIZES.items():
        if plan.get(key) is not None:
            yield name, size_of(int(plan[key]))
    if plan.get("estimated_seconds") is not None:
        yield "will take", f"about {length_of(int(plan['estimated_seconds']) * 1000)}"


def _points(plan: dict[str, Any]) -> str:
    links = plan.get("links")
    return ", then ".join(str(link["id"]) for link in links) if links else str(plan.get("recovery_point"))


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|").replace("\n", " ")


def _plain(text: str) -> str:
    """Words of others are no mark-up: an approver must see what was written, and no link or image."""
    for sign in "\\`*_[]<>#!":
        text = text.replace(sign, f"\\{sign}")
    return text
