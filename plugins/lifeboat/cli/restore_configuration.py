"""``lifeboat restore`` of a configuration: into a folder, one item to standard output, or secrets into their stores."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lifeboat.cli.agreement import agree
from lifeboat.cli.cancellation import STOP
from lifeboat.cli.output import note, show_fields, show_json, show_table, size, warn
from lifeboat.cli.restore_permission import insist_on_permission
from lifeboat.cli.restore_snapshots import WantedSnapshot, chosen, recorded
from lifeboat.cli.snapshot_plan import SnapshotPlan, obstacle_at, place_of
from lifeboat.errors import RestoreError

if TYPE_CHECKING:
    from lifeboat.configuration.returning import Return
    from lifeboat.repository.catalogue import Copy
    from lifeboat.repository.system import SystemRepository


def restore_a_configuration(repository: SystemRepository, source: str, wanted: WantedSnapshot) -> None:
    """Show the plan, ask, bring it back, say what came back."""
    places = [wanted.into is not None, wanted.stdout, wanted.into_store]
    if sum(places) != 1:
        raise RestoreError(
            "It is not said where to." if not any(places) else "Of --into, --stdout and --into-store one is meant.",
            "Name a directory that is empty or not there with --into; or say --stdout with one item's name as --only, "
            "or --into-store.",
        )
    copy, reached = chosen(repository, source, wanted)
    if wanted.stdout:
        _to_stdout(repository, copy, reached, wanted)
    elif wanted.into_store:
        _into_store(repository, source, copy, reached, wanted)
    else:
        _into_folder(repository, copy, reached, wanted)


def _to_stdout(repository: SystemRepository, copy: Copy, reached: list[str], wanted: WantedSnapshot) -> None:
    """One item's bytes, proven as a whole before the first of them is written, and nothing else."""
    from lifeboat.configuration.choosing import chosen_items, proven_items
    from lifeboat.configuration.reading import index_of

    if wanted.plan or wanted.as_json:
        raise RestoreError("--stdout writes an item and nothing else.", "Leave --plan and --json out.")
    if not wanted.only:
        raise RestoreError("It is not said which item.", "Name it with --only; `--into DIR` brings all of them.")
    index = index_of(repository, copy)
    items = chosen_items(index, wanted.only, copy.manifest.recovery_point)
    items = [one for one in items if one.about.type in ("file", "value")]
    if len(items) != 1:
        raise RestoreError(
            f"{len(items)} items with bytes fit that, and --stdout writes one.",
            f"They are: {', '.join(one.about.name for one in items[:20])}." if items else "Name a file or a value.",
        )
    name = items[0].about.name
    with recorded(repository, copy, reached, to="standard output", only=[name]) as result:
        (proven,) = proven_items(repository, copy, [name], index=index, tick=STOP.check)
        result.size, result.proven = len(proven.content), "1 item, proven"
        sys.stdout.buffer.write(proven.content)
        sys.stdout.buffer.flush()


def _into_folder(repository: SystemRepository, copy: Copy, reached: list[str], wanted: WantedSnapshot) -> None:
    from lifeboat.configuration.details import configuration_details
    from lifeboat.configuration.restoring import restore_items

    into = place_of(wanted)
    details = configuration_details(copy.manifest)
    plan = SnapshotPlan(
        copy,
        into,
        wanted,
        [("items", f"{details.count:,} of {size(details.size)}, before any pattern")],
        {"items": details.items, "size": details.size},
        obstacle_at(into, 0 if wanted.only else details.size, "items"),
    )
    plan.insist_on_agreement()
    with recorded(repository, copy, reached, into=str(into), only=list(wanted.only)) as result:
        restored = restore_items(repository, copy, into, only=wanted.only, tick=STOP.check)
        result.details = {"items": restored.items, "size": restored.size}
        result.size, result.proven = restored.size, f"{restored.items:,} items, each proven"
    if wanted.as_json:
        done = {"into": str(into), "items": restored.items, "size": restored.size, "remarks": restored.remarks}
        show_json({"plan": plan.document(), "restored": done})
        return
    fields = [("into", str(into)), ("items", f"{restored.items:,} of {size(restored.size)}, each proven")]
    show_fields("Restored", fields)
    for what, count in restored.remarks.items():
        warn(f"Not given back {count} times: {what}.")


def _into_store(
    repository: SystemRepository, source: str, copy: Copy, reached: list[str], wanted: WantedSnapshot
) -> None:
    from lifeboat.configuration.kind import configuration_of
    from lifeboat.configuration.returning import give_back, planned_returns

    policy = configuration_of(repository, source)
    returns = planned_returns(repository, policy, copy, wanted.only, tick=STOP.check)
    plan = [{"item": one.item, "name": one.name, "store": one.where, "state": one.state} for one in returns]
    document = {"recovery_point": copy.manifest.recovery_point, "target": copy.target, "secrets": plan}
    if not wanted.as_json:
        _show_returns(copy, returns)
    if wanted.plan:
        if wanted.as_json:
            show_json(document)
        return
    due = [one for one in returns if one.state != "same"]
    if due:
        insist_on_permission()
        agree(f"Put {len(due)} secrets back, where they differ as a new version?", wanted.yes)
    with recorded(repository, copy, reached, to="stores of secrets", only=[one.item for one in due]) as result:
        done: list[str] = []
        result.details = {"items": 0}
        for one in due:
            give_back(one, STOP.check)
            done.append(one.item)
            result.details, result.proven = {"items": len(done)}, f"{len(done):,} secrets, each proven"
    if wanted.as_json:
        show_json(document | {"put_back": done})
    else:
        note(f"Put back: {len(done)}; the same already: {len(returns) - len(due)}.", "green")


def _show_returns(copy: Copy, returns: list[Return]) -> None:
    words = {
        "new": "not there: it is made",
        "same": "the same: left alone",
        "differs": "differs: it gets a new version",
    }
    show_table(
        f"{copy.manifest.recovery_point} on {copy.target}: secrets",
        ("name", "store", "at present"),
        [(one.name, one.where, words[one.state]) for one in returns],
    )
