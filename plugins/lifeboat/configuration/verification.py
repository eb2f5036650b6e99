"""Opening a recovery point of a configuration: every item's bytes against its fingerprint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lifeboat.configuration.details import configuration_details
from lifeboat.configuration.fingerprints import same
from lifeboat.configuration.gathered import printable
from lifeboat.configuration.items import counts
from lifeboat.configuration.reading import fingerprints_of, index_of, items_of
from lifeboat.errors import VerificationFailed
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.system import SystemRepository
from lifeboat.repository.verification import Verified

MOST_SHOWN = 20


def verify_configuration(
    repository: SystemRepository,
    target: str,
    copy: Copy,
    *,
    passed: Callable[[int], None],
    tick: Callable[[], None],
) -> tuple[Verified, dict[str, Any]]:
    """Read the index and the tar, compare each item with its fingerprint, and the set with the manifest.

    Raises:
        VerificationFailed: an item is not what the index says, or the index is not what the manifest says.
        ObjectDamaged: an object is not what was written.
    """
    manifest, details = copy.manifest, configuration_details(copy.manifest)
    fingerprints = fingerprints_of(repository, copy, passed)
    index = index_of(repository, copy, passed)
    what = f"{manifest.recovery_point} on {target}"
    size = sum(one.size for one in index)
    if (
        counts(index) != details.items
        or size != details.size
        or not same(fingerprints.of_set(index, details.unread, details.unread_count), details.fingerprint)
    ):
        raise VerificationFailed(
            f"The index of {what} is not the one that its manifest speaks of.", "Do not restore from it."
        )
    wanted = {one.about.name: one for one in index}
    wrong: list[str] = []
    with items_of(repository, copy, passed) as items:
        for name, content in items:
            tick()
            one = wanted.pop(name, None)
            if one is None or not same(fingerprints.of(one.about, content), one.fingerprint):
                wrong.append(name)
    wrong += wanted
    if wrong:
        more = f" and {len(wrong) - MOST_SHOWN} more" if len(wrong) > MOST_SHOWN else ""
        raise VerificationFailed(
            f"{len(wrong)} items of {what} are not as its index says: "
            f"{printable(', '.join(wrong[:MOST_SHOWN]))}{more}.",
            "Do not restore these from this copy; the other targets' copies are verified on their own.",
        )
    objects = sum(len(stream.volumes) for stream in manifest.streams)
    return Verified("deep", objects, manifest.stored_size, size), {"items": details.count, "size": size}
