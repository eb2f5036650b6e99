"""Reading packs: member after member, as a stream."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

from lifeboat.errors import ObjectDamaged
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.system import SystemRepository
from lifeboat.streams.reading import opened


@contextmanager
def members_of(
    repository: SystemRepository, copy: Copy, pack: str, *, passed: Callable[[int], None] | None = None
) -> Iterator[Iterator[tuple[str, IO[bytes]]]]:
    """The files of a pack with their paths in it, each to be read before the next.

    The pack was proven only when the iterator has ended.

    Raises:
        ObjectDamaged: while it is read: it is not what was written.
        ManifestInvalid: the snapshot has no such pack.
    """
    what = f"{pack} of {copy.manifest.recovery_point} on {copy.target}"
    with opened(copy.manifest.stream(pack), repository.origin(copy), passed) as stream:

        def members() -> Iterator[tuple[str, IO[bytes]]]:
            try:
                with tarfile.open(
                    fileobj=stream,  # type: ignore[call-overload]  # it is only read from
                    mode="r|",
                    bufsize=1024 * 1024,
                    encoding="utf-8",
                    errors="surrogateescape",
                ) as archive:
                    for member in archive:
                        body = archive.extractfile(member) if member.isreg() else None
                        if body is None:
                            raise ObjectDamaged(f"{what} holds {member.name!r}, which is no file.", "Use another copy.")
                        yield member.name, body
                        # It would keep each member of a pack of small files.
                        archive.members = []
            except tarfile.TarError as error:
                raise ObjectDamaged(f"{what} is no tar: {error}.", "Use another target's copy.") from error
            # To the end of the stream: what comes behind the archive is proven, too.
            while stream.read(1024 * 1024):
                pass

        yield members()
