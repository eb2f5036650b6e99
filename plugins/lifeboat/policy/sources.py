"""What is backed up besides databases: files, configuration, code."""

from __future__ import annotations

from datetime import timedelta
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from lifeboat.policy.duration import Duration, Span
from lifeboat.policy.environment import ExpandedText
from lifeboat.policy.naming import Tier
from lifeboat.policy.part import ConnectionId, Part, Queue
from lifeboat.policy.people import not_empty
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.policy.problems import Refused
from lifeboat.policy.targets import TargetUrl
from lifeboat.policy.tiers import FULL_TIERS, Tiers, check_tiers

_SNAPSHOT_TIERS = (Tier.INCREMENTAL, *FULL_TIERS)


def _relative(pattern: str) -> str:
    path = PurePosixPath(pattern)
    if path.is_absolute() or ".." in path.parts or not pattern.strip():
        raise Refused("A pattern is relative to the source's own directory.", "Write `attachments/**`.")
    return pattern


def _repository_url(url: str) -> str:
    if "@" in url.split("://", 1)[-1].split("/", 1)[0] and url.startswith("http"):
        raise Refused("A policy holds no credentials, and this URL does.", "Put them in the source's `connection`.")
    if not url.startswith(("https://", "ssh://", "git@", "file:///")):
        raise Refused("A repository's URL begins with `https://`, `ssh://`, `git@` or `file:///`.", "Write it so.")
    return url


Pattern = Annotated[str, AfterValidator(_relative)]
RepositoryUrl = Annotated[
    ExpandedText,
    AfterValidator(_repository_url),
    WithJsonSchema({"type": "string", "examples": ["https://git.example.com/erp/erp.git"]}),
]


class FilesSource(Part):
    """A set of files."""

    kind: Literal["files"]
    """A set of files."""

    url: TargetUrl
    """Where the files are: `file:///var/www/erp/uploads` or `s3://bucket/prefix`. May hold `${NAME}`."""

    connection: ConnectionId | None = None
    """The Airflow connection with the credentials of an `s3://` source."""

    queue: Queue | None = None
    """The workers that see a `file://` source."""

    include: Annotated[tuple[Pattern, ...], AfterValidator(not_empty)] = ("**",)
    """What belongs to it: patterns as in a `.gitignore`, from the set's own directory."""

    exclude: tuple[Pattern, ...] = ()
    """What does not, though `include` says so."""

    generation: Span = Duration(months=1)
    """When a full stores everything anew, so that no snapshot refers to packs that are older than that."""

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
        """The directory of a `file://` source."""
        return unquote(urlsplit(self.url).path)


class ConfigurationSource(Part):
    """Settings that a system can't run without."""

    kind: Literal["configuration"]
    """Settings that a system can't run without."""

    connection: ConnectionId
    """The Airflow connection of the place that holds them."""

    store: Literal["vault", "aws_secrets_manager", "ssh"]
    """What that place is: HashiCorp Vault, AWS Secrets Manager, or a server reached by SSH."""

    include: Annotated[list[str], Field(min_length=1)]
    """Paths or names in it."""

    on_change: bool = False
    """Whether each change is backed up when it happens, besides the tiers' schedules."""

    tiers: Tiers
    """When it is backed up and how long that is kept."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_tiers(self.tiers, self.kind, FULL_TIERS)
        return self


class CodeSource(Part):
    """Git repositories."""

    kind: Literal["code"]
    """Git repositories."""

    repositories: Annotated[list[RepositoryUrl], Field(min_length=1)]
    """The repositories, without credentials. May hold `${NAME}`."""

    connection: ConnectionId | None = None
    """The Airflow connection that may read them."""

    mirror: RepositoryUrl | None = None
    """The second Git server that gets a mirror of each."""

    mirror_connection: ConnectionId | None = None
    """The Airflow connection that may write to the mirror."""

    protected_branches: tuple[str, ...] = ("main",)
    """Branches that must be protected where they live."""

    tiers: Tiers
    """When they are backed up and how long that is kept."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_tiers(self.tiers, self.kind, FULL_TIERS)
        return self


SourcePolicy = Annotated[PostgresSource | FilesSource | ConfigurationSource | CodeSource, Field(discriminator="kind")]
