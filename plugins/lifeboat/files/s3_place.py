"""A set of files below a prefix of a bucket: ``s3://``."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from lifeboat.errors import SourceUnreadable, TargetError, TargetUnavailable
from lifeboat.files.entries import Entry
from lifeboat.files.far_taking import FETCHES
from lifeboat.files.object_keys import Listed, SortedKeys, fault_of_object, tree_of
from lifeboat.files.patterns import Selection
from lifeboat.files.walking import Unseen
from lifeboat.outside import Outside
from lifeboat.policy.files_source import FilesSource
from lifeboat.targets.background import awaited, in_background, interruptible
from lifeboat.targets.s3_errors import DENIED, Speaker, code_of, without_credentials
from lifeboat.targets.s3_listing import pages
from lifeboat.targets.s3_reading import ResumedReading

_CONNECT_TIMEOUT = 10
_READ_TIMEOUT = 60
_MOST_ATTEMPTS = 5
_TRIED_OUT = 5
_GONE = frozenset({"NoSuchKey", "404", "NotFound", "NoSuchVersion"})
_REPLACED = frozenset({"PreconditionFailed", "412"})
_HEADERS = {
    "ContentType": "content-type", "ContentEncoding": "content-encoding", "ContentLanguage": "content-language",
    "ContentDisposition": "content-disposition", "CacheControl": "cache-control", "StorageClass": "storage-class",
    "VersionId": "version-id", "WebsiteRedirectLocation": "website-redirect-location",
}  # fmt: skip


class S3Place:
    """Objects as files: what is between the slashes of a key are folders.

    Args:
        name: the source's name in the policy.
        source: what the policy says of it.
        outside: makes the boto3 client.
        attempts: how often a call is made in all.
    """

    def __init__(self, name: str, source: FilesSource, outside: Outside, *, attempts: int = _MOST_ATTEMPTS) -> None:
        self._bucket = source.bucket
        self._root = f"{source.prefix}/" if source.prefix else ""
        # As with targets, answers are not checked by botocore: rclone's server answers a Range with the checksum of the
        # whole object.
        self._client: Any = outside.aws_client(
            "s3",
            source.connection,
            connect_timeout=_CONNECT_TIMEOUT,
            read_timeout=_READ_TIMEOUT,
            retries={"mode": "standard", "total_max_attempts": attempts},
            max_pool_connections=FETCHES + 4,
            tcp_keepalive=True,
            response_checksum_validation="when_required",
        )
        self.endpoint = without_credentials(str(self._client.meta.endpoint_url))
        self.speaker = Speaker(name, self._bucket, self.endpoint, role="Source")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def walk(self, selection: Selection, unseen: Callable[[Unseen], None], tick: Callable[[], None]) -> Iterator[Entry]:
        """As the protocol says. All is listed before the first path is given."""
        with SortedKeys() as keys:
            with self._readable():
                for page in self._pages_with(tick):
                    keys.add(self._usable(page, selection, unseen))
            yield from tree_of(keys, selection, unseen)

    def _pages_with(self, tick: Callable[[], None]) -> Iterator[Any]:
        listing = self._pages()
        while True:
            page: Any = awaited(in_background(lambda: next(listing, None)), tick)
            if page is None:
                return
            yield page

    def _pages(self) -> Iterator[Any]:
        with self.speaker.translated(f"listing {self._root or self._bucket}"):
            yield from pages(self._client, self.speaker.title, self._bucket, self._root)

    def _usable(self, page: Any, selection: Selection, unseen: Callable[[Unseen], None]) -> Iterator[Listed]:
        for found in page.get("Contents", ()):
            path = found["Key"].removeprefix(self._root)
            if not path:
                continue  # what marks the set's own folder
            modified: datetime = found["LastModified"]
            listed = Listed(path, found["Size"], _plain(found.get("ETag")), int(modified.timestamp()))
            if not (fault := fault_of_object(listed)):
                yield listed
            elif selection.has(path):
                unseen(Unseen(path, fault))

    def open(self, entry: Entry, *, again: bool = False) -> S3File:
        """As the protocol says: the version that was listed; or any, ``again``."""
        return S3File(
            self._client,
            self.speaker,
            {"Bucket": self._bucket, "Key": f"{self._root}{entry.path}"},
            entry,
            any_version=again,
        )

    def try_out(self) -> bool:
        """As the protocol says. One object that may be read shows the right to; that others may not is for the run to
        tell."""
        refused: TargetError | None = None
        with self._readable():
            page: Any = next(self._pages(), {})
            found = page.get("Contents", ())
            for one in found[:_TRIED_OUT]:
                try:
                    self._ask(one["Key"])
                except TargetUnavailable:
                    raise
                except TargetError as error:
                    refused = error
                else:
                    return True
            if refused is not None:
                raise refused
        return bool(found)

    def _ask(self, key: str) -> None:
        with self.speaker.translated(f"reading {key}", key):
            try:
                interruptible(lambda: self._client.get_object(Bucket=self._bucket, Key=key))["Body"].close()
            except Exception as error:
                # Gone meanwhile, or archived: for an object that is no good sign, for the right to read it is.
                if code_of(error) not in (*_GONE, "InvalidObjectState"):
                    raise

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except TargetError as error:
            raise SourceUnreadable(error.what, error.remedy) from error


class S3File:
    """One version of an object that is read."""

    def __init__(
        self, client: Any, speaker: Speaker, address: dict[str, str], entry: Entry, *, any_version: bool
    ) -> None:
        etag = entry.identity.partition(" ")[0]
        answers: list[Any] = []

        def get(**conditions: Any) -> Any:
            first = {"IfMatch": f'"{etag}"'} if etag and not any_version and not answers else {}
            answer = client.get_object(**address, **(first | conditions))
            answers.append(answer)
            return answer

        try:
            self._stream = ResumedReading(get, speaker, entry.path)
        except TargetError as error:
            raise _what_it_means(error) from error
        answer = answers[0]
        modified: datetime = answer["LastModified"]
        listed = Listed(entry.path, answer["ContentLength"], _plain(answer.get("ETag")), int(modified.timestamp()))
        if etag and not any_version and listed.etag != etag:
            # Some stores ignore the condition.
            self.close()
            raise OSError(errno.ESTALE, "was replaced while it was read")
        self._entry = replace(listed.entry, properties=_properties(answer))

    @property
    def entry(self) -> Entry:
        """It as it was when it was opened."""
        return self._entry

    def read(self, size: int, /) -> bytes:
        """As the protocol says."""
        try:
            return self._stream.read(size)
        except TargetError as error:
            raise _what_it_means(error) from error

    def unchanged(self) -> bool:
        """True: what is read is one version, whatever took its place."""
        return True

    def close(self) -> None:
        """Drop the connection."""
        self._stream.close()


def _plain(etag: object) -> str:
    return str(etag or "").strip('"')


def _properties(answer: Any) -> dict[str, str]:
    found = {ours: str(answer[theirs]) for theirs, ours in _HEADERS.items() if answer.get(theirs)}
    return found | {f"meta.{name}": str(value) for name, value in answer.get("Metadata", {}).items()}


def _what_it_means(error: TargetError) -> Exception:
    """What an error of reading means for one object: that it is gone, replaced or can't be read; or that nothing can be
    read at all."""
    cause = error.__cause__
    code = code_of(cause) if cause is not None else ""
    if code in _GONE:
        return FileNotFoundError(errno.ENOENT, "is gone")
    if code in _REPLACED or (not code and not isinstance(error, TargetUnavailable)):
        return OSError(errno.ESTALE, error.what)
    if code == "InvalidObjectState":
        return OSError(
            errno.EACCES,
            "it is archived (its storage class is GLACIER or like it). Have the store restore it first (aws s3api "
            "restore-object), or exclude it in the policy",
        )
    if code in DENIED:
        return PermissionError(errno.EACCES, f"the store answered {code}: allow s3:GetObject, and its key of KMS")
    if isinstance(error, TargetUnavailable):
        return SourceUnreadable(error.what, error.remedy)
    return OSError(errno.EIO, f"the store answered {code}")
