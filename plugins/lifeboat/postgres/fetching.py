"""A base on its way to the disk: each link fetched, opened, and compared file by file with its own manifest while it is
written.

A full goes to where the data directory is built. The links of a chain go to scratch places beside it, one each, for
``pg_combinebackup`` to read: it looks whether they belong to each other, and takes a flipped byte for data.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO

from lifeboat.errors import ObjectDamaged, VerificationFailed
from lifeboat.postgres.base_backup import MANIFEST_STREAM
from lifeboat.postgres.destination import Place
from lifeboat.postgres.reach import Base
from lifeboat.postgres.restore_planning import RestorePlan
from lifeboat.postgres.restore_sources import origin_of
from lifeboat.postgres.tar_check import check_archives
from lifeboat.postgres.unpacking import TABLESPACES, Unpacker, on_disk
from lifeboat.repository.system import SystemRepository
from lifeboat.streams.reading import opened
from lifeboat.targets.target import Readable

Progress = Callable[[str, int, int], None]


def fetch(
    repository: SystemRepository,
    plan: RestorePlan,
    target: str,
    place: Place,
    progress: Progress,
    tick: Callable[[], None],
    *,
    as_a_backup: bool = False,
) -> list[Path]:
    """Bring the base; returns the data directories of a chain's links, the full first, and none for a full.

    Args:
        as_a_backup: leave PostgreSQL's manifest and the links to tablespaces in a full, as its own programs want them.
            Links of a chain have them in any case.

    Raises:
        ObjectDamaged, VerificationFailed: a link is not what was written; the text names it.
        KeyUnavailable: no key at hand opens it.
        NotEnoughDisk: the disk filled meanwhile.
    """
    links = plan.base.links
    total = sum(link.details.plain_total for link in links)
    unpackers = [_unpacker(place, None if len(links) == 1 else number) for number in range(len(links))]
    progress("fetch", 0, total)

    def look() -> None:
        tick()
        progress("fetch", sum(unpacker.written for unpacker in unpackers), total)

    # One after the other, on this thread: a link is read and decrypted by threads of its own already, and a second one
    # beside it waits for the same lock of Python's more than it gains.
    for link, unpacker in zip(links, unpackers, strict=True):
        _bring(repository, plan, target, link, unpacker, look, as_a_backup=as_a_backup or len(links) > 1)
    return [unpacker.root for unpacker in unpackers] if len(links) > 1 else []


def _bring(
    repository: SystemRepository,
    plan: RestorePlan,
    target: str,
    link: Base,
    unpacker: Unpacker,
    watch: Callable[[], None],
    *,
    as_a_backup: bool,
) -> None:
    with _named(link, plan):
        _unpack(repository, target, link, unpacker, watch, keep_manifest=as_a_backup)
    if as_a_backup:
        _show_tablespaces(unpacker)


def _unpacker(place: Place, number: int | None) -> Unpacker:
    """What puts a link where it belongs: the link of this number, or a full by itself."""
    if number is None:
        return Unpacker(place.data, {space.oid: space.building for space in place.tablespaces}, place.owner)
    return Unpacker(place.link(number), {space.oid: space.link(number) for space in place.tablespaces}, place.owner)


def _unpack(
    repository: SystemRepository,
    target: str,
    link: Base,
    unpacker: Unpacker,
    watch: Callable[[], None],
    *,
    keep_manifest: bool,
) -> None:
    manifest = link.manifest
    origin = origin_of(repository, target, link.copy)

    def archives() -> Generator[tuple[str, Readable], None, None]:
        for tablespace in link.details.tablespaces:
            with opened(manifest.stream(tablespace.archive), origin) as stream:
                yield tablespace.archive, _Watched(stream, watch)

    # Closed here: an error holds on to what was under way, and with it would live the threads that read it.
    with opened(manifest.stream(MANIFEST_STREAM), origin) as listing, closing(archives()) as each:
        if not keep_manifest:
            check_archives(each, listing, unpacker=unpacker)
            return
        path = unpacker.root / MANIFEST_STREAM
        with path.open("xb") as file:
            check_archives(each, _Kept(listing, file, path), unpacker=unpacker)
        if unpacker.owner is not None:
            os.chown(path, unpacker.owner.uid, unpacker.owner.gid)


class _Watched:
    """A stream that lets somebody look around at every read: one file may take long."""

    def __init__(self, stream: Readable, watch: Callable[[], None]) -> None:
        self._stream = stream
        self._watch = watch

    def read(self, size: int = -1, /) -> bytes:
        self._watch()
        data = self._stream.read(size)
        # It may have waited long, and what it would write to may be gone by now.
        self._watch()
        return data


class _Kept:
    """A stream that is written down as it is read."""

    def __init__(self, stream: Readable, file: BinaryIO, path: Path) -> None:
        self._stream = stream
        self._file = file
        self._path = path

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        with on_disk(self._path):
            self._file.write(data)
        return data


def _show_tablespaces(unpacker: Unpacker) -> None:
    """Make the links by which PostgreSQL's programs find a tablespace; a server makes them from its map, anew."""
    for oid, place in unpacker.tablespaces.items():
        if place.is_dir():
            link = unpacker.root / TABLESPACES / str(oid)
            link.symlink_to(place)
            if unpacker.owner is not None:
                os.chown(link, unpacker.owner.uid, unpacker.owner.gid, follow_symlinks=False)


@contextmanager
def _named(link: Base, plan: RestorePlan) -> Iterator[None]:
    """Say which link of a chain is damaged, and which one below it may serve."""
    try:
        yield
    except (ObjectDamaged, VerificationFailed) as error:
        if not plan.base.below:
            raise
        name = link.manifest.recovery_point
        below = f"begin with an older link (--base {link.below[-1].manifest.recovery_point})" if link.below else ""
        older = f" Or {below}: WAL leads on from there." if below else ""
        raise type(error)(
            f"{name}, a link of the chain, is not what was written: {error.what} Nothing was combined.",
            f"Restore from another target (--target).{older} `lifeboat verify --deep` names all that is not good.",
        ) from error
