"""What a source has stored becomes a recovery point: its manifest is written, committed and journaled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from lifeboat.repository.catalogue import Copy
from lifeboat.repository.commit import Place, commit, wrapped_keys
from lifeboat.repository.journal import Journal
from lifeboat.repository.manifest import Manifest, Rebuilt
from lifeboat.repository.system import PRIMARY, SystemRepository, Work, tool_versions
from lifeboat.streams.stored import StoredStream


@dataclass(frozen=True)
class Made:
    """What a source says of what it stored; each word as in :class:`~lifeboat.repository.manifest.Manifest`.

    Attributes:
        chain: empty: it stands alone.
        rebuilt: where it was made of other recovery points.
        versions: of the programs that had a hand in it, besides our own.
    """

    begun: datetime
    moment: datetime
    details: dict[str, Any]
    streams: tuple[StoredStream, ...]
    chain: str = ""
    parent: str | None = None
    needs: tuple[str, ...] = ()
    timeline: int | None = None
    state: Literal["good", "damaged"] = "good"
    findings: tuple[str, ...] = ()
    rebuilt: Rebuilt | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


def commit_made(
    repository: SystemRepository,
    source: str,
    work: Work,
    place: Place,
    made: Made,
    *,
    retain_until: datetime | None,
) -> Copy:
    """Commit on the primary target what was stored there.

    Args:
        place: in the row of recovery points of its kind.
        retain_until: the object lock of what was stored.

    Raises:
        LifeboatError: as :func:`~lifeboat.repository.commit.commit` does; nothing was committed.
    """
    target, sealing = repository.target(PRIMARY), repository.sealing
    point = str(work.recovery_point)
    manifest = Manifest(
        system=repository.system,
        source=source,
        recovery_point=point,
        attempt=work.attempt,
        timeline=made.timeline,
        kind=work.recovery_point.kind,
        tiers=work.tiers,
        sequence=place.sequence,
        previous=place.previous,
        chain=made.chain or point,
        parent=made.parent,
        needs=made.needs,
        begun=made.begun,
        committed=repository.outside.clock(),
        moment=made.moment,
        state=made.state,
        findings=made.findings,
        degraded=sealing.left_out,
        details=made.details,
        streams=made.streams,
        wrapped_keys=wrapped_keys(sealing.wrapping_keys),
        tool_versions=tool_versions() | dict(made.versions),
        policy_digest=repository.loaded.digest,
        run=work.run,
        note=work.note,
        rebuilt=made.rebuilt,
    )
    repository.keep_policy(target)
    return commit(target, manifest, repository.signer, retain_until=retain_until)


def journal_begun(journal: Journal, source: str, work: Work) -> None:
    """Write down that an attempt begins."""
    journal.write(
        "backup_begun",
        source=source,
        recovery_point=str(work.recovery_point),
        target=PRIMARY,
        attempt=work.attempt,
        tiers=list(work.tiers),
    )


def journal_committed(journal: Journal, copy: Copy, **more: Any) -> None:
    """Write down that a recovery point exists, with what else its source has to say of it."""
    manifest = copy.manifest
    if manifest.rebuilt is not None:
        more["rebuilt_from"] = manifest.rebuilt.base
    journal.write(
        "backup_committed",
        source=manifest.source,
        recovery_point=manifest.recovery_point,
        target=PRIMARY,
        manifest=copy.sha256,
        sequence=manifest.sequence,
        tiers=list(manifest.tiers),
        plain_size=manifest.plain_size,
        stored_size=manifest.stored_size,
        **more,
    )
