"""Writing day bundles after a day has ended: the journal's, and those of a source's WAL, on each target by itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TypeVar

from lifeboat.errors import (
    Cancelled,
    LifeboatError,
    ManifestInvalid,
    ObjectExists,
    RecoveryPointMissing,
    TargetError,
    TargetFull,
    TargetUnavailable,
)
from lifeboat.repository.bundles import Bundles, BundleWriter
from lifeboat.repository.event_reading import EventObjects, journal_days
from lifeboat.repository.journal import read_event
from lifeboat.repository.layout import RecoveryPointFolder, bundles_folder, journal_folder
from lifeboat.repository.side_by_side import side_by_side
from lifeboat.repository.system import SystemRepository
from lifeboat.targets.target import ObjectInfo

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

SETTLED = timedelta(hours=1)
"""So long after its end a day is left alone: runs that began in it still commit and copy."""
LOOKED_BACK = 3
"""Ended days that a backup's run looks at; older ones are for `lifeboat bundle`."""
AT_ONCE = 16
_PIECE = 16 * AT_ONCE


@dataclass(frozen=True)
class Bundled:
    """A bundle that was written.

    Attributes:
        key: its key.
        objects: how many objects it repeats.
        stored_size: its bytes at rest.
    """

    key: str
    objects: int
    stored_size: int


def bundle_by_the_way(repository: SystemRepository, source: str, target: str) -> None:
    """Write what the last days lack on a target, at the end of a run: one day of the journal at most, and one of the
    source's WAL. Where it can't be done the log says so and nothing fails: reading takes longer then."""
    newest = _newest_ended(repository.outside.clock())
    days = [_day(newest - timedelta(days=age)) for age in range(LOOKED_BACK)]
    bundler = Bundler(repository, target)
    try:
        for _ in (*islice(bundler.journal(days), 1), *islice(bundler.wal(source, days), 1)):
            pass
    except Cancelled:
        raise
    except LifeboatError as error:
        _log.warning("No day bundle was written on target %s, and reading takes longer without: %s", target, error)


def _newest_ended(now: datetime) -> datetime:
    return now.astimezone(UTC) - SETTLED - timedelta(days=1)


def _day(moment: datetime) -> str:
    return moment.strftime("%Y%m%d")


class Bundler:
    """Writes the bundles that a target lacks, each when the next one is asked for.

    A day that has one is left alone: what came after it is read singly. Two that write at once do no harm: they write
    the same object, or, having seen different things, one each.

    Args:
        repository, target: where.
        tick: called between reads; may raise to stop.
    """

    def __init__(self, repository: SystemRepository, target: str, tick: Callable[[], None] = lambda: None) -> None:
        self._repository = repository
        self._name = target
        self._tick = tick
        self._newest = _day(_newest_ended(repository.outside.clock()))

    def journal(self, days: Sequence[str] | None = None) -> Iterator[Bundled]:
        """Those of the journal.

        Args:
            days: of these days (``20261122``), in this order; of all that have ended when ``None``.

        Raises:
            TargetError: the target failed; what is written stays.
        """
        repository = self._repository
        store, system = repository.target(self._name), repository.system
        bundles = Bundles(store, bundles_folder(system))
        objects = EventObjects(store, system, bundled=False)
        begin = journal_folder(system)

        def read(info: ObjectInfo) -> Mapping[str, bytes]:
            self._tick()
            return {info.key: read_event(objects, info, repository.trusted)[1]}

        if days is None:
            folders = journal_days(store, system, self._tick)
            days = [folder.removeprefix(begin).replace("/", "") for folder in folders]
        for day in self._lacking(bundles, days):
            listed = list(store.list(f"{begin}{day[:4]}/{day[4:6]}/{day[6:]}/"))
            yield from self._write(bundles, day, read, listed)

    def wal(self, source: str, days: Sequence[str] | None = None) -> Iterator[Bundled]:
        """Those of a source's WAL; as :meth:`journal`."""
        catalogue = self._repository.catalogue(self._name)
        bundles = Bundles(catalogue.target, bundles_folder(catalogue.system, source))
        if days is not None and not self._lacking(bundles, days):
            return
        by_day: dict[str, list[RecoveryPointFolder]] = {}
        for folder in catalogue.wal_folders(source):
            by_day.setdefault(folder.day, []).append(folder)

        def read(folder: RecoveryPointFolder) -> Mapping[str, bytes]:
            self._tick()
            copy = catalogue.read(folder)
            return {folder.manifest: copy.document, folder.signature(copy.manifest.attempt): copy.signature}

        for day in self._lacking(bundles, sorted(by_day, reverse=True) if days is None else days):
            yield from self._write(bundles, day, read, by_day.get(day, ()))

    def _lacking(self, bundles: Bundles, days: Iterable[str]) -> list[str]:
        return [day for day in days if day <= self._newest and day not in bundles.days]

    def _write(
        self, bundles: Bundles, day: str, read: Callable[[_T], Mapping[str, bytes]], wanted: Sequence[_T]
    ) -> Iterator[Bundled]:
        """Write a day's bundle, unless there is nothing that it could hold."""
        writer = BundleWriter(bundles.folder, day)

        def read_if_good(one: _T) -> Mapping[str, bytes]:
            try:
                return read(one)
            except (TargetUnavailable, TargetFull):
                raise
            except (ManifestInvalid, RecoveryPointMissing, TargetError):
                return {}  # Whoever wants it reads it, and says what is wrong with it.

        for first in range(0, len(wanted), _PIECE):
            some = wanted[first : first + _PIECE]
            found = side_by_side(read_if_good, some, at_once=AT_ONCE, name="read for a bundle")
            if not all([writer.add(texts) for texts in found]):
                break  # It is full: the rest is read singly.
        if writer.objects == 0:
            return
        name, stored = writer.finish()
        store = self._repository.target(self._name)
        with suppress(ObjectExists):
            store.put_new(bundles.folder + name, stored)
        _log.info("%s%s on target %s repeats %d objects", bundles.folder, name, self._name, writer.objects)
        yield Bundled(bundles.folder + name, writer.objects, len(stored))
