"""A set of files, as a policy describes it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, model_validator

from lifeboat.policy.duration import Duration, Span
from lifeboat.policy.naming import Tier
from lifeboat.policy.part import ConnectionId, Part, Queue
from lifeboat.policy.people import not_empty
from lifeboat.policy.problems import Refused
from lifeboat.policy.targets import TargetUrl
from lifeboat.policy.tiers import FULL_TIERS, Tiers, check_tiers

_SNAPSHOT_TIERS = (Tier.INCREMENTAL, *FULL_TIERS)


def _relative(pattern: str) -> str:
    path = PurePosixPath(pattern)
    if path.is_absolute() or ".." in path.parts or not pattern.strip():
        raise Refused("A pattern is relative to the source's own directory.", "Write `attachments/**`.")
    return pattern


Pattern = Annotated[str, AfterValidator(_relative)]


class FilesSource(Part):
    """A set of files."""

    kind: Literal["files"]
    """A set of files."""

    url: TargetUrl
    """Where the files are: `file:///var/www/erp/uploads`, `s3://bucket/prefix` or `sftp://host/directory`. May hold
    `${NAME}`."""

    connection: ConnectionId | None = None
    """The Airflow connection with the credentials of an `s3://` or `sftp://` source. An `s3://` source without one uses
    the machine's own; an `sftp://` source needs one."""

    queue: Queue | None = None
    """The workers that see a `file://` source."""

    include: Annotated[tuple[Pattern, ...], AfterValidator(not_empty)] = ("**",)
    """What belongs to it: patterns as in a `.gitignore`, from the set's own directory."""

    exclude: tuple[Pattern, ...] = ()
    """What does not, though `include` says so."""

    generation: Span = Duration(months=1)
    """When a full stores everything anew, so that no snapshot refers to packs that are older than that."""

    shares: Annotated[int, Field(ge=1, le=16)] = 1
    """How many tasks read a huge set at once, on as many workers as there are. Each takes an equal share, and one more
    brings them together."""

    versions: Span | None = None
    """How long earlier versions of a file can be brought back: at least one tier keeps its snapshots so long."""

    undelete: Span | None = None
    """How long a snapshot that retention deleted, and with it a file that was deleted at the source, can still be taken
    back."""

    tiers: Tiers
    """When it is backed up and how long that is kept."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_tiers(self.tiers, self.kind, _SNAPSHOT_TIERS)
        if self.url.startswith("file://") and self.queue is None:
            raise Refused("A `file://` source is seen by some workers only.", "Name their `queue:`.", key=("queue",))
        if self.url.startswith("file://") and self.connection is not None:
            raise Refused("A `file://` source has no connection.", "Remove it.", key=("connection",))
        if self.url.startswith("sftp://") and self.connection is None:
            raise Refused(
                "An `sftp://` source needs a `connection`: it holds the account, its key and the server's host key.",
                "Add `connection:` with the id of an Airflow connection of type sftp.",
            )
        longest = max((tier.retention.fixed for tier in self.tiers.values()), default=timedelta())
        if self.versions is not None and self.versions.fixed > longest:
            raise Refused(
                f"Earlier versions are to be kept for {self.versions}, and no tier keeps its snapshots so long.",
                "Keep those of one tier as long, or ask for less.",
                key=("versions",),
            )
        return self

    @property
    def scheme(self) -> str:
        """`file`, `s3` or `sftp`."""
        return urlsplit(self.url).scheme

    @property
    def directory(self) -> str:
        """The directory of a `file://` or `sftp://` source."""
        return unquote(urlsplit(self.url).path)

    @property
    def bucket(self) -> str:
        """The bucket of an `s3://` source."""
        return urlsplit(self.url).netloc

    @property
    def prefix(self) -> str:
        """The key prefix of an `s3://` source, without slashes at its ends; may be empty."""
        return urlsplit(self.url).path.strip("/")

    @property
    def host(self) -> str:
        """The host of an `sftp://` source."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int | None:
        """The port that the URL of an `sftp://` source names."""
        return urlsplit(self.url).port
