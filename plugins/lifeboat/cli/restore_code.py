"""``lifeboat restore`` of Git repositories: bare ones, into a directory that is empty or new."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifeboat.cli.cancellation import STOP
from lifeboat.cli.output import say, show_fields, show_json, size, warn
from lifeboat.cli.progress import bar
from lifeboat.cli.restore_estimate import estimated
from lifeboat.cli.restore_snapshots import WantedSnapshot, chosen, recorded
from lifeboat.cli.snapshot_plan import SnapshotPlan, obstacle_at, place_of

if TYPE_CHECKING:
    from lifeboat.code.details import RepositoryDetails
    from lifeboat.code.restoring import RestoredRepository
    from lifeboat.repository.catalogue import Copy
    from lifeboat.repository.system import SystemRepository

MOST_SHOWN = 20


def restore_code(repository: SystemRepository, source: str, wanted: WantedSnapshot) -> None:
    """Show the plan, ask, bring them back, say what came back and how it gets to a server."""
    from lifeboat.code.details import code_details
    from lifeboat.code.restoring import wanted_repositories

    into = place_of(wanted)
    copy, reached = chosen(repository, source, wanted)
    repositories = wanted_repositories(code_details(copy.manifest), wanted.only)
    needed = sum(one.size for one in repositories)
    plan = SnapshotPlan(
        copy,
        into,
        wanted,
        [
            ("repositories", ", ".join(one.name for one in repositories) or "none"),
            ("refs", f"{sum(one.refs for one in repositories):,}"),
            ("bundles", size(needed)),
        ],
        {"repositories": [_repository_document(one) for one in repositories]},
        obstacle_at(into, needed, "repositories"),
        measured=estimated(repository, source, copy.target, needed),
    )
    plan.insist_on_agreement()
    restored = _carry_out(repository, copy, into, wanted.only, reached)
    if wanted.as_json:
        show_json({"plan": plan.document(), "restored": [_restored_document(one) for one in restored]})
    else:
        _show(restored)


def _repository_document(one: RepositoryDetails) -> dict[str, Any]:
    return {
        "name": one.name,
        "url": one.url,
        "refs": one.refs,
        "size": one.size,
        "bundle_of": one.recovery_point,
        "unread": one.unread,
    }


def _carry_out(
    repository: SystemRepository, copy: Copy, into: Path, only: Sequence[str], reached: Sequence[str]
) -> list[RestoredRepository]:
    from lifeboat.code.details import code_details
    from lifeboat.code.restoring import restore_repositories

    with recorded(repository, copy, reached, into=str(into), only=list(only)) as result, bar("Restored", 0) as shown:
        restored = restore_repositories(repository, copy, into, only=only, progress=shown.at, tick=STOP.check)
        refs = sum(one.refs for one in restored)
        result.details = {"repositories": len(restored), "refs": refs}
        result.size = sum(one.size for one in code_details(copy.manifest).repositories)
        result.proven = f"{len(restored):,} repositories, {refs:,} refs compared one by one"
    return restored


def _restored_document(restored: RestoredRepository) -> dict[str, Any]:
    return {
        "name": restored.name,
        "path": str(restored.path),
        "refs": restored.refs,
        "head": restored.head,
        "flaws": list(restored.flaws),
        "as_of": restored.as_of,
    }


def _show(restored: Sequence[RestoredRepository]) -> None:
    show_fields("Restored", [(one.name, f"{one.refs:,} refs, compared one by one, in {one.path}") for one in restored])
    for one in restored:
        if one.as_of:
            warn(f"{one.name} is as {one.as_of} had it: it could not be read when this recovery point was made.")
        for flaw in one.flaws[:MOST_SHOWN]:
            warn(f"{one.name}: git fsck says, of an object that was so at the origin: {flaw}")
    if restored:
        say("To bring one to a new server, make an empty repository there, and:")
        say(f"  git -C {restored[0].path} push --mirror ssh://git@git.example.com/{restored[0].name}.git")
