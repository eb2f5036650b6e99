"""Where recovery points are kept: the targets of a policy."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from lifeboat.policy.duration import ExactDuration, Span
from lifeboat.policy.environment import ExpandedText
from lifeboat.policy.part import ConnectionId, Part, Queue
from lifeboat.policy.problems import Refused

PRIMARY = "primary"

_SCHEMES = ("s3", "file", "sftp", "azure")
_REMEDY = "Write `s3://bucket/prefix`, `sftp://host/directory` or `file:///directory`."
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# Reading from these takes a thaw of hours: no verification, no copy, no restore in the night.
_FROZEN_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE"})


def checked_url(url: str) -> str:
    """The URL without a slash at its end.

    Raises:
        Refused: no scheme of ours, credentials in it, no bucket, host or directory, or a path that leaves its place.
    """
    try:
        parts = urlsplit(url)
        credentials = parts.username is not None or parts.password is not None
    except ValueError as error:
        raise Refused("This is no URL.", _REMEDY) from error
    if parts.scheme not in _SCHEMES:
        raise Refused("A target's URL begins with `s3://`, `sftp://` or `file://`.", _REMEDY)
    if credentials:
        raise Refused("A policy holds no credentials, and this URL does.", "Put them in the target's `connection`.")
    if parts.query or parts.fragment:
        raise Refused("A target's URL has no `?` or `#`.", _REMEDY)
    if any(piece in {".", ".."} for piece in unquote(parts.path).split("/")) or "//" in parts.path:
        raise Refused("A target's path has no `.`, `..` or empty part.", _REMEDY)
    _check_place(parts)
    return url.rstrip("/")


def _check_place(parts: SplitResult) -> None:
    if parts.scheme == "file":
        if parts.netloc:
            raise Refused("A `file://` URL names no host.", "Write three slashes: `file:///srv/backups`.")
        if not parts.path.strip("/"):
            raise Refused("A `file://` URL needs a directory of its own, not the root.", "Write `file:///srv/backups`.")
    elif parts.scheme == "s3":
        if _BUCKET.fullmatch(parts.netloc) is None:
            raise Refused(f"`{parts.netloc}` can't be the name of a bucket.", _REMEDY)
    elif not parts.netloc:
        raise Refused(f"A `{parts.scheme}://` URL names a host or an account.", _REMEDY)
    elif parts.scheme == "sftp":
        _check_server(parts)


def _check_server(parts: SplitResult) -> None:
    try:
        named = parts.hostname is not None and parts.port != 0
    except ValueError:
        named = False
    if not named:
        raise Refused(f"`{parts.netloc}` is not a host, or a host and a port.", "Write `sftp://host:22/directory`.")
    if not parts.path.strip("/"):
        raise Refused(
            "An `sftp://` URL needs a directory, as the server shows it.",
            "Write `sftp://host/srv/backups`; in a chroot, a directory inside of it.",
        )


TargetUrl = Annotated[
    ExpandedText,
    AfterValidator(checked_url),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^(s3|file|sftp|azure|\$\{)",
            "examples": ["s3://erp-backups/lifeboat", "sftp://backup.example.com/srv/lifeboat", "file:///srv/backups"],
        }
    ),
]


class TargetPolicy(Part):
    """A place that keeps recovery points."""

    url: TargetUrl
    """Where it is: `s3://bucket/prefix`, `sftp://host/directory` or `file:///directory`. May hold `${NAME}` of the
    environment."""

    connection: ConnectionId | None = None
    """The Airflow connection with its credentials and address; an `s3://` target without one uses the machine's own."""

    retention_connection: ConnectionId | None = None
    """The Airflow connection that retention removes with. With one, the account of `connection` needs no right to
    delete, and a worker that is stolen can't."""

    required: bool = True
    """Whether a backup without a copy here has failed. The primary target is always required."""

    marker: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,100}$")] | None = None
    """The id that the file `.lifeboat-target` in a `file://` or `sftp://` target must hold; it proves that the disk
    is mounted."""

    queue: Queue | None = None
    """The workers that reach this target. A `file://` target names `marker`, `queue` or both."""

    retention: Span | None = None
    """How long copies stay here, where that is shorter than the tier says."""

    undelete: ExactDuration | None = None
    """How long a deletion here can be taken back, where that is not what `retention.undelete` says. On a `file://`
    target, whose room is needed, it can't be unless this says so."""

    price_per_gb_month: Annotated[Decimal, Field(ge=0, max_digits=20)] | None = None
    """What a GB (10^9 bytes) costs here in a month, in the currency that you reckon in: for
    `lifeboat retention simulate`."""

    verify: Literal["read", "store"] = "read"
    """How stored bytes are proven: `read` reads them back, `store` trusts the checksum that the store keeps."""

    sse: Literal["aws:kms", "AES256"] | None = None
    """Encryption by the S3 store itself, besides Lifeboat's own."""

    sse_kms_key: Annotated[str, Field(min_length=1)] | None = None
    """The key of the store's own encryption, with `sse: aws:kms`; without it, the bucket's default key."""

    storage_class: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{1,30}$")] | None = None
    """The S3 storage class of new objects, such as `STANDARD_IA`."""

    checksums: Literal["when_supported", "when_required"] = "when_supported"
    """S3 checksums of requests; `when_required` for stores that don't understand them."""

    object_lock: Literal["governance", "compliance"] | None = None
    """Ask an S3 store to lock each object until its retention ends; it counts once it was read back."""

    @property
    def scheme(self) -> str:
        """`s3`, `file`, `sftp` or `azure`."""
        return urlsplit(self.url).scheme

    @property
    def bucket(self) -> str:
        """The bucket of an `s3://` target."""
        return urlsplit(self.url).netloc

    @property
    def prefix(self) -> str:
        """The key prefix of an `s3://` target, without slashes at its ends; may be empty."""
        return urlsplit(self.url).path.strip("/")

    @property
    def directory(self) -> Path:
        """The directory of a `file://` or `sftp://` target."""
        return Path(unquote(urlsplit(self.url).path))

    @property
    def host(self) -> str:
        """The host of an `sftp://` target."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int | None:
        """The port that the URL of an `sftp://` target names."""
        return urlsplit(self.url).port

    @model_validator(mode="after")
    def _fits_its_scheme(self) -> Self:
        if self.scheme == "file":
            self._check_file()
        elif self.scheme == "sftp":
            self._check_sftp()
        elif self.marker is not None:
            raise Refused("Only a `file://` or `sftp://` target carries a marker.", "Remove it.", key=("marker",))
        if self.scheme != "s3":
            for name in ("sse", "sse_kms_key", "storage_class", "object_lock"):
                if getattr(self, name) is not None:
                    raise Refused(f"Only an `s3://` target has `{name}`.", "Remove it.", key=(name,))
        if self.sse_kms_key is not None and self.sse != "aws:kms":
            raise Refused("A key for the store's encryption needs `sse: aws:kms`.", "Add it.", key=("sse_kms_key",))
        if self.storage_class in _FROZEN_CLASSES:
            raise Refused(
                f"Objects of class {self.storage_class} can't be read, so neither verified nor restored, "
                "without hours of thawing.",
                "Use `GLACIER_IR` or `STANDARD_IA`.",
                key=("storage_class",),
            )
        return self

    def _check_sftp(self) -> None:
        if self.connection is None:
            raise Refused(
                "An `sftp://` target needs a `connection`: it holds the account, its key and the server's host key.",
                "Add `connection:` with the id of an Airflow connection of type sftp.",
            )
        if self.verify == "store":
            raise Refused("An SFTP server keeps no checksum of a file.", "Use `verify: read`.", key=("verify",))

    def _check_file(self) -> None:
        if self.marker is None and self.queue is None:
            raise Refused(
                "A `file://` target names neither `marker` nor `queue`: where its disk is not mounted, "
                "another would be filled instead.",
                "Add `marker:` with an id that the file `.lifeboat-target` there holds, or its workers' `queue:`.",
            )
        if self.verify == "store":
            raise Refused("A `file://` target keeps no checksum of its own.", "Use `verify: read`.", key=("verify",))
        for key in ("connection", "retention_connection"):
            if getattr(self, key) is not None:
                raise Refused("A `file://` target has no connection.", "Remove it.", key=(key,))
