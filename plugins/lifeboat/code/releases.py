"""Tags of releases: whether they are signed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from lifeboat.code.git_program import Git
from lifeboat.code.refs import TAGS, Ref, RepositoryRefs, shown
from lifeboat.policy.code_source import CodeSource

_MOST_SHOWN = 5


@dataclass(frozen=True)
class Unsigned:
    """Release tags whose signature is missing, or not good.

    Attributes:
        all: the refs of all of them.
        new: of those that are new or moved since the recovery point before.
    """

    all: tuple[str, ...]
    new: tuple[str, ...]

    def finding(self, repository: str) -> str:
        """The sentence about them; empty without any."""
        return f"{repository}: release tags without a good signature: {_listed(self.all)}." if self.all else ""

    def alarm(self, repository: str) -> str:
        """What somebody has to be told; empty where nothing is new."""
        if not self.new:
            return ""
        return f"{repository} has new release tags without a good signature: {_listed(self.new)}. Who made them?"


def release_tags(refs: RepositoryRefs, source: CodeSource) -> Iterator[Ref]:
    """The tags that mark releases."""
    for name, ref in refs.refs.items():
        tag = name.removeprefix(TAGS)
        if tag != name and any(fnmatchcase(tag, pattern) for pattern in source.release_tags):
            yield ref


def unsigned(refs: RepositoryRefs, before: RepositoryRefs | None, source: CodeSource) -> Unsigned:
    """The release tags that nobody vouches for."""
    bad = [ref for ref in release_tags(refs, source) if ref.signature in ("", "none") or ref.signature.endswith("bad")]
    known = {name: ref.id for name, ref in before.refs.items()} if before is not None else {}
    new = [ref for ref in bad if known.get(ref.name) != ref.id]
    return Unsigned(*(tuple(shown(ref.name.removeprefix(TAGS)) for ref in refs) for refs in (bad, new)))


def with_verified(
    git: Git, at: Path, refs: RepositoryRefs, source: CodeSource, tick: Callable[[], None]
) -> RepositoryRefs:
    """The same refs, the signatures of release tags by SSH keys verified against the policy's allowed signers.

    Signatures of other kinds are only looked for: their keys' owners are known to nobody here.
    """
    if source.allowed_signers is None:
        return refs
    settings = {"gpg.ssh.allowedSignersFile": str(source.allowed_signers)}
    verified = {}
    for ref in release_tags(refs, source):
        if ref.signature == "ssh":
            ended = git.run(["verify-tag", ref.id], at=at, tick=tick, good=range(256), settings=settings)
            verified[ref.name] = replace(ref, signature=f"ssh, {'good' if ended.code == 0 else 'bad'}")
    return replace(refs, refs={**refs.refs, **verified})


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return f"{', '.join(names[:_MOST_SHOWN])}{more}"
