"""Reading the journal's objects: those of ended days through their bundles."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Lock

from lifeboat.errors import ManifestInvalid
from lifeboat.repository.bundles import Bundles, DayBundle
from lifeboat.repository.layout import bundles_folder, journal_folder
from lifeboat.targets.target import ObjectInfo, Target


class EventObjects:
    """The stored bytes of events on one target; may be asked by several threads, best of all day by day.

    Args:
        target, system: whose journal.
        bundled: whether bundles may be used. Who looks whether the events themselves are good must not.
    """

    def __init__(self, target: Target, system: str, *, bundled: bool = True) -> None:
        self._target = target
        self._begin = journal_folder(system)
        self._bundles = Bundles(target, bundles_folder(system)) if bundled else None
        self._lock = Lock()
        self._day = ""
        self._bundle: DayBundle | None = None

    def read(self, listed: ObjectInfo, believe: Callable[[bytes], None]) -> bytes:
        """An event's bytes.

        Args:
            listed: the event's object, as the target lists it.
            believe: raises ``ManifestInvalid`` for bytes that are not those of this event; what it raises for the
                object itself is raised.

        Raises:
            TargetError: it could not be read.
        """
        bundle = self._bundle_of(listed.key)
        if bundle is not None and bundle.repeats(listed):
            try:
                believe(document := bundle[listed.key])
            except ManifestInvalid as error:
                bundle.refuse(error.what)
            else:
                return document
        believe(document := self._target.read(listed.key))
        return document

    def _bundle_of(self, key: str) -> DayBundle | None:
        if self._bundles is None:
            return None
        day = "".join(key.removeprefix(self._begin).split("/")[:3])
        with self._lock:
            if day != self._day:
                self._bundle = None  # no more than one day's is held
                self._bundle = self._bundles.of(day) if day in self._bundles.days else None
                self._day = day
            return self._bundle


def journal_days(target: Target, system: str, tick: Callable[[], None] = lambda: None) -> Iterable[str]:
    """The journal's folders of days, newest first.

    Args:
        tick: called before each; may raise to stop.
    """
    root = journal_folder(system)
    for year in reversed(target.list_folders(root)):
        for month in reversed(target.list_folders(f"{root}{year}/")):
            for day in reversed(target.list_folders(f"{root}{year}/{month}/")):
                tick()
                yield f"{root}{year}/{month}/{day}/"
