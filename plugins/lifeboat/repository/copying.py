"""Copies: the stored bytes of a recovery point carried from one target to another, as they are.

No key is needed and nothing is opened. What was carried is hashed on the way, and the copy is committed only when every
object arrived as the manifest says.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from threading import Event

from lifeboat.errors import AlreadyCommitted, Cancelled, ObjectDamaged, ObjectExists
from lifeboat.repository.catalogue import Catalogue, Copy
from lifeboat.repository.commit import refuse_if_committed
from lifeboat.repository.side_by_side import side_by_side
from lifeboat.streams.digests import DigestingReader
from lifeboat.streams.reading import compare
from lifeboat.streams.stored import StoredVolume
from lifeboat.targets.target import Readable, Target

SIDE_BY_SIDE = 3
"""Objects under way at once: WAL runs have many small ones, and a distant target answers slowly."""


class _Counting:
    """Tells how much arrives, and ends when the other objects' fate makes this one pointless."""

    def __init__(self, source: Readable, passed: Callable[[int], None], stop: Event) -> None:
        self._source = source
        self._passed = passed
        self._stop = stop

    def read(self, size: int = -1, /) -> bytes:
        if self._stop.is_set():
            raise Cancelled("The copy was given up.")
        data = self._source.read(size)
        self._passed(len(data))
        return data


def copy(
    origin: Target,
    catalogue: Catalogue,
    original: Copy,
    *,
    retain_until: datetime | None = None,
    passed: Callable[[int], None] = lambda _: None,
) -> Copy:
    """Carry a recovery point to another target and commit it there.

    An object that is there already in its full size is carried again nevertheless: only bytes that were hashed on this
    way count.

    Args:
        origin: where it is read.
        catalogue: of the target it is carried to.
        original: the committed recovery point.
        retain_until: the object lock of everything that is carried, if the target sets one.
        passed: told the bytes that arrive, for progress.

    Raises:
        ObjectDamaged: an object on ``origin`` is not what its manifest says; nothing is committed.
        AlreadyCommitted: another manifest is committed for this recovery point on that target.
        TargetError: one of both targets failed.
    """
    target = catalogue.target
    manifest = original.manifest
    with suppress(AlreadyCommitted):
        refuse_if_committed(target, manifest.folder)
        folder = manifest.folder.attempt(manifest.attempt)
        volumes = [volume for stream in manifest.streams for volume in stream.volumes]
        stop = Event()
        side_by_side(
            lambda volume: _carry(origin, target, folder, volume, retain_until, passed, stop),
            volumes,
            at_once=SIDE_BY_SIDE,
            name=f"copy to {target.name}",
            stop=stop,
        )
        _put_same(target, manifest.folder.signature(manifest.attempt), original.signature, retain_until)
        with suppress(ObjectExists):
            target.put_new(manifest.folder.manifest, original.document, retain_until=retain_until)
    present = catalogue.read(manifest.folder)
    if present.sha256 != original.sha256:
        raise AlreadyCommitted(
            f"Target {target.name} has another attempt of {manifest.recovery_point} than {origin.name}.",
            "Both are whole, but they are not copies of each other; start a new run for a new recovery point.",
        )
    return present


def _put_same(target: Target, key: str, data: bytes, retain_until: datetime | None) -> None:
    try:
        target.put_new(key, data, retain_until=retain_until)
    except ObjectExists:
        if target.read(key) != data:
            raise


def _carry(
    origin: Target,
    target: Target,
    folder: str,
    volume: StoredVolume,
    retain_until: datetime | None,
    passed: Callable[[int], None],
    stop: Event,
) -> None:
    key = folder + volume.file
    with origin.open(key) as body:
        digesting = DigestingReader(_Counting(body, passed, stop))
        checked = _EndChecked(digesting, volume, f"{key} on {origin.name}")
        # A dead worker's copy may still be under way beside its retry's, under the same keys.
        if target.put(key, checked, retain_until=retain_until, shared=True) != volume.stored_size:
            raise ObjectDamaged(
                f"Target {target.name} took {key} for complete before its end.",
                "Nothing was committed there; look at that target's own log.",
            )


class _EndChecked:
    """Raises at the end of the stream, before the target completes the object, when it was not the right one."""

    def __init__(self, digesting: DigestingReader, volume: StoredVolume, what: str) -> None:
        self._digesting = digesting
        self._volume = volume
        self._what = what

    def read(self, size: int = -1, /) -> bytes:
        data = self._digesting.read(size)
        if len(data) < size or size < 0 or not data:
            if not data or not (rest := self._digesting.read(1)):
                compare(self._digesting, self._volume, self._what)
            else:
                data += rest
        return data
