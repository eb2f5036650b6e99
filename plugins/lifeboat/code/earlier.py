"""The earlier recovery point that a new one is compared with, and refers to for what has not changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from lifeboat.code.details import CodeDetails, RepositoryDetails, code_details
from lifeboat.code.refs import INDEX_STREAM, RepositoryRefs, parse_index
from lifeboat.errors import ManifestInvalid
from lifeboat.policy.code_source import CodeSource
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.layout import RecoveryPointId
from lifeboat.repository.standing_on import verified_snapshots
from lifeboat.repository.system import SystemRepository
from lifeboat.streams.reading import opened
from lifeboat.targets.target import Readable

_PIECE = 512 * 1024


@dataclass(frozen=True)
class Earlier:
    """A recovery point and the refs in it.

    Attributes:
        stale: its generation is as old as the policy lets it become: what has not changed is stored anew all the same.
    """

    copy: Copy
    details: CodeDetails
    refs: dict[str, RepositoryRefs]
    stale: bool

    @property
    def recovery_point(self) -> str:
        """Its id."""
        return self.copy.manifest.recovery_point

    def of(self, name: str) -> tuple[RepositoryDetails, RepositoryRefs] | None:
        """What it has of a repository."""
        details, refs = self.details.named(name), self.refs.get(name)
        return None if details is None or refs is None else (details, refs)


def earlier_than_now(
    repository: SystemRepository,
    source_name: str,
    source: CodeSource,
    shown: Iterable[Copy],
    *,
    now: datetime,
    tick: Callable[[], None],
) -> Earlier | None:
    """The newest recovery point that was verified, with everything that it refers to; ``None``: there is none."""
    for copy in verified_snapshots(repository, source_name, shown, tick):
        try:
            details = code_details(copy.manifest)
        except ManifestInvalid:
            continue
        begun = RecoveryPointId.parse(details.generation).begun
        stale = source.generation.after(begun, repository.policy.zone) <= now
        return Earlier(copy, details, refs_of(repository, copy), stale)
    return None


def refs_of(
    repository: SystemRepository, copy: Copy, passed: Callable[[int], None] | None = None
) -> dict[str, RepositoryRefs]:
    """The refs of every repository of a copy, by the repositories' names.

    Raises:
        ObjectDamaged: the index is not what was written.
        KeyUnavailable: no key at hand opens it.
        ManifestInvalid: a line is not what an index holds.
    """
    manifest = copy.manifest
    with opened(manifest.stream(INDEX_STREAM), repository.origin(copy), passed) as stream:
        return parse_index(_lines(stream), f"{manifest.recovery_point} on {copy.target}")


def _lines(stream: Readable) -> Iterator[bytes]:
    left = b""
    while piece := stream.read(_PIECE):
        *lines, left = (left + piece).split(b"\n")
        yield from lines
    if left:
        yield left
