"""What a recovery point of repositories is told as: a sentence, and events in the journal."""

from __future__ import annotations

from lifeboat.code.snapshot import Snapshot
from lifeboat.repository.journal import Journal
from lifeboat.repository.system import PRIMARY

MOST_IN_AN_EVENT = 200


def said_of(snapshot: Snapshot) -> str:
    """What a person should read of it."""
    repositories = snapshot.details.repositories
    own = snapshot.copy.manifest.recovery_point
    stored = [one for one in repositories if one.recovery_point == own]
    size = sum(one.size for one in stored) / 1e6
    return (
        f"{len(repositories)} repositories with {sum(one.refs for one in repositories):,} refs; {len(stored)} stored "
        f"({size:,.1f} MB), {sum(bool(one.bundle) for one in repositories) - len(stored)} as they were"
    )


def journal_rewrites(journal: Journal, source: str, snapshot: Snapshot) -> None:
    """Write down what was rewritten, an event for each repository."""
    details = snapshot.details
    for name in dict.fromkeys(rewrite.repository for rewrite in details.rewrites):
        rewrites = [rewrite for rewrite in details.rewrites if rewrite.repository == name]
        journal.write(
            "code_history_rewritten",
            source=source,
            recovery_point=snapshot.copy.manifest.recovery_point,
            target=PRIMARY,
            repository=name,
            kept_in=details.compared_with,
            refs=[
                {"ref": one.ref, "what": one.what, "old": one.old, "new": one.new, "expected": one.expected}
                for one in rewrites[:MOST_IN_AN_EVENT]
            ],
            rewritten=len(rewrites),
        )
