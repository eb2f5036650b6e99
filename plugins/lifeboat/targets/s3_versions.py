"""Removing an object for good: every version of it, and every mark that says it was deleted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

from lifeboat.errors import TargetError
from lifeboat.targets.background import interruptible
from lifeboat.targets.s3_errors import DENIED, NOT_DONE, Speaker, code_of
from lifeboat.targets.s3_locks import Lock, look

_GONE = frozenset({"NoSuchKey", "NoSuchVersion", "404"})
_REFUSED = DENIED | {"ObjectLocked", "InvalidRequest"}


@dataclass(frozen=True)
class _Version:
    id: str
    is_marker: bool
    is_latest: bool


def dispose(client: Any, speaker: Speaker, address: dict[str, str], key: str) -> None:
    """Remove every version of exactly one key; one that is gone already is no error. No lock is ever passed.

    What was written before goes first, the newest version after it, delete markers last: however far this comes, an old
    version is never seen as the object again.

    Args:
        client: a boto3 S3 client.
        speaker: makes the messages.
        address: ``Bucket`` and ``Key``.
        key: the object's key, for messages.

    Raises:
        TargetError: a version is locked, or the account may not remove versions.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/DeletingObjectVersions.html
    """
    with speaker.translated(f"removing {key}", key):
        try:
            versions = list(_versions(client, speaker, address))
        except Exception as error:
            if code_of(error) in NOT_DONE:
                _delete(client, address)  # a store without versions
                return
            if code_of(error) in DENIED:
                raise TargetError(
                    f"{speaker.title}: removing {key} failed: {speaker.endpoint} does not let this account "
                    "list versions.",
                    f"Allow s3:ListBucketVersions on {speaker.bucket} to the account that applies retention.",
                ) from error
            raise
        for version in sorted(versions, key=lambda one: (one.is_marker, one.is_latest)):
            try:
                _delete(client, address, VersionId=version.id)
            except Exception as error:
                if code_of(error) not in _REFUSED:
                    raise
                raise _refused(client, speaker, address, key, version, error) from error


def _versions(client: Any, speaker: Speaker, address: dict[str, str]) -> Iterator[_Version]:
    asked: dict[str, Any] = {"Bucket": address["Bucket"], "Prefix": address["Key"]}
    while True:
        page = interruptible(partial(client.list_object_versions, **asked))
        others = False
        for kind in ("Versions", "DeleteMarkers"):
            for found in page.get(kind, ()):
                if found["Key"] == address["Key"]:
                    yield _Version(found["VersionId"], kind == "DeleteMarkers", bool(found.get("IsLatest")))
                else:
                    others = True
        # A key comes before all those that it is the beginning of.
        if not page.get("IsTruncated") or others:
            return
        following = {"KeyMarker": page.get("NextKeyMarker"), "VersionIdMarker": page.get("NextVersionIdMarker")}
        if not following["KeyMarker"] or following.items() <= asked.items():
            raise TargetError(
                f"{speaker.title}: the store says that its listing of versions goes on, but not where.",
                "Look for a newer version of the store: a version that is not listed would stay for ever.",
            )
        asked |= {name: value for name, value in following.items() if value}


def _delete(client: Any, address: dict[str, str], **version: str) -> None:
    try:
        interruptible(lambda: client.delete_object(**address, **version))
    except Exception as error:
        if code_of(error) not in _GONE:
            raise


def _refused(
    client: Any, speaker: Speaker, address: dict[str, str], key: str, version: _Version, error: Exception
) -> TargetError:
    """Why a version was not removed, as far as the store tells: a lock, or a right that is missing."""
    begin = f"{speaker.title}: {key} can't be removed"
    lock: Lock | None = None
    seen = True
    try:
        lock = None if version.is_marker else look(client, address, VersionId=version.id)
    except Exception as unseen:
        if not code_of(unseen):
            raise
        seen = False
    if lock is not None and lock.held:
        return TargetError(
            f"{begin}: the store holds it (a legal hold).",
            "It goes when whoever set the hold has lifted it: the next cleanup tries again.",
        )
    if lock is not None and lock.retained_until is not None and lock.retained_until > _moment_of(error):
        return TargetError(
            f"{begin}: the store has locked it until {lock.retained_until:%Y-%m-%d %H:%M:%S} UTC ({lock.mode}).",
            "It goes when the lock has ended: a cleanup after that removes it.",
        )
    unsure = "" if seen else " If it is allowed, the object is locked, and s3:GetObjectRetention would show until when."
    return TargetError(
        f"{begin}: {speaker.endpoint} answered {code_of(error)}.",
        f"Allow s3:DeleteObjectVersion on {speaker.bucket} to the account that applies retention.{unsure}",
    )


def _moment_of(error: Any) -> datetime:
    """When the store refused, by its own clock: locks end by that one."""
    said = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    # Without a date whatever is locked may still be.
    return parsedate_to_datetime(said).astimezone(UTC) if said else datetime.min.replace(tzinfo=UTC)
