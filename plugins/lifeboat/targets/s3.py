"""A bucket of an S3 store as a target: ``s3://``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from lifeboat.errors import TargetError
from lifeboat.outside import Outside
from lifeboat.targets.background import interruptible
from lifeboat.targets.keys import check_key, check_prefix, fault_of_key
from lifeboat.targets.s3_check import CHECK_KEY, check, honours_conditions
from lifeboat.targets.s3_errors import Speaker, code_of, without_credentials
from lifeboat.targets.s3_listing import abort, pages, uploads
from lifeboat.targets.s3_locks import Locks
from lifeboat.targets.s3_once import put_once
from lifeboat.targets.s3_options import StoreOptions
from lifeboat.targets.s3_parts import crc32_value
from lifeboat.targets.s3_reading import ResumedReading, too_large
from lifeboat.targets.s3_rules import look_at_rules
from lifeboat.targets.s3_upload import Upload
from lifeboat.targets.s3_versions import dispose
from lifeboat.targets.target import Finding, Kept, ObjectInfo, Readable

_CONNECT_TIMEOUT = 10
_READ_TIMEOUT = 60
_MOST_ATTEMPTS = 5


class S3Target:
    """Objects in a bucket, below a prefix, of AWS or any other store that speaks S3.

    A call that gets no answer is given up after 60 s and tried 5 times in all, with growing pauses.

    Args:
        name: the target's name in the policy.
        bucket: the bucket; it must exist.
        prefix: what stands before every key, without slashes at its ends; may be empty.
        outside: makes the boto3 client.
        connection: the connection's id; ``None``: the machine's own credentials.
        sse: encryption by the store: ``"aws:kms"``, ``"AES256"`` or ``None``.
        sse_kms_key: id, ARN or alias of its key, with ``"aws:kms"``; ``None``: the bucket's default key.
        storage_class: of new objects; ``None``: the bucket's default.
        checksums: ``"when_supported"`` sends a CRC-32 with each object; ``"when_required"`` sends none, for stores
            that don't understand them.
        object_lock: ``"governance"`` or ``"compliance"``: objects stored with ``retain_until`` are locked until then.
        concurrency: parts of an upload that are under way at once, each with 8 MiB of memory.
        read_timeout: seconds without an answer after which a call is given up.
        attempts: how often a call is made in all.
    """

    def __init__(
        self,
        name: str,
        *,
        bucket: str,
        prefix: str = "",
        outside: Outside,
        connection: str | None = None,
        sse: str | None = None,
        sse_kms_key: str | None = None,
        storage_class: str | None = None,
        checksums: str = "when_supported",
        object_lock: str | None = None,
        concurrency: int = 3,
        read_timeout: float = _READ_TIMEOUT,
        attempts: int = _MOST_ATTEMPTS,
    ) -> None:
        self._name = name
        self._bucket = bucket
        self._root = f"{prefix}/" if prefix else ""
        self._concurrency = concurrency
        mode = object_lock.upper() if object_lock else None
        self._options = StoreOptions(sse, sse_kms_key, storage_class, checksums, mode)
        # Answers are not checked by botocore: rclone's server answers a Range with the checksum of the whole object.
        # Whoever reads an object compares its SHA-256 with the manifest.
        self._client: Any = outside.aws_client(
            "s3",
            connection,
            connect_timeout=_CONNECT_TIMEOUT,
            read_timeout=read_timeout,
            retries={"mode": "standard", "total_max_attempts": attempts},
            max_pool_connections=concurrency + 4,
            tcp_keepalive=True,
            request_checksum_calculation=checksums,
            response_checksum_validation="when_required",
        )
        self._speaker = Speaker(name, bucket, without_credentials(str(self._client.meta.endpoint_url)))
        self._honours_conditions: bool | None = None
        self._locks = Locks(self._client, self._speaker, mode)

    @property
    def name(self) -> str:
        return self._name

    @property
    def url(self) -> str:
        return f"s3://{self._bucket}/{self._root}".rstrip("/")

    @property
    def conditional_writes(self) -> bool:
        """Whether the store honours If-None-Match; where unknown it is tried out on the object ``.lifeboat-check``.

        Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        """
        if self._honours_conditions is None:
            with self._speaker.translated("trying out conditional writes"):
                self._honours_conditions = honours_conditions(self._client, self._own(CHECK_KEY), self._options)
        return self._honours_conditions

    def check(self, kept: Kept | None = None) -> list[Finding]:
        """Findings on: the bucket, writing to it, conditional writes, checksums, encryption, object lock, TLS; with
        ``kept``, on its versions and the rules of its lifecycle, too."""
        subject = f"target {self._name}"
        findings, self._honours_conditions = check(
            self._client, self._speaker, self._own(CHECK_KEY), self._options, subject
        )
        if kept is not None and not any(finding.severity == "error" for finding in findings):
            with self._speaker.translated(f"asking for the rules of {self._bucket}"):
                findings += look_at_rules(self._client, self._bucket, self._root, kept, subject)
        return findings

    def put(self, key: str, body: Readable, *, retain_until: datetime | None = None, shared: bool = False) -> int:
        """As the protocol says; at most 40 MiB of memory while parts have 8 MiB (the first 8 GiB of a body).

        Encryption, storage class and lock are read back after the upload; a store that answered 200 and did otherwise
        is an error, and the object is removed, unless it is shared.
        """
        check_key(self._name, key)
        lock_until = self._options.lock_until(retain_until)
        if lock_until is not None:
            self._locks.insist()
        upload = Upload(
            self._client,
            self._speaker,
            self._options,
            self._own(key),
            key,
            concurrency=self._concurrency,
            lock_until=lock_until,
            shared=shared,
        )
        size, _ = upload.run(body)
        if self._options.must_be_confirmed(lock_until):
            upload.confirm(lambda: self._confirm(key, upload.acknowledged, lock_until))
        return size

    def put_new(self, key: str, data: bytes, *, retain_until: datetime | None = None) -> None:
        """As the protocol says. What the store answered 200 to and did not do is an error, too, but the object stays:
        somebody may have read it."""
        check_key(self._name, key)
        lock_until = self._options.lock_until(retain_until)
        if lock_until is not None:
            self._locks.insist()
        if self._honours_conditions is not True and self.stat(key) is not None:
            raise self._speaker.already_there(key)
        with self._speaker.translated(f"storing {key}", key):
            outcome = put_once(
                self._client,
                self._options,
                self._own(key),
                data,
                honours_conditions=self._honours_conditions,
                stored=lambda: self.read(key),
                lock_until=lock_until,
            )
        self._honours_conditions = outcome.honours_conditions
        if outcome.taken:
            raise self._speaker.already_there(key)
        if self._options.must_be_confirmed(lock_until):
            self._confirm(key, outcome.answer or None, lock_until)

    @contextmanager
    def open(self, key: str) -> Iterator[Readable]:
        check_key(self._name, key)
        stream = self._reading(key)
        try:
            yield stream
        finally:
            stream.close()

    def read(self, key: str, *, limit: int = 64 * 1024 * 1024) -> bytes:
        check_key(self._name, key)
        stream = self._reading(key)
        try:
            if stream.size > limit:
                raise too_large(self._name, key, limit)
            return stream.read()
        finally:
            stream.close()

    def _reading(self, key: str) -> ResumedReading:
        address = self._own(key)

        def get(**conditions: Any) -> Any:
            return self._client.get_object(**address, **conditions)

        return ResumedReading(get, self._speaker, key)

    def stat(self, key: str) -> ObjectInfo | None:
        check_key(self._name, key)
        head = self._head(key)
        return None if head is None else ObjectInfo(key, head["ContentLength"], head["LastModified"].astimezone(UTC))

    def stat_each(self, keys: Sequence[str]) -> dict[str, ObjectInfo]:
        """As the protocol says: by listing all that begins as they do, a thousand objects to a request."""
        for key in keys:
            check_key(self._name, key)
        wanted = set(keys)
        begin = os.path.commonprefix(keys)  # noqa: RUF071 - a prefix is characters to S3, and no path
        with self._speaker.translated(f"listing {begin}*"):
            return {
                key: ObjectInfo(key, found["Size"], found["LastModified"].astimezone(UTC))
                for page in (self._pages(begin) if wanted else ())
                for found in page.get("Contents", ())
                if (key := found["Key"].removeprefix(self._root)) in wanted
            }

    def _head(self, key: str, **arguments: Any) -> Any:
        with self._speaker.translated(f"looking at {key}", key):
            try:
                return interruptible(lambda: self._client.head_object(**self._own(key), **arguments))
            except Exception as error:
                if code_of(error) not in ("404", "NoSuchKey", "NotFound"):
                    raise
            # HEAD has no body to say what is missing: the object or the whole bucket.
            interruptible(lambda: self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._root, MaxKeys=1))
            return None

    def list_folders(self, prefix: str) -> list[str]:
        check_prefix(self._name, prefix)
        begin = len(self._root) + len(prefix)
        with self._speaker.translated(f"listing {prefix or self.url}"):
            names = [
                found["Prefix"][begin:-1]
                for page in self._pages(prefix, Delimiter="/")
                for found in page.get("CommonPrefixes", ())
            ]
        return sorted(name for name in names if fault_of_key(name) is None)

    def delete(self, key: str) -> None:
        """As the protocol says; in a bucket with versions the older ones stay, as the bucket's rules want."""
        check_key(self._name, key)
        with self._speaker.translated(f"deleting {key}", key):
            try:
                interruptible(lambda: self._client.delete_object(**self._own(key)))
            except Exception as error:
                if code_of(error) not in ("NoSuchKey", "404"):
                    raise

    def dispose(self, key: str) -> None:
        """As the protocol says: every version of the object and every delete marker; no lock is ever passed."""
        check_key(self._name, key)
        dispose(self._client, self._speaker, self._own(key), key)

    def locked_until(self, key: str) -> datetime | None:
        """As the protocol says; only what is in a bucket that locks by its own configuration is locked."""
        check_key(self._name, key)
        return self._locks.until(self._own(key), key)

    def extend_lock(self, key: str, until: datetime) -> bool:
        """As the protocol says, in the mode that the object is locked in, or else the policy's."""
        check_key(self._name, key)
        return self._locks.extend(self._own(key), key, until)

    def store_crc32(self, key: str) -> int | None:
        """As the protocol says.

        Only a checksum that the store calls FULL_OBJECT counts: rclone's server gives back, unexamined, the header that
        came with an upload, but without that word.
        Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
        """
        check_key(self._name, key)
        if not self._options.sends_checksums:
            return None
        head = self._head(key, ChecksumMode="ENABLED")
        if head is None or head.get("ChecksumType") != "FULL_OBJECT":
            return None
        return crc32_value(str(head.get("ChecksumCRC32", "")))

    def abandon_uploads(self, prefix: str, *, older_than: datetime) -> list[str]:
        """As the protocol says; a store that can't list its uploads in progress has none to abandon."""
        check_prefix(self._name, prefix)
        keys = []
        with self._speaker.translated(f"cleaning up {prefix or self.url}"):
            for full_key, upload, begun in uploads(self._client, self._bucket, f"{self._root}{prefix}"):
                key = full_key.removeprefix(self._root)
                if begun >= older_than or fault_of_key(key) is not None:
                    continue
                if abort(self._client, self._bucket, full_key, upload):
                    keys.append(key)
        return sorted(keys)

    def _pages(self, prefix: str, **arguments: Any) -> Iterator[Any]:
        return pages(self._client, self._speaker.title, self._bucket, f"{self._root}{prefix}", **arguments)

    def _own(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._root}{key}"}

    def _confirm(self, key: str, answer: Mapping[str, Any] | None, lock_until: datetime | None) -> None:
        missing = self._options.missing(self._head(key) or {}, answer, lock_until)
        if missing:
            raise TargetError(
                f"Target {self._name}: the store took {key} but does not show {' and '.join(missing)}.",
                "The store ignores it, or this account may not see it (s3:GetObjectRetention): change one of them, or "
                "take the option out of the policy.",
            )

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        check_prefix(self._name, prefix)
        with self._speaker.translated(f"listing {prefix or self.url}"):
            for page in self._pages(prefix):
                for found in page.get("Contents", ()):
                    key = found["Key"].removeprefix(self._root)
                    if fault_of_key(key) is None:
                        yield ObjectInfo(key, found["Size"], found["LastModified"].astimezone(UTC))
