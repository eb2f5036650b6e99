"""What is left to do by those who asked for a restore, when it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lifeboat.recovery.approval.request import RestoreRequest


def next_steps(request: RestoreRequest, ended: Mapping[str, Any]) -> list[str]:
    """In order, a sentence each.

    Args:
        ended: the details of the event that the restore ended with.
    """
    options = request.options
    physical = options.into is not None and "server" in request.plan and "links" in request.plan
    steps = ["Look at the data before anybody works with them."]
    if ended.get("last_commit"):
        steps.insert(0, f"Know what is lost: the last commit in it is of {ended['last_commit']}.")
    if physical:
        steps += [
            "Look through its postgresql.conf and postgresql.auto.conf: they are the lost server's.",
            f"Start it: pg_ctl -D {options.into} -l LOGFILE start.",
            f"It is on a new timeline: lead the policy's connection to it, then back it up: "
            f"lifeboat backup {request.system} {request.source} --tier daily.",
        ]
    elif options.connection is not None:
        steps.append("Lead the applications to the restored database when it is what they need.")
    else:
        steps.append(f"Bring it from {options.into} to where it belongs.")
    if request.destination == "scratch":
        steps.append(f"Remove {options.into} when it is no longer needed: nobody else does.")
    steps.append(f"Close the ticket{f' {request.ticket}' if request.ticket else ''}, and write down what was learnt.")
    return steps
