"""What a snapshot's manifest says of its files."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field

from lifeboat.repository.manifest import Manifest, parse_part

FEWEST_TO_MISS = 10
"""Of fewer files nobody wonders when most are gone."""


class SnapshotDetails(BaseModel):
    """The files' part of a manifest.

    Attributes:
        generation: the recovery point that stored everything anew, and that this one builds upon at most; its own id
            where that is this one.
        compared_with: the snapshot whose index told what is unchanged; empty for the first of a generation.
        files_before: how many files that one had; 0 without one.
        files, folders, others: how many of each there are in the snapshot.
        size: bytes of all its files.
        new_files, new_size: what was stored by this snapshot.
        read_size: bytes that were read and hashed.
        unread: paths that could not be read, the first thousand: they are not in the snapshot, or not their bytes.
        unread_count: how many there were.
        changed: files that changed while they were read, twice: what was stored is neither what was before nor after.
        vanished: how many were gone before they could be read: they are not in the snapshot.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    generation: str
    compared_with: str = ""
    files_before: int = 0
    files: int = Field(ge=0)
    folders: int = Field(ge=0)
    others: int = Field(ge=0)
    size: int = Field(ge=0)
    new_files: int = Field(ge=0)
    new_size: int = Field(ge=0)
    read_size: int = Field(ge=0)
    unread: tuple[str, ...] = ()
    unread_count: int = 0
    changed: tuple[str, ...] = ()
    vanished: int = 0

    @property
    def shrunk(self) -> bool:
        """Whether most files are gone since the snapshot before: a disk that is not mounted looks like that."""
        return self.files_before >= FEWEST_TO_MISS and self.files < self.files_before / 2

    @property
    def partial(self) -> bool:
        """Whether something of the set is not in it."""
        return self.unread_count > 0


def snapshot_details(manifest: Manifest) -> SnapshotDetails:
    """The files' part of a manifest; raises ``ManifestInvalid``."""
    return parse_part(SnapshotDetails, manifest)


def findings_of(details: SnapshotDetails, *, sockets: int) -> Iterator[str]:
    """What a person should know of a snapshot, in sentences.

    Args:
        sockets: how many were left out.
    """
    if details.shrunk:
        yield f"It has {details.files} files, and {details.compared_with} had {details.files_before}."
    if details.unread_count:
        more = f" and {details.unread_count - 3} more" if details.unread_count > 3 else ""
        yield f"{details.unread_count} paths could not be read: {'; '.join(details.unread[:3])}{more}."
    if details.changed:
        more = f" and {len(details.changed) - 3} more" if len(details.changed) > 3 else ""
        yield f"Changed while they were read, at both tries: {', '.join(details.changed[:3])}{more}."
    if details.vanished:
        yield f"{details.vanished} paths were gone before they could be read."
    if sockets:
        yield f"{sockets} sockets are not in it: they live as long as their program."
