"""Which recovery point the present state is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lifeboat.configuration.details import ConfigurationDetails, configuration_details
from lifeboat.configuration.fingerprints import Fingerprints
from lifeboat.configuration.items import Indexed
from lifeboat.configuration.reading import fingerprints_of, index_of
from lifeboat.errors import Cancelled, LifeboatError, ObjectDamaged, TargetUnavailable
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.snapshots import in_order
from lifeboat.repository.system import SystemRepository

CANDIDATES = 3
"""So many of the newest are asked for their key; where none opens, fingerprints begin anew."""


@dataclass(frozen=True)
class Before:
    """The newest recovery point that can be believed.

    Attributes:
        fingerprints: with its key, which is carried on.
        newest: whether there is no newer one: only then an equal set needs no recovery point of its own.
    """

    copy: Copy
    details: ConfigurationDetails
    index: list[Indexed]
    fingerprints: Fingerprints
    newest: bool


def newest_believable(
    repository: SystemRepository, shown: Iterable[Copy], tick: Callable[[], None]
) -> tuple[Before | None, str]:
    """The newest recovery point whose manifest is signed, whose objects all lie there in their sizes, and whose key and
    index open; and where that is not the newest of all, why.

    Args:
        shown: the recovery points on the primary target that readers see.

    Raises:
        TargetUnavailable: the target does not answer.
    """
    reason = ""
    for number, copy in enumerate(reversed(in_order(shown)[-CANDIDATES:])):
        tick()
        try:
            _insist_on_objects(repository, copy)
            found = Before(
                copy,
                configuration_details(copy.manifest),
                index_of(repository, copy),
                fingerprints_of(repository, copy),
                newest=not number,
            )
        except (Cancelled, TargetUnavailable):
            raise
        except LifeboatError as error:
            reason = reason or f"{copy.manifest.recovery_point} could not be compared with: {error.what}"
            continue
        return found, reason
    return None, reason


def _insist_on_objects(repository: SystemRepository, copy: Copy) -> None:
    target = repository.target(copy.target)
    folder = copy.manifest.folder.attempt(copy.manifest.attempt)
    for stream in copy.manifest.streams:
        for volume in stream.volumes:
            info = target.stat(folder + volume.file)
            if info is None or info.size != volume.stored_size:
                raise ObjectDamaged(f"{volume.file} is not there as it was stored.", "Use another target's copy.")
