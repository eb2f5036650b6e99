"""Reading packs: member after member, as a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lifeboat.errors import ObjectDamaged
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.system import SystemRepository
from lifeboat.streams.reading import opened
from lifeboat.streams.tar_walking import Content, TarDamaged, members


@contextmanager
def members_of(
    repository: SystemRepository, copy: Copy, pack: str, *, passed: Callable[[int], None] | None = None
) -> Iterator[Iterator[tuple[str, Content]]]:
    """The files of a pack with their paths in it, each to be read before the next.

    The pack was proven only when the iterator has ended.

    Raises:
        ObjectDamaged: while it is read: it is not what was written.
        ManifestInvalid: the snapshot has no such pack.
    """
    what = f"{pack} of {copy.manifest.recovery_point} on {copy.target}"
    with opened(copy.manifest.stream(pack), repository.origin(copy), passed) as stream:

        def files() -> Iterator[tuple[str, Content]]:
            # To the end of the stream: what comes behind the archive's end is proven, too.
            for member in members(stream, extended=True):
                if member.content is None:
                    raise ObjectDamaged(f"{what} holds {member.path!r}, which is no file.", "Use another copy.")
                yield member.path, member.content

        try:
            yield files()
        except TarDamaged as error:
            raise ObjectDamaged(f"{what} is {error.what}.", "Use another target's copy.") from error
