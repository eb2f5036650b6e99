"""What a policy asks an S3 store to do with each object, and the proof that it did."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from lifeboat.targets.s3_parts import crc32_text


@dataclass(frozen=True)
class StoreOptions:
    """How objects are stored.

    Attributes:
        sse: ``"aws:kms"`` or ``"AES256"``: encryption by the store itself.
        sse_kms_key: id, ARN or alias of the key for ``"aws:kms"``.
        storage_class: such as ``"STANDARD_IA"``.
        checksums: ``"when_supported"`` sends a CRC-32 with every object; ``"when_required"`` sends none.
        object_lock: ``"GOVERNANCE"`` or ``"COMPLIANCE"``: the mode of locks.
    """

    sse: str | None = None
    sse_kms_key: str | None = None
    storage_class: str | None = None
    checksums: str = "when_supported"
    object_lock: str | None = None

    @property
    def sends_checksums(self) -> bool:
        return self.checksums == "when_supported"

    def lock_until(self, retain_until: datetime | None) -> datetime | None:
        """The end of the lock in whole seconds, never before ``retain_until``; ``None``: no lock is asked for."""
        if self.object_lock is None or retain_until is None:
            return None
        return in_whole_seconds(retain_until)

    def of_object(self, lock_until: datetime | None) -> dict[str, Any]:
        """Arguments of ``put_object`` and ``create_multipart_upload``."""
        asked: dict[str, Any] = {
            "ServerSideEncryption": self.sse,
            "SSEKMSKeyId": self.sse_kms_key,
            "StorageClass": self.storage_class,
        }
        if lock_until is not None:
            asked |= {"ObjectLockMode": self.object_lock, "ObjectLockRetainUntilDate": lock_until}
        return {name: value for name, value in asked.items() if value is not None}

    def of_body(self, view: memoryview, crc32: int, lock_until: datetime | None) -> dict[str, Any]:
        """Arguments that let the store check the bytes of ``put_object`` or ``upload_part``.

        S3 refuses to lock an object that comes without any checksum; then its MD5 is sent, which every store knows.
        Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html
        """
        if self.sends_checksums:
            return {"ChecksumAlgorithm": "CRC32", "ChecksumCRC32": crc32_text(crc32)}
        if lock_until is not None:
            digest = hashlib.md5(view, usedforsecurity=False).digest()
            return {"ContentMD5": base64.b64encode(digest).decode()}
        return {}

    def must_be_confirmed(self, lock_until: datetime | None) -> bool:
        """Whether something was asked for that a store may answer with 200 and not do."""
        return bool(self.sse or self.storage_class or lock_until)

    def missing(
        self, head: Mapping[str, Any], answer: Mapping[str, Any] | None, lock_until: datetime | None
    ) -> list[str]:
        """What the store does not show of what was asked for; empty when all is there.

        Args:
            head: the answer of ``head_object``.
            answer: that of ``put_object`` or ``create_multipart_upload``, which names the encryption in a store that
                encrypts: rclone's server encrypts nothing and repeats the header in ``head_object`` alone. ``None``
                when it was lost.
            lock_until: the end of the lock that was asked for.
        """
        faults = []
        shown = {head.get("ServerSideEncryption"), (head if answer is None else answer).get("ServerSideEncryption")}
        if self.sse and shown != {self.sse}:
            faults.append(f"encryption {self.sse}")
        elif self.sse_kms_key and not _same_key(self.sse_kms_key, str(head.get("SSEKMSKeyId", ""))):
            faults.append(f"the key {self.sse_kms_key} (it has {head.get('SSEKMSKeyId') or 'none'})")
        if self.storage_class and head.get("StorageClass", "STANDARD") != self.storage_class:
            faults.append(f"storage class {self.storage_class} (it has {head.get('StorageClass', 'STANDARD')})")
        if lock_until is not None:
            until = head.get("ObjectLockRetainUntilDate")
            if head.get("ObjectLockMode") != self.object_lock or until is None or until < lock_until:
                faults.append(f"a {self.object_lock} lock until {lock_until.isoformat()}")
        return faults


def in_whole_seconds(moment: datetime) -> datetime:
    """A moment in UTC and whole seconds, as stores keep it; never an earlier one."""
    until = moment.astimezone(UTC)
    return until.replace(microsecond=0) + timedelta(seconds=1 if until.microsecond else 0)


def _same_key(asked: str, shown: str) -> bool:
    # S3 shows the key's ARN. An alias can't be compared with it: then the kind of encryption is all that is proven.
    if asked.startswith("alias/") or ":alias/" in asked:
        return bool(shown)
    return asked.rpartition("/")[2] == shown.rpartition("/")[2]
