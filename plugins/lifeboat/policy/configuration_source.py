"""Settings that a system can't run without, as a policy describes them."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from lifeboat.policy.duration import Duration, ExactSpan
from lifeboat.policy.naming import Tier
from lifeboat.policy.part import ConnectionId, Part, Queue
from lifeboat.policy.people import Text, not_empty
from lifeboat.policy.problems import Refused
from lifeboat.policy.tiers import FULL_TIERS, Tiers, check_tiers

_CONFIGURATION_TIERS = (Tier.CHANGE, *FULL_TIERS)
_BUCKET_URL = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[^?#\s][^?#]*")


def _absolute(path: str) -> str:
    pure = PurePosixPath(path)
    if not pure.is_absolute() or ".." in pure.parts or "\0" in path:
        raise Refused(f"`{path}` is no absolute path.", "Write it from the root on: `/etc/erp/*.conf`.")
    if len(pure.parts) < 2:
        raise Refused("The root of the file system is not configuration.", "Name folders and files below it.")
    return path


def _variable(pattern: str) -> str:
    if not pattern.strip() or "=" in pattern or "\0" in pattern:
        raise Refused(f"`{pattern}` is no name of a variable.", "Write `DATABASE_URL`, or a pattern such as `ERP_*`.")
    return pattern


def _bucket_url(url: str) -> str:
    if _BUCKET_URL.fullmatch(url) is None:
        raise Refused(f"`{url}` names no object in a bucket.", "Write `s3://bucket/path/terraform.tfstate`.")
    return url


AbsolutePath = Annotated[str, AfterValidator(_absolute), Field(examples=["/etc/erp/*.conf", "/srv/erp/terraform"])]
VariablePattern = Annotated[str, AfterValidator(_variable), Field(examples=["ERP_*", "DATABASE_URL"])]


class Certificates(Part):
    """Certificates of which somebody is told before they expire."""

    paths: Annotated[tuple[AbsolutePath, ...], AfterValidator(not_empty)]
    """Where they are: files, patterns, folders. A private key beside one is kept as any other file."""

    warn_before: ExactSpan = Duration(seconds=30 * 86_400)
    """How long before a certificate expires its expiry is an alarm of each daily run."""


class SecretStore(Part):
    """Secrets that are kept in a store of secrets."""

    store: Literal["aws_secrets_manager", "vault"]
    """What that store is: AWS Secrets Manager, or HashiCorp Vault with its key-value engine of version 2."""

    connection: ConnectionId
    """The Airflow connection of the store, which may read the secrets that are named."""

    restore_connection: ConnectionId | None = None
    """The connection that a restore into the store uses, where the other one may only read."""

    mount: Text = "secret"
    """Of Vault: where the engine is mounted."""

    names: Annotated[tuple[Text, ...], AfterValidator(not_empty)]
    """The secrets, each by its full name."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.store != "vault" and "mount" in self.model_fields_set:
            raise Refused("Only Vault has a `mount`.", "Remove it.", key=("mount",))
        return self


class RemoteState(Part):
    """An object of infrastructure as code that is kept in a bucket: Terraform's remote state."""

    url: Annotated[str, AfterValidator(_bucket_url)]
    """The object: `s3://bucket/path/terraform.tfstate`."""

    connection: ConnectionId
    """The Airflow connection of type `aws` that may read it."""


def _place(value: object) -> str:
    return "path" if isinstance(value, str) else "bucket"


Infrastructure = Annotated[
    Annotated[AbsolutePath, Tag("path")] | Annotated[RemoteState, Tag("bucket")], Discriminator(_place)
]


class ConfigurationSource(Part):
    """Settings that a system can't run without."""

    kind: Literal["configuration"]
    """Settings that a system can't run without."""

    queue: Queue | None = None
    """The workers that see the files and have the environment."""

    files: tuple[AbsolutePath, ...] = ()
    """Files, patterns (`**` goes through folders) and folders, which are taken whole."""

    exclude: tuple[Text, ...] = ()
    """What is left out of `files`, `certificates` and `infrastructure`: patterns as in a `.gitignore`, from the root
    on."""

    environment: tuple[VariablePattern, ...] = ()
    """Variables of the worker's own environment: names, or patterns."""

    certificates: Certificates | None = None
    """Certificates of which somebody is told before they expire."""

    airflow_connections: tuple[ConnectionId, ...] = ()
    """Airflow connections, by their ids."""

    airflow_variables: tuple[Text, ...] = ()
    """Airflow variables, by their names."""

    secrets: tuple[SecretStore, ...] = ()
    """Secrets in AWS Secrets Manager and HashiCorp Vault."""

    infrastructure: tuple[Infrastructure, ...] = ()
    """Folders of infrastructure as code, with Terraform's state where it lies in them; `.terraform` is left out, since
    `terraform init` fetches it again. And states that are kept in a bucket."""

    watch: bool = False
    """Whether Airflow's triggerer, on a machine that sees the files, watches them and has the run of the tier `change`
    begin at once when one looks different. Its schedule stays the guarantee."""

    tiers: Tiers
    """When it is backed up and how long that is kept."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_tiers(self.tiers, self.kind, _CONFIGURATION_TIERS)
        if Tier.CHANGE in self.tiers and len(self.tiers) == 1:
            raise Refused(
                "The tier `change` stores what changed: what does not change would run out with its retention.",
                "Give it a `daily` tier as well.",
                key=("tiers",),
            )
        if not any((self.on_workers, self.airflow_connections, self.airflow_variables, self.secrets, self.remote)):
            raise Refused("Nothing is named that would be backed up.", "Name `files`, `environment`, `secrets`, …")
        if self.on_workers and self.queue is None:
            raise Refused(
                "Files and environments are seen by some workers only.", "Name their `queue:`.", key=("queue",)
            )
        if self.watch and (Tier.CHANGE not in self.tiers or not any(self.watched.values())):
            raise Refused(
                "There is nothing to watch, or no tier `change` that would begin.",
                "Remove `watch`, or give it files and the tier.",
                key=("watch",),
            )
        self._refuse_twice()
        return self

    def _refuse_twice(self) -> None:
        named = [(store.store, name) for store in self.secrets for name in store.names]
        for store, name in named:
            if named.count((store, name)) > 1:
                raise Refused(
                    f"The secret `{name}` of `{store}` is named twice.",
                    "Name it once; those of a second store go into a source of their own.",
                    key=("secrets",),
                )

    @property
    def on_workers(self) -> bool:
        """Whether something of it is seen by some workers only."""
        return bool(self.files or self.environment or self.certificates or self.folders)

    @property
    def folders(self) -> tuple[str, ...]:
        """The places of infrastructure as code that lie on a disk."""
        return tuple(one for one in self.infrastructure if isinstance(one, str))

    @property
    def remote(self) -> tuple[RemoteState, ...]:
        """Those that lie in a bucket."""
        return tuple(one for one in self.infrastructure if isinstance(one, RemoteState))

    @property
    def watched(self) -> dict[str, list[str]]:
        """The paths and patterns on a disk, by the kinds of their items."""
        certificates = () if self.certificates is None else self.certificates.paths
        return {
            "files": list(self.files), "certificates": list(certificates), "infrastructure": list(self.folders)
        }  # fmt: skip
