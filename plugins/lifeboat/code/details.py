"""What a recovery point's manifest says of its repositories."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from lifeboat.repository.manifest import Manifest, parse_part


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RepositoryDetails(_Part):
    """One repository.

    Attributes:
        name: in the policy.
        url: where it was read.
        object_format: ``sha1`` or ``sha256``.
        refs: how many there are, HEAD left out.
        bundle: the stream that holds it; empty where there is nothing to hold, or nothing could be read.
        recovery_point: the one whose bundle that is.
        size: of the bundle.
        unread: why it could not be read now, in a sentence; then everything else is of an earlier recovery point.
        left_out: what belongs to it and is not in the bundle, in sentences.
    """

    name: str
    url: str
    object_format: str = "sha1"
    refs: int = Field(default=0, ge=0)
    bundle: str = ""
    recovery_point: str = ""
    size: int = Field(default=0, ge=0)
    unread: str = ""
    left_out: tuple[str, ...] = ()


class Rewrite(_Part):
    """A ref whose history was rewritten since the recovery point that this one was compared with.

    Attributes:
        repository, ref: which.
        what: ``forced`` (a branch no longer contains what it was), ``deleted``, ``moved`` (a tag).
        old, new: the objects' ids; ``new`` is empty for a ref that is gone.
        expected: whether the policy lets it be.
    """

    repository: str
    ref: str
    what: Literal["forced", "deleted", "moved"]
    old: str
    new: str = ""
    expected: bool = False


class CodeDetails(_Part):
    """The repositories' part of a manifest.

    Attributes:
        generation: the recovery point that stored everything anew, its own id where that is this one.
        compared_with: the recovery point whose refs were compared; empty for the first.
        repositories: in the policy's order.
        rewrites: what was rewritten since, the first thousand.
        rewritten: how many there were.
    """

    generation: str
    compared_with: str = ""
    repositories: tuple[RepositoryDetails, ...]
    rewrites: tuple[Rewrite, ...] = ()
    rewritten: int = 0

    def named(self, name: str) -> RepositoryDetails | None:
        """A repository by its name."""
        return next((one for one in self.repositories if one.name == name), None)


def code_details(manifest: Manifest) -> CodeDetails:
    """The repositories' part of a manifest; raises ``ManifestInvalid``."""
    return parse_part(CodeDetails, manifest)
