"""Git repositories, as a policy describes them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from lifeboat.policy.environment import ExpandedText
from lifeboat.policy.part import ConnectionId, Part
from lifeboat.policy.problems import Refused
from lifeboat.policy.tiers import FULL_TIERS, Tiers, check_tiers


def _repository_url(url: str) -> str:
    if "@" in url.split("://", 1)[-1].split("/", 1)[0] and url.startswith("http"):
        raise Refused("A policy holds no credentials, and this URL does.", "Put them in the source's `connection`.")
    if not url.startswith(("https://", "ssh://", "git@", "file:///")):
        raise Refused("A repository's URL begins with `https://`, `ssh://`, `git@` or `file:///`.", "Write it so.")
    return url


RepositoryUrl = Annotated[
    ExpandedText,
    AfterValidator(_repository_url),
    WithJsonSchema({"type": "string", "examples": ["https://git.example.com/erp/erp.git"]}),
]


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
