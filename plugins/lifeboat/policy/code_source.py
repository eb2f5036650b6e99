"""Git repositories, as a policy describes them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import (
    AfterValidator,
    Field,
    GetJsonSchemaHandler,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from lifeboat.policy.duration import Duration, Span
from lifeboat.policy.environment import ExpandedPath, ExpandedText
from lifeboat.policy.part import ConnectionId, Part, Queue
from lifeboat.policy.problems import Refused
from lifeboat.policy.tiers import FULL_TIERS, Tiers, check_tiers

_SCHEMES = ("https", "ssh", "file", "git")
_SCP = re.compile(r"git@(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*):(?P<path>[^:\s][^\s]*)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SPELT = "A repository's URL begins with `https://`, `ssh://`, `git@` or `file:///`."


def _repository_url(url: str) -> str:
    if _SCP.fullmatch(url):
        return url
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES or not url.startswith(f"{parts.scheme}://"):
        raise Refused(_SPELT, "Write it so.")
    if parts.password or (parts.username and parts.scheme != "ssh") or parts.query or parts.fragment:
        raise Refused("A policy holds no credentials, and this URL does.", "Put them in the source's `connection`.")
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise Refused("A repository's URL holds no blanks.", "Write %20 for one.")
    host, user = parts.hostname or "", parts.username or ""
    if parts.scheme == "file":
        if host or not parts.path.startswith("/") or parts.path == "/":
            raise Refused(_SPELT, "Write an absolute path: `file:///srv/git/erp.git`.")
    elif not host or host.startswith("-") or user.startswith("-") or not parts.path.strip("/"):
        # A host that begins so would be an option of ssh.
        raise Refused("A repository's URL names a host and a path.", "Write `https://git.example.com/erp/erp.git`.")
    return url


RepositoryUrl = Annotated[
    ExpandedText,
    AfterValidator(_repository_url),
    WithJsonSchema({"type": "string", "examples": ["https://git.example.com/erp/erp.git"]}),
]


def _ref_prefix(prefix: str) -> str:
    if not re.fullmatch(r"refs/[A-Za-z0-9._-]+/", prefix) or prefix in ("refs/heads/", "refs/tags/"):
        raise Refused("This is no folder of refs that a forge makes.", "Write `refs/pull/`.")
    return prefix


RefPrefix = Annotated[str, AfterValidator(_ref_prefix)]

FORGE_REFS = ("refs/pull/", "refs/merge-requests/", "refs/keep-around/", "refs/pipelines/", "refs/environments/")


class RepositoryPolicy(Part):
    """One repository: its URL alone, or the URL with a name and a mirror of its own."""

    url: RepositoryUrl
    """Where it is, without credentials. May hold `${NAME}`."""

    name: Annotated[str, Field(pattern=f"^{_NAME.pattern}$")] = ""
    """What it is called in recovery points; by default the last part of its URL."""

    mirror: RepositoryUrl | None = None
    """Its mirror, where that is not the source's `mirror` and its name."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"url": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_a_name(self) -> Self:
        # An empty default means "say it for me"; the model is frozen, and this is still its making.
        if not self.name:
            last = re.split(r"[/:]", self.url.rstrip("/"))[-1].removesuffix(".git")
            if not _NAME.fullmatch(last):
                raise Refused("This URL gives the repository no name.", "Add a `name`.", key=("name",))
            object.__setattr__(self, "name", last)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        described = handler(core_schema)
        text = {"type": "string", "examples": ["https://git.example.com/erp/erp.git"]}
        return {"anyOf": [text, described]}


def scheme_of(url: str) -> str:
    """`https`, `ssh`, `file` or `git`."""
    return "ssh" if _SCP.fullmatch(url) else urlsplit(url).scheme


def host_and_path(url: str) -> tuple[str, str]:
    """The server of a URL, and the repository's path on it without ``.git``; no server for `file`."""
    scp = _SCP.fullmatch(url)
    host, path = (scp["host"], scp["path"]) if scp else (urlsplit(url).hostname or "", unquote(urlsplit(url).path))
    return host.lower(), path.strip("/").removesuffix(".git")


class CodeSource(Part):
    """Git repositories."""

    kind: Literal["code"]
    """Git repositories."""

    repositories: Annotated[list[RepositoryPolicy], Field(min_length=1)]
    """The repositories: the URL of each, without credentials, or `url`, `name` and `mirror`. May hold `${NAME}`."""

    connection: ConnectionId | None = None
    """The Airflow connection that may read them, and ask their forge."""

    mirror: RepositoryUrl | None = None
    """The place on a second Git server that gets a mirror of each, as `<mirror>/<name>.git`; these must be there."""

    mirror_connection: ConnectionId | None = None
    """The Airflow connection that may write to the mirrors."""

    git_protocol: bool = False
    """Whether a `git://` URL is taken. It is not encrypted and does not prove who answers: for a trusted
    net only."""

    protected_branches: tuple[str, ...] = ("main",)
    """Branches that must be protected where they live. Asked only where `forge` is known."""

    forge: Literal["github", "gitlab"] | None = None
    """Whose API tells whether branches are protected; known by itself for github.com and gitlab.com."""

    forge_api: Annotated[str, Field(pattern=r"^https?://[^\s@?#]+$")] | None = None
    """Where that API is; by default `https://api.github.com`, or `/api/v3` or `/api/v4` on the repository's host."""

    forge_refs: tuple[RefPrefix, ...] = FORGE_REFS
    """Refs that a forge makes by itself, of pull requests say: kept in recovery points, not pushed to the mirror, and
    free to change."""

    release_tags: tuple[str, ...] = ("v*",)
    """Tags that mark releases, `*` and `?` for anything."""

    signed_tags: bool = False
    """Whether release tags must be signed: a new one that is not raises an alarm."""

    allowed_signers: ExpandedPath | None = None
    """OpenSSH's file of allowed signers, against which signatures of release tags made by SSH keys are verified."""

    rewritable: tuple[str, ...] = ()
    """Branches that may be rewritten and deleted, `*` and `?` for anything: that is recorded and wakes nobody."""

    generation: Span = Duration(months=1)
    """When a repository that has not changed is stored anew, so that nothing refers to bundles older than that."""

    queue: Queue | None = None
    """The workers that see `file:///` repositories, or have `git`."""

    scratch: ExpandedPath | None = None
    """Where clones lie while a run lasts; by default the machine's temporary directory."""

    tiers: Tiers
    """When they are backed up and how long that is kept."""

    @field_validator("scratch", "allowed_signers")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_absolute():
            raise Refused("This path is not absolute.", "Write it from `/` on.")
        return path

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_tiers(self.tiers, self.kind, FULL_TIERS)
        seen: set[str] = set()
        for number, repository in enumerate(self.repositories):
            # Names become names of directories, and not every disk tells capital letters from small ones.
            if repository.name.lower() in seen:
                raise Refused(
                    f"Two repositories are called `{repository.name}`.",
                    "Give one of them another `name`.",
                    key=("repositories", number, "name"),
                )
            seen.add(repository.name.lower())
        for url in self._urls():
            if scheme_of(url) == "git" and not self.git_protocol:
                raise Refused(
                    "`git://` neither encrypts nor proves who answers.",
                    "Use another URL; on a trusted net, say `git_protocol: true`.",
                    key=("repositories",),
                )
        return self

    def _urls(self) -> list[str]:
        named = [url for one in self.repositories for url in (one.url, one.mirror) if url]
        return [*named, *([self.mirror] if self.mirror else [])]

    def mirror_of(self, repository: RepositoryPolicy) -> str | None:
        """Where a repository's mirror is; ``None`` where it has none."""
        if repository.mirror is not None:
            return repository.mirror
        return f"{self.mirror.rstrip('/')}/{repository.name}.git" if self.mirror else None
