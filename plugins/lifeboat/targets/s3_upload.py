"""One object on its way into an S3 store: whole, or nothing."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from datetime import datetime
from typing import Any

from lifeboat.errors import TargetError
from lifeboat.targets.background import in_background
from lifeboat.targets.s3_errors import Speaker, code_of, refused, retries_of
from lifeboat.targets.s3_options import StoreOptions
from lifeboat.targets.s3_parts import (
    LARGEST_OBJECT,
    Part,
    PartBody,
    Parts,
    Stopped,
    crc32_text,
    crc32_value,
    parts_in_flight,
)
from lifeboat.targets.target import Readable

# Cancelled work must have ended 3 s later: so long may calls under way take to let go, and so long their abort.
_PATIENCE_FOR_CALLS = 0.8
_PATIENCE_FOR_ABORT = 1.5


class Upload:
    """Stores one body. A small one goes as a single request, a longer one as a multipart upload.

    Memory: the parts under way and the one being filled, 4 × 8 MiB with three threads, and some 2 MiB of pieces:
    34 MiB as long as parts have 8 MiB, however long the body is. See :func:`~lifeboat.targets.s3_parts.part_size`.

    Args:
        client: a boto3 S3 client.
        speaker: makes the messages.
        options: what is asked of the store.
        address: ``Bucket`` and ``Key``.
        key: the key as the target's user knows it.
        concurrency: parts under way at once.
        lock_until: the end of the object's lock; ``None``: none is asked for.
        shared: somebody else may store the same object: none that is to be seen is removed.

    Attributes:
        acknowledged: what the store answered when it was told how to store the object.
    """

    def __init__(
        self,
        client: Any,
        speaker: Speaker,
        options: StoreOptions,
        address: dict[str, str],
        key: str,
        *,
        concurrency: int,
        lock_until: datetime | None,
        shared: bool = False,
    ) -> None:
        self._client = client
        self._speaker = speaker
        self._options = options
        self._address = address
        self._key = key
        self._concurrency = concurrency
        self._lock_until = lock_until
        self._shared = shared
        self._stop = threading.Event()
        self._calls: dict[Future[Any], Part | None] = {}
        self._created: Future[Any] | None = None
        self._may_be_visible = False
        self._sent: dict[int, dict[str, Any]] = {}
        self.acknowledged: dict[str, Any] = {}

    def run(self, body: Readable) -> tuple[int, int]:
        """Store ``body`` to its end; return its size and its CRC-32.

        Raises:
            TargetError: the store failed; nothing is visible, unless the error's notes say otherwise.
            BaseException: what ``body.read`` raised, as it is.
        """
        parts = Parts(body)
        try:
            with self._speaker.translated(f"storing {self._key}", self._key):
                for part in parts:
                    if part.number == 1 and part.last:
                        self._put(part, parts.crc32)
                    else:
                        self._send(part, parts)
                if self._created is not None:
                    self._finish(parts)
        except BaseException as error:
            self._undo(error)
            raise
        return parts.size, parts.crc32

    def _put(self, part: Part, crc32: int) -> None:
        arguments = {
            **self._address,
            **self._options.of_object(self._lock_until),
            **self._options.of_body(part.view, crc32, self._lock_until),
        }
        body = PartBody(part.view, self._stop)
        self._may_be_visible = True
        try:
            answer = self._call(lambda: self._client.put_object(Body=body, **arguments))
        except Exception as error:
            self._may_be_visible = not refused(error)
            raise
        self.acknowledged = answer
        self._compare(answer, crc32)

    def _send(self, part: Part, parts: Parts) -> None:
        if self._created is None:
            arguments = {**self._address, **self._options.of_object(self._lock_until)}
            if self._options.sends_checksums:
                arguments |= {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"}
            self._created = in_background(lambda: self._client.create_multipart_upload(**arguments))
        self.acknowledged = self._created.result()
        upload = self.acknowledged["UploadId"]
        while len(self._calls) >= parts_in_flight(part.number, self._concurrency):
            self._collect(parts)
        self._calls[in_background(lambda: self._send_part(part, upload))] = part
        self._collect(parts, waiting=False)

    def _send_part(self, part: Part, upload: str) -> dict[str, Any]:
        checks = self._options.of_body(part.view, zlib.crc32(part.view), self._lock_until)
        answer = self._client.upload_part(
            Body=PartBody(part.view, self._stop), PartNumber=part.number, UploadId=upload, **self._address, **checks
        )
        sent = {"PartNumber": part.number, "ETag": answer["ETag"]}
        # CompleteMultipartUpload is to repeat a part's checksum exactly where the store gave one.
        if "ChecksumCRC32" in answer:
            sent["ChecksumCRC32"] = answer["ChecksumCRC32"]
        return sent

    def _collect(self, parts: Parts, *, waiting: bool = True) -> None:
        """Take the results of parts that are done, having waited for one if told to; raise what failed a part."""
        done, _ = wait(self._calls, timeout=None if waiting else 0, return_when=FIRST_COMPLETED)
        for future in done:
            part = self._calls.pop(future)
            sent = future.result()
            self._sent[sent["PartNumber"]] = sent
            if part is not None:
                parts.give_back(part)

    def _finish(self, parts: Parts) -> None:
        while self._calls:
            self._collect(parts)
        assert self._created is not None
        if parts.size > LARGEST_OBJECT:
            raise TargetError(
                f"{self._speaker.title}: {self._key} is larger than 5 TiB, the most that S3 takes.",
                "Set a smaller volume size in the policy.",
            )
        arguments: dict[str, Any] = {
            **self._address,
            "UploadId": self._created.result()["UploadId"],
            "MultipartUpload": {"Parts": [self._sent[number] for number in sorted(self._sent)]},
        }
        if self._options.sends_checksums:
            arguments |= {
                "ChecksumCRC32": crc32_text(parts.crc32),
                "ChecksumType": "FULL_OBJECT",
                "MpuObjectSize": parts.size,
            }
        self._may_be_visible = True
        try:
            answer = self._call(lambda: self._client.complete_multipart_upload(**arguments))
        except Exception as error:
            if code_of(error) == "NoSuchUpload" and retries_of(error) and self._is_complete(parts.size):
                return  # the first request had done it, and only its answer was lost
            self._may_be_visible = not refused(error)
            raise
        self._compare(answer, parts.crc32)

    def _is_complete(self, size: int) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            head = self._call(lambda: self._client.head_object(**self._address))
        except (BotoCoreError, ClientError):
            return False
        return bool(head["ContentLength"] == size)

    def _compare(self, answer: dict[str, Any], crc32: int) -> None:
        stored = crc32_value(str(answer.get("ChecksumCRC32", "")))
        if self._options.sends_checksums and stored is not None and stored != crc32:
            raise TargetError(
                f"{self._speaker.title}: the store computed another checksum for {self._key} than was sent.",
                "The bytes were changed on the way or in the store: run it again; look at network and memory.",
            )

    def confirm(self, confirmation: Callable[[], None]) -> None:
        """Look at the stored object; remove it again when the look raises, unless it is shared."""
        try:
            confirmation()
        except BaseException as error:
            self._created = None
            self._undo(error)
            raise

    def _call(self, call: Callable[[], Any]) -> Any:
        future = in_background(call)
        self._calls[future] = None
        result = future.result()
        del self._calls[future]
        return result

    def _undo(self, error: BaseException) -> None:
        """Leave nothing behind, within 3 s; what could not be removed is noted on the error."""
        self._stop.set()
        wait(self._calls, timeout=_PATIENCE_FOR_CALLS)
        undoing = in_background(self._remove)
        done, _ = wait([undoing], timeout=_PATIENCE_FOR_ABORT)
        left = "the store did not answer in time" if not done else None
        if done:
            failure = undoing.exception()
            left = None if failure is None else f"{type(failure).__name__} {code_of(failure)}".strip()
        if left is not None:
            error.add_note(f"Remains of {self._key} may be left on target {self._speaker.target} ({left}).")

    def _remove(self) -> None:
        from botocore.exceptions import ClientError

        if self._created is not None:
            with suppress(Stopped):
                try:
                    upload = self._created.result()["UploadId"]
                except Exception:
                    return  # there never was an upload
                try:
                    self._client.abort_multipart_upload(UploadId=upload, **self._address)
                except ClientError as error:
                    if code_of(error) not in ("NoSuchUpload", "404"):
                        raise
        if self._may_be_visible and not self._shared:
            # The last request may have been carried out although it failed or was left alone.
            self._client.delete_object(**self._address)
