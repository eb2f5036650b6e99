"""Reading a recovery point of a configuration: its key, its index, its items."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lifeboat.configuration.fingerprints import KEY_BYTES, Fingerprints
from lifeboat.configuration.items import INDEX_STREAM, ITEMS_STREAM, KEY_STREAM, Indexed, read_index
from lifeboat.errors import ObjectDamaged
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.system import SystemRepository
from lifeboat.streams.reading import opened

Passed = Callable[[int], None]
_PIECE = 1024 * 1024


def fingerprints_of(repository: SystemRepository, copy: Copy, passed: Passed | None = None) -> Fingerprints:
    """The fingerprints' key of a recovery point.

    Raises:
        ObjectDamaged: it is not what was written.
        KeyUnavailable: no key at hand opens it.
    """
    key = _whole(repository, copy, KEY_STREAM, passed)
    if len(key) != KEY_BYTES:
        raise ObjectDamaged(
            f"{KEY_STREAM} of {copy.manifest.recovery_point} on {copy.target} is no key.", "Use another copy."
        )
    return Fingerprints(key)


def index_of(repository: SystemRepository, copy: Copy, passed: Passed | None = None) -> list[Indexed]:
    """The index of a recovery point, in its order.

    Raises:
        ObjectDamaged, KeyUnavailable: as :func:`fingerprints_of`.
        ManifestInvalid: a line is not what an index holds.
    """
    return read_index(
        _whole(repository, copy, INDEX_STREAM, passed), f"{copy.manifest.recovery_point} on {copy.target}"
    )


def _whole(repository: SystemRepository, copy: Copy, name: str, passed: Passed | None) -> bytes:
    with opened(copy.manifest.stream(name), repository.origin(copy), passed) as stream:
        pieces = []
        while piece := stream.read(_PIECE):
            pieces.append(piece)
        return b"".join(pieces)


@contextmanager
def items_of(
    repository: SystemRepository, copy: Copy, passed: Passed | None = None
) -> Iterator[Iterator[tuple[str, bytes]]]:
    """The members of a recovery point's tar with their bytes; links and folders have none.

    The tar was proven only when the iterator has ended.

    Raises:
        ObjectDamaged: while it is read: it is not what was written.
    """
    what = f"{ITEMS_STREAM} of {copy.manifest.recovery_point} on {copy.target}"
    with opened(copy.manifest.stream(ITEMS_STREAM), repository.origin(copy), passed) as stream:

        def members() -> Iterator[tuple[str, bytes]]:
            try:
                with tarfile.open(
                    fileobj=stream,  # type: ignore[call-overload]  # it is only read from
                    mode="r|",
                    bufsize=_PIECE,
                    encoding="utf-8",
                    errors="surrogateescape",
                ) as archive:
                    for member in archive:
                        body = archive.extractfile(member) if member.isreg() else None
                        yield member.name, body.read() if body is not None else b""
                        archive.members = []
            except tarfile.TarError as error:
                raise ObjectDamaged(f"{what} is no tar: {error}.", "Use another target's copy.") from error
            while stream.read(_PIECE):
                pass

        yield members()
