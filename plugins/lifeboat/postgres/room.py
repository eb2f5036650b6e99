"""How much room a restore takes. Pure functions of manifests."""

from __future__ import annotations

from lifeboat.postgres.details import IncrementalDetails
from lifeboat.postgres.reach import Base

ROOM_FACTOR_PERCENT = 105
"""A file system needs a little more than the bytes of the files on it."""
KEPT_SEGMENTS = 64
"""How many segments of WAL a server that recovers keeps in its data directory."""


def room(base: Base, plain_wal: int) -> int:
    """Bytes that a restore needs at its worst moment.

    A chain's links lie beside what is made of them, and beside the WAL that is coming, until recovery has begun; by the
    time that it has replayed much they are gone.

    Args:
        plain_wal: bytes of the WAL files that are staged.
    """
    links = sum(link.details.plain_total for link in base.links) if base.below else 0
    whole = sum(whole_size(base, tablespace.archive) for tablespace in base.details.tablespaces)
    begun = min(plain_wal, KEPT_SEGMENTS * base.details.server.wal_segment_size)
    return (whole + max(links + begun if links else 0, plain_wal)) * ROOM_FACTOR_PERCENT // 100 + plain_wal


def whole_size(base: Base, archive: str) -> int:
    """Bytes that an archive's part of the server takes once it is unpacked, and combined where it is a chain's.

    A chain's is reckoned from what the server took when its last link was made, with what comes whole in every link;
    and where that is not known, from the most that the links could make together.
    """
    own = base.manifest.stream(archive).plain_size
    if not base.below:
        return own
    known = base.details.whole.get(archive) if isinstance(base.details, IncrementalDetails) else None
    return known + own if known is not None else _sent(base, archive)


def archive_room(base: Base, archive: str) -> int:
    """The same with the links that it is made of beside it."""
    return whole_size(base, archive) + (_sent(base, archive) if base.below else 0)


def _sent(base: Base, archive: str) -> int:
    return sum(stream.plain_size for link in base.links for stream in link.manifest.streams if stream.name == archive)
