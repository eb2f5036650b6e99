"""What a run does when its recovery point is committed: mirrors are brought up, forges are asked, the journal is told.

Nothing here undoes the recovery point: what fails is an alarm of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lifeboat.code.access import remote_access
from lifeboat.code.git_program import Git
from lifeboat.code.mirroring import Mirror, Mirrored
from lifeboat.code.refs import shown
from lifeboat.code.snapshot import Snapshot
from lifeboat.code.taking import Taken
from lifeboat.errors import Cancelled, LifeboatError
from lifeboat.policy.code_source import CodeSource
from lifeboat.repository.journal import Journal
from lifeboat.repository.system import SystemRepository

MOST_IN_AN_EVENT = 200


def bring_up_mirrors(
    repository: SystemRepository,
    source_name: str,
    source: CodeSource,
    git: Git,
    snapshot: Snapshot,
    journal: Journal,
    tick: Callable[[], None],
) -> Iterator[str]:
    """Bring up the mirror of each repository that was read; yields what somebody has to be told."""
    for taken in snapshot.taken:
        url = source.mirror_of(taken.policy)
        if url is None or taken.clone is None:
            continue
        about = {
            "source": source_name,
            "recovery_point": snapshot.copy.manifest.recovery_point,
            "repository": taken.policy.name,
            "mirror": url,
        }
        try:
            mirrored = _bring_up(repository, source, git, taken, url, tick)
        except Cancelled:
            raise
        except LifeboatError as error:
            journal.write("mirror_failed", **about, error=type(error).__name__, what=str(error)[:2000])
            yield f"The mirror of {taken.policy.name} was not brought up: {error}"
            continue
        journal.write(
            "mirrored",
            **about,
            refs=mirrored.refs,
            left_out=mirrored.left_out,
            kept=[
                {"ref": shown(name), "id": object_id}
                for name, object_id in list(mirrored.kept.items())[:MOST_IN_AN_EVENT]
            ],
            kept_count=len(mirrored.kept),
            expired=len(mirrored.expired),
        )


def _bring_up(
    repository: SystemRepository, source: CodeSource, git: Git, taken: Taken, url: str, tick: Callable[[], None]
) -> Mirrored:
    now, zone = repository.outside.clock(), repository.policy.zone
    keep_since = min(tier.retention.before(now, zone) for tier in source.tiers.values())
    assert taken.clone is not None
    assert taken.refs is not None
    with remote_access(repository.outside, source.mirror_connection, url) as remote:
        mirror = Mirror(git, remote, taken.clone, taken.refs, source.forge_refs, tick)
        return mirror.bring_up(now=now, keep_since=keep_since)
