"""Making a recovery point exist: its objects checked, its manifest signed, and the commit mark written last."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO

from lifeboat.errors import AlreadyCommitted, ObjectDamaged, ObjectExists, RepositoryError
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.layout import RecoveryPointFolder
from lifeboat.repository.manifest import Manifest, Previous, WrappedKey
from lifeboat.repository.side_by_side import side_by_side
from lifeboat.repository.signing import Signer
from lifeboat.streams.encryption import wrapping_keys_of
from lifeboat.streams.keys import WrappingKey
from lifeboat.streams.stored import StoredStream
from lifeboat.targets.target import Target

LARGEST_HEADER_BYTES = 64 * 1024
READERS = 4


@dataclass(frozen=True)
class Place:
    """The next place in a row of recovery points of one kind."""

    sequence: int
    previous: Previous | None


def next_place(copies: Iterable[Copy]) -> Place:
    """The place after the newest of ``copies``, all of one kind."""
    newest = max(copies, key=lambda copy: copy.manifest.sequence, default=None)
    if newest is None:
        return Place(1, None)
    return Place(
        newest.manifest.sequence + 1,
        Previous(recovery_point=newest.manifest.recovery_point, sha256=newest.sha256),
    )


def newest_id(copies: Iterable[Copy]) -> str | None:
    """The id of the newest of ``copies``; ``None`` without any."""
    newest = max(copies, key=lambda copy: copy.manifest.recovery_point, default=None)
    return newest.manifest.recovery_point if newest is not None else None


def refuse_if_committed(target: Target, folder: RecoveryPointFolder) -> None:
    """Insist on a recovery point's not being committed yet.

    Raises:
        AlreadyCommitted: it is.
    """
    if target.stat(folder.manifest) is not None:
        raise AlreadyCommitted(
            f"The recovery point {folder.path} is committed on target {target.name} already.",
            "Nothing is left to do for it; start a new run for a new recovery point.",
        )


def commit(target: Target, manifest: Manifest, signer: Signer, *, retain_until: datetime | None = None) -> Copy:
    """Check what was stored, then sign the manifest and write the commit mark.

    Args:
        retain_until: the object lock of the volumes, which the manifest and its signature get as well.

    Raises:
        AlreadyCommitted: another attempt was committed meanwhile; this one stays uncommitted and is cleaned up later.
        ObjectDamaged: an object is not there in its size, or its data key is not wrapped by the keys it should be.
        KeyUnavailable: the signing key is not valid at this time: nobody would believe the manifest.
    """
    signer.insist_on_validity(manifest.committed)
    folder = manifest.folder
    refuse_if_committed(target, folder)
    check_stored(target, manifest)
    document = manifest.to_json()
    signature = signer.signature_file(document)
    atomic = target.conditional_writes
    target.put_new(folder.signature(manifest.attempt), signature, retain_until=retain_until)
    try:
        target.put_new(folder.manifest, document, retain_until=retain_until)
    except ObjectExists as error:
        raise _lost(target, manifest) from error
    if not atomic and target.read(folder.manifest) != document:
        # Both had looked, and the other one wrote last: what is there now is what counts.
        raise _lost(target, manifest)
    return Copy(manifest, document, signature, target.name)


def _lost(target: Target, manifest: Manifest) -> AlreadyCommitted:
    return AlreadyCommitted(
        f"Another attempt of {manifest.recovery_point} was committed on target {target.name} first.",
        "Nothing is lost: that attempt is whole; this one's objects go with the next clean-up.",
    )


def check_stored(target: Target, manifest: Manifest) -> None:
    """Insist on each object's size, and on its header naming exactly the manifest's keys, both as the target has them.

    Raises:
        ObjectDamaged: one differs.
    """
    wanted = {WrappingKey(key.provider, key.name) for key in manifest.wrapped_keys}
    folder = manifest.folder.attempt(manifest.attempt)
    side_by_side(
        lambda stream: _check_stream(target, folder, stream, wanted),
        manifest.streams,
        at_once=READERS,
        name="read back",
    )


def _check_stream(target: Target, folder: str, stream: StoredStream, wanted: set[WrappingKey]) -> None:
    for volume in stream.volumes:
        key = folder + volume.file
        what = f"{key} on {target.name}"
        info = target.stat(key)
        if info is None or info.size != volume.stored_size:
            found = "is not there" if info is None else f"has {info.size} bytes"
            raise ObjectDamaged(
                f"{what} {found} after it was stored with {volume.stored_size} bytes.",
                "The target loses or changes what it accepts: look at its own log before the next attempt.",
            )
        with target.open(key) as body:
            found_keys = wrapping_keys_of(BytesIO(body.read(LARGEST_HEADER_BYTES)), what)
        if found_keys != wanted:
            raise ObjectDamaged(
                f"{what} is wrapped by {_names(found_keys)} instead of {_names(wanted)}.",
                "It was exchanged, or a key was left out while it was sealed; run the backup again.",
            )


def _names(keys: Iterable[WrappingKey]) -> str:
    return ", ".join(sorted(key.name for key in keys)) or "no key"


def wrapped_keys(keys: Iterable[WrappingKey]) -> tuple[WrappedKey, ...]:
    """The keys as a manifest lists them, in a fixed order."""
    ordered = sorted(keys, key=lambda key: (key.provider, key.name))
    return tuple(WrappedKey(provider=key.provider, name=key.name) for key in ordered)


def keep_policy(target: Target, key: str, text: bytes) -> None:
    """Keep a policy beside the recovery points made by it; one that is there already is left as it is.

    Raises:
        RepositoryError: something else lies under the policy's digest.
    """
    try:
        target.put_new(key, text)
    except ObjectExists:
        if target.read(key) != text:
            raise RepositoryError(
                f"{key} on target {target.name} is not the policy whose digest it bears.",
                "Somebody changed it there. Find out who can write to the target.",
            ) from None
