"""What a store can do, found out by trying."""

from __future__ import annotations

import zlib
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from lifeboat.errors import TargetError
from lifeboat.targets.background import interruptible
from lifeboat.targets.keys import RESERVED
from lifeboat.targets.s3_errors import NOT_DONE, Speaker, code_of
from lifeboat.targets.s3_options import StoreOptions
from lifeboat.targets.target import Finding

CHECK_KEY = f"{RESERVED}check"
_DATA = b"Lifeboat looks whether it can write here.\n"
_REFUSED = ("PreconditionFailed", "412")


def check(
    client: Any, speaker: Speaker, address: dict[str, str], options: StoreOptions, subject: str
) -> tuple[list[Finding], bool | None]:
    """The findings on a bucket, and whether it honours conditional writes (``None``: could not be found out).

    Writes the small object at ``address`` and removes it. A credential that can't delete leaves it: one object, always
    the same.
    """
    findings = []
    conditions: bool | None = None
    try:
        with speaker.translated(f"listing {speaker.bucket}"):
            interruptible(lambda: client.list_objects_v2(Bucket=speaker.bucket, MaxKeys=1))
        with speaker.translated(f"writing to {speaker.bucket}"):
            conditions = honours_conditions(client, address, options)
            findings += _checksums(client, address, options, subject)
        findings.append(Finding("ok", subject, f"{speaker.bucket} at {speaker.endpoint} can be written to."))
        findings += _conditions(conditions, subject)
        findings += _locks(client, speaker, options, subject)
    except TargetError as error:
        findings.append(Finding("error", subject, error.what, error.remedy))
    findings += _transport(speaker.endpoint, subject)
    return findings, conditions


def honours_conditions(client: Any, address: dict[str, str], options: StoreOptions) -> bool:
    """Whether If-None-Match keeps a second writer off, tried out on an object of our own.

    Only whoever made the object removes it, so two checks at once never mislead each other: a store that refuses even
    once honours the header. Raises what boto3 raises.
    """
    made = 0
    try:
        for _ in range(2):
            try:
                interruptible(lambda: _write(client, address, options, {"IfNoneMatch": "*"}))
            except Exception as error:
                if code_of(error) in _REFUSED:
                    return True
                if code_of(error) in NOT_DONE:
                    interruptible(lambda: _write(client, address, options, {}))
                    made += 1
                    return False
                raise
            made += 1
        return False
    finally:
        if made:
            _remove(client, address)


def _write(client: Any, address: dict[str, str], options: StoreOptions, condition: dict[str, str]) -> Any:
    checks = options.of_body(memoryview(_DATA), zlib.crc32(_DATA), None)
    return client.put_object(Body=_DATA, **address, **options.of_object(None), **checks, **condition)


def _remove(client: Any, address: dict[str, str]) -> None:
    from botocore.exceptions import ClientError

    # That a backup's credentials can't delete is how it should be.
    with suppress(ClientError):
        interruptible(lambda: client.delete_object(**address))


def _checksums(client: Any, address: dict[str, str], options: StoreOptions, subject: str) -> list[Finding]:
    """Whether the store compares what it gets with the checksum that comes along: it is sent a wrong one."""
    if not options.sends_checksums:
        return []
    wrong = options.of_body(memoryview(_DATA), zlib.crc32(_DATA) ^ 1, None)
    try:
        interruptible(lambda: client.put_object(Body=_DATA, **address, **options.of_object(None), **wrong))
    except Exception as error:
        if code_of(error) in ("BadDigest", "InvalidDigest", "InvalidRequest", "XAmzContentChecksumMismatch", "400"):
            return [Finding("ok", subject, "The store compares each object with its checksum.")]
        raise
    _remove(client, address)
    return [
        Finding(
            "warning",
            subject,
            "The store takes an object whose checksum is wrong: its checksums prove nothing.",
            "Keep verify: read for this target in the policy.",
        )
    ]


def _conditions(conditions: bool, subject: str) -> list[Finding]:
    if conditions:
        return [Finding("ok", subject, "The store keeps a second writer of one object off (If-None-Match).")]
    return [
        Finding(
            "warning",
            subject,
            "The store does not keep a second writer of one object off (it ignores If-None-Match).",
            "Let only one Airflow write to this target.",
        )
    ]


def locks_objects(client: Any, bucket: str) -> bool:
    """Whether the bucket locks objects. Raises what boto3 raises.

    The objects themselves don't tell: rclone's server keeps the lock's headers and shows them, and locks nothing.
    """
    try:
        answer = interruptible(lambda: client.get_object_lock_configuration(Bucket=bucket))
    except Exception as error:
        if code_of(error) in ("ObjectLockConfigurationNotFoundError", *NOT_DONE):
            return False
        raise
    return bool(answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled")


def _locks(client: Any, speaker: Speaker, options: StoreOptions, subject: str) -> list[Finding]:
    if options.object_lock is None:
        return []
    with speaker.translated(f"asking whether {speaker.bucket} locks objects"):
        locks = locks_objects(client, speaker.bucket)
    if locks:
        return [Finding("ok", subject, f"{speaker.bucket} locks objects.")]
    return [
        Finding(
            "error",
            subject,
            f"The policy asks for object locks, but the bucket {speaker.bucket} does not lock.",
            "Make a bucket with object lock enabled, or take object_lock out of the policy.",
        )
    ]


def _transport(endpoint: str, subject: str) -> list[Finding]:
    parts = urlsplit(endpoint)
    if parts.scheme == "https" or parts.hostname in ("127.0.0.1", "localhost", "::1"):
        return []
    return [
        Finding(
            "warning",
            subject,
            f"{endpoint} is spoken to without TLS: anybody on the way sees which objects there are.",
            "Use an https endpoint.",
        )
    ]
